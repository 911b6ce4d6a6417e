"""Folders that runs' configurations cannot be written to: what is told, and how little it costs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import WITH_PERMISSIONS, Shell, small_disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "1m") as folder:
        yield folder


@pytest.mark.parametrize(
    ("trouble", "why", "remedy"),
    [
        ("mount -o remount,ro .", "Read-only file system", "set WANDB_DIR to a folder that can be written to"),
        ("chmod a-w .", "Permission denied", "set WANDB_DIR to a folder that can be written to"),
        ("yes >full", "No space left on device", "make room there, or set WANDB_DIR to another folder"),
    ],
)
@pytest.mark.parametrize("named", [True, False], ids=["WANDB_DIR", "folder"])
def test_a_folder_that_runs_cannot_write_to_is_told_and_uses_up_one_run(
    named: bool, trouble: str, why: str, remedy: str, shell: Shell, disk: Path
) -> None:
    person = Shell(
        folder=shell.folder if named else disk,
        env={**shell.env, "WANDB_SUBMIT_DIR": str(shell.folder / ".wandb-submit")},
        prefix=WITH_PERMISSIONS,
    )
    sweep = person.sweep("pass", parameters={"x": {"values": [1, 2, 3]}})
    subprocess.run(["sh", "-c", trouble], cwd=disk, stderr=subprocess.DEVNULL, check=False)
    done = person.run(
        *(sweep, "--offline", "--executor", "local", "--array", "1", "--wait", "--json"),
        **({"WANDB_DIR": str(disk)} if named else {}),
    )
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["runs_failed"]) == (1, 1), done.stderr
    folder = disk / "wandb" / f"sweep-{answer['sweep'].rpartition('/')[2]}"
    place = f"WANDB_DIR, {disk}" if named else f"{disk}, from where it was submitted without a WANDB_DIR"
    told = f"cannot write to {folder}: {why}; wandb's files and the run's configuration go below {place}: {remedy}"
    assert told in answer["tasks"][0]["detail"]
    assert f"not started: {told} (its agent's log" in done.stderr
