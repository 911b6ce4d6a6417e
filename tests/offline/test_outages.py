"""Our agent before a server that goes away, is busy, or answers nonsense: no run is lost and none doubled."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from offline.clients import Protocol, Wandb
from offline.proxy import Fault, Proxy, before

from wandb_submit.agent.outcome import Outcome
from wandb_submit.agent.pace import Pace
from wandb_submit.agent.shares import Share
from wandb_submit.agent.sweep_agent import SweepAgent
from wandb_submit.server.control.lifecycle import ServerInfo
from wandb_submit.spec import ArraySpec, Endpoint, SubmissionSpec, SweepRef
from wandb_submit.store.events import (
    EventReader,
    EventWriter,
    RunFinished,
    RunStarted,
    ServerBack,
    ServerLost,
    Stamped,
)
from wandb_submit.store.paths import SubmissionPaths
from wandb_submit.wandb_api.credentials import patience

HASTE = Pace(heartbeat_s=0.1, answer_s=1.0, first_retry_s=0.05, last_retry_s=0.1)
# Notes its point, and ends when it is told to.
TRIAL = 'echo "$1" >> points; until [ -e "end$1" ]; do sleep 0.02; done'


class Stages:
    """A fault at the first requests of every stage of an agent's life: registering, without a run, with a run."""

    def __init__(self, proxy: Proxy, folder: Path, fault: Fault | str, failures: int) -> None:
        self.seen: Counter[str] = Counter()
        self.asked_at: dict[str, list[float]] = {}
        self._proxy = proxy
        self._folder = folder
        self._fault = fault
        self._failures = failures
        proxy.fault = self.at

    def at(self, _number: int, word: str) -> Fault | str | None:
        points = (self._folder / "points").read_text().split() if (self._folder / "points").exists() else []
        at_work = word == "Heartbeat" and self._proxy.variables["runState"] != "{}"
        stage = f"{word}, {len(points)} runs begun, {'one' if at_work else 'none'} at work"
        self.asked_at.setdefault(stage, []).append(time.monotonic())
        self.seen[stage] += 1
        if self.seen[stage] <= self._failures:
            return self._fault
        if at_work:
            (self._folder / f"end--x={points[-1].removeprefix('--x=')}").touch()
        return None


def at_work(
    proxy: Proxy, server: ServerInfo, sweep: str, folder: Path, during: Callable[[SweepAgent], None] = lambda _: None
) -> tuple[Outcome, list[Stamped]]:
    """Runs an agent of the sweep behind the proxy to its end; returns it and its events."""
    (folder / "server.json").write_text(json.dumps({"url": proxy.url, "api_key": server.api_key}))
    paths = SubmissionPaths(folder / "submission")
    path = paths.events("0")
    events = EventWriter(path)

    async def run() -> Outcome:
        agent = SweepAgent(
            sweep=SweepRef(entity="local", project="tests", id=sweep, base_url=proxy.url),
            endpoint=Endpoint(base_url=proxy.url, server_dir=folder),
            paths=paths,
            events=events,
            host="here",
            spec=SubmissionSpec(executor="local", array=ArraySpec(count=1), workdir=folder, grace_s=1.0),
            share=Share(gpus=None, cores=()),
            count=None,
            ends_at=None,
            pace=HASTE,
        )
        during(agent)
        return await agent.run()

    outcome = asyncio.run(run())
    events.close()
    return outcome, list(EventReader(path).read())


@pytest.mark.parametrize(
    ("fault", "failures"),
    [
        ((429, {"Retry-After": "1"}), 1),
        ((500, {}), 3),
        ((502, {}), 3),
        ((200, {"Content-Type": "text/html"}), 3),
        ("cut", 3),
        ("closed", 3),
        ("silence", 1),
    ],
    ids=["429", "500", "502", "garbage", "cut", "closed", "silence"],
)
def test_a_server_that_fails_at_every_stage_costs_no_run_and_gets_no_storm(
    protocol: Protocol, server: ServerInfo, tmp_path: Path, fault: Fault | str, failures: int
) -> None:
    sweep = protocol.create_sweep(
        method="grid", parameters={"x": {"values": [1, 2]}}, command=["bash", "-c", TRIAL, "trial", "${args}"]
    )
    with before(server) as proxy:
        stages = Stages(proxy, tmp_path, fault, failures)
        outcome, events = at_work(proxy, server, sweep, tmp_path)

    assert (outcome.ok, outcome.reason, outcome.runs) == (True, "the sweep is over", 2)
    assert sorted((tmp_path / "points").read_text().split()) == ["--x=1", "--x=2"]
    kinds = Counter(type(stamped.event) for stamped in events)
    assert kinds[RunStarted] == kinds[RunFinished] == 2
    # Registering (two questions), and then without, with, without, with and without a run.
    assert len(stages.seen) == 7, stages.seen
    assert kinds[ServerLost] == kinds[ServerBack] >= 7
    # After a failure the agent waits, longer after the next one, and as long as it is asked to.
    least = 1.0 if isinstance(fault, tuple) and fault[0] == 429 else HASTE.first_retry_s
    for asked_at in stages.asked_at.values():
        waits = [later - earlier for earlier, later in itertools.pairwise(asked_at[: failures + 1])]
        assert all(wait >= least for wait in waits)
        assert all(wait >= min(2 * least, HASTE.last_retry_s) for wait in waits[1:])
    for stamped in events:
        if isinstance(stamped.event, ServerBack):
            assert stamped.event.seconds >= least


