"""Request bodies, as much of them as the server is ready to hold, and no longer than their sender keeps sending."""

from __future__ import annotations

import asyncio
import json
import sys
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from starlette.requests import Request

from wandb_submit.server.client_json import whole_pairs
from wandb_submit.server.lane import Lane
from wandb_submit.server.refusals import Refusal

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


class Bodies:
    """The JSON bodies that one server holds: so many bytes of them, and few as objects.

    Not thread-safe: all of it happens in the event loop.
    """

    def __init__(self) -> None:
        self._held = 0
        self._lanes = {kind: Lane(kind.at_once) for kind in (QUERY, STREAM)}

    @asynccontextmanager
    async def json_object(self, request: Request, kind: Kind) -> AsyncIterator[Mapping[str, object]]:
        """A request's body, which must be a JSON object, until the block ends; older clients compress what runs log.

        Args:
            request: the request, of which nothing has been read yet.
            kind: what it is.

        Raises:
            Refusal: if it is none, is too large, or there is no room for it now; it may not have been read to its end.
        """
        with self._room() as grow:
            body = await _whole(request, kind.max_bytes, grow)
            if len(body) <= kind.free:
                yield await _object(body)
            else:
                async with self._lanes[kind].enter(len(body)):
                    yield await _object(body)

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
        value = _parse(body) if len(body) < _SMALL else await asyncio.to_thread(_parse, body)
    except ValueError as error:
        raise Refusal("the request's body is not JSON") from error
    if not isinstance(value, dict):
        raise Refusal("the request's body is not a JSON object")
    return value


async def _whole(request: Request, max_bytes: int, grow: Callable[[int], None]) -> bytearray:
    """A request's body, unpacked; `grow` is told how long it is, as soon as that is known."""
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
    body = bytearray()
    async for piece in pieces(request):
        # One byte more than there is room for tells that it is too much, whatever else the piece would become.
        room = max_bytes - len(body) + 1
        try:
            body += piece if unpack is None else unpack.decompress(piece, room)
        except zlib.error as error:
            raise Refusal("the request's body is not gzip, though it says so") from error
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
        grow(len(body))
    if unpack is not None and not unpack.eof:
        raise Refusal("the request's body is not whole")
    return body


def _parse(body: bytearray) -> object:
    # Python would also read halves of surrogate pairs, which nobody else can.
    return json.loads(whole_pairs(body.decode(errors="replace")), parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> object:
    """NaN and the infinities are none of JSON's, though Python reads them unless it is told not to."""
    raise ValueError(name)


def _too_large(max_bytes: int) -> Refusal:
    return Refusal(f"the request is larger than {max_bytes // MEGABYTE} MB", status=413)
