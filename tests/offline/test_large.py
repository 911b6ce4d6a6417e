"""One large thing holds up nobody: neither the event loop nor other clients' writes, and it leaves no memory behind."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from offline.clients import Protocol
from offline.conftest import Serve
from support import wait_until

from wandb_submit.server.control.lifecycle import ServerInfo

MB = 1_000_000
NUMBERS = json.dumps([0.123456789 + number for number in range(5 * MB // 10)])
SET = """
mutation($run: String!, $config: JSONString, $summary: JSONString, $notes: String) {
  upsertBucket(input: {name: $run, modelName: "tests", entityName: "local", config: $config,
                       summaryMetrics: $summary, notes: $notes}) { bucket { id } } }
"""
RUN = """
query($run: String!) { project(name: "tests", entityName: "local") { run(name: $run) {
  id config summaryMetrics notes historyLineCount eventsLineCount logLineCount
  lastRow: history(minStep: 7, maxStep: 8) } } }
"""
# Far above what it takes on a machine that has nothing else to do (see benchmarks/server/large.py), and far below the
# seconds that reading one of these things takes.
_LOOP_S = 0.7


@pytest.fixture(scope="module")
def info(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> ServerInfo:
    return serve(tmp_path_factory.mktemp("large") / "data")


@pytest.fixture
def large(info: ServerInfo) -> Iterator[Protocol]:
    with Protocol(info) as client:
        client.http.timeout = httpx.Timeout(300)
        yield client


@contextmanager
def answering(info: ServerInfo) -> Iterator[Callable[[], float]]:
    """Asks the server again and again whether it is there; yields what tells the longest that an answer took."""
    delays, over = [0.0], threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=info.url, trust_env=False, auth=("api", info.api_key), timeout=60) as client:
            while not over.wait(0.01):
                began = time.monotonic()
                # The server ends a connection without a key after 20 s.
                with suppress(httpx.RemoteProtocolError):
                    assert client.get("/healthz").status_code == 200
                delays.append(time.monotonic() - began)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield lambda: max(delays)
    finally:
        over.set()
        thread.join()


def stream(client: Protocol, run: str, body: bytes) -> httpx.Response:
    return client.http.post(f"/files/local/tests/{run}/file_stream", content=body)


def memory_mb(info: ServerInfo) -> float:
    rollup = Path(f"/proc/{info.pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024


def lines(**files: list[str]) -> bytes:
    names = {"history": "wandb-history.jsonl", "events": "wandb-events.jsonl", "summary": "wandb-summary.json"}
    return json.dumps(
        {"files": {names.get(name, "output.log"): {"offset": 0, "content": some} for name, some in files.items()}}
    ).encode()


def test_large_lines_of_a_run_hold_up_nobody(info: ServerInfo, large: Protocol):
    large.start_run("lines")
    history = [
        "{}",
        f'{{"_step": 7, "x": {NUMBERS}, "half": "\\ud800", "huge": 1e999}}',
        json.dumps({"y": "y" * 20 * MB}),
    ]
    body = lines(
        history=history,
        events=[f'{{"cpu": 1, "x": {NUMBERS}}}'],
        summary=[f'{{"x": {NUMBERS}}}'],
        console=["z"] * 100_000,
    )
    with answering(info) as longest:
        assert stream(large, "lines", body).json() == {}
        assert longest() < _LOOP_S
    run = large.data(RUN, run="lines")["project"]["run"]
    assert (run["historyLineCount"], run["eventsLineCount"], run["logLineCount"]) == (3, 1, 100_000)
    row = json.loads(run["lastRow"][0])
    assert (row["x"], row["half"], row["huge"]) == (json.loads(NUMBERS), "\ufffd", "Infinity")
    assert json.loads(run["summaryMetrics"]) == {"x": json.loads(NUMBERS)}
    # The same again replaces it.
    assert stream(large, "lines", body).json() == {}
    assert large.data(RUN, run="lines")["project"]["run"]["historyLineCount"] == 3
    # What is wrong with it is said as ever.
    wrong = stream(large, "lines", lines(history=["{}", "{" + "y" * MB]))
    assert (wrong.status_code, wrong.json()["errors"][0]["message"][:37]) == (
        400,
        "line 1 of the history is not JSON: '{",
    )
    assert stream(large, "nobody", body).status_code == 404
    assert stream(large, "lines", b"[" + b"1," * MB + b"1]").status_code == 400
    assert list((info.data_dir / "uploads").iterdir()) == []


def test_large_values_of_a_query_hold_up_nobody(info: ServerInfo, large: Protocol):
    large.start_run("values", config='{"kept": {"value": 1}}')
    config = f'{{"x": {{"value": {NUMBERS}}}, "huge": {{"value": 1{"0" * 400}}}, "é": {{"value": "\\udfff"}}}}'
    with answering(info) as longest:
        large.data(SET, run="values", config=config, summary=f'{{"x": {NUMBERS}}}', notes="é" * 5 * MB)
        run = large.data(RUN, run="values")["project"]["run"]
        assert longest() < _LOOP_S
    got = json.loads(run["config"])
    assert got["x"]["value"] == json.loads(NUMBERS)
    assert (got["huge"]["value"], got["é"]["value"]) == ("1" + "0" * 400, "\ufffd")
    assert json.loads(run["summaryMetrics"])["x"] == json.loads(NUMBERS)
    assert run["notes"] == "é" * 5 * MB
    refused = large.post(SET, run="values", config="{" + "x" * MB)
    assert (refused.status_code, "is not JSON" in refused.text) == (400, True)
    refused = large.post(SET, run="values", tags=[1] * 2 * MB)
    assert (refused.status_code, "values are at most 4 MB" in refused.text) == (413, True)


def test_a_large_config_does_not_slow_down_what_its_run_sends(info: ServerInfo, large: Protocol):
    agent = large.agent(large.create_sweep(method="random", parameters={"x": {"min": 0, "max": 1}}))
    run = large.take_run(agent)["run_id"]
    large.start_run(run)

    def asking_s() -> float:
        began = time.monotonic()
        for _ in range(20):
            assert large.heartbeat(agent, run) == []
            assert stream(large, run, lines()).json() == {}
        return time.monotonic() - began

    small = asking_s()
    large.data(SET, run=run, config=json.dumps({"x": {"value": "x" * 20 * MB}}))
    assert asking_s() < 5 * small + 0.5


def test_many_rows_are_replaced_and_deleted_in_slices(info: ServerInfo, large: Protocol):
    large.start_run("rows")
    for first in range(0, 200_000, 50_000):
        rows = [f'{{"_step": {number}, "loss": 0.5}}' for number in range(first, first + 50_000)]
        body = {"files": {"wandb-history.jsonl": {"offset": first, "content": rows}}}
        assert stream(large, "rows", json.dumps(body).encode()).status_code == 200
    assert large.data(RUN, run="rows")["project"]["run"]["historyLineCount"] == 200_000
    agent = large.agent(large.create_sweep(method="random", parameters={"x": {"min": 0.0, "max": 1.0}}))
    beats: list[float] = []
    over = threading.Event()

    def beat() -> None:
        with Protocol(info) as other:
            while not over.is_set():
                began = time.monotonic()
                other.heartbeat(agent, "somebody")
                beats.append(time.monotonic() - began)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        began = time.monotonic()
        large.log("rows", [{"_step": 0}], offset=10)
        took = time.monotonic() - began
        run = large.data(RUN, run="rows")["project"]["run"]
        assert run["historyLineCount"] == 11
        large.data("mutation($id: ID!) { deleteRun(input: {id: $id}) { clientMutationId } }", id=run["id"])
    finally:
        over.set()
        thread.join()
    # Others got their turns in between.
    assert len(beats) > 3
    assert max(beats) < max(_LOOP_S, took / 2)
    assert large.data(RUN, run="rows")["project"]["run"] is None


def test_the_memory_comes_back(info: ServerInfo, large: Protocol):
    large.start_run("memory")
    before = memory_mb(info)
    for _ in range(2):
        assert stream(large, "memory", lines(history=[f'{{"x": {NUMBERS}}}'] * 3)).status_code == 200
        large.data(SET, run="memory", summary=f'{{"x": {NUMBERS}}}')
    wait_until(lambda: memory_mb(info) < before + 60, what="the server's memory is small again")
