"""What the server's benchmarks share: a server of their own, requests as W&B's clients send them, and the verdict.

The load comes from the benchmark's own process, over keep-alive connections and without an HTTP library, so that a
request costs the generator a fraction of what it costs the server: with two cores, each has one.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

ENTITY, PROJECT = "local", "benchmark"

CREATE_SWEEP = """
mutation UpsertSweep($config: String, $entityName: String, $projectName: String) {
  upsertSweep(input: {config: $config, entityName: $entityName, projectName: $projectName}) { sweep { name } }
}
"""
CREATE_AGENT = """
    mutation CreateAgent(
        $host: String!
        $projectName: String,
        $entityName: String,
        $sweep: String!
    ) {
        createAgent(input: {
            host: $host,
            projectName: $projectName,
            entityName: $entityName,
            sweep: $sweep,
        }) {
            agent {
                id
            }
        }
    }
"""
HEARTBEAT = """
    mutation Heartbeat(
        $id: ID!,
        $metrics: JSONString,
        $runState: JSONString
    ) {
        agentHeartbeat(input: {
            id: $id,
            metrics: $metrics,
            runState: $runState
        }) {
            agent {
                id
            }
            commands
        }
    }
"""
START_RUN = """
mutation UpsertBucket ($name: String, $project: String, $entity: String, $config: JSONString, $host: String,
                       $sweep: String) {
  upsertBucket(input: {name: $name, modelName: $project, entityName: $entity, config: $config, host: $host,
                       sweep: $sweep}) {
    bucket { id name displayName config historyLineCount project { name entity { name } } }
    inserted
  }
}
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """A running server: where it answers, the key that it wants, its process, and how long it took to answer."""

    host: str
    port: int
    api_key: str
    pid: int
    start_s: float

    def alone_mb(self) -> float:
        """The resident memory of the process, its part of shared pages included."""
        rollup = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024

    def memory_mb(self) -> float:
        """The resident memory of the process and of those that it has started, shared pages counted once each."""
        total = 0.0
        for pid in _family(self.pid):
            with contextlib.suppress(OSError):
                total += replace(self, pid=pid).alone_mb()
        return total


@contextlib.contextmanager
def served(data_dir: Path | None = None) -> Iterator[Server]:
    """Runs a server on a folder (a fresh temporary one by default) until the block ends."""
    with contextlib.ExitStack() as stack:
        folder = data_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-")))
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        log = stack.enter_context((folder / "server.log").open("ab"))
        info = folder / "server.json"
        info.unlink(missing_ok=True)
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "wandb_submit.server", "--data", str(folder)], stdout=log, stderr=log
        )
        try:
            while not info.exists() or not info.stat().st_size:
                if process.poll() is not None or time.monotonic() - began > 30:
                    raise SystemExit(f"the server did not start:\n{(folder / 'server.log').read_text()}")
                time.sleep(0.002)
            known = json.loads(info.read_text())
            url = urlsplit(known["url"])
            server = Server(
                host=str(url.hostname), port=int(url.port or 0), api_key=known["api_key"], pid=process.pid, start_s=0.0
            )
            asyncio.run(_first_answer(server))
            yield replace(server, start_s=time.monotonic() - began)
        finally:
            process.terminate()
            process.wait(30)


