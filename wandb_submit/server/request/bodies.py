"""Request bodies, as much of them as the server is ready to hold, and no longer than their sender keeps sending."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from starlette.requests import Request

from wandb_submit.server.request.lane import Lane
from wandb_submit.server.storage.client_json import whole_pairs
from wandb_submit.server.storage.refusals import Refusal

if sys.version_info >= (3, 11):
    from asyncio import timeout
else:
    import anyio

    # Slower than what newer Pythons bring, and this is on every request's way.
    @asynccontextmanager
    async def timeout(delay: float) -> AsyncIterator[None]:
        """Ends what takes longer than some seconds by a TimeoutError."""
        with anyio.fail_after(delay):
            yield


MEGABYTE = 1024 * 1024
# Agents' heartbeats and most of what else is sent. Reading so little JSON holds up the event loop for less than handing
# it to a thread costs.
_SMALL = 64 * 1024
# Reading more holds up the event loop for too long, also from a thread.
LARGE = 512 * 1024
_PIECE = 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """A kind of request.

    Attributes:
        max_bytes: how large one may be, also when it is unpacked.
        at_once: as objects, bodies are many times as large: so many bytes of them, or one, are worked on at a time.
        free: up to this size they are not counted for that.
    """

    max_bytes: int
    at_once: int
    free: int


# A query's variables. The largest that W&B's clients send are a run's config and summary, for which W&B itself
# draws the line at some 10 MB; as a text inside of JSON they are up to twice as long.
QUERY = Kind(max_bytes=32 * MEGABYTE, at_once=4 * MEGABYTE, free=_SMALL)
# wandb-core cuts what a run has logged into requests, and drops a line of more than 10 MB. What is worked on at a time
# is enough to write several runs' rows together, and so little that an agent is answered a few milliseconds later.
STREAM = Kind(max_bytes=64 * MEGABYTE, at_once=64 * 1024, free=0)
# A client that is alive sends something all the time; one that has vanished without a word holds a connection.
_SILENCE_S = 60.0
# All bodies that are held at a time. Whoever sends another one is asked to come again, unless it is small.
_MAX_HELD = 256 * MEGABYTE


async def pieces(request: Request) -> AsyncIterator[bytes]:
    """A request's body as it comes.

    Raises:
        Refusal: if nothing has come for a while.
        ClientDisconnect: if the client has gone before all of it was there.
    """
    stream = request.stream()
    while True:
        try:
            async with timeout(_SILENCE_S):
                piece = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise Refusal(f"nothing has come for {_SILENCE_S:.0f} s: send it again", status=408) from error
        yield piece


class Spool:
    """A body as it comes: in memory, and on disk once it is large. Used as a context, at whose end the file goes.

    Attributes:
        held: what is not on disk (yet).
        path: the file; None for a body that is not large.
        size: how long it is.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: BinaryIO | None = None
        self.held = bytearray()
        self.path: Path | None = None
        self.size = 0

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None and self.path is not None:
            try:
                self._file.close()
            finally:
                self.path.unlink(missing_ok=True)

    def add(self, piece: bytes) -> None:
        """Takes the next piece."""
        self.held += piece
        self.size += len(piece)
        if self._file is None and self.size > LARGE:
            self._folder.mkdir(exist_ok=True)
            self.path = self._folder / secrets.token_hex(8)
            self._file = self.path.open("wb")

    def flush(self) -> None:
        """Writes what is held; waits for the disk."""
        if self._file is not None:
            self._file.write(self.held)
            self._file.flush()
            self.held.clear()


