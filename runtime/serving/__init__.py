"""Answering over HTTP: the server behind ``cfcam serve``. Nothing else of the runtime imports it."""
