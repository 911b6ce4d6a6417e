"""The submissions of one folder that share a sweep, and how far they are together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from wandb_submit.errors import NotFoundError
from wandb_submit.store import record as records
from wandb_submit.store.journal import Journal
from wandb_submit.store.paths import SubmissionPaths
from wandb_submit.store.record import SubmissionRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepProgress:
    """How far a sweep is, as far as its submissions of one folder tell.

    Attributes:
        done: its runs that have ended by themselves, or were handed out before the first of these submissions.
        total: how many runs it has.
    """

    done: int
    total: int

    @classmethod
    def of(cls, members: Iterable[tuple[SubmissionRecord, Journal]]) -> SweepProgress | None:
        """Adds up the submissions of one sweep; `None` if the sweep is one submission's alone, or has no known end."""
        known = list(members)
        left = [record.runs_left for record, _ in known if record.runs_left is not None]
        if not left:
            return None
        total = max([*left, *(record.runs_total for record, _ in known if record.runs_total is not None)])
        if len(known) == 1 and total == left[0]:
            return None
        runs = [run for _, journal in known for run in journal.runs.values()]
        done = {run.id for run in runs if run.ended is not None and run.stop_reason is None}
        return cls(done=min(total - max(left) + len(done), total), total=total)


class Siblings:
    """The submissions of a folder that work on the same sweep as one of them."""

    def __init__(self, paths: SubmissionPaths, record: SubmissionRecord, journal: Journal) -> None:
        self._home = paths.folder.parent
        self._sweep = record.sweep
        self._members = {paths.id: (record, journal)}
        self._others: set[str] = set()

    def progress(self) -> SweepProgress | None:
        """Looks for new ones, reads on what the known ones write, and adds up."""
        for folder in self._home.glob("*/submission.json"):
            paths = SubmissionPaths(folder.parent)
            if paths.id not in self._members and paths.id not in self._others:
                self._meet(paths)
        for _, journal in list(self._members.values())[1:]:  # the first one's journal is its submission's to read
            journal.update()
        return SweepProgress.of(self._members.values())

    def _meet(self, paths: SubmissionPaths) -> None:
        try:
            record = records.load(paths)
        except NotFoundError:  # one that cannot be read tells nothing
            self._others.add(paths.id)
            return
        if record.sweep == self._sweep:
            self._members[paths.id] = (record, Journal(paths))
        else:
            self._others.add(paths.id)