class Bodies:
    """The JSON bodies that one server holds: so many bytes of them, and few as objects.

    A large one is held in a file: as objects it would take many times as much memory, and reading it would hold up the
    event loop, in whichever thread. Not thread-safe: all of it happens in the event loop.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held = 0
        self._lanes = {kind: Lane(kind.at_once) for kind in (QUERY, STREAM)}

    @asynccontextmanager
    async def json_object(
        self, request: Request, kind: Kind, turn: AbstractAsyncContextManager[None] | None = None
    ) -> AsyncIterator[Mapping[str, object] | Path]:
        """A request's body, which must be a JSON object, until the block ends; older clients compress what runs log.

        Args:
            request: the request, of which nothing has been read yet.
            kind: what it is.
            turn: what it has to wait for once it is there; meanwhile it keeps no others from being worked on.

        Returns:
            The object; or, if it is large, the file that holds its text, which nobody has looked at.

        Raises:
            Refusal: if it is none, is too large, or there is no room for it now; it may not have been read to its end.
        """
        with self._room() as grow, Spool(self._folder) as spool:
            await _receive(request, kind.max_bytes, spool, grow)
            async with turn or nullcontext():
                if spool.path is not None:
                    await asyncio.to_thread(spool.flush)
                    yield spool.path
                elif len(spool.held) <= kind.free:
                    yield await _object(spool.held)
                else:
                    async with self._lanes[kind].enter(len(spool.held)):
                        yield await _object(spool.held)

    @contextmanager
    def _room(self) -> Iterator[Callable[[int], None]]:
        """Room for one body, which is given back at the end; what it yields makes it so large."""
        room = 0

        def grow(size: int) -> None:
            nonlocal room
            more = max(0, size - room)
            if more and size > _SMALL and self._held + more > _MAX_HELD:
                raise Refusal("the server has too many large requests at hand: send it again later", status=503)
            room += more
            self._held += more

        try:
            yield grow
        finally:
            self._held -= room


async def _object(body: bytearray) -> Mapping[str, object]:
    try:
        return parsed(body) if len(body) < _SMALL else await asyncio.to_thread(parsed, body)
    except RecursionError as error:
        raise Refusal("the request is nested too deeply") from error


async def _receive(request: Request, max_bytes: int, spool: Spool, grow: Callable[[int], None]) -> None:
    """Takes a request's body, unpacked; `grow` is told how long it is, as soon as that is known."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", ""):
        raise Refusal(f"{encoding[:40]!r} is not an encoding that this server reads: send gzip or none", status=415)
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced[:20]) > max_bytes:
        raise _too_large(max_bytes)
    unpack = zlib.decompressobj(wbits=31) if encoding == "gzip" else None
    if announced.isdecimal() and unpack is None:
        # Nobody is refused half-way.
        grow(int(announced))
    async for piece in pieces(request):
        for part in (piece,) if unpack is None else _unpacked(unpack, piece):
            if spool.size + len(part) > max_bytes:
                raise _too_large(max_bytes)
            grow(spool.size + len(part))
            spool.add(part)
            if len(spool.held) > _PIECE:
                await asyncio.to_thread(spool.flush)
    if unpack is not None and not unpack.eof:
        raise Refusal("the request's body is not whole")


def _unpacked(unpack: zlib._Decompress, piece: bytes) -> Iterator[bytes]:
    """What a piece of a body becomes, in pieces again: a few bytes can become very many."""
    while piece:
        try:
            yield unpack.decompress(piece, _PIECE)
        except zlib.error as error:
            raise Refusal("the request's body is not gzip, though it says so") from error
        piece = unpack.unconsumed_tail


def parsed(body: bytes | bytearray) -> Mapping[str, object]:
    """A body's object.

    Raises:
        Refusal: if it is none.
    """
    try:
        # Python would also read halves of surrogate pairs, which nobody else can.
        value = json.loads(whole_pairs(body.decode(errors="replace")), parse_constant=_refuse_constant)
    except ValueError as error:
        raise Refusal("the request's body is not JSON") from error
    if not isinstance(value, dict):
        raise Refusal("the request's body is not a JSON object")
    return value


def _refuse_constant(name: str) -> object:
    """NaN and the infinities are none of JSON's, though Python reads them unless it is told not to."""
    raise ValueError(name)


def _too_large(max_bytes: int) -> Refusal:
    return Refusal(f"the request is larger than {max_bytes // MEGABYTE} MB", status=413)
