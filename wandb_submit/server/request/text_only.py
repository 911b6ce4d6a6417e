"""What refuses addresses that are no text: bytes that are not UTF-8 would all become the same character."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_REFUSED = JSONResponse({"errors": [{"message": "the address is not UTF-8"}], "data": None}, status_code=400)


class TextOnly:
    """Lets requests pass whose path is UTF-8."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        # The path itself has the character in the place of such bytes, and may have it of its own.
        suspicious = scope["type"] == "http" and "\ufffd" in scope["path"]
        await (_REFUSED if suspicious and not _is_text(scope["raw_path"]) else self._app)(scope, receive, send)


def _is_text(path: bytes) -> bool:
    try:
        unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        return False
    return True
