"""Where an audit's photos come from: files, frames of videos and recordings, rows of manifests, archives."""

from .photo import Files, Photo, Source

__all__ = ["Files", "Photo", "Source"]
