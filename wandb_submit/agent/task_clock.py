"""How much time an array task has left, and whether that is enough for another run."""

from __future__ import annotations

import time
from pathlib import Path

from wandb_submit.spec import SubmissionSpec
from wandb_submit.store.events import EventReader, RunFinished
from wandb_submit.store.paths import SubmissionPaths


class TaskClock:
    """Knows when its task ends, and how long runs take.

    A run that would be cut short wastes what it computes: with less time left than the longest run of the submission
    took, a task leaves early and is requeued. Where no task is long enough for such a run, it is not waited for.

    Args:
        left_s: how long from now until the task is told to end its runs; `None`: there is no limit.
        longest_s: the longest run known so far.
    """

    def __init__(self, *, left_s: float | None, longest_s: float) -> None:
        self._usable_s = left_s
        self._told_at = None if left_s is None else time.monotonic() + left_s
        self._longest_s = longest_s

    @classmethod
    def of(cls, spec: SubmissionSpec, ends_at: float | None, paths: SubmissionPaths) -> TaskClock:
        """The clock of a task that begins now.

        Args:
            spec: what the submission asked for.
            ends_at: when the scheduler will end the task, in seconds since the epoch; `None`: it does not say.
            paths: where the submission's agents have written how long their runs took.
        """
        told = [] if ends_at is None else [ends_at - time.time()]
        # On Slurm the scheduler's word is the better one: a job may have been given less or more than it asked for.
        asked = [] if spec.time_min is None or (told and spec.executor == "slurm") else [spec.time_min * 60.0]
        if not told and not asked:
            return cls(left_s=None, longest_s=0.0)
        left_s = min(told + asked) - spec.signal_delay_s
        return cls(left_s=left_s, longest_s=max(spec.min_run_s, longest_run_s(paths.agents)))

    def begins(self) -> None:
        """Says that the agent is ready for runs now: no task will have more time for them than this one has left."""
        if self._told_at is not None:
            self._usable_s = self._told_at - time.monotonic()

    def saw_run(self, seconds: float) -> None:
        """Takes down how long a run took that ended by itself."""
        self._longest_s = max(self._longest_s, seconds)

    def too_late(self) -> str | None:
        """Why there is no time for another run; `None` while there is."""
        if self._told_at is None or self._usable_s is None or self._longest_s > self._usable_s:
            return None
        left_s = self._told_at - time.monotonic()
        if left_s >= self._longest_s:
            return None
        return f"{max(left_s, 0):.0f} s are left for runs, and one takes up to {self._longest_s:.0f} s"


def longest_run_s(agents: Path) -> float:
    """The longest run that a submission's agents have seen end by itself; 0 if none has."""
    lengths = [0.0]
    for path in agents.glob("*/events.jsonl"):
        for stamped in EventReader(path).read():
            match stamped.event:
                case RunFinished(reason=None, seconds=seconds):
                    lengths.append(seconds)
    return max(lengths)
