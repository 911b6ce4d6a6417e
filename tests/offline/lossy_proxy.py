"""A proxy between clients and the server that loses answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class LossyProxy:
    """Passes everything on, except for the first answers that hold a certain text: their connections break.

    Attributes:
        url: where it listens.
        lost: how many answers were lost.
    """

    server: tuple[str, int]
    text: bytes
    to_lose: int
    url: str = ""
    lost: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def serve(self, listener: socket.socket) -> None:
        """Accepts connections until the listener is shut down; then waits for the end of all of them."""
        threads: list[threading.Thread] = []
        clients: list[socket.socket] = []
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                clients.append(client)
                threads.append(threading.Thread(target=self._connect, args=(client,)))
                threads[-1].start()
        for client in clients:
            _hang_up(client)
        for thread in threads:
            thread.join()

    def _connect(self, client: socket.socket) -> None:
        with client, socket.create_connection(self.server) as server:
            asking = threading.Thread(target=self._pass_on, args=(client, server))
            asking.start()
            self._pass_on(server, client, losing=True)
            asking.join()

    def _pass_on(self, source: socket.socket, target: socket.socket, *, losing: bool = False) -> None:
        with suppress(OSError):
            while (data := source.recv(1 << 16)) and not (losing and self._is_to_lose(data)):
                target.sendall(data)
        _hang_up(source)
        _hang_up(target)

    def _is_to_lose(self, data: bytes) -> bool:
        with self._lock:
            if self.text not in data or self.lost == self.to_lose:
                return False
            self.lost += 1
            return True


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def lossy_proxy(url: str, *, text: bytes, to_lose: int) -> Iterator[LossyProxy]:
    """A proxy to the server at `url` that loses the first answers with `text` in them."""
    parts = urlsplit(url)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = LossyProxy(server=(str(parts.hostname), int(parts.port or 0)), text=text, to_lose=to_lose)
        proxy.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=proxy.serve, args=(listener,))
        thread.start()
        try:
            yield proxy
        finally:
            # Closing alone would leave the thread in `accept`.
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
