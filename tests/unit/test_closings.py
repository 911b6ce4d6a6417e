"""What tells those who wait for a lock that it may be free."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wandb_submit.executors.local import closings
from wandb_submit.executors.local.closings import TOLD_BY, Closings
from wandb_submit.system.process import wait_until

HOLD = """
import fcntl, sys, time
file = open(sys.argv[1])
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Closings]:
    """A watch of this test's folder."""
    own = Closings()
    assert own.begin(tmp_path)
    yield own
    own.end()
    while signal.sigtimedwait([TOLD_BY], 0):
        pass


def touch(path: Path) -> None:
    with path.open("a"):
        pass


def test_what_is_closed_or_deleted_is_told_once_and_by_name(told: Closings, tmp_path: Path) -> None:
    assert not told.tell_of({"a", "b"})
    for change in (touch, Path.read_bytes, Path.unlink):
        change(tmp_path / "a")
        assert told.tell_of({"a", "b"})
        assert not told.tell_of({"a", "b"})
    touch(tmp_path / "a")
    assert not told.tell_of({"b"})
    assert not told.tell_of({"a"})


def test_a_holder_that_is_killed_is_heard_of(told: Closings, tmp_path: Path) -> None:
    touch(tmp_path / "a")
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "a"], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        told.tell_of(())
        while signal.sigtimedwait([TOLD_BY], 0):
            pass
        holder.kill()
        assert signal.sigtimedwait([TOLD_BY], 60)
        assert wait_until(lambda: told.tell_of({"a"}), timeout_s=60)


def test_a_copy_that_stays_open_is_waited_for(told: Closings, tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "a", os.O_RDONLY | os.O_CREAT)
    copy = os.dup(descriptor)
    os.close(descriptor)
    assert not told.tell_of({"a"})
    os.close(copy)
    assert told.tell_of({"a"})


def test_it_watches_once_and_a_folder_that_is_made_anew_again(told: Closings, tmp_path: Path) -> None:
    folder = tmp_path / "locks"
    folder.mkdir()
    own = Closings()
    assert own.begin(folder)
    assert not own.begin(folder)
    folder.rmdir()
    assert own.tell_of(())  # whatever was in it
    folder.mkdir()
    assert own.begin(folder)
    touch(folder / "a")
    assert own.tell_of({"a"})
    own.end()
    assert not own.tell_of({"a"})


def test_more_than_the_kernel_keeps_may_be_anything(told: Closings, tmp_path: Path) -> None:
    names = [tmp_path / "a", tmp_path / "b"]
    for _ in range(int(Path("/proc/sys/fs/inotify/max_queued_events").read_text()) // 2 + 1):
        for name in names:
            touch(name)
    assert told.tell_of({"c"})
    assert not told.tell_of({"c"})


def test_the_clock_is_slow_until_something_is_told_and_then_again(
    told: Closings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel tells of a closing before it frees the lock."""
    now = 1000.0
    monkeypatch.setattr(closings.time, "monotonic", lambda: now)
    assert told.patience_s() == 30
    touch(tmp_path / "a")
    assert not told.tell_of({"b"})
    assert told.patience_s() == 30
    touch(tmp_path / "a")
    assert told.tell_of({"a"})
    looks = []
    while told.patience_s() < 30:
        looks.append(told.patience_s())
        now += looks[-1]
    assert looks[0] == 0.02
    assert len(looks) < 15


def test_where_no_more_can_watch_the_clock_is_left(tmp_path: Path) -> None:
    own = Closings()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        assert not own.begin(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    touch(tmp_path / "a")
    assert not own.tell_of({"a"})
    assert own.patience_s() == 30
    assert own.begin(tmp_path)
    own.end()
