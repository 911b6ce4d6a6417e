"""How far a sweep is that several submissions share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from submissions import LOCAL, make

from wandb_submit.store.events import EventWriter, RunFinished
from wandb_submit.store.journal import Journal
from wandb_submit.store.paths import SubmissionPaths
from wandb_submit.store.siblings import Siblings, SweepProgress


def member(home: Path, name: str, *, left: int | None, total: int | None, **runs: str) -> SubmissionPaths:
    record = replace(LOCAL, id=name, jobs=(f"{name}_0",), runs_left=left, runs_total=total)
    paths = make(home, record, **dict.fromkeys(runs, "0"))
    events = EventWriter(paths.events("0"))
    for run, end in runs.items():
        if end:
            reason = None if end == "done" else end
            events.write(RunFinished(run=run, exit_code=0, seconds=1.0, reason=reason))
    return paths


def told(paths: SubmissionPaths) -> SweepProgress | None:
    from wandb_submit.store import record as records

    journal = Journal(paths)
    journal.update()
    return Siblings(paths, records.load(paths), journal).progress()


def test_a_sweep_of_one_submission_is_told_by_that_alone(tmp_path: Path) -> None:
    assert told(member(tmp_path, "aaa", left=4, total=4, r1="done")) is None
    assert told(member(tmp_path / "other", "bbb", left=None, total=None, r1="done")) is None


def test_the_submissions_of_a_sweep_are_added_up(tmp_path: Path) -> None:
    first = member(tmp_path, "aaa", left=6, total=6, r1="done", r2="preempted")
    second = member(tmp_path, "bbb", left=4, total=6, r2="done", r3="done", r4="")
    other = replace(LOCAL, id="ccc", jobs=("ccc_0",), sweep=replace(LOCAL.sweep, id="other"), runs_left=9)
    make(tmp_path, other, r9="0")
    (tmp_path / "server").mkdir()
    for paths in (first, second):
        assert told(paths) == SweepProgress(done=3, total=6)


@pytest.mark.parametrize(("total", "done"), [(10, 5), (None, None)])
def test_what_was_handed_out_before_counts(total: int | None, done: int | None, tmp_path: Path) -> None:
    progress = told(member(tmp_path, "aaa", left=6, total=total, r1="done"))
    assert (progress and progress.done) == done


def test_a_sibling_that_begins_later_is_met(tmp_path: Path) -> None:
    first = member(tmp_path, "aaa", left=6, total=6, r1="done")
    siblings = Siblings(first, replace(LOCAL, id="aaa", runs_left=6, runs_total=6), Journal(first))
    assert siblings.progress() is None
    member(tmp_path, "bbb", left=5, total=6, r2="done")
    progress = siblings.progress()
    assert progress is not None
    assert progress.total == 6
