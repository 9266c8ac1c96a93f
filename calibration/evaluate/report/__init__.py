"""An evaluation to look at: the page of HTML with its plots, and pictures of single photos."""

from ...html_page import machine
from .page import render_report, save_report

__all__ = ["machine", "render_report", "save_report"]
