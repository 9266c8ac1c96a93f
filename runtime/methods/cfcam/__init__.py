"""`cfcam`: grouping by DBSCAN, filtered gradients, fusion."""
