"""The kernel's count of processes killed for want of memory, and what people are told of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from wandb_submit.agent.runs.oom import oom_kills
from wandb_submit.text import exit_words

# As a step of Slurm's sees itself with version 1, with version 2, and with both mounted.
FIRST = "9:cpu:/\n4:memory:/slurm/uid_0/job_7/step_0\n0::/\n"
SECOND = "0::/system.slice/slurmstepd.scope/job_7/step_0/user/task_0\n"


def machine(folder: Path, own: str, **files: str) -> Path:
    """A root folder with a process's control groups and some files under `/sys/fs/cgroup`, by their group's path."""
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/self/cgroup").write_text(own)
    for name, text in files.items():
        path = folder / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return folder


def test_version_1_tells_it_of_the_memory_controllers_group(tmp_path: Path) -> None:
    told = {"memory/slurm/uid_0/job_7/step_0/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"}
    assert oom_kills(machine(tmp_path, FIRST, **told)) == 2


def test_version_2_tells_it_among_other_events(tmp_path: Path) -> None:
    told = {SECOND[4:-1] + "/memory.events": "low 0\nhigh 0\nmax 9\noom 4\noom_kill 3\noom_group_kill 1\n"}
    assert oom_kills(machine(tmp_path, SECOND, **told)) == 3


@pytest.mark.parametrize("own", [FIRST, SECOND, ""])
def test_without_a_counter_there_is_none(tmp_path: Path, own: str) -> None:
    assert oom_kills(machine(tmp_path, own)) == 0


def test_this_machine_can_be_asked() -> None:
    assert oom_kills() >= 0


def test_people_are_told_of_it_with_the_signal_or_the_status() -> None:
    assert exit_words(-9, None, out_of_memory=True) == "killed by signal 9 (SIGKILL): out of memory (see --mem)"
    assert exit_words(1, None, out_of_memory=True) == "failed with exit status 1: out of memory (see --mem)"
    assert exit_words(-9, None) == "killed by signal 9 (SIGKILL)"
    assert exit_words(1, None, out_of_memory=True, seconds=2) == (
        "failed with exit status 1 after 2.0 s: out of memory (see --mem)"
    )
    assert exit_words(1, "the server asked for it", seconds=2) == "stopped after 2.0 s: the server asked for it"
