"""Explaining images with exported models: numpy, Pillow and an engine; no torch, no onnx."""
