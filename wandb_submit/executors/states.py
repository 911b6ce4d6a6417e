"""What can become of an array task, in one vocabulary for every executor."""

from __future__ import annotations

import enum


class TaskState(enum.Enum):
    """The state of one array task, in Slurm's words; the local executor uses the same ones."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    PREEMPTED = "preempted"
    OUT_OF_MEMORY = "out of memory"
    NODE_FAIL = "node fail"
    UNKNOWN = "unknown"

    @property
    def is_terminal(self) -> bool:
        """Whether the task has ended for good, as far as its scheduler knows."""
        return self not in (TaskState.PENDING, TaskState.RUNNING, TaskState.UNKNOWN)

    @property
    def is_success(self) -> bool:
        """Whether the task ended the way it was meant to."""
        return self is TaskState.COMPLETED
