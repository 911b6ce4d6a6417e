"""What somebody should look at once a submission has ended: runs that failed, and agents that ended badly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wandb_submit.store.halt import PREEMPTED, TIME_LIMIT
from wandb_submit.store.logs import LastWords
from wandb_submit.text import alike

if TYPE_CHECKING:
    from wandb_submit.store.journal import RunView
    from wandb_submit.submission.snapshot import Snapshot
    from wandb_submit.submission.submission import Submission

_SHOWN = 5  # sentences, and names in one of them
_SAVE = "let runs save their progress, as examples/preemptible does"
_CUT = {TIME_LIMIT: f"give tasks a longer --time, or {_SAVE}", PREEMPTED: _SAVE}
_LOOKED_AT = 50  # runs: the last ones that failed


def tell(submission: Submission, snapshot: Snapshot) -> None:
    """Says on standard error what failed, and where to read more; what is the same for several is said once."""
    for sentence in (*_runs(submission), *lost(submission), *_agents(submission, snapshot)):
        click.echo(sentence, err=True)


def _runs(submission: Submission) -> Iterator[str]:
    failed = sorted((run for run in submission.runs() if run.failed), key=lambda run: run.ended or run.started)
    groups = alike((run.id, _words(run)) for run in failed[-_LOOKED_AT:])
    for names, words in groups[:_SHOWN]:
        run = next(run for run in failed if run.id == names[0])
        log = f"{submission.id} {run.id}"
        whose = "its log"
        if run.not_started is not None:
            log, whose = f"{submission.id} --task {run.agent.partition('.')[0]}", "its agent's log"
        if len(names) > 1:
            whose = whose.replace("its", f"{run.id}'s", 1)
        yield f"{_named('run', names)} {words} ({whose}: wandb-submit logs {log})"
    if len(failed) > sum(len(names) for names, _ in groups[:_SHOWN]):
        yield f"{len(failed)} runs failed: `wandb-submit logs {submission.id}` lists them"


def lost(submission: Submission) -> Iterator[str]:
    """Runs that did not come back: the sweep may be over without their results."""
    for reason, advice in _CUT.items():
        if names := [run.id for run in submission.runs() if run.ended and run.stop_reason == reason]:
            yield f"{_named('run', names)} stopped and did not come back: {reason} ({advice})"


def _words(run: RunView) -> str:
    if run.not_started is not None:
        return f"not started: {run.not_started}"
    assert run.exit_code is not None  # noqa: S101 it has failed
    return LastWords.read(Path(run.log), run.exit_code).told(run.exit_code, out_of_memory=run.out_of_memory)


def _agents(submission: Submission, snapshot: Snapshot) -> Iterator[str]:
    groups = alike(
        (str(task.index), f"{task.status.state.value}: {task.detail}" if task.detail else task.status.state.value)
        for task in snapshot.tasks
        if not task.is_well
    )
    for names, words in groups:
        told = f"{_named('agent', names)} {words}"
        logged = next((name for name in names if any(log.exists() for log in submission.task_logs(int(name)))), None)
        whose = "its log" if len(names) == 1 else f"log of agent {logged}"
        yield told if logged is None else f"{told} ({whose}: wandb-submit logs {submission.id} --task {logged})"


def _named(noun: str, names: Sequence[str]) -> str:
    """Things by their names: `run a`, `runs a, b and 7 more`."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{noun}{'s' if len(names) > 1 else ''} {', '.join(names[:_SHOWN])}{more}"
