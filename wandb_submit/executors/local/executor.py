"""The local executor: what a submission's tasks get of this machine, and the scheduler that gives it to them."""

from __future__ import annotations

import os
import shlex
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from wandb_submit.devices import Gpu, VisibleGpus, usable_cores, visible_gpus
from wandb_submit.devices.cores import side_by_side, time_quota
from wandb_submit.devices.strangers import watch_for, watch_nobody
from wandb_submit.devices.variables import VARIABLES
from wandb_submit.errors import NotFoundError, RefusedError
from wandb_submit.executors import activation
from wandb_submit.executors.base import ANY_NUMBER, Plan, TaskRef, TaskStatus
from wandb_submit.executors.local.locks import ImaginedLocks, is_held, lock_folder
from wandb_submit.executors.local.pool import Demand, Pool, Slot, places
from wandb_submit.executors.local.state import SchedulerFiles, SchedulerState, is_alive
from wandb_submit.executors.states import TaskState
from wandb_submit.options.table import TABLE, flag
from wandb_submit.spec import Activation, SubmissionSpec
from wandb_submit.store.paths import SubmissionPaths
from wandb_submit.system import process
from wandb_submit.text import counted

if TYPE_CHECKING:
    from wandb_submit.agent.task import AgentTask


_ABANDON_S = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalPlan:
    """Which task gets which devices, if no other submission holds any.

    Attributes:
        visible: the GPUs to choose from.
        cores: the cores.
        busy: who computes on a GPU that is passed over, by its token.
        quota: what limits the cores, if that is a limit on their time.
    """

    spec: SubmissionSpec
    visible: VisibleGpus
    cores: tuple[int, ...]
    busy: Mapping[str, str] = field(default_factory=dict)
    quota: str | None = None

    @property
    def gpus(self) -> Sequence[Gpu]:
        """The GPUs to choose from."""
        return self.visible.gpus

    @property
    def count(self) -> int:
        """How many array tasks there are."""
        return self.spec.array.count

    @property
    def at_once(self) -> int:
        """How many of them have devices at the same time."""
        free = [gpu for gpu in self.gpus if gpu.token not in self.busy]
        return places(self.spec.array.at_once, self._demand, free, self.cores)

    @property
    def _demand(self) -> Demand:
        return Demand(gpus=self.spec.gpus_per_task, cores=self.spec.cpus_per_task)

    @property
    def notes(self) -> Sequence[str]:
        """What the person should know."""
        spec, notes = self.spec, []
        if self.at_once < self.count:
            notes.append(f"{self.at_once} of the {self.count} tasks run at a time, the others wait for devices")
        for token, who in self.busy.items():
            notes.append(f"GPU {token} is passed over while {who} computes on it; --include-busy takes it anyway")
        if self.quota is not None:
            notes.append(f"{self.quota}: no more are given out")
        wanted = spec.gpus_per_task or 0
        if wanted > 1 and spec.agents_per_task % wanted and any(gpu.is_instance for gpu in self.gpus):
            notes.append(
                "CUDA lets a process use one MIG instance: of several that it sees a run uses the first; "
                f"--gpus-per-task 1, or --agents-per-task {wanted}, gives each agent one"
            )
        if spec.gpu_type is not None:
            notes.append(f"any GPU of this machine will do: its type ({spec.gpu_type}) is not looked at")
        for name, option in TABLE.items():
            if option.local and (value := getattr(spec, name, None)):
                flags = [f"--{key}" for key in value] if isinstance(value, Mapping) else [flag(name)]
                notes.append(f"{option.local} on this machine: {', '.join(flags)}")
        return tuple(notes)

    def for_sweep(self, sweep_id: str) -> LocalPlan:
        """The same plan: here, nothing is called like the sweep."""
        return self

    def render(self) -> str:
        """The table of tasks and devices."""
        spec = self.spec
        rows = [("task", "GPUs", "cores"), *self._rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        busy = f", {len(self.busy)} of them busy" if self.busy else ""
        has = f"{counted(len(self.cores), 'core')}, {counted(len(self.gpus), 'GPU')}{busy}"
        limit = f", at most {spec.time_min} min each" if spec.time_min else ""
        head = f"{counted(self.count, 'array task')} on {socket.gethostname()} ({has}), {self.at_once} at a time{limit}"
        shell = [
            f"{when} each task: {command}"
            for when, commands in (("before", _words(spec.activation)), ("after", spec.activation.teardown))
            for command in commands
        ]
        return "\n".join([head, "", *lines, "", *shell, *([""] if shell else [])])

    def details(self) -> Mapping[str, object]:
        """Each task's devices; `None` for GPUs that are left as they are, and for the first ones that will be free."""
        return {
            "host": socket.gethostname(),
            "at_once": self.at_once,
            "tasks": [
                {
                    "task": task,
                    "gpus": None if slot is None or slot.gpus is None else [gpu.token for gpu in slot.gpus],
                    "cores": None if slot is None else sorted(slot.cores),
                }
                for task, slot in enumerate(self._slots())
            ],
        }

    def resources(self) -> Mapping[str, object]:
        """What each task gets."""
        return {
            "gpus_per_task": self.spec.gpus_per_task,
            "cpus_per_task": self.spec.cpus_per_task,
            "time_min": self.spec.time_min,
            "at_once": self.at_once,
        }

    def _rows(self) -> Iterator[tuple[str, str, str]]:
        """Each task's devices, in words."""
        hidden = {None: "as they are", 0: "none"}.get(self.spec.gpus_per_task)
        for task, slot in enumerate(self._slots()):
            gpus = "the first that are free" if slot is None else ",".join(gpu.token for gpu in slot.gpus or ())
            cores = "the first that are free" if slot is None else ",".join(map(str, sorted(slot.cores)))
            yield str(task), hidden or gpus, cores

    def _slots(self) -> Iterator[Slot | None]:
        """Each task's devices, as a pool that holds nothing gives them out; `None` where it waits for some."""
        most = max(places(self.spec.array.at_once, self._demand, self.gpus, self.cores), 1)
        pool = Pool(
            gpus=[gpu for gpu in self.gpus if gpu.token not in self.busy],
            cores=self.cores,
            places=most,
            neighbours=side_by_side(self.cores),
            locks=ImaginedLocks(),
        )
        for task in range(self.count):
            yield pool.take(task, self._demand) if task < self.at_once else None


class LocalExecutor:
    """Runs array tasks on this machine, one set of devices each."""

    name: ClassVar[str] = "local"

    def a_node(self) -> str | None:
        """None: tasks run here."""
        return None

    def plan(self, spec: SubmissionSpec, paths: SubmissionPaths) -> LocalPlan:
        """Looks at the machine's devices and shares them out."""
        visible = visible_gpus(only=spec.gpus)
        watch = (
            watch_for(visible.gpus, visible.variable) if spec.gpus_per_task and not spec.include_busy else watch_nobody
        )
        with watch() as look:
            computing = {gpu: look(gpu) for gpu in visible.gpus}
        busy = {gpu.token: who for gpu, who in computing.items() if who is not None and not is_held(gpu)}
        quota = _time_limit()
        plan = LocalPlan(spec=spec, visible=visible, cores=tuple(usable_cores()), busy=busy, quota=quota)
        _check_demand("--gpus-per-task", spec.gpus_per_task, len(plan.gpus), f"GPUs{_limits(spec)}")
        _check_demand(
            "--cpus-per-task", spec.cpus_per_task, len(plan.cores), f"usable cores{f' ({quota})' if quota else ''}"
        )
        return plan

    def check(self, plan: Plan) -> None:
        """Makes sure that devices can be locked."""
        lock_folder()

    def submit(
        self, plan: Plan, tasks: Sequence[AgentTask], paths: SubmissionPaths, keep: Callable[[Sequence[str]], None]
    ) -> None:
        """Starts the submission's scheduler, once its tasks are on record."""
        from wandb_submit.executors.local.submitit_plugin import WorkstationExecutor, job_ids

        assert isinstance(plan, LocalPlan)  # noqa: S101 the plan came from this class
        spec = plan.spec
        activation.write_python(spec.activation, paths)
        executor = WorkstationExecutor(folder=paths.jobs, max_num_timeout=ANY_NUMBER)
        executor.update_parameters(
            job_prefix=paths.id,
            gpus=plan.visible,
            cores=plan.cores,
            include_busy=spec.include_busy,
            gpus_per_task=spec.gpus_per_task,
            cpus_per_task=spec.cpus_per_task,
            array_parallelism=spec.array.at_once,
            timeout_min=spec.time_min,
            signal_delay_s=spec.signal_delay_s,
            grace_s=spec.grace_s,
            halt=str(paths.halt),
            stderr_to_stdout=True,
            setup=activation.lines_before(spec.activation, paths),
            teardown=activation.lines_after(spec.activation),
        )
        keep(job_ids(paths.id, len(tasks)))
        executor.submit_array(list(tasks))

    def abandon(self, paths: SubmissionPaths) -> None:
        """Kills the scheduler's tasks, and waits until it has ended."""
        from wandb_submit.executors.local.submitit_plugin import tell_scheduler

        files = SchedulerFiles.of(paths.jobs, paths.id)
        for _ in range(2):  # the second time it kills
            tell_scheduler(files, signal.SIGTERM)
        process.wait_until(lambda: not is_alive(files), timeout_s=_ABANDON_S)

    def states(self, tasks: Sequence[TaskRef]) -> list[TaskStatus]:
        """Reads the state file of each submission's scheduler."""
        asked: dict[SubmissionPaths, list[str]] = {}
        for task in tasks:
            asked.setdefault(task.paths, []).append(task.job)
        known = {paths: iter(self._states(jobs, paths)) for paths, jobs in asked.items()}
        return [next(known[task.paths]) for task in tasks]

    def _states(self, jobs: Sequence[str], paths: SubmissionPaths) -> list[TaskStatus]:
        """Reads the scheduler's state file; without a living scheduler, what had not ended is lost."""
        files = SchedulerFiles.of(paths.jobs, paths.id)
        alive = is_alive(files)  # asked first: a scheduler that ends in between has written its last state
        try:
            state = SchedulerState.load(files)
            host, rows = state.host, {row.job: row for row in state.tasks}
        except NotFoundError:
            host, rows = "", {}
        statuses = []
        for job in jobs:
            row = rows.get(job)
            if row is None:
                gone = TaskStatus(state=TaskState.FAILED, detail="the scheduler never began with it")
                statuses.append(TaskStatus(state=TaskState.PENDING) if alive else gone)
            elif not alive and not row.state.is_terminal:
                killed = "its scheduler was killed"
                statuses.append(TaskStatus(state=TaskState.FAILED, node=host, detail=killed, orphaned=True))
            else:
                node = host if row.started else ""
                status = TaskStatus(state=row.state, node=node, detail=row.detail, orphaned=row.orphaned)
                statuses.append(status)
        return statuses

    def cancel(self, jobs: Sequence[str], paths: SubmissionPaths, *, whole: bool = True) -> None:
        """Asks the scheduler to stop, or to end some of its tasks; asked twice, it kills."""
        from wandb_submit.executors.local.submitit_plugin import tell_scheduler

        files = SchedulerFiles.of(paths.jobs, paths.id)
        if whole:
            tell_scheduler(files, signal.SIGTERM)
            return
        for job in jobs:
            files.cancelled(job).touch()
        tell_scheduler(files, signal.SIGUSR1)


def _words(active: Activation) -> list[str]:
    """What happens before each task, for people."""
    variables = [f"{name}={shlex.quote(value)}" for name, value in active.env.items()]
    return [*variables, *active.setup, *([f"python is {active.python}"] if active.python else [])]


def _check_demand(option: str, wanted: int | None, there: int, what: str) -> None:
    if wanted is not None and wanted > there:
        raise RefusedError(f"{option} {wanted} is more than this machine has: {there} {what}")


def _time_limit() -> str | None:
    """What leaves us less than all the time of our cores."""
    quota, cores = time_quota(), len(os.sched_getaffinity(0))
    return f"the cgroup allows the time of {quota.cores:g} of {cores} cores" if quota and quota.cores < cores else None


def _limits(spec: SubmissionSpec) -> str:
    """What limits the GPUs to fewer than there may be."""
    limits = [f"{name}={os.environ[name]!r}" for name in VARIABLES if name in os.environ]
    limits += [f"--gpu-ids {','.join(spec.gpus)}"] if spec.gpus else []
    return f" ({', '.join(limits)})" if limits else ""
