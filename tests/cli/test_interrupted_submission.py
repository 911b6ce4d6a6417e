"""Slurm gives up in the middle of a submission: nothing may run that has no record, and the new sweep is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import Shell

# What comes of the second array of a submission; Slurm may have taken the job although its answer got lost.
TIMED_OUT = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
REFUSED = "sbatch: error: Batch job submission failed: Job dependency problem"
SBATCH = """\
[ "$1" = --test-only ] && exit
[ -e taken ] || {{ echo "100 $2 " >taken; echo 100; exit; }}
echo '{words}' >&2
exit 1
"""


def programs(shell: Shell, **bodies: str) -> str:
    folder = shell.folder / "bin"
    folder.mkdir()
    for name, body in bodies.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    return f"{folder}:{shell.env['PATH']}"


def site(shell: Shell, words: str, scancel: str) -> str:
    return programs(
        shell,
        sbatch=SBATCH.format(words=words),
        srun="exit 99",
        sinfo="echo 127.0.0.1",
        squeue="cat taken; echo '7 /elsewhere/jobs/other.sh /elsewhere/jobs/%A.out'",
        scontrol="echo 'MaxArraySize            = 2'",
        scancel=scancel,
    )


def submissions(shell: Shell) -> list[Path]:
    return [path for path in (shell.folder / ".wandb-submit").iterdir() if path.is_dir() and path.name != "server"]


@pytest.mark.parametrize(("words", "status"), [(TIMED_OUT, 5), (REFUSED, 6)])
def test_what_was_taken_before_is_cancelled_and_the_sweep_is_named(shell: Shell, words: str, status: int) -> None:
    sweep = shell.sweep("pass", parameters={"x": {"values": [1, 2, 3, 4]}})
    path = site(shell, words, 'echo "$@" >>cancelled')
    done = shell.run(sweep, "--offline", "--executor", "slurm", "--array", "4", PATH=path)
    assert done.returncode == status, done.stderr
    assert words.rpartition(": ")[2] in done.stderr
    assert "created sweep local/tests/" in done.stderr
    (cancelled,) = (shell.folder / "cancelled").read_text().splitlines()
    assert cancelled == "100"
    assert submissions(shell) == []


def test_what_cannot_be_cancelled_either_is_said_with_the_command_that_does(shell: Shell) -> None:
    sweep = shell.sweep("pass", parameters={"x": {"values": [1, 2, 3, 4]}})
    path = site(shell, TIMED_OUT, "echo 'scancel: error: Socket timed out on send/recv operation' >&2; exit 1")
    done = shell.run(sweep, "--offline", "--executor", "slurm", "--array", "4", PATH=path)
    assert done.returncode == 5
    assert "may wait in the queue and cannot be cancelled" in done.stderr
    assert "run `squeue " in done.stderr
    assert "`scancel` what lies in " in done.stderr
