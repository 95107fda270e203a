"""The status page: one self-contained HTML page at `/`, which polls `/status` once per second.

The page loads and reaches nothing else: its Content-Security-Policy allows its own style and script by hash, and requests to
its own server. Data is inserted as text, never as HTML.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from lobby_gateway.http.admin import AdminRequest, AdminResponse, Routes
from lobby_gateway.resource.lobby_overview import Overview

_PAGE = Path(__file__).with_name("status_page.html").read_bytes()


def routes(read: Callable[[], Overview]) -> Routes:
    """The routes of the page and of its data."""

    async def page(_request: AdminRequest) -> AdminResponse:
        return AdminResponse(body=_PAGE, content_type="text/html; charset=utf-8", headers=_HEADERS)

    async def status(_request: AdminRequest) -> AdminResponse:
        return AdminResponse.json(read().to_json())

    return {("GET", "/"): page, ("GET", "/status"): status}


def _hash(element: str) -> str:
    """The hash by which a policy allows the only inline element with this name (CSP Level 3, 2.3.1)."""
    (content,) = re.findall(rb"<%(name)b>(.*?)</%(name)b>" % {b"name": element.encode()}, _PAGE, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}'"


_POLICY = "; ".join(
    (
        "default-src 'none'",
        f"script-src {_hash('script')}",
        f"style-src {_hash('style')}",
        "connect-src 'self'",
        "img-src data:",  # the icon
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
