"""A forwarder before the server that counts the requests that come by."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

_REQUEST = re.compile(rb"^(?:POST|GET|PUT|HEAD) \S+ HTTP/1\.1\r$", re.MULTILINE)


class Counter:
    """Passes bytes on both ways and counts request lines.

    Attributes:
        url: where it listens.
        requests: how many have come by.
    """

    def __init__(self, server: str) -> None:
        self.requests = 0
        self.url = ""
        parts = urlsplit(server)
        self._server = (parts.hostname, parts.port)
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()
        self._listening.wait()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        listener = self._loop.run_until_complete(asyncio.start_server(self._connect, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        self._listening.set()
        self._loop.run_forever()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(*self._server)
        with contextlib.suppress(asyncio.CancelledError):  # by `_stop`; Python 3.11 prints a traceback of it
            await asyncio.gather(self._pass_on(reader, to_server, counting=True), self._pass_on(from_server, writer))

    async def _pass_on(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, counting: bool = False
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(1 << 16):
                if counting:
                    self.requests += len(_REQUEST.findall(data))
                target.write(data)
                await target.drain()
        target.close()

    async def _stop(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def close(self) -> None:
        """Stops passing on."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)


@contextlib.contextmanager
def counting(server: str) -> Iterator[Counter]:
    """A counter before that server."""
    counter = Counter(server)
    yield counter
    counter.close()
