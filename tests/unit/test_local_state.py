from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from wandb_submit.devices import Gpu
from wandb_submit.errors import NotFoundError
from wandb_submit.executors.local.pool import Demand
from wandb_submit.executors.local.state import ArrayFile, SchedulerFiles, SchedulerState, TaskRow, is_alive
from wandb_submit.executors.states import TaskState

HOLD = "import fcntl, os, sys, time; fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
HOLD += "fcntl.flock(fd, fcntl.LOCK_EX); print('held', flush=True); time.sleep(60)"


@pytest.fixture
def files(tmp_path: Path) -> SchedulerFiles:
    return SchedulerFiles(tmp_path)


@pytest.mark.parametrize("time_s", [None, 90.0])
def test_an_array_is_read_as_it_was_saved(time_s: float | None, files: SchedulerFiles) -> None:
    array = ArrayFile(
        jobs=["abc_0", "abc_1"],
        at_once=2,
        demand=Demand(gpus=1),
        gpus=[Gpu(token="0", uuid="GPU-1", model="A100", names=("0",), cores=(1, 2)), Gpu(token="1")],
        variable="ROCR_VISIBLE_DEVICES",
        include_busy=True,
        cores=[0, 3],
        time_s=time_s,
        signal_delay_s=90,
        grace_s=60,
    )
    array.save(files)
    assert ArrayFile.load(files) == array


@pytest.mark.parametrize("state", TaskState)
def test_a_state_is_read_as_it_was_saved(state: TaskState, files: SchedulerFiles) -> None:
    row = TaskRow(job="abc_1", state=state, detail="é", pid=7, gpus=["0"], cores=[1], started=1.5, restarts=2)
    saved = SchedulerState(host="node", pid=3, tasks=[TaskRow(job="abc_0"), row])
    saved.save(files)
    assert SchedulerState.load(files) == saved


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"pid": 1}', '{"pid": 1, "tasks": [{"state": "lost"}]}'])
def test_a_state_that_cannot_be_read_is_not_there(content: str | None, files: SchedulerFiles) -> None:
    if content is not None:
        files.state.write_text(content)
    with pytest.raises(NotFoundError, match=r"state\.json"):
        SchedulerState.load(files)


def test_a_scheduler_that_never_was_is_not_alive(files: SchedulerFiles) -> None:
    assert not is_alive(files)


def test_a_lock_file_alone_is_no_scheduler(files: SchedulerFiles) -> None:
    files.lock.touch()
    assert not is_alive(files)


def test_a_scheduler_is_alive_until_it_is_killed(files: SchedulerFiles) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(files.lock)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert is_alive(files)
        process.kill()
    assert not is_alive(files)


def test_looking_leaves_no_descriptor_open(files: SchedulerFiles) -> None:
    files.lock.touch()
    before = len(list(Path("/proc/self/fd").iterdir()))
    is_alive(files)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
