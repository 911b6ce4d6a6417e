"""What large things cost, and those who wait beside them: lists of many runs, large sweeps, runs with many metrics.

Processor seconds of the server and of what it has started are the figure to look at on a busy machine; the others are
what a client waits.
"""

from __future__ import annotations

import asyncio
import functools
import json
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from load import (
    ENTITY,
    PROJECT,
    Connection,
    Figure,
    Server,
    connections,
    create_sweep,
    parser,
    processor_s,
    report,
    served,
)

Work = Callable[[Connection], Awaitable[object]]

RUNS = """
query Runs($project: String!, $entity: String!, $cursor: String, $perPage: Int, $order: String, $filters: JSONString) {
  project(name: $project, entityName: $entity) {
    runCount(filters: $filters)
    runs(filters: $filters, after: $cursor, first: $perPage, order: $order) {
      edges { node { name config summaryMetrics } cursor } pageInfo { endCursor hasNextPage }
    }
  }
}
"""
KEYS = """
query K($project: String!, $entity: String!, $run: String!) {
  project(name: $project, entityName: $entity) { run(name: $run) { historyKeys } }
}
"""
SMALL = {"method": "random", "parameters": {"lr": {"min": 0.0, "max": 1.0}}}
ORDERS = {
    "a summary value": ("-summary_metrics.loss", {}),
    "a config value": ("+config.lr.value,-created_at", {}),
    "age, filtered": ("+created_at", {"config.lr": {"$gte": 0}}),
}


def fill(data_dir: Path, runs: int, names: int) -> None:
    """Writes finished runs, the first of them with a row of many metrics."""
    with sqlite3.connect(data_dir / "server.sqlite3", timeout=60) as database:
        project = database.execute("SELECT id FROM projects WHERE name = ?", (PROJECT,)).fetchone()[0]
        database.executemany(
            "INSERT INTO runs (project, name, state, display_name, config, summary, created_at, heartbeat_at)"
            " VALUES (?, ?, 'finished', 'r', ?, ?, ?, ?)",
            (
                (
                    project,
                    f"run{number}",
                    json.dumps({"lr": {"value": random.random()}, **{f"p{n}": {"value": n} for n in range(40)}}),
                    json.dumps({"loss": random.random(), **{f"m{n}": n / 7 for n in range(60)}}),
                    number,
                    number,
                )
                for number in range(runs)
            ),
        )
        first = database.execute("SELECT id FROM runs WHERE name = 'run0'").fetchone()[0]
        row = {"_step": 0, **{f"layer/{number}": number / 7 for number in range(names)}}
        database.execute("INSERT INTO history VALUES (?, 'history', 0, 0, ?)", (first, json.dumps(row)))


async def list_runs(connection: Connection, order: str, filters: dict[str, object], size: int) -> int:
    """Lists all runs, page by page; returns how many there are."""
    cursor, seen = None, 0
    while True:
        wanted = {"order": order, "filters": json.dumps(filters), "cursor": cursor, "perPage": size}
        data = await connection.graphql(RUNS, project=PROJECT, entity=ENTITY, **wanted)
        runs: dict[str, dict[str, object]] = data["project"]["runs"]  # type: ignore[assignment]
        seen += len(runs["edges"])
        if not runs["pageInfo"]["hasNextPage"]:
            return seen
        cursor = runs["pageInfo"]["endCursor"]


class Meter:
    """Figures of what happens within its blocks."""

    def __init__(self, server: Server) -> None:
        self.figures: list[Figure] = []
        self._server = server

    async def beside(self, name: str, work: Sequence[Work], small: Work) -> None:
        """Measures some works at once, and how long small requests take meanwhile, each on a connection of its own."""
        async with connections(self._server, len(work) + 1) as (one, *others):
            began, used = time.monotonic(), processor_s(self._server.pid)
            all_of_it = asyncio.gather(*(each(other) for each, other in zip(work, others, strict=True)))
            waits = []
            while not all_of_it.done():
                asked = time.monotonic()
                await small(one)
                waits.append(time.monotonic() - asked)
                await asyncio.sleep(0.02)
            await all_of_it
            self.note(name, time.monotonic() - began)
            self.note("    processor of the server alone", processor_s(self._server.pid) - used)
            self.note("    longest wait of a small request", 1000 * max(waits), "ms")

    def note(self, name: str, measured: float, unit: str = "s") -> None:
        """Adds a figure."""
        self.figures.append(Figure(name=name, measured=measured, unit=unit))


async def measure(server: Server, data_dir: Path, runs: int, parameters: int, values: int, names: int) -> list[Figure]:
    """All figures."""
    meter = Meter(server)

    async def page(connection: Connection) -> None:
        wanted = {"order": "-created_at", "filters": "{}", "cursor": None, "perPage": 5}
        await connection.graphql(RUNS, project=PROJECT, entity=ENTITY, **wanted)

    async def sweep(connection: Connection) -> None:
        await create_sweep(connection, SMALL)

    async with connections(server, 1) as (connection,):
        await sweep(connection)
    fill(data_dir, runs, names)
    for name, (order, filters) in ORDERS.items():
        work = functools.partial(list_runs, order=order, filters=filters, size=50)
        await meter.beside(f"{runs:,} runs by {name}, pages of 50", [work], page)
    whole = functools.partial(list_runs, order="-summary_metrics.m7", filters={}, size=1000)
    await meter.beside(f"30 listings of {runs:,} runs at once", [whole] * 30, page)
    many = {"method": "random", "parameters": {f"p{n}": {"min": 0.0, "max": 1.0} for n in range(parameters)}}
    same = {"method": "grid", "parameters": {"x": {"values": [1.5] * values}}}
    for name, config in ((f"a sweep of {parameters:,} parameters", many), (f"a grid of {values:,} same values", same)):
        await meter.beside(name, [functools.partial(create_sweep, config=config)], sweep)
    keys = functools.partial(Connection.graphql, text=KEYS, project=PROJECT, entity=ENTITY, run="run0")
    await meter.beside(f"the names of {names:,} metrics", [keys], page)
    meter.note("memory of the server afterwards", server.alone_mb(), "MB")
    return meter.figures


def main() -> int:
    """Measures; returns the exit status."""
    options = parser(__doc__.partition("\n")[0])
    options.add_argument("--runs", type=int, default=10_000)
    options.add_argument("--parameters", type=int, default=3000)
    options.add_argument("--values", type=int, default=100_000)
    options.add_argument("--names", type=int, default=300_000)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, served(Path(folder)) as server:
        figures = asyncio.run(measure(server, Path(folder), given.runs, given.parameters, given.values, given.names))
    return report(figures, as_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
