"""Connections to servers without a proxy, by Python's own client.

An agent has nothing else to do than wait for a run, and would hold a megabyte more with urllib3.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection, InvalidURL
from ssl import SSLContext
from urllib.parse import SplitResult, quote, urlsplit

from wandb_submit.wandb_api.answers import Answer

_IN_ADDRESSES = "%/:=&?~#+!$,;'@()*[]"  # what has a meaning in one, or stands in it already encoded


class DirectConnections:
    """Connections that are kept open from one request to the next, a request at a time on each. Thread-safe.

    Args:
        trusted: tells the certificates that a server's is checked with, where one is.
        connect_s: how long a server may take to accept a connection.
        answer_s: how long it may take to go on with its answer.
    """

    def __init__(self, trusted: Callable[[], SSLContext], *, connect_s: float, answer_s: float) -> None:
        self._trusted = trusted
        self._connect_s = connect_s
        self._answer_s = answer_s
        self._lock = threading.Lock()
        self._idle: defaultdict[tuple[str, str], list[HTTPConnection]] = defaultdict(list)
        self._closed = False

    def close(self) -> None:
        """Closes the connections; those of requests under way, once they have ended."""
        with self._lock:
            self._closed = True
            for connection in [connection for idle in self._idle.values() for connection in idle]:
                connection.close()
            self._idle.clear()

    def request(self, method: str, url: str, body: bytes | Iterable[bytes], headers: Mapping[str, str]) -> Answer:
        """Sends one request; a redirection is an answer.

        Raises:
            OSError: if there is no whole answer.
            ValueError: if there can be no such address.
        """
        address = urlsplit(url)
        target = quote(address._replace(scheme="", netloc="", fragment="").geturl() or "/", safe=_IN_ADDRESSES)
        connection = self._silent_one(address) or self._connect(address)
        sent = done = False
        try:
            with contextlib.suppress(BrokenPipeError):  # who refuses a body may answer before all of it has come
                connection.request(method, target, body, headers)
                sent = True
            response = connection.getresponse()
            content = response.read()
            done = sent
        except InvalidURL as error:
            raise ValueError(str(error)) from error
        except HTTPException as error:
            raise ConnectionError(f"{type(error).__name__} {error}") from error
        finally:
            self._put_back(address, connection, usable=done)
        return Answer(
            status=response.status,
            reason=response.reason,
            headers={name.lower(): value for name, value in response.getheaders()},
            body=content,
        )

    def _silent_one(self, address: SplitResult) -> HTTPConnection | None:
        """A connection that is open and waits for a request: one that has something to say has been closed."""
        with self._lock:
            idle = self._idle[address.scheme, address.netloc]
            while idle:
                connection = idle.pop()
                if not _speaks(connection.sock):
                    return connection
                connection.close()
        return None

    def _connect(self, address: SplitResult) -> HTTPConnection:
        if address.scheme not in ("http", "https") or not address.hostname:
            raise ValueError("it is not one of a server")
        connection = (
            HTTPSConnection(address.hostname, address.port, timeout=self._connect_s, context=self._trusted())
            if address.scheme == "https"
            else HTTPConnection(address.hostname, address.port, timeout=self._connect_s)
        )
        try:
            connection.connect()
        except BaseException:
            connection.close()
            raise
        connection.sock.settimeout(self._answer_s)
        return connection

    def _put_back(self, address: SplitResult, connection: HTTPConnection, *, usable: bool) -> None:
        with self._lock:
            # The server may have asked for the end, too; then there is no socket any more.
            if usable and not self._closed and connection.sock is not None:
                self._idle[address.scheme, address.netloc].append(connection)
            else:
                connection.close()


def _speaks(connection: socket.socket) -> bool:
    """Whether something has come from the other side, be it the end."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))
