"""How long everybody else waits while one client sends, asks for or deletes something large, and what stays.

An agent with a run sends a heartbeat every few milliseconds on a connection of its own. Meanwhile another client does
one large thing after another. Each line tells the longest delay of a heartbeat, how long the thing itself took, and in
the end how much memory the server kept.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from load import (
    ENTITY,
    PROJECT,
    Figure,
    Server,
    begin_run,
    connections,
    create_agent,
    create_sweep,
    heartbeat,
    parser,
    report,
    served,
)

SWEEP = {"method": "random", "program": "train.py", "parameters": {"lr": {"min": 0.0001, "max": 0.1}}}
SET = """
mutation Set($run: String, $project: String, $entity: String, $config: JSONString, $summary: JSONString,
             $notes: String) {
  upsertBucket(input: {name: $run, modelName: $project, entityName: $entity, config: $config,
                       summaryMetrics: $summary, notes: $notes}) { bucket { id } inserted }
}
"""
READ = """
query Read($project: String!, $entity: String!, $run: String!) {
  project(name: $project, entityName: $entity) { run(name: $run) { config summaryMetrics notes } }
}
"""
SERIES = """
query Series($project: String!, $entity: String!, $run: String!, $specs: [JSONString!]!) {
  project(name: $project, entityName: $entity) { run(name: $run) { sampledHistory(specs: $specs) } }
}
"""
KEYS = """
query Keys($project: String!, $entity: String!, $run: String!) {
  project(name: $project, entityName: $entity) { run(name: $run) { historyKeys } }
}
"""
DELETE = "mutation Delete($id: ID!) { deleteRun(input: {id: $id}) { clientMutationId } }"
_PAUSE_S = 0.005

Thing: TypeAlias = Callable[[], Awaitable[object]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Client:
    """Who sends the large things, ready-made and from a thread: the event loop sends heartbeats meanwhile."""

    server: Server
    run: str

    async def post(self, path: str, body: bytes) -> bytes:
        """Posts a body; returns what comes back."""
        return await asyncio.to_thread(self._post, path, body)

    def _post(self, path: str, body: bytes) -> bytes:
        connection = http.client.HTTPConnection(self.server.host, self.server.port, timeout=300)
        key = base64.b64encode(f"api:{self.server.api_key}".encode()).decode()
        connection.request("POST", path, body, {"Authorization": f"Basic {key}", "Content-Type": "application/json"})
        answer = connection.getresponse()
        said = bytearray()
        while piece := answer.read(65536):
            said += piece
        connection.close()
        if answer.status != 200 or b'"errors"' in said[:20]:
            raise RuntimeError(f"{answer.status} {bytes(said[:200])!r}")
        return bytes(said)

    def lines(self, file: str, offset: int, content: list[str]) -> Thing:
        """Lines for the run's stream."""
        body = json.dumps({"files": {file: {"offset": offset, "content": content}}}).encode()
        return lambda: self.post(f"/files/{ENTITY}/{PROJECT}/{self.run}/file_stream", body)

    def rows(self, first: int, count: int) -> Thing:
        """Rows of its history."""
        rows = range(first, first + count)
        return self.lines("wandb-history.jsonl", first, [json.dumps({"_step": row, "loss": 0.5}) for row in rows])

    def query(self, text: str, **variables: object) -> Thing:
        """A GraphQL request about the run."""
        place = {"project": PROJECT, "entity": ENTITY, "run": self.run}
        body = json.dumps({"query": text, "variables": {**place, **variables}}).encode()
        return lambda: self.post("/graphql", body)


