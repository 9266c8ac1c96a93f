"""Building products for a target: `cfcam build` as functions and objects."""
