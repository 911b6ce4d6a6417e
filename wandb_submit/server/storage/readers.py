"""Threads that read the database, and who waits for whom in them.

Everybody's work begins in the same short lane, where it gets a few milliseconds of a processor. What needs more is
taken back and begun again: a person's page in the pages' lane, everything else in the long one. So whoever asks for
little waits for nobody who asks for much, however many there are of those; and nobody has to say beforehand how long
it takes, though whoever knows it (`Transaction.take_long`) saves the first try.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path
from typing import TypeVar

from wandb_submit.server.storage.regexp import matches
from wandb_submit.server.storage.transaction import TakesLongError, Transaction

_T = TypeVar("_T")
# What work in the short lane may use of a processor: so much that hardly anything has to begin again.
_SHORT_S = 0.03
# After how many of its instructions SQLite asks whether that is over: a tenth of a millisecond.
_INSTRUCTIONS = 5000
# How long one connection waits for another's lock. Only a stranger's (a person's `sqlite3`) ever keeps it.
_BUSY_S = 1.0


class Lane(Enum):
    """Where work goes on that is too long for the short lane."""

    LONG = "long"
    PAGES = "pages"


class Readers:
    """The threads, each with a connection of its own that cannot write."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._short = ThreadPoolExecutor(2, thread_name_prefix="database-reader")
        self._lanes = {
            Lane.LONG: ThreadPoolExecutor(2, thread_name_prefix="database-long-reader"),
            Lane.PAGES: ThreadPoolExecutor(1, thread_name_prefix="database-page-reader"),
        }

    async def read(self, work: Callable[[Transaction], _T], lane: Lane = Lane.LONG) -> _T:
        """Runs `work` on one consistent state of the database; it may be begun a second time.

        Args:
            work: what to do.
            lane: where it goes on, should it take long.
        """
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._short, self._read_shortly, work)
        except TakesLongError:
            return await loop.run_in_executor(self._lanes[lane], self._read, work)

    def connection(self) -> sqlite3.Connection:
        """The connection of the thread that asks, which cannot write with it."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = connect(self._path)
            connection.execute("PRAGMA cache_size=-4000")
            connection.execute("PRAGMA query_only=ON")
            self._local.connection = connection
            self._opened.append(connection)
        return connection

    def close(self) -> None:
        """Lets what is running end, and closes the connections."""
        for pool in (self._short, *self._lanes.values()):
            pool.shutdown()
        for connection in self._opened:
            connection.close()

    def _read(self, work: Callable[[Transaction], _T], until: float | None = None) -> _T:
        connection = self.connection()
        connection.execute("BEGIN")
        transaction = Transaction(connection, may_take_long=until is None, until=until, is_read=True)
        try:
            return work(transaction)
        except sqlite3.OperationalError as error:
            if "UTF-8" not in str(error):
                raise
            # Halves of surrogate pairs, which earlier versions kept inside of JSON.
            connection.text_factory = replacing
            return work(transaction)
        finally:
            connection.text_factory = str
            connection.execute("ROLLBACK")

    def _read_shortly(self, work: Callable[[Transaction], _T]) -> _T:
        until = time.thread_time() + _SHORT_S
        connection = self.connection()
        connection.set_progress_handler(lambda: time.thread_time() > until, _INSTRUCTIONS)
        try:
            return self._read(work, until)
        except sqlite3.OperationalError as error:
            if time.thread_time() > until:
                raise TakesLongError from error
            raise
        finally:
            connection.set_progress_handler(None, 0)


def replacing(text: bytes) -> str:
    """A text of the database, with what is not UTF-8 replaced; a connection's `text_factory`, slower than its own."""
    return text.decode(errors="replace")


def connect(path: Path) -> sqlite3.Connection:
    """A connection with all that the server's statements need."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_S)
    connection.row_factory = sqlite3.Row
    connection.create_function("REGEXP", 2, matches, deterministic=True)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection
