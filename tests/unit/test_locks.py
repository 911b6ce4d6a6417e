from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wandb_submit.devices import Gpu
from wandb_submit.errors import RefusedError
from wandb_submit.executors.local.locks import DeviceLocks, Lock, gpu_locks, is_held, lock_folder
from wandb_submit.system.process import wait_until

HOLD = """
import sys, time
from wandb_submit.executors.local.locks import DeviceLocks, Lock
locks = DeviceLocks()
print("held" if locks.add([Lock(sys.argv[1])]) else "refused", flush=True)
time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def holder() -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock `gpu-0`."""
    with subprocess.Popen([sys.executable, "-c", HOLD, "gpu-0", "60"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def hold(name: str) -> DeviceLocks | None:
    """Takes a lock; `None` if somebody holds it."""
    locks = DeviceLocks()
    if locks.add([Lock(name)]):
        return locks
    locks.stop_waiting()
    return None


def can_be_held(name: str) -> bool:
    if held := hold(name):
        held.free()
    return held is not None


def test_a_lock_is_held_once() -> None:
    locks = hold("gpu-0")
    assert locks is not None
    assert hold("gpu-0") is None
    locks.free()


def test_a_lock_is_free_once_it_is_closed() -> None:
    assert can_be_held("gpu-0")
    assert can_be_held("gpu-0")


def test_locks_of_two_devices_are_two_locks() -> None:
    locks = hold("gpu-0")
    assert can_be_held("gpu-1")
    assert locks is not None
    locks.free()


def test_several_locks_are_had_together_or_not_at_all() -> None:
    held, locks = hold("gpu-1"), DeviceLocks()
    assert held is not None
    assert not locks.add([Lock("gpu-0"), Lock("gpu-1")])
    assert can_be_held("gpu-0")
    held.free()
    assert locks.add([Lock("gpu-0"), Lock("gpu-1")])
    assert not can_be_held("gpu-0")
    locks.free()


WHOLE = Gpu(token="0", uuid="GPU-1")
INSTANCES = [Gpu(token=f"MIG-{number}", uuid=f"MIG-{number}", parent="GPU-1") for number in (1, 2)]


@pytest.mark.parametrize(
    ("one", "other", "excluded"),
    [
        (WHOLE, WHOLE, True),
        (WHOLE, INSTANCES[0], True),
        (INSTANCES[0], INSTANCES[0], True),
        (INSTANCES[0], INSTANCES[1], False),
        (WHOLE, Gpu(token="1"), False),
    ],
)
def test_locks_exclude_each_other_as_the_kernel_has_it(one: Gpu, other: Gpu, excluded: bool) -> None:
    held = DeviceLocks()
    for first, second in ((one, other), (other, one)):
        assert any(a.excludes(b) for a in gpu_locks(first) for b in gpu_locks(second)) == excluded
        assert held.add(gpu_locks(first))
        assert is_held(second) == excluded
        held.free()


def test_a_lock_keeps_other_processes_out() -> None:
    locks = hold("gpu-0")
    answer = subprocess.run([sys.executable, "-c", HOLD, "gpu-0", "0"], capture_output=True, text=True, check=True)
    assert answer.stdout == "refused\n"
    assert locks is not None
    locks.free()


def test_a_process_that_is_killed_frees_its_locks(holder: subprocess.Popen[str]) -> None:
    assert not can_be_held("gpu-0")
    holder.kill()
    holder.wait()
    assert can_be_held("gpu-0")


def test_a_task_that_inherits_a_lock_holds_it_after_its_scheduler_has_closed_it() -> None:
    locks = hold("gpu-0")
    assert locks is not None
    task = subprocess.Popen(["sleep", "60"], pass_fds=locks.descriptors)
    locks.free()
    assert not can_be_held("gpu-0")
    task.kill()
    task.wait()
    assert wait_until(lambda: can_be_held("gpu-0"), timeout_s=60)


def test_a_lock_whose_file_has_been_deleted_meanwhile_is_that_of_the_new_file() -> None:
    old, waits = hold("gpu-0"), DeviceLocks()
    assert old is not None
    assert not waits.add([Lock("gpu-0")])
    (lock_folder() / "gpu-0.lock").unlink()
    new = hold("gpu-0")
    assert new is not None
    old.free()
    assert not waits.add([Lock("gpu-0")])
    new.free()
    assert waits.add([Lock("gpu-0")])
    waits.free()


def test_the_folder_is_for_all_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SUBMIT_LOCK_DIR", str(tmp_path / "new" / "locks"))
    assert lock_folder().stat().st_mode & 0o7777 == 0o1777
    assert can_be_held("gpu-0")
    assert (lock_folder() / "gpu-0.lock").stat().st_mode & 0o777 == 0o644


def test_a_name_cannot_lead_out_of_the_folder() -> None:
    assert can_be_held("../../gpu/0")
    assert [path.parent for path in lock_folder().iterdir()] == [lock_folder()]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WANDB_SUBMIT_LOCK_DIR", str(tmp_path / "file" / "locks"))
    with pytest.raises(RefusedError, match="file/locks"):
        lock_folder()


def test_a_lock_that_cannot_be_opened_is_named() -> None:
    (lock_folder() / "gpu-0.lock").symlink_to(lock_folder() / "gpu-0.lock")
    with pytest.raises(RefusedError, match=r"gpu-0\.lock"):
        hold("gpu-0")
