"""Files that the demo needs: one photo and the ImageNet class names."""
