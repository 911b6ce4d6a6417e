"""How soon a sweep's agents get points: with many runs done, and while the search computes.

The runs that are done are written into the database directly, as the server would have; everything measured goes
through the API, as agents send it:

- grid and random: agents that ask for work, one after the other, and a burst of as many at once;
- bayes: the heartbeats of a run that is alive while results come in and the search chooses anew after each, and how
  long it takes until the next point knows of a result;
- hyperband: how long after the row that crosses a band a run is told to stop.
"""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

from load import (
    Connection,
    Figure,
    Server,
    begin_run,
    connections,
    create_agent,
    create_sweep,
    heartbeat,
    parser,
    percentile,
    report,
    served,
)

METRIC = {"name": "loss", "goal": "minimize"}
RANGES = {"lr": {"min": 0.0001, "max": 0.1}, "layers": {"min": 1, "max": 400}, "width": {"min": 1, "max": 400}}
GRID = {name: space for name, space in RANGES.items() if name != "lr"}


def fill(data_dir: Path, sweep: str, points: list[dict[str, object]], rows: int = 0) -> None:
    """Writes finished runs of a sweep, with their points and as many rows of history each."""
    with sqlite3.connect(data_dir / "server.sqlite3", timeout=60) as database:
        number, project = database.execute("SELECT number, project FROM sweeps WHERE id = ?", (sweep,)).fetchone()
        first = database.execute("SELECT MAX(number) FROM points WHERE sweep = ?", (number,)).fetchone()[0] or 0
        first += 1000
        for offset, point in enumerate(points):
            config = json.dumps({name: {"value": value} for name, value in point.items()})
            run = database.execute(
                "INSERT INTO runs (project, name, sweep, state, display_name, point, config, summary, exit_code,"
                " created_at, heartbeat_at) VALUES (?, ?, ?, 'finished', 'r', ?, ?, ?, 0, 1, 1)",
                (project, f"{sweep}-{offset}", number, config, config, json.dumps({"loss": random.random()})),
            ).lastrowid
            database.execute("INSERT INTO points VALUES (?, ?, ?, ?, 0)", (number, first + offset, config, run))
            database.executemany(
                "INSERT INTO history (run, stream, number, step, content) VALUES (?, 'history', ?, ?, ?)",
                ((run, step, step, json.dumps({"_step": step, "loss": 1 / (step + 1)})) for step in range(rows)),
            )
    database.close()


async def asked(connection: Connection, agent: str) -> float:
    """How long a heartbeat takes that is answered with a run; those without one are not counted."""
    while True:
        began = time.monotonic()
        if await heartbeat(connection, agent):
            return time.monotonic() - began
        await asyncio.sleep(0.05)


