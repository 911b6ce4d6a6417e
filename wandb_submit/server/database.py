"""The server's SQLite database, and how the event loop uses it without waiting for it.

All writing is done by one thread with one connection, all reading by a few others with their own. SQLite allows
only one writer anyway, so the thread is also the lock: what one request reads and writes is never interleaved
with another's, and no request waits on a busy database. In WAL mode the readers see the last committed state
and hold up nobody.

A write is acknowledged after its commit. `synchronous=NORMAL` leaves it in the page cache then: the death of the
process (also by SIGKILL) loses nothing, the death of the machine may lose the last moments, but corrupts nothing.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from wandb_submit.errors import ConfigError, RefusedError
from wandb_submit.server.regexp import matches
from wandb_submit.server.tables import STEPS

_T = TypeVar("_T")
_READERS = 4

Parameters = Sequence[object] | Mapping[str, object]


class Transaction:
    """What a request does to the database: all of it or nothing."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.after_commit: list[Callable[[], None]] = []

    def one(self, sql: str, parameters: Parameters = ()) -> sqlite3.Row | None:
        """The first row, if any."""
        row: sqlite3.Row | None = self._connection.execute(sql, parameters).fetchone()
        return row

    def rows(self, sql: str, parameters: Parameters = ()) -> list[sqlite3.Row]:
        """All rows."""
        return self._connection.execute(sql, parameters).fetchall()

    def each(self, sql: str, parameters: Parameters = ()) -> Iterator[sqlite3.Row]:
        """All rows, one at a time: for those that are too many, or too long, to hold them all."""
        yield from self._connection.execute(sql, parameters)

    def integer(self, sql: str, parameters: Parameters = ()) -> int:
        """The first column of the first row as a number; no row and null count as 0."""
        row = self.one(sql, parameters)
        return 0 if row is None else int(row[0] or 0)

    def execute(self, sql: str, parameters: Parameters = ()) -> int:
        """Changes rows; returns how many."""
        return self._connection.execute(sql, parameters).rowcount

    def execute_many(self, sql: str, parameters: Iterable[Parameters]) -> None:
        """Changes rows, once per set of parameters."""
        self._connection.executemany(sql, parameters)

    def insert(self, sql: str, parameters: Parameters = ()) -> int:
        """Adds a row; returns its key."""
        return int(self._connection.execute(sql, parameters).lastrowid or 0)


class Database:
    """One server's database, open until `close`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="database-writer")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="database-reader")
        self._writer.submit(self._create).result()

    async def write(self, work: Callable[[Transaction], _T]) -> _T:
        """Runs `work` in a transaction that no other write interleaves with; returns after the commit."""
        loop = asyncio.get_running_loop()
        result, after_commit = await loop.run_in_executor(self._writer, self._run, work, "BEGIN IMMEDIATE")
        for callback in after_commit:
            callback()
        return result

    async def read(self, work: Callable[[Transaction], _T]) -> _T:
        """Runs `work` on one consistent state of the database; it cannot change anything."""
        loop = asyncio.get_running_loop()
        result, _ = await loop.run_in_executor(self._readers, self._run, work, "BEGIN")
        return result

    def close(self) -> None:
        """Lets the running transactions end and closes the files."""
        self._readers.shutdown()
        # The last connection to close folds the log into the database file, and SQLite wants that from one
        # which may write.
        self._writer.shutdown()
        for connection in reversed(self._connections):
            connection.close()

    def _run(self, work: Callable[[Transaction], _T], begin: str) -> tuple[_T, Sequence[Callable[[], None]]]:
        connection = self._connection()
        transaction = Transaction(connection)
        connection.execute(begin)
        try:
            result = work(transaction)
            connection.execute("COMMIT")
        except BaseException:
            # SQLite has already rolled back after some errors, a full disk among them.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return result, transaction.after_commit

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = _connect(self.path)
            if not threading.current_thread().name.startswith("database-writer"):
                connection.execute("PRAGMA query_only=ON")
            self._local.connection = connection
            self._connections.append(connection)
        return connection

    def _create(self) -> None:
        """Opens the database in the writer's thread, and brings its tables up to date."""
        try:
            connection = self._connection()
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
            if version > len(STEPS):
                raise ConfigError(
                    f"{self.path} was written by a newer wandb-submit (its tables are version {version}, this one "
                    f"knows {len(STEPS)}): upgrade wandb-submit, or use another folder"
                )
            for number, step in enumerate(STEPS[version:], version + 1):
                connection.executescript(f"BEGIN; {step} PRAGMA user_version={number}; COMMIT;")
        except sqlite3.Error as error:
            raise RefusedError(f"cannot open the database {self.path}: {error}") from error


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA cache_size=-16000")
    connection.create_function("REGEXP", 2, matches, deterministic=True)
    return connection
