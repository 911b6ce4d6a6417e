"""The local executor as a submitit plugin: `submitit.AutoExecutor(folder, cluster="workstation")`.

submitit finds both classes through the entry-point group `submitit`. Its own local executor starts every job at
once and gives each of them GPU 0; this one queues them for the machine's devices.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from submitit.core.core import Job, PicklingExecutor
from submitit.core.job_environment import JobEnvironment

from wandb_submit.devices import VisibleGpus, usable_cores, visible_gpus
from wandb_submit.errors import NotFoundError, RefusedError
from wandb_submit.executors.base import NO_LIMIT_MIN
from wandb_submit.executors.local.pool import Demand, places
from wandb_submit.executors.local.state import (
    KEEPER,
    REQUEUE_EXIT_CODE,
    ArrayFile,
    SchedulerFiles,
    SchedulerState,
    TaskRow,
    is_alive,
)
from wandb_submit.options.values import gpu_names
from wandb_submit.system import process
from wandb_submit.text import counted


class WorkstationJobEnvironment(JobEnvironment):
    """Tells a job that it runs under our local scheduler."""

    # One task on one node: the variables behind the job's id are never set, and submitit takes 0 and 1.
    _env: ClassVar[dict[str, str]] = {
        "job_id": "WANDB_SUBMIT_JOB_ID",
        "num_tasks": "WANDB_SUBMIT_NUM_TASKS",
        "num_nodes": "WANDB_SUBMIT_NUM_NODES",
        "node": "WANDB_SUBMIT_NODE",
        "global_rank": "WANDB_SUBMIT_GLOBAL_RANK",
        "local_rank": "WANDB_SUBMIT_LOCAL_RANK",
    }

    def _requeue(self, countdown: int) -> None:
        sys.exit(REQUEUE_EXIT_CODE)


class WorkstationJob(Job[Any]):
    """One array task under our local scheduler."""

    def get_info(self, mode: str = "force") -> dict[str, str]:
        """The task's row of the scheduler's state file."""
        row = self._row()
        return {"jobState": row.state.name if row else "UNKNOWN"}

    @property
    def state(self) -> str:
        """The task's state, in Slurm's words."""
        return self.get_info()["jobState"]

    def done(self, force_check: bool = False) -> bool:
        """Whether the task has ended, or its scheduler is gone."""
        row = self._row()
        return self.paths.result_pickle.exists() or (row is not None and row.state.is_terminal) or not self._alive()

    def __del__(self) -> None:
        """Cancels the task where `cancel_at_deletion` was asked for; submitit's own would ask a watcher."""
        if self._cancel_at_deletion and not self.done():
            self.cancel(check=False)

    def cancel(self, check: bool = True) -> None:
        """Cancels this task, running or pending; its own processes get their grace."""
        files = self._files()
        files.cancelled(self.job_id).touch()
        tell_scheduler(files, signal.SIGUSR1)

    def _row(self) -> TaskRow | None:
        try:
            rows = SchedulerState.load(self._files()).tasks
        except NotFoundError:
            return None
        return next((row for row in rows if row.job == self.job_id), None)

    def _alive(self) -> bool:
        return is_alive(self._files())

    def _files(self) -> SchedulerFiles:
        return SchedulerFiles.of(Path(self.paths.folder), str(self.job_id).rpartition("_")[0])


