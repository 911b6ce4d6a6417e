from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wandb_submit.errors import RefusedError
from wandb_submit.executors.local.locks import lock_folder, try_lock
from wandb_submit.process import wait_until

HOLD = """
import sys, time
from wandb_submit.executors.local.locks import try_lock
held = try_lock(sys.argv[1])
print("held" if held is not None else "refused", flush=True)
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


def test_a_lock_is_held_once() -> None:
    descriptor = try_lock("gpu-0")
    assert descriptor is not None
    assert try_lock("gpu-0") is None
    os.close(descriptor)


def test_a_lock_is_free_once_it_is_closed() -> None:
    for _ in range(2):
        descriptor = try_lock("gpu-0")
        assert descriptor is not None
        os.close(descriptor)


def test_locks_of_two_devices_are_two_locks() -> None:
    descriptors = [try_lock("gpu-0"), try_lock("gpu-1")]
    assert None not in descriptors
    for descriptor in descriptors:
        os.close(descriptor or -1)


def test_a_lock_keeps_other_processes_out() -> None:
    descriptor = try_lock("gpu-0")
    answer = subprocess.run([sys.executable, "-c", HOLD, "gpu-0", "0"], capture_output=True, text=True, check=True)
    assert answer.stdout == "refused\n"
    os.close(descriptor or -1)


def test_a_process_that_is_killed_frees_its_locks(holder: subprocess.Popen[str]) -> None:
    assert try_lock("gpu-0") is None
    holder.kill()
    holder.wait()
    descriptor = try_lock("gpu-0")
    assert descriptor is not None
    os.close(descriptor)


def test_a_task_that_inherits_a_lock_holds_it_after_its_scheduler_has_closed_it() -> None:
    descriptor = try_lock("gpu-0")
    assert descriptor is not None
    task = subprocess.Popen(["sleep", "60"], pass_fds=[descriptor])
    os.close(descriptor)
    assert try_lock("gpu-0") is None
    task.kill()
    task.wait()
    freed = []
    assert wait_until(lambda: bool(freed.append(try_lock("gpu-0")) or freed[-1]), timeout_s=60)
    os.close(freed[-1])


def test_the_folder_is_for_all_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SUBMIT_LOCK_DIR", str(tmp_path / "new" / "locks"))
    assert lock_folder().stat().st_mode & 0o7777 == 0o1777
    os.close(try_lock("gpu-0") or -1)
    assert (lock_folder() / "gpu-0.lock").stat().st_mode & 0o777 == 0o644


def test_a_name_cannot_lead_out_of_the_folder() -> None:
    os.close(try_lock("../../gpu/0") or -1)
    assert [path.parent for path in lock_folder().iterdir()] == [lock_folder()]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WANDB_SUBMIT_LOCK_DIR", str(tmp_path / "file" / "locks"))
    with pytest.raises(RefusedError, match="file/locks"):
        lock_folder()


def test_a_lock_that_cannot_be_opened_is_named() -> None:
    (lock_folder() / "gpu-0.lock").symlink_to(lock_folder() / "gpu-0.lock")
    with pytest.raises(RefusedError, match=r"gpu-0\.lock"):
        try_lock("gpu-0")
