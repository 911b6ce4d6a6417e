"""What an array task asks Slurm about the job that it is part of."""

from __future__ import annotations

import datetime as dt
import logging
import os
import re
import signal
import socket

from wandb_submit.errors import WandbSubmitError
from wandb_submit.system import process

_NEVER = ("None", "N/A")
_TIMEOUT_S = 15.0  # the grace of a preempted job goes on meanwhile
# What submitit checkpoints and requeues a task on, by the variable that it reads.
REQUEUE_SIGNAL = signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"]
_LOG = logging.getLogger("wandb_submit.agent")


def task_id() -> str | None:
    """This array task's id in the form `ARRAY_TASK`, which alone never means the whole array; `None` elsewhere."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else None


def is_preempted() -> bool:
    """Whether Slurm is preempting this job, which it tells by the same SIGTERM as `scancel`.

    A cancelled job, or one whose time is over, is not RUNNING any more when its SIGTERM comes; a preempted one
    is for its grace time, and has a PreemptTime (https://slurm.schedmd.com/preempt.html; seen on 22.05).
    """
    shown = _show_job()
    return shown.get("JobState") == "RUNNING" and shown.get("PreemptTime", "None") not in _NEVER


def ends_at(*, ask: bool) -> float | None:
    """When the job's time limit ends it, in seconds since the epoch; `None` if there is none or it is not known.

    Args:
        ask: whether to ask Slurm if the environment does not tell (before 23.02 it does not).
    """
    told = os.environ.get("SLURM_JOB_END_TIME", "")
    if told.isdecimal():
        return float(told)
    text = _show_job().get("EndTime", "Unknown") if ask else "Unknown"
    try:
        # Slurm writes local time.
        return dt.datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def node_address() -> str:
    """The address by which Slurm reaches this node, from all others; its name if Slurm does not tell."""
    node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    try:
        answer = process.run(["scontrol", "show", "node", node, "--oneliner"], timeout_s=_TIMEOUT_S)
    except WandbSubmitError as error:
        _LOG.warning("cannot ask Slurm about this node: %s", error)
        return node
    found = re.search(r"(?:^|\s)NodeAddr=(\S+)", answer.stdout)
    return found[1] if found else node


def _show_job() -> dict[str, str]:
    """What `scontrol show job` says of this task; nothing outside Slurm, or if it does not answer."""
    job = task_id()
    if job is None:
        return {}
    try:
        answer = process.run(["scontrol", "show", "job", job, "--oneliner"], timeout_s=_TIMEOUT_S)
    except WandbSubmitError as error:
        _LOG.warning("cannot ask Slurm about this job: %s", error)
        return {}
    return dict(re.findall(r"(?:^|\s)(JobState|PreemptTime|EndTime)=(\S+)", answer.stdout))


def cancel_pending_tasks() -> None:
    """Takes the array's tasks that have not begun out of the queue: there is nothing left for them to do."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    if not array or task_id() is None:
        return
    try:
        answer = process.run(["scancel", "--state=PENDING", array], timeout_s=_TIMEOUT_S)
    except WandbSubmitError as error:
        _LOG.warning("cannot cancel the tasks that wait in the queue: %s", error)
    else:
        if answer.returncode != 0:
            _LOG.warning("cannot cancel the tasks that wait in the queue: %s", answer.stderr.strip())
