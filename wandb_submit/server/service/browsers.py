"""What keeps other sites' pages from using the reader's browser, which knows the key, against this server."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wandb_submit.server.request.connections import Connection

# What our own pages may load: files of this server, and nothing from elsewhere. A name that somebody gave a run
# could not run a script even if a page held it unescaped.
PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_NO_PAGE_POLICY = "default-src 'none'; frame-ancestors 'none'"
_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


class OwnPagesOnly:
    """Refuses what a browser sends on behalf of another site, and tells browsers to keep answers to themselves.

    Programs are not concerned: only browsers send `Origin` and `Sec-Fetch-Site`, and no page can have them send
    anything else there.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        connection = scope.get("state", {}).get("connection")
        if isinstance(connection, Connection):
            connection.heard_out()

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                page = headers.get("content-type", "").startswith("text/html")
                headers.raw.extend(_ALWAYS)
                headers.setdefault("Content-Security-Policy", PAGE_POLICY if page else _NO_PAGE_POLICY)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        app = self._app if _is_ours(scope["method"], Headers(scope=scope)) else _FOREIGN
        await app(scope, receive, send_guarded)


def _is_ours(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a request comes from a program, a person or one of our own pages."""
    site = headers.get("sec-fetch-site")
    if site in ("same-origin", "none"):
        return True
    if site is not None:
        # A link to one of our pages may be anywhere: it opens the page and learns nothing of it.
        followed = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        return followed and method in ("GET", "HEAD")
    origin = headers.get("origin")  # from browsers that are too old to say more
    return origin is None or origin.partition("://")[2] == headers.get("host")


_FOREIGN = PlainTextResponse("pages of other sites may not use this server\n", status_code=403)
