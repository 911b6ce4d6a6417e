"""A lane for what takes its time: so much of it at once, the rest in the order in which it came."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Lane:
    """Lets in what fits together, or one that is too large for that. Not thread-safe: it is one event loop's."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._inside = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def enter(self, size: int) -> AsyncIterator[None]:
        """Waits for its turn; what is so large is inside until the block ends."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        self._let_in()
        try:
            await turn
            yield
        finally:
            if turn.cancelled():
                self._waiting = deque(one for one in self._waiting if one[1] is not turn)
            else:
                self._inside -= size
            self._let_in()

    def _let_in(self) -> None:
        while self._waiting and (not self._inside or self._inside + self._waiting[0][0] <= self._width):
            size, turn = self._waiting.popleft()
            if not turn.cancelled():
                self._inside += size
                turn.set_result(None)
