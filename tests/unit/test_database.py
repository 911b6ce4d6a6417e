"""The server's database: writes that wait are committed together, and each stands alone."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sqlite3
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from wandb_submit.errors import ConfigError
from wandb_submit.server.runs.state import WAITING
from wandb_submit.server.storage import database as database_module
from wandb_submit.server.storage.database import Database, Lane, Transaction
from wandb_submit.server.storage.place import GoneError
from wandb_submit.server.storage.refusals import Refusal
from wandb_submit.server.storage.tables import STEPS

_T = TypeVar("_T")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "server.sqlite3")
    yield opened
    opened.close()


def put(name: str, value: str = "x") -> Callable[[Transaction], int]:
    return lambda tx: tx.execute("INSERT INTO settings VALUES (?, ?)", (name, value))


def names(tx: Transaction) -> list[str]:
    return [row["name"] for row in tx.rows("SELECT name FROM settings ORDER BY name")]


async def together(*writes: Coroutine[None, None, _T]) -> list[_T | BaseException]:
    return await asyncio.gather(*writes, return_exceptions=True)


def test_a_write_that_fails_takes_nothing_of_its_neighbours_with_it(database: Database):
    def fail(tx: Transaction) -> int:
        put("half")(tx)
        raise Refusal("no")

    async def scene() -> tuple[list[int | BaseException], list[str]]:
        outcomes = await together(
            database.write(put("a")), database.write(fail), database.write(put("a")), database.write(put("b"))
        )
        return outcomes, await database.read(names)

    (first, refused, twice, last), found = asyncio.run(scene())
    assert (first, last) == (1, 1)
    assert isinstance(refused, Refusal)
    assert isinstance(twice, sqlite3.IntegrityError)
    assert found == ["a", "b"]


def test_when_sqlite_gives_up_a_transaction_the_writes_that_can_succeed_do(database: Database):
    def give_up(tx: Transaction) -> None:
        # What SQLite itself does when the disk is full.
        tx.execute("ROLLBACK")
        raise sqlite3.OperationalError("database or disk is full")

    async def scene() -> tuple[list[object], list[str]]:
        told: list[str] = []

        def first(tx: Transaction) -> int:
            tx.after_commit.append(lambda: told.append("first"))
            return put("a")(tx)

        outcomes = await together(database.write(first), database.write(give_up), database.write(put("b")))
        assert told == ["first"]
        return outcomes, await database.read(names)

    outcomes, found = asyncio.run(scene())
    assert outcomes[0] == outcomes[2] == 1
    assert isinstance(outcomes[1], sqlite3.OperationalError)
    assert found == ["a", "b"]


def test_what_takes_long_begins_again_in_a_thread_and_holds_up_only_other_writes(database: Database):
    threads: list[threading.Thread] = []
    free = threading.Event()

    def long(tx: Transaction) -> None:
        put("long")(tx)
        threads.append(threading.current_thread())
        tx.take_long()
        assert free.wait(30)

    async def scene() -> list[str]:
        running = asyncio.create_task(database.write(long))
        while len(threads) < 2:
            await asyncio.sleep(0.001)
        other = asyncio.create_task(database.write(put("other")))
        assert await database.read(names) == []
        assert not other.done()
        free.set()
        await asyncio.gather(running, other)
        return await database.read(names)

    assert asyncio.run(scene()) == ["long", "other"]
    assert threads[0] is threading.main_thread() is not threads[1]


def test_the_log_does_not_grow_for_ever(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(database_module, "_LOG_BYTES", 200_000)
    monkeypatch.setattr(database_module, "_LOG_BYTES_AT_MOST", 400_000)
    monkeypatch.setattr(database_module, "_COPY_AGAIN_AFTER_S", 0.0)

    copied: list[str] = []
    held = threading.Event()

    def copy(mode: str) -> None:
        if mode == "RESTART":
            held.set()
            time.sleep(0.002)
        original(mode)
        copied.append(mode)
        held.clear()

    def checked(name: str) -> Callable[[Transaction], None]:
        def work(tx: Transaction) -> None:
            assert not held.is_set()
            put(name, "x" * 10_000)(tx)

        return work

    original = database._copy
    monkeypatch.setattr(database, "_copy", copy)

    async def lane(first: int) -> None:
        for number in range(first, 400, 8):
            await database.write(checked(f"{number:03}"))

    async def scene() -> None:
        # There is always a write that waits for its turn while the log is copied.
        await asyncio.gather(*map(lane, range(8)))
        assert len(await database.read(names)) == 400

    asyncio.run(scene())
    # Nobody waits but for the rest of what a copy beside the writes has left.
    assert "RESTART" in copied
    assert all(before == "PASSIVE" for before, mode in itertools.pairwise(copied) if mode == "RESTART")
    assert (tmp_path / "server.sqlite3-wal").stat().st_size < 6_000_000
    assert (tmp_path / "server.sqlite3").stat().st_size > 2_000_000


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("looks", [0, 1], ids=["before", "after"])
def test_what_is_no_longer_where_it_was_is_not_acknowledged(database: Database, looks: int, long: bool):
    seen = itertools.count()

    def check() -> None:
        if next(seen) == looks:
            raise GoneError("it was deleted")

    async def scene() -> list[int | BaseException]:
        database.check = check
        return await together(database.write(put("a"), long=long), database.write(put("b"), long=long))

    outcomes = asyncio.run(scene())
    assert isinstance(outcomes[0], GoneError)
    assert isinstance(outcomes[1], int if long and looks else GoneError)


def test_a_reader_cannot_write(database: Database):
    async def scene() -> None:
        await database.read(put("a"))

    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        asyncio.run(scene())


def test_a_database_of_version_1_comes_through_with_all_its_data(tmp_path: Path):
    old = sqlite3.connect(tmp_path / "server.sqlite3")
    old.executescript(f"BEGIN; {STEPS[0]} PRAGMA user_version=1; COMMIT;")
    old.executescript(
        """
        INSERT INTO settings VALUES ('seed', '7');
        INSERT INTO projects VALUES (1, 'local', 'old', 100.0);
        INSERT INTO sweeps (number, id, project, config, state, created_at, updated_at)
          VALUES (3, 'sweep', 1, '{method: grid, parameters: {x: {values: [1, 2]}}}', 'RUNNING', 100.0, 100.0);
        INSERT INTO points VALUES (3, 1, '{"x": {"value": 1}}', 5), (3, 2, '{"x": {"value": 2}}', NULL);
        INSERT INTO agents VALUES (1, 'agent', 3, 'host', 'RUNNING', 100.0, 200.0);
        INSERT INTO runs (id, project, name, sweep, agent, state, display_name, summary, created_at, heartbeat_at)
          VALUES (5, 1, 'run', 3, 1, 'running', 'run-1', '{"loss": 0.5}', 100.0, 200.0);
        INSERT INTO history VALUES (5, 'history', 0, 0, '{"loss": 0.75}'), (5, 'history', 1, 10, '{"loss": 0.5}');
        INSERT INTO console VALUES (5, 0, 'hello');
        INSERT INTO files VALUES (5, 'config.yaml', 10, 'md5', 150.0);
        """
    )
    old.row_factory = sqlite3.Row
    tables = [
        row["name"]
        for row in old.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
    ]
    before = {table: [dict(row) for row in old.execute(f"SELECT * FROM {table}")] for table in tables}
    old.close()
    assert all(before.values())

    for _ in range(2):  # The second time there is nothing left to do.
        database = Database(tmp_path / "server.sqlite3")
        after = asyncio.run(
            database.read(
                lambda tx: {table: [dict(row) for row in tx.rows(f"SELECT * FROM {table}")] for table in tables}
            )
        )
        database.close()
        for table, rows in before.items():
            assert [{**new, **row} for new, row in zip(after[table], rows, strict=True)] == after[table]


def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path):
    newer = sqlite3.connect(tmp_path / "server.sqlite3")
    newer.execute(f"PRAGMA user_version={len(STEPS) + 1}")
    newer.close()
    with pytest.raises(ConfigError, match="newer wandb-submit"):
        Database(tmp_path / "server.sqlite3")


@pytest.mark.parametrize(
    ("version", "change", "words"),
    [
        (3, "ALTER TABLE runs DROP COLUMN queued", "it lacks runs.queued"),
        (3, "DROP TABLE alerts", "it lacks alerts, alerts.run, alerts.at and 4 more"),
        (3, "DROP INDEX runs_by_state", "it lacks the index runs_by_state"),
        (3, "ALTER TABLE agents ADD COLUMN extra TEXT NOT NULL DEFAULT ''", "it has beside them agents.extra"),
        (3, "DROP TABLE console; CREATE TABLE console (run INTEGER, line TEXT)", "it lacks console.number"),
        (2, "ALTER TABLE runs DROP COLUMN resumed", "it lacks runs.resumed"),
        (1, "ALTER TABLE runs ADD COLUMN resumed INTEGER", "it has beside them runs.resumed"),
        (0, "CREATE TABLE songs (title TEXT)", "it has beside them songs, songs.title"),
    ],
)
def test_a_database_whose_tables_are_not_those_of_its_version_is_left_alone(
    tmp_path: Path, version: int, change: str, words: str
) -> None:
    path = tmp_path / "server.sqlite3"
    with contextlib.closing(sqlite3.connect(path)) as between:
        dropped = "DROP INDEX IF EXISTS waiting_runs;" if "queued" in change else ""
        between.executescript(f"{''.join(STEPS[:version])} {dropped} {change}; PRAGMA user_version={version};")
        before = list(between.iterdump())
    with pytest.raises(ConfigError, match=rf"does not have the tables of version {version}.*{words}.*name another"):
        Database(path)
    with contextlib.closing(sqlite3.connect(path)) as after:
        assert list(after.iterdump()) == before


def test_tables_and_indexes_that_somebody_has_added_are_no_matter(tmp_path: Path) -> None:
    Database(tmp_path / "server.sqlite3").close()
    with contextlib.closing(sqlite3.connect(tmp_path / "server.sqlite3")) as own:
        own.executescript("CREATE TABLE notes (text TEXT); CREATE INDEX mine ON runs (notes); ANALYZE;")
    Database(tmp_path / "server.sqlite3").close()


def test_what_every_heartbeat_asks_takes_no_longer_with_more_runs(database: Database):
    async def plans(query: str) -> str:
        rows = await database.read(lambda tx: tx.rows(f"EXPLAIN QUERY PLAN {query}", (1,)))
        return " ".join(row["detail"] for row in rows)

    assert "waiting_runs" in asyncio.run(plans(f"SELECT id FROM runs WHERE sweep = ? AND {WAITING}"))


def test_reads_that_take_long_hold_up_neither_short_ones_nor_pages(database: Database):
    go_on = threading.Event()

    def long(tx: Transaction) -> str:
        tx.take_long()
        assert go_on.wait(60)
        return "long"

    def page(tx: Transaction) -> str:
        tx.take_long()
        return "page"

    async def scene() -> list[str]:
        listings = [asyncio.ensure_future(database.read(long)) for _ in range(30)]
        try:
            await asyncio.sleep(0)
            assert await asyncio.wait_for(database.read(names), 30) == []
            assert await asyncio.wait_for(database.read(page, Lane.PAGES), 30) == "page"
            assert not any(listing.done() for listing in listings)
        finally:
            go_on.set()
        return await asyncio.gather(*listings)

    assert asyncio.run(scene()) == ["long"] * 30


@pytest.mark.parametrize(
    ("lane", "thread"), [(Lane.LONG, "database-long-reader"), (Lane.PAGES, "database-page-reader")]
)
@pytest.mark.parametrize("statements", [1, 50_000])
def test_a_read_that_turns_out_to_take_long_goes_on_elsewhere(
    database: Database, lane: Lane, thread: str, statements: int
):
    most = 2_000_000 // statements
    count = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) SELECT MAX(i) FROM n"
    threads: list[str] = []

    def work(tx: Transaction) -> int:
        threads.append(threading.current_thread().name.rpartition("_")[0])
        return sum(tx.integer(count, (most,)) for _ in range(statements))

    assert asyncio.run(database.read(work, lane)) == most * statements
    assert threads == ["database-reader", thread]


def test_a_short_read_that_fails_is_not_begun_again(database: Database):
    begun: list[int] = []

    def work(tx: Transaction) -> None:
        begun.append(1)
        tx.rows("SELECT * FROM nowhere")

    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        asyncio.run(database.read(work))
    assert begun == [1]
