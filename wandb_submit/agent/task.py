"""What one array task runs: submitit unpickles an `AgentTask` on the node and calls it."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wandb_submit.agent import slurm_job
from wandb_submit.agent.assignment import Assignment
from wandb_submit.agent.outcome import Outcome
from wandb_submit.agent.runner import TaskRunner
from wandb_submit.agent.runs import interpreter, step
from wandb_submit.errors import WandbSubmitError
from wandb_submit.store.events import AgentStopped, EventWriter, agent_name
from wandb_submit.store.halt import Halt
from wandb_submit.store.paths import SubmissionPaths

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

_LOG = logging.getLogger("wandb_submit.agent")

# The runner of this process: submitit calls `checkpoint` on the pickled value, which holds no state.
_current: TaskRunner | None = None


class AgentFailedError(WandbSubmitError):
    """An agent left with a reason that somebody should look at; makes its array task count as failed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentTask(Assignment):
    """One array task: the sweep's agents on the devices that the scheduler gave this process, mostly one."""

    def __call__(self) -> str:
        """Runs the agents to their end; returns why they left.

        Raises:
            AgentFailedError: if the reason is one that somebody should look at.
        """
        global _current
        paths = SubmissionPaths(self.folder)
        if not_begun := self._why_not_to_begin(paths):
            return not_begun
        logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
        _current = TaskRunner(self)
        outcomes = _current.run()
        if Halt.read(paths.halt):
            slurm_job.cancel_pending_tasks()
        _raise_if_bad(outcomes)
        if any(outcome.requeue for outcome in outcomes):
            signal.raise_signal(slurm_job.REQUEUE_SIGNAL)
        return "; ".join(dict.fromkeys(outcome.reason for outcome in outcomes))

    def _why_not_to_begin(self, paths: SubmissionPaths) -> str | None:
        """Why there is nothing to do for this task; `None` where there is.

        Raises:
            AgentFailedError: if the task has been requeued too often, lacks GPUs that it asked for, or finds no such
                `python`.
        """
        if all(count == 0 for count in self.counts()):
            return self._not_begun(paths, "--count was reached before the task was requeued", ok=True)
        if halt := Halt.read(paths.halt):
            return self._not_begun(paths, halt.reason, ok=halt.ok)
        if self._requeued_too_often(self.all_restarts() - 1):
            often = f"the task was requeued more often than --max-requeues {self.spec.max_requeues}"
            raise AgentFailedError(self._not_begun(paths, often, ok=False))
        if wrong := step.why_not(self.spec):
            raise AgentFailedError(self._not_begun(paths, wrong, ok=False))
        if wrong := interpreter.why_not(self.spec, os.environ, paths.bin):
            raise AgentFailedError(self._not_begun(paths, f"no run can be started: {wrong}", ok=False))
        return None

    def _not_begun(self, paths: SubmissionPaths, reason: str, *, ok: bool) -> str:
        """Writes down for each agent why it does not begin; returns the reason."""
        for place in range(self.spec.agents_per_task):
            events = EventWriter(paths.events(agent_name(self.index, place)))
            events.write(AgentStopped(reason=reason, ok=ok, runs=0))
            events.close()
        return reason

    def checkpoint(self) -> DelayedSubmission | None:
        """Called by submitit when the time limit is near or the task is preempted.

        Ends the running trials and returns what is to be requeued; `None` if that was done too often.

        Raises:
            AgentFailedError: if an agent left for a reason that somebody should look at; submitit lets it end the task.
        """
        from submitit.helpers import DelayedSubmission

        if _current is None:
            return DelayedSubmission(self)
        outcomes = _current.drain()
        if outcomes is None:
            return DelayedSubmission(self)
        _raise_if_bad(outcomes)
        if self._requeued_too_often(self.all_restarts()):
            return None
        # Also if there is nothing left to do: what is not requeued from here counts as failed.
        before = self.runs_before or (0,) * len(outcomes)
        runs = tuple(earlier + outcome.runs for earlier, outcome in zip(before, outcomes, strict=True))
        return DelayedSubmission(dataclasses.replace(self, runs_before=runs, restarts=self.restarts + 1))

    def _requeued_too_often(self, restarts: int) -> bool:
        limit = self.spec.max_requeues
        if limit is None or restarts < limit:
            return False
        _LOG.error("not requeued again: --max-requeues is %d", limit)
        return True


def _raise_if_bad(outcomes: Sequence[Outcome]) -> None:
    if bad := [outcome.reason for outcome in outcomes if not outcome.ok]:
        raise AgentFailedError("; ".join(dict.fromkeys(bad)))
