"""Several local queues on one machine, with tasks that end, fail, are queued again, and schedulers that die."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from wandb_submit.devices import Gpu
from wandb_submit.executors.local.line import Place
from wandb_submit.executors.local.locks import DeviceLocks, Lock, gpu_locks, is_held, lock_folder
from wandb_submit.executors.local.pool import Demand
from wandb_submit.executors.local.scheduler import Scheduler
from wandb_submit.executors.local.state import REQUEUE_EXIT_CODE, ArrayFile, SchedulerFiles, SchedulerState
from wandb_submit.executors.local.task import TaskProcess
from wandb_submit.executors.states import TaskState

GPUS, CORES = 4, 3
_pids = itertools.count(1)


class Task(TaskProcess):
    """Stands for a forked task: it holds the locks that it inherits until it ends."""

    def __init__(self, job: str, locks: Collection[int], devices: set[str]) -> None:
        super().__init__(pid=next(_pids), job=job)
        self.devices = devices
        self.told: list[signal.Signals] = []
        self.alive = True
        self.ended_with: int | None = None
        self._locks = [os.dup(lock) for lock in locks]

    def poll(self) -> int | None:
        return self.ended_with

    def send_signal(self, number: signal.Signals) -> None:
        self.told.append(number)

    def kill(self) -> None:
        self.told.append(signal.SIGKILL)

    def end(self, code: int) -> None:
        for lock in self._locks:
            os.close(lock)
        self.alive, self.ended_with = False, code


class Submission:
    """One scheduler with its array, and all tasks that it has started."""

    def __init__(
        self,
        folder: Path,
        *,
        tasks: int,
        at_once: int,
        demand: Demand,
        gpus: Collection[int],
        time_s: float | None = None,
    ) -> None:
        self.files = SchedulerFiles(folder / "queue-x")
        self.files.folder.mkdir()
        self.array = ArrayFile(
            jobs=[f"x_{task}" for task in range(tasks)],
            at_once=at_once,
            demand=demand,
            gpus=[Gpu(token=str(gpu)) for gpu in gpus],
            cores=range(CORES),
            time_s=time_s,
            signal_delay_s=0,
            grace_s=0,
        )
        self.started: list[Task] = []
        self.before_start = lambda: None
        self.refuses = False
        self.alive = True
        self.scheduler = Scheduler(self.array, self.files, self._fork)

    def _fork(
        self, work: object, *, job: str, env: dict[str, str], cores: Collection[int], keep: Collection[int], **_: object
    ) -> Task:
        if self.refuses:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        self.before_start()
        devices = {f"gpu-{token}" for token in env.get("WANDB_SUBMIT_GPUS", "").split(",") if token}
        if self.array.demand.cores:
            devices |= {f"core-{core}" for core in cores}
        assert len(keep) == len(devices) == (self.array.demand.gpus or 0) + (self.array.demand.cores or 0)
        self.started.append(Task(job, keep, devices))
        return self.started[-1]

    @property
    def names(self) -> set[str]:
        """The devices that its tasks may have."""
        gpus = {gpu.lock_name for gpu in self.array.gpus} if self.array.demand.gpus else set()
        return gpus | ({f"core-{core}" for core in self.array.cores} if self.array.demand.cores else set())

    @property
    def running(self) -> list[Task]:
        return [task for task in self.started if task.alive]

    @property
    def waiting(self) -> list[str]:
        rows = SchedulerState.load(self.files).tasks
        return [row.job for row in rows if row.state is TaskState.PENDING]

    @property
    def waits_for_devices(self) -> bool:
        return self.alive and bool(self.waiting) and len(self.running) < self.array.at_once

    def die(self) -> None:
        """As if killed: its tasks die with it, and the kernel closes what it has open."""
        for task in self.running:
            task.end(-9)
        for number in range(len(self.array.jobs)):
            self.scheduler.pool.give_back(number)
        self.scheduler.pool.leave_line()
        self.alive = False


class Machine(RuleBasedStateMachine):
    """Whatever happens to the submissions on one machine."""

    submissions = Bundle("submissions")

    def __init__(self) -> None:
        super().__init__()
        self._folders: list[tempfile.TemporaryDirectory[str]] = []
        os.environ["WANDB_SUBMIT_LOCK_DIR"] = self._folder()
        self._all: list[Submission] = []

    def _folder(self) -> str:
        self._folders.append(tempfile.TemporaryDirectory(dir="/dev/shm"))
        return self._folders[-1].name

    @rule(
        target=submissions,
        tasks=st.integers(1, 6),
        at_once=st.integers(1, 6),
        gpus_per_task=st.sampled_from([None, 0, 1, 2, 3]),
        cores_per_task=st.sampled_from([None, 1, 2]),
        gpus=st.sets(st.integers(0, GPUS - 1), min_size=3),
    )
    def submit(
        self, tasks: int, at_once: int, gpus_per_task: int | None, cores_per_task: int | None, gpus: set[int]
    ) -> Submission:
        demand = Demand(gpus=gpus_per_task, cores=cores_per_task)
        one = Submission(Path(self._folder()), tasks=tasks, at_once=at_once, demand=demand, gpus=sorted(gpus))
        self._all.append(one)
        one.before_start = lambda: self._check_turn(one)
        one.scheduler.step()
        return one

    @rule(one=submissions, which=st.integers(0, 5), code=st.sampled_from([0, 1, -9, REQUEUE_EXIT_CODE]))
    def a_task_ends(self, one: Submission, which: int, code: int) -> None:
        if one.alive and one.running:
            one.running[which % len(one.running)].end(code)
            one.scheduler.step()

    @rule(one=submissions)
    def it_looks(self, one: Submission) -> None:
        if one.alive:
            one.scheduler.step()

    @rule(one=submissions, refuses=st.booleans())
    def there_can_be_no_further_process(self, one: Submission, refuses: bool) -> None:
        one.refuses = refuses

    @rule(one=consumes(submissions))
    def a_scheduler_dies(self, one: Submission) -> None:
        if one.alive:
            one.die()

    @precondition(lambda self: self._all)
    @rule()
    def everybody_looks(self) -> None:
        """Then everything runs that can: who does not lacks devices, or lets somebody earlier go first."""
        for _ in range(2):  # a task's devices are freed when its scheduler has looked
            for one in self._all:
                if one.alive:
                    one.scheduler.step()
        held = {device for task in self._running() for device in task.devices}
        for place, one in enumerate(self._all):
            if not one.waits_for_devices:
                continue
            demand = one.array.demand
            free = one.names - held
            lacks_gpus = sum(name.startswith("gpu") for name in free) < (demand.gpus or 0)
            lacks_cores = sum(name.startswith("core") for name in free) < (demand.cores or 0)
            behind = any(other.waits_for_devices and other.names & one.names for other in self._all[:place])
            assert lacks_gpus or lacks_cores or behind
            assert any(row.detail.startswith("waits for ") for row in SchedulerState.load(one.files).tasks)

    def _check_turn(self, starting: Submission) -> None:
        """A task starts only where nobody who came earlier waits for devices of the same pool."""
        for other in self._all[: self._all.index(starting)]:
            assert not (other.waits_for_devices and other.names & starting.names), "it was not its turn"

    def _running(self) -> list[Task]:
        return [task for one in self._all for task in one.running]

    @invariant()
    def no_device_is_held_twice(self) -> None:
        devices = [device for task in self._running() for device in task.devices]
        assert len(devices) == len(set(devices))

    @invariant()
    def no_more_run_than_may(self) -> None:
        assert all(len(one.running) <= one.array.at_once for one in self._all)

    @invariant()
    def tasks_begin_in_order(self) -> None:
        for one in self._all:
            first = list(dict.fromkeys(task.job for task in one.started))
            assert first == sorted(first)

    def teardown(self) -> None:
        """All queues come to their ends, and nothing is held by anybody."""
        for one in self._all:
            one.refuses = False
        for _ in range(1000):
            going = [one for one in self._all if one.alive and one.scheduler.step()]
            for task in self._running():
                task.end(0)
            if not going:
                break
        for one in self._all:
            if one.alive:
                assert all(row.state.is_terminal for row in SchedulerState.load(one.files).tasks)
        locks = DeviceLocks()
        for name in (*(f"gpu-{gpu}" for gpu in range(GPUS)), *(f"core-{core}" for core in range(CORES))):
            assert locks.add([Lock(name)]), f"{name} is still held"
        locks.free()
        assert not list(lock_folder().glob("waits-*"))
        for folder in self._folders:
            folder.cleanup()


TestMachine = Machine.TestCase
# Without shrinking: that runs whole lives of queues thousands of times, and the steps of one that fails are few.
TestMachine.settings = settings(
    max_examples=100, stateful_step_count=25, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate]
)


def submission(
    tmp_path: Path, name: str, *, tasks: int = 1, gpus_per_task: int, time_s: float | None = None
) -> Submission:
    folder = tmp_path / name
    folder.mkdir()
    one = Submission(
        folder, tasks=tasks, at_once=tasks, demand=Demand(gpus=gpus_per_task), gpus=range(GPUS), time_s=time_s
    )
    one.scheduler.step()
    return one


def detail(one: Submission, task: int = 0) -> str:
    return SchedulerState.load(one.files).tasks[task].detail


def test_a_task_that_needs_many_devices_is_not_overtaken_by_later_ones(tmp_path: Path) -> None:
    small = submission(tmp_path, "small", tasks=2, gpus_per_task=1)
    large = submission(tmp_path, "large", gpus_per_task=4)
    later = submission(tmp_path, "later", tasks=2, gpus_per_task=1)
    assert (len(small.running), large.running, later.running) == (2, [], [])
    assert detail(large) == "waits for 4 GPUs (2 of 4 free)"
    assert detail(later) == "waits for 1 GPU, behind a submission that came earlier"
    for task in small.running:
        task.end(0)
        for one in (later, small, large):
            one.scheduler.step()
    assert (len(large.running), later.running) == (1, [])
    large.running[0].end(0)
    large.scheduler.step()
    later.scheduler.step()
    assert len(later.running) == 2


def test_who_waits_and_is_killed_holds_nobody_up(tmp_path: Path) -> None:
    small = submission(tmp_path, "small", tasks=2, gpus_per_task=1)
    large = submission(tmp_path, "large", gpus_per_task=4)
    later = submission(tmp_path, "later", gpus_per_task=1)
    large.die()
    later.scheduler.step()
    assert (len(small.running), len(later.running)) == (2, 1)


def test_a_place_in_line_dies_with_its_holder(tmp_path: Path) -> None:
    hold = "import time; from wandb_submit.executors.local.locks import Lock; "
    hold += "from wandb_submit.executors.local.line import Place; Place().wait([Lock('gpu-0')]); "
    hold += "print('waits', flush=True); time.sleep(600)"
    own = Place()
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"waits\n"
        later = Place()
        assert later.is_behind([Lock("gpu-1"), Lock("gpu-0")])
        assert not later.is_behind([Lock("gpu-1")])
        assert not later.is_behind([])
        assert not own.is_behind([Lock("gpu-0")])  # it came first
        holder.kill()
    assert not later.is_behind([Lock("gpu-0")])
    assert list(lock_folder().iterdir()) == []


WHOLE = Gpu(token="0", uuid="GPU-1")
FIRST, SECOND = (Gpu(token=f"MIG-{number}", uuid=f"MIG-{number}", parent="GPU-1") for number in (1, 2))


@pytest.mark.parametrize(
    ("earlier", "later", "behind"),
    [
        (WHOLE, FIRST, True),
        (FIRST, WHOLE, True),
        (FIRST, FIRST, True),
        (FIRST, SECOND, False),
        (WHOLE, Gpu(token="1"), False),
    ],
)
def test_a_gpu_and_its_instances_are_waited_for_in_one_line(earlier: Gpu, later: Gpu, behind: bool) -> None:
    first, second = Place(), Place()
    first.wait(gpu_locks(earlier))
    (file,) = lock_folder().glob("waits-*")
    assert second.is_behind(gpu_locks(later)) == (file.name if behind else None)
    first.leave()
    assert second.is_behind(gpu_locks(later)) is None


def test_a_place_that_is_taken_again_is_seen_again() -> None:
    earlier, later = Place(), Place()
    for _ in range(2):
        earlier.wait([Lock("gpu-0")])
        assert later.is_behind([Lock("gpu-0")])
        earlier.leave()
    assert not later.is_behind([Lock("gpu-0")])


def heard(*waiting: Submission) -> list[bool]:
    """Which of these would wake, as they do once; whoever wakes looks."""
    woken = [one.scheduler.pool.may_have_changed() for one in waiting]
    for one, is_woken in zip(waiting, woken, strict=True):
        if is_woken:
            one.scheduler.step()
    return woken


def test_who_waits_is_woken_by_what_is_freed_and_by_no_look(tmp_path: Path) -> None:
    """Looks open and close files, too: those who wait must not wake each other, or themselves."""
    small = submission(tmp_path, "small", gpus_per_task=1)
    large = submission(tmp_path, "large", gpus_per_task=4)  # for a moment it has what is free, each time that it looks
    later = submission(tmp_path, "later", gpus_per_task=1)
    last = submission(tmp_path, "last", gpus_per_task=1)
    waiting = (large, later, last)
    assert heard(*waiting) == [False, False, False]
    for one in (*waiting, *waiting):
        one.scheduler.step()
    assert heard(*waiting) == [False, False, False]
    small.running[0].end(0)
    small.scheduler.step()
    assert heard(*waiting) == [True, False, False]  # it is its turn, and it leaves the line
    assert heard(later, last) == [True, True]
    assert (len(large.running), later.running, last.running) == (1, [], [])
    assert [detail(one) for one in (later, last)] == [
        "waits for 1 GPU (0 of 4 free)",
        "waits for 1 GPU, behind a submission that came earlier",
    ]
    assert heard(later, last) == [False, False]
    large.running[0].end(0)
    large.scheduler.step()
    assert heard(later, last) == [True, False]
    assert heard(last) == [True]
    assert [len(one.running) for one in (later, last)] == [1, 1]
    for one in (later, last):
        one.die()


def test_devices_are_held_until_what_their_task_has_left_behind_is_killed(tmp_path: Path) -> None:
    one = submission(tmp_path, "one", gpus_per_task=4)
    other = submission(tmp_path, "other", gpus_per_task=4)
    task = one.running[0]
    task.end(0)
    other.scheduler.step()
    assert other.running == []
    held = []
    task.poll = lambda: held.append(is_held(one.array.gpus[0])) or task.ended_with  # type: ignore[method-assign]  # kills
    one.scheduler.step()
    other.scheduler.step()
    assert (held, len(other.running)) == ([True], 1)
    other.die()


def test_who_waits_for_tasks_of_its_own_needs_no_clock(tmp_path: Path) -> None:
    one = submission(tmp_path, "own", tasks=5, gpus_per_task=1)
    assert len(one.running) == GPUS
    assert one.scheduler.patience() == 3600
    one.die()


def test_a_place_that_cannot_be_written_holds_nobody_up(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place()
    monkeypatch.setattr(place, "_name", "waits-" + "x" * 300)
    place.wait([Lock("gpu-0")])
    assert "File name too long" in caplog.text
    assert not Place().is_behind([Lock("gpu-0")])
    place.leave()


def test_a_task_that_does_not_die_at_once_keeps_nobody_awake(tmp_path: Path) -> None:
    """A process that the kernel holds, in a driver say, ends long after SIGKILL; SIGCHLD tells when."""
    stuck = submission(tmp_path, "stuck", gpus_per_task=1, time_s=0.0)
    stuck.scheduler.step()
    stuck.scheduler.step()
    assert list(dict.fromkeys(stuck.started[0].told)) == [signal.SIGTERM, signal.SIGKILL]
    assert stuck.scheduler.patience() > 1


def test_a_scheduler_whose_folder_is_deleted_does_not_wait_for_it(tmp_path: Path) -> None:
    one = submission(tmp_path, "deleted", gpus_per_task=1)
    shutil.rmtree(one.files.folder)
    one.started[0].end(0)
    assert not one.scheduler.step()
