"""From photo to tensor, and from map to picture."""
