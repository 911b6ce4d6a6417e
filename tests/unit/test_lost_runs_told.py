"""Runs that a time limit or a preemption has ended are told at the end: their results are missing."""

from __future__ import annotations

from pathlib import Path

from submissions import LOCAL, make

from wandb_submit.cli._failures import lost
from wandb_submit.store.events import EventWriter, RunFinished, RunStarted
from wandb_submit.store.halt import PREEMPTED, TIME_LIMIT
from wandb_submit.submission.submission import Submission


def test_only_what_did_not_come_back_is_told(tmp_path: Path) -> None:
    paths = make(tmp_path, LOCAL, cut="0", resumed="0", taken="1", well="1")
    first, second = EventWriter(paths.events("0")), EventWriter(paths.events("1"))
    for writer, run, reason in (
        (first, "cut", TIME_LIMIT),
        (first, "resumed", TIME_LIMIT),
        (second, "taken", PREEMPTED),
        (second, "well", None),
    ):
        writer.write(RunFinished(run=run, exit_code=1 if reason else 0, seconds=9, reason=reason))
    first.write(RunStarted(run="resumed", pid=3, command=[], log="", idle_s=0.0, resumed=True))
    first.write(RunFinished(run="resumed", exit_code=0, seconds=9, reason=None))
    by_limit, by_preemption = lost(Submission(paths))
    assert by_limit.startswith(f"run cut stopped and did not come back: {TIME_LIMIT} (give tasks a longer --time")
    assert by_preemption.startswith(f"run taken stopped and did not come back: {PREEMPTED} (let runs save")
