"""What has become of array tasks: one question to the queue, one to the accounting, and the tasks' own files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from submitit.core import utils

from wandb_submit.errors import RefusedError, UnavailableError
from wandb_submit.executors.base import TaskRef, TaskStatus
from wandb_submit.executors.slurm import cli
from wandb_submit.executors.slurm.refusals import slurms_words
from wandb_submit.executors.states import TaskState
from wandb_submit.store.halt import CANCELLED
from wandb_submit.system import process

# A slow slurmctld answers within its MessageTimeout (10 s by default, often raised) or not at all.
_TIMEOUT_S = 60.0


def ask(tasks: Sequence[TaskRef]) -> list[TaskStatus]:
    """Tells the state of each task: asks squeue once, and sacct once if the queue has forgotten any.

    Who is in the queue is the queue's to say. A task that has left it has ended, also where the accounting, which
    hears of things late, still has it as pending or running: a task that is cancelled before it begins leaves
    no record at all, or that one for ever.

    Raises:
        UnavailableError: if Slurm does not answer; the same question may be answered later.
    """
    if not tasks:
        return []
    known = _ask_squeue(tasks)
    forgotten = [task for task in tasks if task.job not in known]
    recorded = _ask_sacct(forgotten) if forgotten else {}
    return [known.get(task.job) or _ended(task, recorded) for task in tasks]


def _ended(task: TaskRef, recorded: Mapping[str, TaskStatus] | None) -> TaskStatus:
    """How a task ended that has left the queue, by its record or else by what it wrote."""
    if recorded and (status := recorded.get(task.job)) and status.state.is_terminal:
        return status
    if status := _from_result(task):
        return status
    if recorded is None:
        return TaskStatus(state=TaskState.UNKNOWN, detail="it left the queue, and Slurm's accounting does not answer")
    if Path(_files(task).stdout).exists():
        return TaskStatus(state=TaskState.FAILED, detail="it was killed: it left no result, and Slurm no record")
    return TaskStatus(state=TaskState.CANCELLED, detail="it left the queue before it began")


def _ask_squeue(tasks: Sequence[TaskRef]) -> dict[str, TaskStatus]:
    owners = {paths.folder.stat().st_uid for paths in {task.paths for task in tasks}}
    argv = cli.squeue_argv((task.job for task in tasks), owners)
    answer = process.run(argv, timeout_s=_TIMEOUT_S, env=cli.plain_environment(os.environ))
    if answer.returncode != 0:
        if "invalid job id" in answer.stderr.lower():  # all of them left long ago
            return {}
        raise UnavailableError(f"squeue failed: {slurms_words(answer.stderr or answer.stdout)}")
    return cli.parse_squeue(answer.stdout)


def _ask_sacct(tasks: Sequence[TaskRef]) -> dict[str, TaskStatus] | None:
    """Asks the accounting, which many small clusters do not have; `None` if there is one that does not answer."""
    argv = cli.sacct_argv(task.job for task in tasks)
    try:
        answer = process.run(argv, timeout_s=_TIMEOUT_S, env=cli.plain_environment(os.environ))
    except RefusedError:  # no sacct here
        return {}
    except UnavailableError:
        return None
    if answer.returncode == 0:
        return cli.parse_sacct(answer.stdout)
    return {} if "accounting storage is disabled" in answer.stderr else None


def _from_result(task: TaskRef) -> TaskStatus | None:
    """What the result that submitit wrote for the task says; `None` if it left none."""
    path = Path(_files(task).result_pickle)
    if not path.exists():
        return None
    outcome, value = utils.pickle_load(path)
    if outcome != "success":
        return TaskStatus(state=TaskState.FAILED)
    told_to_end = isinstance(value, str) and value.startswith(("received SIG", CANCELLED))
    return TaskStatus(state=TaskState.CANCELLED if told_to_end else TaskState.COMPLETED)


def _files(task: TaskRef) -> utils.JobPaths:
    return utils.JobPaths(task.paths.jobs, job_id=task.job)