async def suggestions(server: Server, data_dir: Path, method: str, runs: int, at_once: int) -> list[Figure]:
    parameters = GRID if method == "grid" else RANGES
    async with connections(server, 32) as opened:
        sweep = await create_sweep(opened[0], {"method": method, "parameters": parameters})
        done = [{"layers": index // 400 + 1, "width": index % 400 + 1, "lr": 0.01} for index in range(runs)]
        fill(data_dir, sweep, done)
        agents = [await create_agent(opened[0], sweep) for _ in range(at_once)]
        one_by_one = [await asked(opened[0], agents[number % 50]) for number in range(500)]
        # In the time that W&B's agent takes before it asks.
        await asyncio.sleep(5)
        empty = 0

        async def lane(first: int) -> None:
            nonlocal empty
            for agent in agents[first :: len(opened)]:
                empty += not await heartbeat(opened[first], agent)

        began = time.monotonic()
        await asyncio.gather(*(lane(first) for first in range(len(opened))))
        burst_s = time.monotonic() - began
    title = f"{method}, {runs:,} runs done"
    return [
        Figure(name=f"{title}: median", measured=percentile(one_by_one, 0.5) * 1000, unit="ms", target=5),
        Figure(name=f"{title}: 99th percentile", measured=percentile(one_by_one, 0.99) * 1000, unit="ms"),
        Figure(name=f"{title}: {at_once:,} agents ask at once", measured=at_once / burst_s, unit="/s"),
        Figure(name=f"{title}: of those without an answer", measured=empty, unit="", target=0.02 * at_once),
    ]


async def bayes(server: Server, data_dir: Path, runs: int, results: int) -> list[Figure]:
    async with connections(server, 2) as (working, watching):
        sweep = await create_sweep(working, {"method": "bayes", "metric": METRIC, "parameters": RANGES})
        fill(
            data_dir,
            sweep,
            [
                {"lr": random.uniform(0.0001, 0.1), "layers": random.randint(1, 400), "width": random.randint(1, 400)}
                for _ in range(runs)
            ],
        )
        agents = [await create_agent(working, sweep) for _ in range(9)]
        alive = await begin_run(working, sweep, agents[0])
        delays: list[float] = []
        over = asyncio.Event()

        async def beat() -> None:
            while not over.is_set():
                began = time.monotonic()
                await heartbeat(watching, agents[0], alive)
                delays.append(time.monotonic() - began)
                await asyncio.sleep(0.002)

        beating = asyncio.create_task(beat())
        known = []
        for number in range(results):
            run = await begin_run(working, sweep, agents[1 + number % 8])
            summary = json.dumps({"loss": random.random()})
            files = {"wandb-summary.json": {"offset": 0, "content": [summary]}}
            await working.stream(run, files=files, complete=True, exitcode=0)
            began = time.monotonic()
            while not await asyncio.to_thread(is_fresh, data_dir, sweep):
                await asyncio.sleep(0.01)
            known.append(time.monotonic() - began)
        over.set()
        await beating
    title = f"bayes, {runs:,} runs done"
    return [
        Figure(name=f"{title}: heartbeat, median", measured=percentile(delays, 0.5) * 1000, unit="ms"),
        Figure(
            name=f"{title}: heartbeat, 99th percentile", measured=percentile(delays, 0.99) * 1000, unit="ms", target=50
        ),
        Figure(name=f"{title}: heartbeat, longest", measured=max(delays) * 1000, unit="ms"),
        Figure(name=f"{title}: until a point knows a result", measured=percentile(known, 0.5), unit="s"),
    ]


def is_fresh(data_dir: Path, sweep: str) -> bool:
    """Whether the next point was chosen with all results known."""
    with sqlite3.connect(data_dir / "server.sqlite3") as database:
        (fresh,) = database.execute(
            "SELECT (SELECT known FROM points WHERE sweep = sweeps.number AND run IS NULL ORDER BY number LIMIT 1) ="
            " (SELECT COUNT(*) FROM runs WHERE sweep = sweeps.number AND state = 'finished') FROM sweeps WHERE id = ?",
            (sweep,),
        ).fetchone()
    database.close()
    return bool(fresh)


async def hyperband(server: Server, data_dir: Path, runs: int, rows: int, checks: int) -> list[Figure]:
    config = {
        "method": "random",
        "metric": METRIC,
        "parameters": RANGES,
        "early_terminate": {"type": "hyperband", "min_iter": 3},
    }
    async with connections(server, 1) as (connection,):
        sweep = await create_sweep(connection, config)
        fill(data_dir, sweep, [{"lr": 0.01, "layers": 1, "width": 1}] * runs, rows)
        told = []
        for _ in range(checks):
            run = await begin_run(connection, sweep, await create_agent(connection, sweep))
            content = [json.dumps({"_step": step, "loss": 9.0}) for step in range(3)]
            path = f"/files/local/benchmark/{run}/file_stream"
            began = time.monotonic()
            await connection.post(path, {"files": {"wandb-history.jsonl": {"offset": 0, "content": content}}})
            while not (await connection.post(path, {})).get("stopped"):
                await asyncio.sleep(0.005)
            told.append(time.monotonic() - began)
    title = f"hyperband, {runs:,} runs of {rows} rows done"
    return [
        Figure(name=f"{title}: first verdict", measured=told[0], unit="s"),
        Figure(name=f"{title}: verdict, median", measured=percentile(told[1:], 0.5), unit="s"),
    ]


async def measure(server: Server, data_dir: Path, runs: int, agents: int) -> list[Figure]:
    figures = []
    for method in ("grid", "random"):
        figures += await suggestions(server, data_dir, method, runs, agents)
    for done in (runs // 10, runs // 5):
        figures += await bayes(server, data_dir, done, 20)
    figures += await hyperband(server, data_dir, runs // 10, 100, 11)
    return [
        *figures,
        Figure(name="memory of the server", measured=server.alone_mb(), unit="MB", target=150),
        Figure(name="memory of server and search process", measured=server.memory_mb(), unit="MB"),
    ]


def main() -> int:
    options = parser(__doc__.partition("\n")[0])
    options.add_argument("--runs", type=int, default=10_000, help="how many are done before")
    options.add_argument("--agents", type=int, default=1000, help="how many ask at once")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, served(Path(folder)) as server:
        figures = asyncio.run(measure(server, Path(folder), given.runs, given.agents))
    return report(figures, as_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
