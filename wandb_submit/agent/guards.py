"""When an agent gives up: the stock agent's rules about runs that fail, except for how it counts signals.

`wandb agent` counts a program that a signal killed (out of memory, a segmentation fault) as a success; here it
is a failure like any other (wandb 0.31, `wandb_agent.py`: `exited_with_error = poll_result > 0`).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from wandb_submit.store.events import EventReader, RunAbandoned, RunFinished

FLAPPING_FAILURES = 3
FLAPPING_WINDOW_S = 60.0
MAX_INITIAL_FAILURES = 5
_MOST_OF_A_SUBMISSION = 20  # so many failures and no success say enough, however many agents there are


def from_environment(name: str, default: float) -> float:
    """A number that an environment variable sets; one that is not a number counts as not set, as for W&B."""
    try:
        return float(os.environ[name])
    except (KeyError, ValueError):
        return default


class FailureGuard:
    """Counts one agent's runs and says when to stop.

    `WANDB_AGENT_DISABLE_FLAPPING=true` and `WANDB_AGENT_MAX_INITIAL_FAILURES=N` mean what they mean to the
    stock agent.
    """

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._flapping_counts = os.environ.get("WANDB_AGENT_DISABLE_FLAPPING") != "true"
        self._max_initial = from_environment("WANDB_AGENT_MAX_INITIAL_FAILURES", MAX_INITIAL_FAILURES)
        self.finished = 0
        self.failed = 0
        self.has_succeeded = False

    def record(self, *, failed: bool, stopped: bool = False) -> str | None:
        """Counts a run that ended; one that was stopped has neither failed nor succeeded.

        Returns:
            Why the agent should stop, or `None` to go on.
        """
        self.failed += failed
        self.has_succeeded |= not (failed or stopped)
        verdict = self._verdict() if failed else None
        self.finished += 1
        return verdict

    def _verdict(self) -> str | None:
        young = time.monotonic() < self._started + FLAPPING_WINDOW_S
        if self._flapping_counts and young and self.failed >= FLAPPING_FAILURES:
            return (
                f"{self.failed} runs failed within the first {FLAPPING_WINDOW_S:.0f} s "
                "(WANDB_AGENT_DISABLE_FLAPPING=true lifts this rule)"
            )
        if self.failed >= self._max_initial and self.failed >= self.finished:
            return f"{self.failed} runs failed, and too few others succeeded (WANDB_AGENT_MAX_INITIAL_FAILURES)"
        return None


def least_failures(count: int) -> float:
    """How many runs of a submission of so many agents have to fail, and none to succeed, to say enough."""
    initial = from_environment("WANDB_AGENT_MAX_INITIAL_FAILURES", MAX_INITIAL_FAILURES)
    return max(initial, min(count, _MOST_OF_A_SUBMISSION))


def submission_verdict(agents: Path, *, count: int) -> str | None:
    """Why all agents of a submission should stop: its first runs have all failed, and none has succeeded.

    Each agent alone would find out later: a hundred of them would run a broken script three hundred times.

    Args:
        agents: the folder of the agents' events.
        count: how many agents there are; on average each has had a failure.
    """
    if os.environ.get("WANDB_AGENT_DISABLE_FLAPPING") == "true":
        return None
    least, failed = least_failures(count), 0
    for path in agents.glob("*/events.jsonl"):
        for stamped in EventReader(path).read():
            match stamped.event:
                case RunFinished(exit_code=0):
                    return None
                case RunFinished(failed=True) | RunAbandoned(failed=True):
                    failed += 1
    if failed < least:
        return None
    rule = "WANDB_AGENT_DISABLE_FLAPPING=true lifts this rule"
    return f"the first {failed} runs of this submission have all failed ({rule})"