def things(client: Client, mb: int) -> Iterator[tuple[str, Callable[[], Thing]]]:
    """What is large, by name, to be made when its turn comes; `mb` is what they take for a megabyte."""
    numbers = json.dumps([0.123456789 + number for number in range(mb // 2)])

    def all_rows() -> Thing:
        million = [client.rows(first, 100_000) for first in range(0, 1_000_000, 100_000)]

        async def send() -> None:
            for some in million:
                await some()

        return send

    async def delete() -> None:
        found = json.loads(await client.query(SET)())["data"]["upsertBucket"]["bucket"]["id"]
        await client.query(DELETE, id=found)()

    yield "a line of 60 MB", lambda: client.lines("wandb-history.jsonl", 0, [json.dumps({"x": "y" * 60 * mb})])
    yield "10 MB of numbers in one line", lambda: client.lines("wandb-history.jsonl", 1, [f'{{"x": {numbers}}}'])
    yield (
        "a summary of 14 MB",
        lambda: client.lines("wandb-summary.json", 0, [f'{{"x": {numbers}, "y": "{"y" * 4 * mb}"}}']),
    )
    yield "50 MB of console in one line", lambda: client.lines("output.log", 0, ["z" * 50 * mb])
    yield "300,000 lines of console", lambda: client.lines("output.log", 0, ["what a run has printed"] * (mb * 3 // 10))
    yield (
        "10 MB of system metrics",
        lambda: client.lines("wandb-events.jsonl", 0, [f'{{"system.cpu": 1, "x": {numbers}}}']),
    )
    yield "a config of 10 MB", lambda: client.query(SET, config=f'{{"x": {{"value": {numbers}}}}}')
    yield "a summary of 10 MB by the API", lambda: client.query(SET, summary=f'{{"x": {numbers}}}')
    yield "10 MB of notes", lambda: client.query(SET, notes="\u00e9" * 5 * mb)
    yield "two seconds of its life", lambda: lambda: asyncio.sleep(2)
    yield "reading all that again", lambda: client.query(READ)
    yield "one small row", lambda: client.rows(2, 1)
    yield "a million rows", all_rows
    yield "one row in the place of them all", lambda: client.rows(0, 1)
    yield "a million rows again", all_rows
    yield "500 samples of them", lambda: client.query(SERIES, specs=[json.dumps({"keys": ["_step", "loss"]})])
    yield "their keys", lambda: client.query(KEYS)
    yield "deleting the run", lambda: delete


async def measure(server: Server, megabytes: float, only: str, pause: float) -> list[Figure]:
    """Does all of it; returns the figures."""
    beats: list[float] = []
    looks: list[float] = []

    async def again(do: Callable[[], Awaitable[object]], delays: list[float]) -> None:
        while True:
            began = time.monotonic()
            await do()
            delays.append(time.monotonic() - began)
            await asyncio.sleep(_PAUSE_S)

    figures = []
    async with connections(server, 3) as (beating, looking, sending):
        # Strangers may not stay.
        await create_sweep(looking, SWEEP)
        sweep = await create_sweep(sending, SWEEP)
        agents = [await create_agent(connection, sweep) for connection in (beating, sending)]
        own = await begin_run(beating, sweep, agents[0])
        large = await begin_run(sending, sweep, agents[1])
        figures.append(Figure(name="memory before", measured=server.memory_mb(), unit="MB"))
        listed = [one for one in things(Client(server=server, run=large), int(megabytes * 1_000_000)) if only in one[0]]
        look = looking.packed("/healthz", b"").replace(b"POST", b"GET", 1)
        tasks = [
            asyncio.create_task(again(lambda: heartbeat(beating, agents[0], own), beats)),
            asyncio.create_task(again(lambda: looking.send(look), looks)),
        ]
        for name, make in listed:
            do = make()
            await asyncio.sleep(0.3)
            beats.clear()
            looks.clear()
            began = time.monotonic()
            try:
                await do()
            except RuntimeError as error:
                print(f"{name}: {error!s:.200}", file=sys.stderr)
            took = time.monotonic() - began
            await asyncio.sleep(0.05)
            figures.append(Figure(name=f"{name}: a heartbeat's longest wait", measured=max(beats) * 1000, unit="ms"))
            figures.append(Figure(name=f"{name}: the event loop's", measured=max(looks) * 1000, unit="ms"))
            figures.append(Figure(name=f"{name}: itself", measured=took, unit="s"))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(pause)
        figures.append(Figure(name="memory of the server after", measured=server.alone_mb(), unit="MB"))
    return figures


def main() -> int:
    """Measures; returns the exit status."""
    options = parser(__doc__.partition("\n")[0])
    options.add_argument("--megabytes", type=float, default=1, help="what a megabyte is")
    options.add_argument("--only", default="", help="a part of what the things are called")
    options.add_argument("--pause", type=float, default=25, help="seconds until the memory is looked at")
    given = options.parse_args()
    with served() as server:
        figures = asyncio.run(measure(server, given.megabytes, given.only, given.pause))
    return report(figures, as_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
