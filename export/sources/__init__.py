"""What people bring: factories and checkpoints, Hugging Face folders, labels, preprocessing, ONNX inputs."""
