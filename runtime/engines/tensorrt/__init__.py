"""TensorRT and TensorRT for RTX: building engines, and running them."""
