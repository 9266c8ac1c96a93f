"""What the axes of a value mean, for all sources: batch, rows, columns, channels, tokens."""