class WorkstationExecutor(PicklingExecutor):
    """Queues jobs for this machine's GPUs and cores. The folder's name may not hold submitit's `%j`.

    Of submitit's own parameters it takes `timeout_min`, `cpus_per_task`, `gpus_per_node` and `stderr_to_stdout`; a job
    is one task on one node. `name` and `mem_gb` change nothing.

    Parameters: `gpus_per_task` (`None` hides none, 0 hides all), `cpus_per_task` (`None` is an even share),
    `array_parallelism`, `timeout_min` (`None` is no limit), `signal_delay_s`, `grace_s`, the `gpus` (as for
    `wandb-submit --gpu-ids`, such as `0,2`) and `cores` to choose from (default: all that this process may use),
    `include_busy` to take GPUs that others compute on, `halt`, a file whose existence ends the queue, and `setup` and
    `teardown`, lines that a shell runs around each job.
    """

    job_class = WorkstationJob

    @classmethod
    def affinity(cls) -> int:
        """Never chosen by itself: only where it is asked for by name."""
        return 0

    def _convert_parameters(self, params: dict[str, Any]) -> dict[str, Any]:
        for name in ("nodes", "tasks_per_node"):
            if params.get(name, 1) != 1:
                raise RefusedError(f"{name}={params[name]}: a job on a workstation is one task on one node")
        return {"gpus_per_task" if name == "gpus_per_node" else name: value for name, value in params.items()}

    @classmethod
    def _valid_parameters(cls) -> set[str]:
        return {
            "gpus_per_task",
            "cpus_per_task",
            "array_parallelism",
            "timeout_min",
            "signal_delay_s",
            "grace_s",
            "halt",
            "job_prefix",
            "gpus",
            "cores",
            "include_busy",
            "stderr_to_stdout",
            "setup",
            "teardown",
        }

    def _internal_process_submissions(self, delayed_submissions: list[Any]) -> list[Job[Any]]:
        parameters: Mapping[str, Any] = self.parameters
        demand = Demand(gpus=parameters.get("gpus_per_task"), cores=parameters.get("cpus_per_task"))
        gpus = parameters.get("gpus") or ()
        visible = gpus if isinstance(gpus, VisibleGpus) else visible_gpus(only=gpu_names("gpus", gpus) if gpus else ())
        cores = parameters.get("cores") or usable_cores()
        if places(1, demand, visible.gpus, cores) < 1:
            has = f"{counted(len(visible.gpus), 'GPU')} and {counted(len(cores), 'usable core')}"
            raise RefusedError(f"a job that needs {demand.words} would wait for ever: this machine has {has}")
        prefix = parameters.get("job_prefix") or secrets.token_hex(4)
        files = SchedulerFiles.of(Path(self.folder), prefix)
        files.folder.mkdir(parents=True)
        jobs = [WorkstationJob(folder=self.folder, job_id=job) for job in job_ids(prefix, len(delayed_submissions))]
        time_min = parameters.get("timeout_min")
        for job, delayed in zip(jobs, delayed_submissions, strict=True):
            delayed.set_timeout(time_min or NO_LIMIT_MIN, self.max_num_timeout)
            delayed.dump(job.paths.submitted_pickle)
        array = ArrayFile(
            jobs=[job.job_id for job in jobs],
            at_once=min(parameters.get("array_parallelism") or len(jobs), len(jobs)),
            demand=demand,
            gpus=visible.gpus,
            cores=cores,
            time_s=None if time_min is None else time_min * 60.0,
            signal_delay_s=parameters.get("signal_delay_s", 90),
            grace_s=parameters.get("grace_s", 60),
            variable=visible.variable,
            include_busy=parameters.get("include_busy", False),
            halt=parameters.get("halt"),
            setup=parameters.get("setup") or [],
            teardown=parameters.get("teardown") or [],
            one_log=parameters.get("stderr_to_stdout", False),
        )
        array.save(files)
        start_scheduler(files)
        return list(jobs)

    def _num_tasks(self) -> int:
        return 1

    def _make_submission_file_text(self, command: str, uid: str) -> str:
        raise NotImplementedError("this executor starts tasks without a script")

    def _make_submission_command(self, submission_file_path: Path) -> list[str]:
        raise NotImplementedError("this executor starts tasks without a script")

    @staticmethod
    def _get_job_id_from_submission_command(string: bytes | str) -> str:
        raise NotImplementedError("this executor starts tasks without a script")


def job_ids(prefix: str, count: int) -> list[str]:
    """The ids of an array's jobs."""
    return [f"{prefix}_{task}" for task in range(count)]


def tell_scheduler(files: SchedulerFiles, number: signal.Signals) -> None:
    """Sends the scheduler of these files a signal, if it lives.

    Raises:
        RefusedError: if it runs on another machine.
    """
    if not is_alive(files):
        return
    with contextlib.suppress(ProcessLookupError, NotFoundError):  # it ended just now, or has not quite begun
        state = SchedulerState.load(files)
        if state.host != socket.gethostname():
            raise RefusedError(f"this submission runs on {state.host}: log in there to cancel it")
        os.kill(state.pid, number)


def start_scheduler(files: SchedulerFiles, *, timeout_s: float = 30.0) -> None:
    """Starts the scheduler of an array file and waits until it has begun.

    Raises:
        RefusedError: if it ends without having begun.
    """
    argv = process.python_argv(KEEPER, str(files.folder))
    scheduler = process.spawn_detached(argv, log=files.log)
    try:
        if not process.wait_until(lambda: files.state.exists() or scheduler.poll() is not None, timeout_s=timeout_s):
            scheduler.kill()
    except BaseException:  # Ctrl-C: who cannot be told yet would begin nevertheless
        scheduler.kill()
        scheduler.wait()
        raise
    if not files.state.exists():
        raise RefusedError(f"the local scheduler did not start: {process.log_tail(files.log) or 'it said nothing'}")
