"""The proof of an exported file: it is right, or it is not written."""
