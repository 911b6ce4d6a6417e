"""A proxy before a server that counts what comes by, and behaves badly when it is told to."""

from __future__ import annotations

import itertools
import json
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from wandb_submit.server.control.lifecycle import ServerInfo

# An answer instead of the server's: a status, and maybe how long to wait before asking again.
Fault = tuple[int, dict[str, str]]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a client that was killed
            super().handle_error(request, client_address)


class Proxy:
    """What has come by, as words like `UpsertBucket`, `file_stream` and `PUT`, and what is done to it.

    `fault` is asked before every request (with its ordinal number and word; `variables` are those of its GraphQL),
    and gives an answer instead of the server's, `None`, or one of these words: `cut` ends the connection after the
    server has done its work, `closed` ends it before, `silence` never answers.
    """

    def __init__(self, target: ServerInfo) -> None:
        self.seen: list[str] = []
        self.fault: Callable[[int, str], Fault | str | None] = lambda _number, _word: None
        self.variables: dict[str, Any] = {}
        self._numbers = itertools.count()
        self._closed = threading.Event()
        self._http = httpx.Client(base_url=target.url, trust_env=False, timeout=60)
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                proxy.handle(self)

            do_PUT = do_GET = do_POST  # noqa: N815 - the library's names

            def log_message(self, *_: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()
        self._http.close()

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        word = request.command
        if request.path == "/graphql":
            asked = json.loads(body)
            word = re.match(r"\s*(?:query|mutation)\s+(\w+)", asked["query"])[1]
            self.variables = asked.get("variables", {})
        elif request.path.endswith("/file_stream"):
            word = "file_stream"
        self.seen.append(word)
        fault = self.fault(next(self._numbers), word)
        if fault == "silence":
            self._closed.wait()
        if fault in ("silence", "closed"):
            hang_up(request)
            return
        if isinstance(fault, tuple):
            status, headers = fault[0], fault[1]
            content = b"<html>as told" if status == 200 else b'{"error": "as told"}'
        else:
            kept = {name: value for name, value in request.headers.items() if name.lower() != "connection"}
            answer = self._http.request(request.command, request.path, content=body, headers=kept)
            status, headers, content = answer.status_code, {"Content-Type": "application/json"}, answer.content
        if fault == "cut":
            hang_up(request)
            return
        request.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(content)


def hang_up(request: BaseHTTPRequestHandler) -> None:
    """Ends a connection without an answer."""
    request.close_connection = True
    with suppress(OSError):  # the client has ended it
        request.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def before(target: ServerInfo) -> Iterator[Proxy]:
    """A proxy before that server."""
    proxy = Proxy(target)
    yield proxy
    proxy.close()