def test_an_agent_may_be_stopped_while_its_server_is_away(
    protocol: Protocol, server: ServerInfo, tmp_path: Path
) -> None:
    sweep = protocol.create_sweep(method="grid", parameters={"x": {"values": [1]}}, command=["sleep", "600"])
    with before(server) as proxy:
        stopped: list[SweepAgent] = []

        def away(_number: int, word: str) -> str | None:
            """From the first heartbeat of a run on; the third one finds the agent told to stop."""
            if word != "Heartbeat" or proxy.variables["runState"] == "{}":
                return None
            if proxy.seen.count("Heartbeat") == 4:
                loop.call_soon_threadsafe(stopped[0].stop, "asked to")
            return "closed"

        def during(agent: SweepAgent) -> None:
            nonlocal loop
            loop = asyncio.get_running_loop()
            stopped.append(agent)

        loop: asyncio.AbstractEventLoop
        proxy.fault = away
        outcome, events = at_work(proxy, server, sweep, tmp_path, during)
    assert (outcome.ok, outcome.reason) == (True, "asked to")
    ends = [stamped.event for stamped in events if isinstance(stamped.event, RunFinished)]
    assert [end.reason for end in ends] == ["asked to"]


STOP_RUN = "mutation StopRun($id: ID!) { stopRun(input: {id: $id}) { success } }"
# Ends by itself as a program does that the client in it interrupts: by the signal, or with a status of its own.
INTERRUPTED = "until [ -e end ]; do sleep 0.02; done; case $1 in --x=1) exit 1;; --x=2) kill -INT $$;; esac; exit 130"
# Ends well for some points, once the agent has told its server that the run is alive.
ENDS = "until [ -e $WANDB_RUN_ID ]; do sleep 0.02; done; case $1 in --x=2) exit 2;; --x=3) kill -SEGV $$;; esac"


@pytest.mark.parametrize("point", [1, 2, 3])
@pytest.mark.parametrize("fault", [None, (500, {}), (200, {}), "closed", "silence"], ids=str)
def test_why_a_run_ended_is_asked_once_and_without_an_answer_it_has_failed(
    protocol: Protocol, server: ServerInfo, tmp_path: Path, fault: Fault | str | None, point: int
) -> None:
    sweep = protocol.create_sweep(
        method="grid", parameters={"x": {"values": [point]}}, command=["bash", "-c", INTERRUPTED, "trial", "${args}"]
    )

    def stop_at_work(_number: int, word: str) -> Fault | str | None:
        if word == "Heartbeat" and proxy.variables["runState"] != "{}" and not (tmp_path / "end").exists():
            (run,) = json.loads(proxy.variables["runState"])
            protocol.data(STOP_RUN, id=protocol.start_run(run)["bucket"]["id"])
            (tmp_path / "end").touch()
        return fault if word == "StopRequested" else None

    with before(server) as proxy:
        proxy.fault = stop_at_work
        outcome, events = at_work(proxy, server, sweep, tmp_path)
    assert (outcome.ok, outcome.runs) == (True, 1)
    (ended,) = [stamped.event for stamped in events if isinstance(stamped.event, RunFinished)]
    assert ended.exit_code == {1: 1, 2: -2, 3: 130}[point]
    assert ended.reason == ("the server asked for it" if fault is None else None)
    assert proxy.seen.count("StopRequested") == 1


def test_runs_that_end_well_are_not_asked_about(protocol: Protocol, server: ServerInfo, tmp_path: Path) -> None:
    sweep = protocol.create_sweep(
        method="grid", parameters={"x": {"values": [0, 1, 2, 3]}}, command=["bash", "-c", ENDS, "trial", "${args}"]
    )

    def report(_number: int, word: str) -> None:
        for run in json.loads(proxy.variables["runState"]) if word == "Heartbeat" else ():
            (tmp_path / run).touch()

    with before(server) as proxy:
        proxy.fault = report
        _, events = at_work(proxy, server, sweep, tmp_path)
    ends = [stamped.event for stamped in events if isinstance(stamped.event, RunFinished)]
    assert [(end.exit_code, end.failed) for end in ends] == [(0, False), (0, False), (2, True), (-11, True)]
    assert proxy.seen.count("StopRequested") == 2


UPLOAD = """
import sys, wandb
with wandb.init(project="patience", id=sys.argv[1]) as run:
    with open("model.txt", "w") as file:
        file.write("kept")
    run.save("model.txt", policy="now")
"""


@pytest.mark.client
def test_a_file_arrives_after_more_attempts_than_the_client_makes_by_itself(
    server: ServerInfo, wandb: Wandb, protocol: Protocol
) -> None:
    """By itself it makes 21, over 16 minutes; then it gives the file up and says that all is synced."""
    with before(server) as proxy:
        # With pauses of a second 21 attempts, and what a user may set, are over soon.
        env = {
            "WANDB_BASE_URL": proxy.url,
            "WANDB_X_FILE_TRANSFER_RETRY_WAIT_MIN_SECONDS": "1",
            "WANDB_X_FILE_TRANSFER_RETRY_WAIT_MAX_SECONDS": "1",
        }
        for run, own, status in (("given-up", {"WANDB_X_FILE_TRANSFER_RETRY_MAX": "2"}, 404), ("kept", {}, 200)):
            back_at: list[float] = []

            def away(_number: int, word: str, back_at: list[float] = back_at) -> Fault | None:
                if word == "PUT" and not back_at:
                    back_at.append(time.monotonic() + 30)
                return (503, {}) if word == "PUT" and time.monotonic() < back_at[0] else None

            proxy.fault = away
            own.update(patience(own, offline=True))
            done = wandb.run("python", "-c", UPLOAD, run, **env, **own)
            assert done.returncode == 0, done.stdout
            answer = protocol.http.get(f"/storage/local/patience/{run}/model.txt")
            assert answer.status_code == status, (proxy.seen, done.stdout)
