"""Lists of runs that are read page by page: each is read once, and every page is what it would be if all were read."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.runs import kept_lists, listing
from wandb_submit.server.runs.kept_lists import KeptLists
from wandb_submit.server.runs.orders import parse_order
from wandb_submit.server.storage import readers
from wandb_submit.server.storage.database import Database, Transaction

ORDERS = [
    "-summary_metrics.loss",
    "+config.lr.value",
    "-config.lr,+summary_metrics.loss,-name",
    "+group,-created_at",
    "-heartbeat_at",
    "+duration",
    "+state",
    "-created_at",
    "+created_at",
]
FILTERS: list[dict[str, object]] = [
    {},
    {"state": {"$ne": "failed"}, "config.lr": {"$gte": 3}},
    {"tags": "red", "summary_metrics.loss": {"$lt": 8}},
    {"heartbeat_at": {"$gt": 20}},
]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "server.sqlite3")
    yield opened
    opened.close()


def add(tx: Transaction, number: int, chance: random.Random) -> None:
    summary = chance.choice([{}, {"loss": "NaN"}, {"loss": chance.randint(0, 9)}, {"loss": chance.random()}])
    tx.execute(
        "INSERT INTO runs (id, project, name, state, display_name, config, summary, run_group, tags, created_at,"
        " heartbeat_at) VALUES (?, 1, ?, ?, 'r', ?, ?, ?, ?, ?, ?)",
        (
            number,
            f"run{number}",
            chance.choice(["running", "finished"]),
            json.dumps({"lr": {"value": chance.randint(0, 9)}}),
            json.dumps(summary),
            chance.choice([None, "a", "b"]),
            json.dumps(chance.choice([[], ["red"], ["red", "blue"]])),
            chance.randint(0, 5),
            chance.randint(10, 30),
        ),
    )


def change(tx: Transaction, chance: random.Random) -> None:
    """What clients do to runs: each of it to one of them."""
    run = chance.randint(1, 60)
    for column, value in (
        ("summary", json.dumps({"loss": chance.randint(0, 9)})),
        ("state", chance.choice(["running", "failed", "pending"])),
        ("tags", '["red"]'),
        ("run_group", "b"),
        ("config", '{"lr": {"value": 5}}'),
        ("heartbeat_at", chance.randint(10, 30)),
    ):
        tx.execute(f"UPDATE runs SET {column} = ? WHERE id = ?", (value, (run := run % 60 + 1)))
    tx.execute("DELETE FROM runs WHERE id = ?", (chance.randint(1, 60),))
    add(tx, tx.integer("SELECT seq FROM sqlite_sequence WHERE name = 'runs'") + 1, chance)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("filters", FILTERS, ids=json.dumps)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_page_of_a_kept_list_is_what_reading_all_runs_gives(
    database: Database, order: str, filters: dict[str, object], size: int
):
    chance = random.Random(f"{order}{filters}{size}")
    kept = KeptLists()
    asked = parse_order(order)
    condition = listing._condition(Arguments({"filters": json.dumps(filters)}), {"project": 1})

    def fill(tx: Transaction) -> None:
        tx.execute("INSERT INTO projects VALUES (1, 'local', 'p', 0)")
        for number in range(1, 61):
            add(tx, number, chance)

    def pages(tx: Transaction, cursor: str | None) -> list[list[tuple[object, ...]]]:
        context: Any = SimpleNamespace(tx=tx, server=SimpleNamespace(kept_lists=kept))
        through_list = listing._picked(context, condition, asked, cursor, size)
        count = kept.count(tx, condition)
        assert count in (None, tx.integer(f"SELECT COUNT(*) FROM runs WHERE {condition.sql}", condition.parameters))
        tx.is_read = False
        return [through_list, listing._picked(context, condition, asked, cursor, size)]

    async def scene() -> None:
        await database.write(fill)
        cursor = None
        for _ in range(12):
            through_list, read = await database.read(lambda tx, cursor=cursor: pages(tx, cursor))
            assert through_list == read
            cursor = asked.cursor(read[-1]) if read else None
            await database.write(lambda tx: change(tx, chance))

    asyncio.run(scene())


def read_pages(database: Database, runs: int, order: str, filters: dict[str, object]) -> None:
    """Reads a list of runs in pages of ten with a count for each, as clients do."""
    kept, asked = KeptLists(), parse_order(order)
    condition = listing._condition(Arguments({"filters": json.dumps(filters)}), {"project": 1})

    def fill(tx: Transaction) -> None:
        tx.execute("INSERT INTO projects VALUES (1, 'local', 'p', 0)")
        for number in range(1, runs + 1):
            add(tx, number, random.Random(number))

    async def scene() -> None:
        await database.write(fill)
        cursor, seen = None, 0
        while True:

            def page(tx: Transaction, cursor: str | None = cursor) -> tuple[list[tuple[object, ...]], int]:
                context: Any = SimpleNamespace(tx=tx, server=SimpleNamespace(kept_lists=kept))
                found = listing._picked(context, condition, asked, cursor, 10)
                arguments = Arguments({"filters": json.dumps(filters)})
                return found, listing.run_count(context, arguments, project=1)

            found, count = await database.read(page)
            assert count == runs
            seen += len(found)
            if not found:
                break
            cursor = asked.cursor(found[-1])
        assert seen == runs

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("order", "filters"),
    [(order, {}) for order in ORDERS[:3]] + [("+created_at", {"config.lr": {"$gte": 0}})],
)
def test_twice_the_runs_are_not_four_times_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str, filters: dict[str, object]
):
    reads = 0
    connect = readers.connect

    def counted(path: Path) -> sqlite3.Connection:
        connection = connect(path)
        plain = sqlite3.connect(":memory:", check_same_thread=False)

        def extract(text: str, path: str) -> object:
            nonlocal reads
            reads += 1
            return plain.execute("SELECT json_extract(?, ?)", (text, path)).fetchone()[0]

        connection.create_function("json_extract", 2, extract)
        return connection

    monkeypatch.setattr(readers, "connect", counted)
    work = []
    for runs in (100, 200):
        database = Database(tmp_path / f"{runs}.sqlite3")
        reads = 0
        read_pages(database, runs, order, filters)
        database.close()
        work.append(reads)
    assert 0 < work[1] < 3 * work[0]


@pytest.mark.parametrize("order", ["+created_at", "-created_at"])
def test_an_index_has_the_runs_of_a_project_by_age(database: Database, order: str):
    asked = parse_order(order)
    condition = listing._condition(Arguments({}), {"project": 1})
    assert asked.is_by_age
    assert condition.is_of_project
    for after, parameters in [*asked.ranges(None), *asked.ranges(asked.cursor([5.0, 7]))]:
        plan = asyncio.run(
            database.read(
                lambda tx, after=after, parameters=parameters: tx.rows(
                    f"EXPLAIN QUERY PLAN SELECT * FROM (SELECT {asked.selection} FROM runs WHERE {condition.sql})"
                    f" WHERE {after} ORDER BY {asked.sql} LIMIT 10",
                    (1, *parameters),
                )
            )
        )
        assert [row["detail"].partition(" INDEX ")[2].partition(" ")[0] for row in plan] == ["runs_of_project_by_age"]


def test_lists_are_forgotten_when_they_are_many_or_nobody_asks(database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kept_lists, "_MAX_LISTS", 3)
    kept = KeptLists()

    async def scene() -> None:
        await database.write(lambda tx: tx.execute("INSERT INTO projects VALUES (1, 'local', 'p', 0)"))
        await database.write(lambda tx: [add(tx, number, random.Random(number)) for number in range(1, 61)])
        for number in range(6):
            condition = listing._condition(
                Arguments({"filters": f'{{"config.lr": {{"$gte": -{number}}}}}'}), {"project": 1}
            )
            asked = parse_order("+name")
            await database.read(lambda tx, it=condition, by=asked: kept.page(tx, it, by, None, 10))
        assert len(kept._lists) == 3
        await database.read(lambda tx: kept.page(tx, condition, parse_order("-name"), None, 100))
        assert len(kept._lists) == 3, "a list that is one page is not kept"
        monkeypatch.setattr(kept_lists, "_IDLE_S", 0.0)
        kept.tidy()
        assert not kept._lists

    asyncio.run(scene())
