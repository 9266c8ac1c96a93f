"""The method inside the graph: nodes that make the finished map from a file's activations and gradients."""
