"""Request bodies, as much of them as the server is ready to hold, and no longer than their sender keeps sending."""

from __future__ import annotations

import asyncio
import json
import sys
import zlib
from collections.abc import AsyncIterator, Mapping

from starlette.requests import Request

from wandb_submit.server.refusals import Refusal

if sys.version_info >= (3, 11):
    from asyncio import timeout
else:
    from contextlib import asynccontextmanager

    import anyio

    # Slower than what newer Pythons bring, and this is on every request's way.
    @asynccontextmanager
    async def timeout(delay: float) -> AsyncIterator[None]:
        """Ends what takes longer than some seconds by a TimeoutError."""
        with anyio.fail_after(delay):
            yield


MEGABYTE = 1024 * 1024
# A query's variables. The largest that W&B's clients send are a run's config and summary, for which W&B itself
# draws the line at some 10 MB; as a text inside of JSON they are up to twice as long.
MAX_GRAPHQL = 32 * MEGABYTE
# wandb-core cuts what a run has logged into requests, and drops a line of more than 10 MB.
MAX_FILE_STREAM = 64 * MEGABYTE
# A client that is alive sends something all the time; one that has vanished without a word holds a connection.
_SILENCE_S = 60.0
# Up to this size, reading JSON holds up the event loop for less than handing it to a thread costs.
_SMALL = 64 * 1024


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


async def json_object(request: Request, max_bytes: int) -> Mapping[str, object]:
    """A request's body, which must be a JSON object; older clients compress what runs have logged.

    Args:
        request: the request, of which nothing has been read yet.
        max_bytes: how large the body may be, also when it is unpacked.

    Raises:
        Refusal: if it is not, or is too large; in that case it has not been read to its end.
    """
    body = await _whole(request, max_bytes)
    try:
        value = _parse(body) if len(body) < _SMALL else await asyncio.to_thread(_parse, body)
    except ValueError as error:
        raise Refusal("the request's body is not JSON") from error
    if not isinstance(value, dict):
        raise Refusal("the request's body is not a JSON object")
    return value


async def _whole(request: Request, max_bytes: int) -> bytes:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", ""):
        raise Refusal(f"{encoding[:40]!r} is not an encoding that this server reads: send gzip or none", status=415)
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced[:20]) > max_bytes:
        raise _too_large(max_bytes)
    body = bytearray()
    unpack = zlib.decompressobj(wbits=31) if encoding == "gzip" else None
    async for piece in pieces(request):
        # One byte more than there is room for tells that it is too much, whatever else the piece would become.
        room = max_bytes - len(body) + 1
        try:
            body += piece if unpack is None else unpack.decompress(piece, room)
        except zlib.error as error:
            raise Refusal("the request's body is not gzip, though it says so") from error
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
    if unpack is not None and not unpack.eof:
        raise Refusal("the request's body is not whole")
    return bytes(body)


def _parse(body: bytes) -> object:
    return json.loads(body, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> object:
    """NaN and the infinities are none of JSON's, though Python reads them unless it is told not to."""
    raise ValueError(name)


def _too_large(max_bytes: int) -> Refusal:
    return Refusal(f"the request is larger than {max_bytes // MEGABYTE} MB", status=413)