class Connection(asyncio.Protocol):
    """One keep-alive connection, one request at a time."""

    def __init__(self, server: Server) -> None:
        self._head = (
            f"Host: {server.host}:{server.port}\r\n"
            f"Authorization: Basic {base64.b64encode(f'api:{server.api_key}'.encode()).decode()}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        ).encode()
        self._transport: asyncio.WriteTransport | None = None
        self._answer: asyncio.Future[bytes] | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data if self._received else data
        head, separator, body = received.partition(b"\r\n\r\n")
        if not separator:
            return
        start = head.lower().index(b"content-length: ") + 16
        if len(body) >= int(head[start:].partition(b"\r\n")[0]):
            self._received = b""
            assert self._answer is not None
            if self._answer.done():  # who asked was cancelled meanwhile
                return
            if not head.startswith(b"HTTP/1.1 200") or b'"errors"' in body[:20]:
                self._answer.set_exception(RuntimeError(f"{head[:40]!r} {body[:300]!r}"))
            else:
                self._answer.set_result(body)

    def connection_lost(self, _reason: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the server closed the connection"))

    def packed(self, path: str, body: bytes) -> bytes:
        """A request, ready to be sent again and again."""
        return b"POST %s HTTP/1.1\r\n%s%d\r\n\r\n%s" % (path.encode(), self._head, len(body), body)

    async def send(self, request: bytes) -> bytes:
        """Sends a packed request; returns the answer's body."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionError("the server has closed the connection")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    async def post(self, path: str, body: object) -> dict[str, object]:
        """Posts JSON; returns the JSON that comes back."""
        answer = json.loads(await self.send(self.packed(path, json.dumps(body).encode())))
        assert isinstance(answer, dict)
        return answer

    async def graphql(self, text: str, **variables: object) -> dict[str, dict[str, object]]:
        """Runs a GraphQL operation; returns its data."""
        return (await self.post("/graphql", {"query": text, "variables": variables}))["data"]  # type: ignore[return-value]

    async def stream(self, run: str, **body: object) -> None:
        """Posts to a run's file stream."""
        await self.post(f"/files/{ENTITY}/{PROJECT}/{run}/file_stream", body)

    def close(self) -> None:
        assert self._transport is not None
        self._transport.close()


@contextlib.asynccontextmanager
async def connections(server: Server, count: int) -> AsyncIterator[list[Connection]]:
    """Open connections to the server."""
    loop = asyncio.get_running_loop()
    opened = []
    for _ in range(count):
        _, connection = await loop.create_connection(lambda: Connection(server), server.host, server.port)
        opened.append(connection)
    try:
        yield opened
    finally:
        for connection in opened:
            connection.close()


async def create_sweep(connection: Connection, config: dict[str, object]) -> str:
    """Creates a sweep; returns its id."""
    data = await connection.graphql(CREATE_SWEEP, config=json.dumps(config), entityName=ENTITY, projectName=PROJECT)
    return str(data["upsertSweep"]["sweep"]["name"])  # type: ignore[index]


async def create_agent(connection: Connection, sweep: str) -> str:
    """Registers an agent; returns its id."""
    data = await connection.graphql(CREATE_AGENT, host="node", projectName=PROJECT, entityName=ENTITY, sweep=sweep)
    return str(data["createAgent"]["agent"]["id"])  # type: ignore[index]


async def heartbeat(connection: Connection, agent: str, *alive: str) -> list[dict[str, object]]:
    """An agent's heartbeat; returns its orders."""
    state = json.dumps(dict.fromkeys(alive, True))
    data = await connection.graphql(HEARTBEAT, id=agent, metrics="{}", runState=state)
    orders: list[dict[str, object]] = json.loads(str(data["agentHeartbeat"]["commands"]))
    return orders


async def begin_run(connection: Connection, sweep: str, agent: str) -> str:
    """Takes a run for an agent and starts it; returns its id."""
    for _ in range(1000):
        orders = await heartbeat(connection, agent)
        if orders:
            break
        await asyncio.sleep(0.01)
    run = str(orders[0]["run_id"])
    config = json.dumps({**orders[0]["args"], "_wandb": {"value": {"t": {"1": [1, 2, 3]}}}})  # type: ignore[dict-item]
    await connection.graphql(
        START_RUN, name=run, project=PROJECT, entity=ENTITY, config=config, host="node", sweep=sweep
    )
    return run


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of the values do not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One measured figure and what is wanted: at least (`more` is better) or at most the target; None: no target."""

    name: str
    measured: float
    unit: str
    target: float | None = None
    more: bool = False

    @property
    def met(self) -> bool:
        """Whether the target is reached."""
        return self.target is None or (self.measured >= self.target if self.more else self.measured <= self.target)


def parser(description: str) -> argparse.ArgumentParser:
    """A benchmark's command line."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--json", action="store_true", help="print the figures as JSON")
    return made


def report(figures: Sequence[Figure], *, as_json: bool) -> int:
    """Prints the figures; returns the exit status: 1 if a target was missed."""
    if as_json:
        print(
            json.dumps(
                {
                    one.name: {"measured": one.measured, "unit": one.unit, "target": one.target, "met": one.met}
                    for one in figures
                }
            )
        )
    else:
        for one in figures:
            sign = "≥" if one.more else "≤"
            target = "" if one.target is None else f"target {sign} {one.target:g}: {'met' if one.met else 'MISSED'}"
            print(f"{one.name:<52} {one.measured:>10.1f} {one.unit:<7} {target}".rstrip())
    return 0 if all(one.met for one in figures) else 1


async def _first_answer(server: Server) -> None:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readline()
    writer.close()


def _family(pid: int) -> list[int]:
    """A process and all that it has started."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            for child in (task / "children").read_text().split():
                found += _family(int(child))
    return found


def processor_s(pid: int) -> float:
    """How long a process has used a processor."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
