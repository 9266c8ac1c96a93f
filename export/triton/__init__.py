"""Model repositories for Triton Inference Server, written from an exported file."""
