"""How many rows of history the server takes in from many runs at once.

64 runs, each on a connection of its own, send rows as wandb-core does: numbered lines of JSON in requests to the
run's file stream, the next request when the last one is answered. A row has a step, a run time, a time stamp and
eight metrics, some 230 bytes. In the end, the rows are counted through the API. An agent sends heartbeats all the
while, to see whether anybody has to wait.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time

from load import (
    ENTITY,
    PROJECT,
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
    processor_s,
    report,
    served,
)

SWEEP = {"method": "random", "program": "train.py", "parameters": {"lr": {"min": 0.0001, "max": 0.1}}}
COUNT = """
query Count($project: String!, $entity: String!, $run: String!) {
  project(name: $project, entityName: $entity) { run(name: $run) { historyLineCount } }
}
"""


def line(step: int, draw: random.Random) -> str:
    """A row as a training script logs it."""
    metrics = {f"train/metric_{number}": draw.random() for number in range(8)}
    return json.dumps({"_step": step, "_runtime": step * 0.1, "_timestamp": 1_800_000_000 + step * 0.1, **metrics})


async def send_rows(connection: Connection, run: str, rows: int, each: int, seed: int) -> None:
    """Sends one run's rows, `each` at a time."""
    draw = random.Random(seed)
    # Written once and sent again with other steps: the generator is not to be what is measured.
    template = [line(1_000_000 + step, draw) for step in range(each)]
    path = f"/files/{ENTITY}/{PROJECT}/{run}/file_stream"
    for first in range(0, rows, each):
        lines = [text.replace(str(1_000_000 + step), str(first + step), 1) for step, text in enumerate(template)]
        body = {"files": {"wandb-history.jsonl": {"offset": first, "content": lines}}}
        await connection.send(connection.packed(path, json.dumps(body).encode()))


async def measure(server: Server, runs: int, rows: int, each: int) -> list[Figure]:
    """Sends all rows; returns the figures."""
    delays: list[float] = []

    async def beat(connection: Connection, agent: str, run: str) -> None:
        while True:
            began = time.monotonic()
            await heartbeat(connection, agent, run)
            delays.append(time.monotonic() - began)
            await asyncio.sleep(0.02)

    async with connections(server, runs + 1) as opened:
        sweep = await create_sweep(opened[0], SWEEP)
        agents = [await create_agent(connection, sweep) for connection in opened]
        names = [await begin_run(connection, sweep, agent) for connection, agent in zip(opened, agents, strict=True)]
        beating = asyncio.create_task(beat(opened[-1], agents[-1], names[-1]))
        used, began = processor_s(server.pid), time.monotonic()
        await asyncio.gather(*(send_rows(opened[number], names[number], rows, each, number) for number in range(runs)))
        took, used = time.monotonic() - began, processor_s(server.pid) - used
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
        for number in range(runs):
            data = await opened[number].graphql(COUNT, project=PROJECT, entity=ENTITY, run=names[number])
            assert data["project"]["run"] == {"historyLineCount": rows}, data
    return [
        Figure(
            name=f"rows from {runs} runs, {each} a request",
            measured=runs * rows / took,
            unit="/s",
            target=20_000,
            more=True,
        ),
        Figure(name="processor time per row", measured=used / (runs * rows) * 1e6, unit="us"),
        Figure(
            name="99th percentile of a heartbeat's delay meanwhile", measured=percentile(delays, 0.99) * 1000, unit="ms"
        ),
    ]


def main() -> int:
    """Measures; returns the exit status."""
    options = parser(__doc__.partition("\n")[0])
    options.add_argument("--runs", type=int, default=64)
    options.add_argument("--rows", type=int, default=5000, help="per run")
    options.add_argument("--each", type=int, default=50, help="rows per request")
    given = options.parse_args()
    with served() as server:
        figures = asyncio.run(measure(server, given.runs, given.rows, given.each))
    return report(figures, as_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
