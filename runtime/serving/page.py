"""The page at ``/``: drop a photo, or point a camera, and look at the map over it."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ..explanation import Explanation
from ..photos.drawing import layer_png

__all__ = ["map_on_photo", "page"]


@lru_cache(maxsize=1)
def _read() -> tuple[bytes, dict[str, str]]:
    html = Path(__file__).with_name("page.html").read_bytes()
    scripts, styles = (
        " ".join(f"'sha256-{_digest(text)}'" for text in re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), html, re.DOTALL))
        for tag in (b"script", b"style")
    )
    # The page's own script and style by their digests, questions to this server, and nothing else from anywhere.
    policy = (
        f"default-src 'none'; script-src {scripts}; style-src {styles}; connect-src 'self'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return html, {
        "Content-Security-Policy": policy,
        "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }


def _digest(text: bytes) -> str:
    return base64.b64encode(hashlib.sha256(text).digest()).decode()


async def page(request: Request) -> Response:
    """The page. It holds nothing about the models, so that it needs no token."""
    html, headers = _read()
    return Response(html, headers=headers, media_type="text/html")


def map_on_photo(explanation: Explanation) -> dict[str, Any]:
    """The map as a picture, and where it belongs.

    Args:
        explanation: Of one photo.

    Returns:
        ``png``: base64 of a PNG as large as the model's input, whose palette indices are the map times 255 and whose
        palette has the colours of cfcam's pictures; ``box``: its (left, top, right, bottom) as fractions of the upright
        photo, below 0 and above 1 where the input was padded.
    """
    frame = explanation.frame
    box = [*frame.to_photo(0, 0), *frame.to_photo(*frame.input)]
    return {"png": base64.b64encode(layer_png(explanation.map)).decode(), "box": box}
