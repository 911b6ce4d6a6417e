"""What the events of all agents add up to."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from wandb_submit.store.events import (
    AgentRegistered,
    AgentStarted,
    AgentStopped,
    Event,
    RunAbandoned,
    RunFinished,
    RunStarted,
    ServerBack,
    ServerLost,
)
from wandb_submit.store.halt import PREEMPTED, TIME_LIMIT
from wandb_submit.store.journal import Journal
from wandb_submit.store.paths import SubmissionPaths


@pytest.fixture
def paths(tmp_path: Path) -> SubmissionPaths:
    return SubmissionPaths(tmp_path / "abc234")


def say(paths: SubmissionPaths, agent: str, t: float, event: Event) -> None:
    """Writes an event as if it had happened at that time."""
    path = paths.events(agent)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps({"v": 1, "t": t, "event": event.name, **dataclasses.asdict(event)}) + "\n")


def started(task: int = 0, *, host: str = "gpu1", restarts: int = 0) -> AgentStarted:
    return AgentStarted(task=task, host=host, pid=1, job_id=f"9_{task}", gpus="0", cpus=[0], restarts=restarts)


def run_started(run: str = "r1", *, pid: int = 5, resumed: bool = False) -> RunStarted:
    return RunStarted(run=run, pid=pid, command=["x"], log=f"/logs/{run}", idle_s=0.0, resumed=resumed)


def run_finished(run: str = "r1", exit_code: int = 0, reason: str | None = None) -> RunFinished:
    return RunFinished(run=run, exit_code=exit_code, seconds=1.0, reason=reason)


def fold(paths: SubmissionPaths) -> Journal:
    journal = Journal(paths)
    journal.update()
    return journal


def test_a_submission_without_events_has_no_agents(paths: SubmissionPaths) -> None:
    journal = fold(paths)
    assert (journal.agents, journal.runs) == ({}, {})


def test_an_agent_is_what_it_said_at_its_start(paths: SubmissionPaths) -> None:
    say(paths, "3", 1, started(3))
    say(paths, "3", 2, AgentRegistered(agent_id="a9"))
    agent = fold(paths).agents["3"]
    assert (agent.task, agent.host, agent.job_id, agent.gpus, agent.agent_id) == (3, "gpu1", "9_3", "0", "a9")
    assert (agent.stopped, agent.ok, agent.running) == (None, None, [])


def test_a_run_knows_its_agents_device_while_it_runs(paths: SubmissionPaths) -> None:
    say(paths, "0", 1, started())
    say(paths, "0", 2, run_started())
    journal = fold(paths)
    run = journal.runs["r1"]
    assert (run.agent, run.host, run.gpus, run.job_id, run.pid, run.log) == ("0", "gpu1", "0", "9_0", 5, "/logs/r1")
    assert (run.started, run.ended, run.exit_code, run.attempts) == (2, None, None, 1)
    assert journal.agents["0"].running == ["r1"]


@pytest.mark.parametrize(
    ("exit_code", "reason", "counts"),
    [
        (0, None, (1, 0, 0)),
        (1, None, (1, 1, 0)),
        (-9, None, (1, 1, 0)),
        (255, "the server asked for it", (0, 0, 1)),
        (0, "received SIGTERM", (0, 0, 1)),
    ],
)
def test_a_run_that_was_told_to_end_counts_neither_as_done_nor_as_failed(
    exit_code: int, reason: str | None, counts: tuple[int, int, int], paths: SubmissionPaths
) -> None:
    say(paths, "0", 1, started())
    say(paths, "0", 2, run_started())
    say(paths, "0", 3, run_finished(exit_code=exit_code, reason=reason))
    journal = fold(paths)
    agent, run = journal.agents["0"], journal.runs["r1"]
    assert (agent.done, agent.failed, agent.cut_short) == counts
    assert agent.running == []
    assert (run.ended, run.exit_code, run.stop_reason) == (3, exit_code, reason)


def test_a_run_that_could_not_be_started_has_failed(paths: SubmissionPaths) -> None:
    say(paths, "0", 1, started())
    say(paths, "0", 2, RunAbandoned(run="r1", reason="no such file"))
    journal = fold(paths)
    agent, run = journal.agents["0"], journal.runs["r1"]
    assert (agent.done, agent.failed) == (1, 1)
    assert (run.failed, run.not_started, run.log) == (True, "no such file", "")
    say(paths, "0", 3, run_started())  # it was handed out again
    say(paths, "0", 4, run_finished(exit_code=0, reason=None))
    journal = fold(paths)
    agent, run = journal.agents["0"], journal.runs["r1"]
    assert (agent.done, agent.failed, run.failed, run.not_started) == (1, 0, False, None)


def test_an_agent_says_why_it_ended(paths: SubmissionPaths) -> None:
    say(paths, "0", 1, started())
    say(paths, "0", 2, AgentStopped(reason="flapping", ok=False, runs=3))
    agent = fold(paths).agents["0"]
    assert (agent.stopped, agent.ok) == ("flapping", False)


def test_a_lost_server_is_shown_until_it_is_back(paths: SubmissionPaths) -> None:
    say(paths, "0", 1, started())
    say(paths, "0", 2, ServerLost(reason="503"))
    journal = fold(paths)
    assert journal.agents["0"].server_lost == "503"
    say(paths, "0", 3, ServerBack(seconds=1.0))
    journal.update()
    assert journal.agents["0"].server_lost is None


def test_a_requeued_agent_goes_on_as_a_living_one_and_keeps_its_counts(paths: SubmissionPaths) -> None:
    say(paths, "0", 1, started())
    say(paths, "0", 2, run_started())
    say(paths, "0", 3, run_finished())
    say(paths, "0", 4, run_started("r2"))
    say(paths, "0", 5, AgentStopped(reason="time is up", ok=True, runs=1))
    say(paths, "0", 6, started(host="gpu2", restarts=1))
    agent = fold(paths).agents["0"]
    assert (agent.host, agent.stopped, agent.ok, agent.running) == ("gpu2", None, None, [])
    assert (agent.done, agent.failed) == (1, 0)


def test_a_requeued_agent_has_not_lost_the_server_that_the_one_before_had_lost(paths: SubmissionPaths) -> None:
    say(paths, "0", 1, started())
    say(paths, "0", 2, ServerLost(reason="503"))
    say(paths, "0", 3, started(restarts=1))
    assert fold(paths).agents["0"].server_lost is None


def test_a_resumed_run_belongs_to_the_agent_that_resumed_it(paths: SubmissionPaths) -> None:
    say(paths, "1", 1, started(1, host="gpu2"))
    say(paths, "1", 9, run_started(pid=7, resumed=True))
    say(paths, "0", 2, started())
    say(paths, "0", 3, run_started())
    say(paths, "0", 4, run_finished(exit_code=1, reason="preempted"))
    run = fold(paths).runs["r1"]
    assert (run.agent, run.host, run.pid, run.attempts) == ("1", "gpu2", 7, 2)
    assert (run.ended, run.exit_code, run.stop_reason) == (None, None, None)


@pytest.mark.parametrize("reason", ["preempted", None])
def test_a_run_that_comes_back_counts_once_where_it_ends(reason: str | None, paths: SubmissionPaths) -> None:
    say(paths, "0", 1, started())
    say(paths, "0", 2, run_started())
    say(paths, "0", 3, run_finished(exit_code=1, reason=reason))
    say(paths, "1", 4, started(1))
    say(paths, "1", 5, run_started(resumed=True))
    say(paths, "1", 6, run_finished())
    agents = fold(paths).agents
    counts = {name: (agent.done, agent.failed, agent.cut_short) for name, agent in agents.items()}
    assert counts == {"0": (0, 0, 0), "1": (1, 0, 0)}


def test_a_late_word_of_the_agent_before_does_not_end_a_resumed_run(paths: SubmissionPaths) -> None:
    say(paths, "0", 1, started())
    say(paths, "0", 2, run_started())
    say(paths, "1", 3, started(1))
    say(paths, "1", 4, run_started(pid=7, resumed=True))
    say(paths, "0", 5, run_finished(exit_code=1))  # the nodes' clocks differ
    run = fold(paths).runs["r1"]
    assert (run.agent, run.ended, run.exit_code) == ("1", None, None)


def test_news_come_once_and_oldest_first_over_all_agents(paths: SubmissionPaths) -> None:
    say(paths, "10", 3, started(10))
    say(paths, "2", 2, started(2))
    say(paths, "2", 4, run_started())
    journal = Journal(paths)
    assert [(agent, stamped.t) for agent, stamped in journal.update()] == [("2", 2), ("10", 3), ("2", 4)]
    assert journal.update() == []
    say(paths, "10", 5, run_started("r2"))
    assert [(agent, stamped.t) for agent, stamped in journal.update()] == [("10", 5)]


def test_several_agents_of_one_task_are_told_apart(paths: SubmissionPaths) -> None:
    say(paths, "0", 1, started())
    say(paths, "0.1", 1, started())
    agents = fold(paths).agents
    assert {name: agent.task for name, agent in agents.items()} == {"0": 0, "0.1": 0}


def test_each_cut_by_the_time_limit_counts(paths: SubmissionPaths) -> None:
    run = {"pid": 2, "command": ["c"], "log": "l", "idle_s": 0.0}
    for t, reason in enumerate((TIME_LIMIT, PREEMPTED, TIME_LIMIT), 1):
        say(paths, "0", t, started(restarts=t - 1))
        say(paths, "0", t + 0.1, RunStarted(run="r", **run, resumed=t > 1))
        say(paths, "0", t + 0.2, RunFinished(run="r", exit_code=1, seconds=0.1, reason=reason))
    journal = Journal(paths)
    journal.update()
    assert (journal.agents["0"].cuts, journal.agents["0"].cut_short) == (2, 1)
