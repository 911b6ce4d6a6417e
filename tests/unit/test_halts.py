"""The word that ends a whole submission, and the failures of several agents that lead to it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from wandb_submit.agent.guards import submission_verdict
from wandb_submit.store.events import Event, EventWriter, RunAbandoned, RunFinished
from wandb_submit.store.halt import Halt

FAILED = RunFinished(run="a", exit_code=1, seconds=1.0)
KILLED = RunFinished(run="b", exit_code=-9, seconds=1.0)
STOPPED = RunFinished(run="c", exit_code=255, seconds=1.0, reason="received SIGTERM")
DONE = RunFinished(run="d", exit_code=0, seconds=1.0)
NOT_STARTED = RunAbandoned(run="e", reason="no such program")
NOT_WANTED = RunAbandoned(run="f", reason="stopping", failed=False)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_AGENT_DISABLE_FLAPPING", "WANDB_AGENT_MAX_INITIAL_FAILURES"):
        monkeypatch.delenv(name, raising=False)


def test_the_first_word_counts(tmp_path: Path) -> None:
    path = tmp_path / "halt"
    assert Halt.read(path) is None
    first = Halt(reason="the sweep is over", ok=True)
    assert first.declare(path) == first
    assert Halt(reason="something else", ok=False).declare(path) == first
    assert Halt.read(path) == first
    assert [entry.name for entry in tmp_path.iterdir()] == ["halt"]


def test_of_words_at_the_same_moment_one_counts(tmp_path: Path) -> None:
    words = [Halt(reason=str(number), ok=False) for number in range(8)]
    for attempt in range(20):
        path = tmp_path / str(attempt)
        together = threading.Barrier(len(words))

        def declare(word: Halt, path: Path = path, together: threading.Barrier = together) -> Halt:
            together.wait()
            return word.declare(path)

        with ThreadPoolExecutor(len(words)) as threads:
            counted = set(threads.map(declare, words))
        assert counted == {Halt.read(path)}


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "somebody made"), ("enough for today\n", "enough for today"), ('{"reason": 1', "{"), ("[]", "[]")],
)
def test_a_halt_file_made_by_hand_is_one_too(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "halt"
    path.write_text(text)
    halt = Halt.read(path)
    assert halt is not None
    assert halt.ok
    assert halt.reason.startswith(reason)


def verdict(folder: Path, *events: Event, count: int = 2) -> str | None:
    """The verdict over events that two agents wrote in turn."""
    writers = [EventWriter(folder / name / "events.jsonl") for name in ("0", "1")]
    for number, event in enumerate(events):
        writers[number % 2].write(event)
    for writer in writers:
        writer.close()
    return submission_verdict(folder, count=count)


def test_a_submission_whose_first_runs_all_failed_is_to_stop(tmp_path: Path) -> None:
    said = verdict(tmp_path, FAILED, KILLED, NOT_STARTED, FAILED, KILLED)
    assert said is not None
    assert said.startswith("the first 5 runs of this submission have all failed")


@pytest.mark.parametrize(
    "events",
    [
        (FAILED, FAILED, FAILED, FAILED),
        (FAILED, FAILED, FAILED, FAILED, STOPPED, NOT_WANTED),
        (DONE, FAILED, FAILED, FAILED, FAILED, FAILED, FAILED),
    ],
    ids=["too few", "what was stopped has not failed", "one succeeded"],
)
def test_it_goes_on_otherwise(tmp_path: Path, events: tuple[Event, ...]) -> None:
    assert verdict(tmp_path, *events) is None


@pytest.mark.parametrize(("count", "least"), [(2, 5), (7, 7), (100, 20)])
def test_how_many_failures_it_takes_depends_on_the_number_of_agents(tmp_path: Path, count: int, least: int) -> None:
    assert verdict(tmp_path, *[FAILED] * (least - 1), count=count) is None
    assert verdict(tmp_path, FAILED, count=count) is not None


def test_wandbs_variables_hold_here_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_AGENT_MAX_INITIAL_FAILURES", "3")
    assert verdict(tmp_path, FAILED, FAILED, FAILED) is not None
    monkeypatch.setenv("WANDB_AGENT_DISABLE_FLAPPING", "true")
    assert verdict(tmp_path) is None
