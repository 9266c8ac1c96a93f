"""The part from the target layer to the class scores, cut out of an exported file."""
