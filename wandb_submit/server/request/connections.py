"""Who may keep a connection open: a flood of idle or slow strangers must not lock out those who have the key."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable
from typing import cast

# A stranger has so long to show the key, and so much to say before it does.
_STRANGER_S = 20.0
_MAX_HEAD = 64 * 1024
# How many strangers there may be at a time. At one more, the oldest has to go: whoever has the key shows it with
# the first bytes, so that only an idle or slow connection gets old.
_MAX_STRANGERS = 1000
# The most connections that are worth their memory, and the files that the server opens besides.
_MAX_CONNECTIONS = 16_384
_OTHER_FILES = 128
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n"
    b"X-Content-Type-Options: nosniff\r\n\r\n"
)


def raise_limit() -> int:
    """Lets this process open as many files as the system allows; returns how many connections that is good for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = 2 * _MAX_CONNECTIONS
    wanted = enough if hard == resource.RLIM_INFINITY else min(hard, enough)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft == resource.RLIM_INFINITY:
        return _MAX_CONNECTIONS
    # An upload or a download has a file open beside its connection.
    return max(16, min(_MAX_CONNECTIONS, (soft - _OTHER_FILES) * 3 // 4))


class Gate:
    """The open connections of a server. Not thread-safe: all of it happens in the event loop."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._max_strangers = max(1, min(_MAX_STRANGERS, limit // 4))
        self._open: set[Connection] = set()
        # The oldest first.
        self._strangers: dict[Connection, None] = {}

    def admit(self, connection: Connection) -> bool:
        """Whether a new connection may stay, if need be in the place of a stranger."""
        if self._strangers and (len(self._strangers) >= self._max_strangers or len(self._open) >= self._limit):
            next(iter(self._strangers)).cut()
        if len(self._open) >= self._limit:
            return False
        self._open.add(connection)
        self._strangers[connection] = None
        return True

    def trust(self, connection: Connection) -> None:
        """Takes a connection for that of somebody who has the key."""
        self._strangers.pop(connection, None)

    def leave(self, connection: Connection) -> None:
        """Forgets a connection."""
        self._open.discard(connection)
        self._strangers.pop(connection, None)


class Connection(asyncio.Protocol):
    """One connection: what it receives goes on to the HTTP server's own protocol while it behaves."""

    def __init__(self, gate: Gate, make_inner: Callable[[Connection], asyncio.Protocol]) -> None:
        self._gate = gate
        self._inner = make_inner(self)
        self._transport: asyncio.Transport | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._heard = 0
        self._is_heard_out = False
        self._is_admitted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Lets the connection in, or says that there is no room."""
        # A TCP connection's; uvloop's do not say what they are.
        self._transport = transport = cast("asyncio.Transport", transport)
        self._is_admitted = self._gate.admit(self)
        if not self._is_admitted:
            transport.write(_BUSY)
            transport.close()
            return
        self._patience = asyncio.get_running_loop().call_later(_STRANGER_S, self.cut)
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Hands over what has come, unless a stranger talks without end and never gets to a request."""
        if not self._is_admitted:
            return
        if not self._is_heard_out:
            if self._heard > _MAX_HEAD:
                self.cut()
                return
            self._heard += len(data)
        self._inner.data_received(data)

    def heard_out(self) -> None:
        """Notes that a request's head is complete."""
        self._is_heard_out = True

    def trust(self) -> None:
        """Notes that the connection's client has the key: it may stay as long as it likes."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
            self._gate.trust(self)

    def cut(self) -> None:
        """Ends the connection at once."""
        self._gate.leave(self)
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection."""
        if self._patience is not None:
            self._patience.cancel()
        self._gate.leave(self)
        if self._is_admitted:
            self._inner.connection_lost(exc)

    def eof_received(self) -> bool | None:
        """Hands over that the client sends no more."""
        return self._inner.eof_received() if self._is_admitted else None

    def pause_writing(self) -> None:
        """Hands over that the client reads too slowly."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Hands over that the client has caught up."""
        self._inner.resume_writing()


def behind(gate: Gate, inner: Callable[..., asyncio.Protocol]) -> type[asyncio.Protocol]:
    """The protocol of uvicorn's that is given, with the gate before it; requests find their connection in their state.

    Args:
        gate: the server's gate.
        inner: a protocol class, called as uvicorn calls it.
    """

    class Guarded(Connection):
        def __init__(self, *, app_state: dict[str, object], **options: object) -> None:
            super().__init__(
                gate, lambda connection: inner(app_state={**app_state, "connection": connection}, **options)
            )

    return Guarded
