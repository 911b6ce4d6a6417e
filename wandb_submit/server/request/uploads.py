"""What clients upload: written to disk as it comes, and put in its place when it is there as a whole."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from starlette.requests import Request

from wandb_submit.server.request.bodies import pieces
from wandb_submit.server.storage.refusals import Refusal

# Where files are until they are complete; whatever lies there when a server starts is worth nothing.
UPLOADS = "uploads"
# They go to disk in pieces of this size.
_PIECE = 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Upload:
    """A file that has arrived as a whole.

    Attributes:
        path: where it is, until somebody moves it to its place.
        md5: base64, as W&B's API writes it.
    """

    path: Path
    size: int
    md5: str

    def move_to(self, target: Path, *, durable: bool = False) -> None:
        """Puts the file in its place, at once, also if another is there. It waits for the disk: call it in a thread.

        Args:
            target: its place.
            durable: whether it must be on the disk then, so that not even the machine's death leaves half a file.
        """
        if durable:
            with self.path.open("rb") as file:
                os.fsync(file.fileno())
        target.parent.mkdir(parents=True, exist_ok=True)
        self.path.replace(target)


@asynccontextmanager
async def received(
    request: Request, data_dir: Path, *, place: Path | None = None, max_bytes: int | None = None
) -> AsyncIterator[Upload]:
    """A request's body as a file, which goes away unless it is moved to its place.

    Args:
        request: the request, of which nothing has been read yet.
        data_dir: the server's folder.
        place: where the file is to be moved to, or a folder above that, which need not exist.
        max_bytes: how large it may be.

    Raises:
        Refusal: if it is encoded, a part, or larger than `max_bytes`.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal("files are uploaded as they are, without a Content-Encoding", status=415)
    if "content-range" in request.headers:
        raise Refusal("files are uploaded as a whole, not in ranges", status=400)
    path = _draft(data_dir, place)
    try:
        with path.open("wb") as file:
            size, md5 = await _write(request, file, max_bytes)
        yield Upload(path=path, size=size, md5=md5)
    finally:
        path.unlink(missing_ok=True)


def _draft(data_dir: Path, place: Path | None) -> Path:
    """Where a file is until it is complete: on the file system that it is to end up on.

    People put the files of a server on another one by a link. A draft is there beside them then, and is left behind
    if the server is killed; its name can be no entity's, project's or run's.
    """
    folder = data_dir / UPLOADS
    folder.mkdir(exist_ok=True)
    name = secrets.token_hex(8)
    while place is not None and not place.is_dir():
        place = place.parent
    if place is None or place.stat().st_dev == folder.stat().st_dev:
        return folder / name
    return place / f"#{name}"


async def _write(request: Request, file: BinaryIO, max_bytes: int | None) -> tuple[int, str]:
    """Writes a request's body to a file; returns its size and MD5."""
    # W&B's API names files' MD5; nothing is protected by it.
    digest = hashlib.md5(usedforsecurity=False)
    piece = bytearray()
    size = 0

    def flush() -> None:
        digest.update(piece)
        file.write(piece)
        piece.clear()

    async for chunk in pieces(request):
        size += len(chunk)
        if max_bytes is not None and size > max_bytes:
            raise Refusal(f"this file can have at most {max_bytes // 1_000_000} MB", status=413)
        piece += chunk
        if len(piece) >= _PIECE:
            await asyncio.to_thread(flush)
    flush()
    return size, base64.b64encode(digest.digest()).decode()
