"""What files say about themselves: the spec in a model, the manifest of a product. No hardware, no engine."""
