"""What one array task is to do."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from wandb_submit.spec import Endpoint, SubmissionSpec, SweepRef


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """The work of one array task; it is pickled into the submission's folder, so it holds no secret.

    Attributes:
        folder: the submission's folder.
        index: the task's place in the array, from 0.
        spec: what was asked for.
        runs_before: how many runs each agent had finished when the task was requeued; empty at first.
        restarts: how often the task has been requeued from inside.
    """

    sweep: SweepRef
    endpoint: Endpoint
    folder: Path
    index: int
    spec: SubmissionSpec
    runs_before: tuple[int, ...] = ()
    restarts: int = 0

    def counts(self) -> list[int | None]:
        """How many runs each agent may still take; `None` is as many as there are."""
        limit, agents = self.spec.count, self.spec.agents_per_task
        if limit is None:
            return [None] * agents
        return [max(limit - runs, 0) for runs in self.runs_before or (0,) * agents]

    def all_restarts(self) -> int:
        """How often the task has been requeued; Slurm counts those that we did not ask for, too."""
        return max(self.restarts, int(os.environ.get("SLURM_RESTART_COUNT") or 0))
