"""Tests for what ranks say of their end; a stand-in for srun says what they do where a kernel is short of memory."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from wandb_submit.agent.runs.step import StepTrial
from wandb_submit.spec import ArraySpec, Ranks, SubmissionSpec


@pytest.mark.parametrize(
    ("said", "status", "out_of_memory"),
    [
        ("1: wandb-submit: rank 1 on n2: out of memory: ended with status -9", -9, True),
        ("1: wandb-submit: rank 1 on n2: ended with status -9", -9, False),
        (" 1: wandb-submit: rank 1 on n2: ended with status 3", 3, False),  # as one of ten ranks or more
    ],
)
def test_the_first_rank_that_fails_tells_how_the_run_ended(
    said: str, status: int, out_of_memory: bool, tmp_path: Path
) -> None:
    srun = tmp_path / "srun"
    srun.write_text(f'#!/bin/sh\necho "{said}" >&2\nread stop\nexit 1\n')
    srun.chmod(0o755)
    spec = SubmissionSpec(
        executor="slurm", array=ArraySpec(count=1), workdir=tmp_path, ranks=Ranks(nodes=2, per_node=1), grace_s=5.0
    )

    async def end() -> StepTrial:
        trial = await StepTrial.start_ranks(
            "r1", ["true"], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, log=tmp_path / "log", address="n1", spec=spec
        )
        assert await trial.wait() == status
        return trial

    assert asyncio.run(end()).out_of_memory is out_of_memory
