"""Calls of sbatch: to submit a script, to have it validated, and to find out how large an array may be now."""

from __future__ import annotations

import os
import re

from wandb_submit.errors import RefusedError, UnavailableError
from wandb_submit.executors.base import TooManyTasksError
from wandb_submit.executors.slurm import cli, site
from wandb_submit.executors.slurm.refusals import LimitError, away, refusal
from wandb_submit.system import process

# A slow slurmctld answers within its MessageTimeout (10 s by default, often raised), and sbatch asks a busy one
# again for up to two minutes.
TIMEOUT_S = 150.0


def call(script: str, *arguments: str, stdin: str | None = None) -> str:
    """Calls sbatch for a script; returns what it printed.

    Raises:
        LimitError: if a limit is in the way.
        RefusedError: if sbatch refuses it for another reason.
        UnavailableError: if Slurm does not answer; it may have taken the job all the same.
    """
    environment = cli.sbatch_environment(os.environ, script)
    try:
        answer = process.run(["sbatch", *arguments], timeout_s=TIMEOUT_S, stdin=stdin, env=environment)
    except UnavailableError as error:
        raise away(str(error)) from error
    if answer.returncode != 0:
        partitions = re.search(r"^#SBATCH --partition=(\S+)$", script, re.MULTILINE)
        raise refusal(
            answer.stderr or answer.stdout,
            lambda topic: site.choices(topic, partitions[1] if partitions else None),
        )
    return answer.stdout


def test_only(script: str, *options: str) -> None:
    """Lets sbatch validate a script."""
    call(script, "--test-only", *options, stdin=script)


def fitting(script: str, refused: int) -> int:
    """How many tasks of an array Slurm would take that refuses so many: by asking it, as only it knows its limits."""
    fits = 0
    while refused - fits > 1:
        middle = (fits + refused) // 2
        try:
            test_only(script, f"--array=0-{middle - 1}")
        except LimitError:
            refused = middle
        else:
            fits = middle
    return fits


def too_many(error: RefusedError, fits: int) -> RefusedError:
    """The error about a limit, with the number of tasks that are within it, if any are."""
    if not fits:
        return error
    return TooManyTasksError(f"{error}. Now {fits} would be taken: --array {fits}, or --clip", fits)
