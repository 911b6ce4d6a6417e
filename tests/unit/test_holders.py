from __future__ import annotations

import os
import pwd
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from wandb_submit.devices import Gpu
from wandb_submit.executors.local.holders import holders_of
from wandb_submit.executors.local.pool import Demand, Pool
from wandb_submit.executors.local.state import KEEPER, SchedulerFiles

HOLD = """
import sys, time
from wandb_submit.executors.local.locks import DeviceLocks, Lock
locks = DeviceLocks()
assert locks.add([Lock(sys.argv[1], shared=sys.argv[2] == "shared")])
print("held", flush=True)
time.sleep(60)
"""
ME = pwd.getpwuid(os.getuid()).pw_name

Hold = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def hold() -> Iterator[Hold]:
    """Starts a process that holds a lock, and is called like the scheduler of a folder if one is given."""
    with ExitStack() as ends:

        def start(name: str, folder: Path | None = None, how: str = "whole") -> subprocess.Popen[str]:
            argv = [sys.executable, "-c", HOLD, name, how, *([KEEPER, str(folder)] if folder else [])]
            process = ends.enter_context(subprocess.Popen(argv, stdout=subprocess.PIPE, text=True))
            ends.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            return process

        yield start


def files(home: Path, submission: str) -> SchedulerFiles:
    return SchedulerFiles.of(home / submission / "jobs", submission)


def test_holders_are_named_with_user_and_folder_where_they_are_elsewhere(tmp_path: Path, hold: Hold) -> None:
    asker = files(tmp_path, "me")
    hold("gpu-0", files(tmp_path, "one").folder, "shared")
    hold("gpu-0", files(tmp_path / "else", "two").folder, "shared")
    words = holders_of(["gpu-0.lock", "gpu-1.lock"], asker=asker)
    assert set(words.split(" and ")) == {"submission one", f"submission two of {ME} ({tmp_path}/else/two/jobs)"}
    assert holders_of(["gpu-1.lock"], asker=asker) == ""


def test_nobody_is_named_who_has_died_or_is_no_submission(tmp_path: Path, hold: Hold) -> None:
    asker = files(tmp_path, "me")
    hold("gpu-0")
    hold("gpu-1", files(tmp_path / "a\x1b[2Jb", "one").folder)
    dies = hold("gpu-2", files(tmp_path, "two").folder)
    names = [f"gpu-{number}.lock" for number in range(3)]
    assert holders_of(names, asker=asker) == "submission two"
    dies.kill()
    dies.wait()
    assert holders_of(names, asker=asker) == ""


def test_who_holds_what_a_task_does_not_lack_is_not_named(tmp_path: Path, hold: Hold) -> None:
    pool = Pool(
        gpus=[Gpu(token="0")], cores=range(4), places=1, holders=partial(holders_of, asker=files(tmp_path, "me"))
    )
    first = pool.take(0, Demand(gpus=1, cores=1))
    hold("core-1", files(tmp_path, "other").folder)
    assert pool.take(1, Demand(gpus=1, cores=2)) is None
    assert pool.shortage is not None
    assert pool.shortage.reason == "waits for 1 GPU (0 of 1 free)"
    assert pool.take(1, Demand(gpus=1, cores=3)) is None
    lacks = "waits for 1 GPU (0 of 1 free) and 3 cores (2 of 4 free; held by submission other)"
    assert pool.shortage.reason == lacks
    assert first is not None
    first.close()
