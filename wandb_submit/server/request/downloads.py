"""What clients download: files that somebody uploaded, which no browser may take for a page of this server."""

from __future__ import annotations

from pathlib import Path

from starlette.responses import FileResponse, PlainTextResponse

# A page that somebody uploaded would be of the server's own origin, and its scripts could do what the reader may.
_NO_PAGE = "default-src 'none'; sandbox"


def attachment(path: Path, name: str | None = None) -> FileResponse:
    """A file as it is on disk, as a whole or in the ranges that are asked for; a browser saves it, under `name`."""
    return FileResponse(
        path,
        filename=name or path.name,
        content_disposition_type="attachment",
        headers={"Content-Security-Policy": _NO_PAGE},
    )


def attached_text(name: str, text: str) -> PlainTextResponse:
    """A text as if it were a file of that name."""
    return PlainTextResponse(
        text, headers={"Content-Disposition": f'attachment; filename="{name}"', "Content-Security-Policy": _NO_PAGE}
    )
