"""What a task checks about its GPUs, and the numbers that Slurm has for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wandb_submit.agent import gpus
from wandb_submit.spec import ArraySpec, SubmissionSpec


@pytest.fixture(autouse=True)
def _no_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that shows no files of GPUs, whatever this machine has."""
    monkeypatch.setattr(gpus, "_DEVICES", tmp_path)


def spec(**changes: Any) -> SubmissionSpec:
    return SubmissionSpec(**{"executor": "slurm", "array": ArraySpec(count=1), "workdir": Path("/w"), **changes})


@pytest.mark.parametrize(
    ("asked", "environment", "complaint"),
    [
        (1, {"CUDA_VISIBLE_DEVICES": "2", "SLURM_JOB_GPUS": "2"}, None),
        (1, {"CUDA_VISIBLE_DEVICES": "0", "SLURM_JOB_GPUS": "2"}, None),  # confined to its devices
        (2, {"CUDA_VISIBLE_DEVICES": "1,0", "SLURM_STEP_GPUS": "2,3", "SLURM_JOB_GPUS": "0,1,2,3"}, None),
        (1, {"CUDA_VISIBLE_DEVICES": "GPU-8f6d", "SLURM_JOB_GPUS": "2"}, None),
        (1, {"ROCR_VISIBLE_DEVICES": "1", "SLURM_JOB_GPUS": "1"}, None),
        (1, {"ROCR_VISIBLE_DEVICES": "3", "SLURM_JOB_GPUS": "1"}, "ROCR_VISIBLE_DEVICES is '3', but Slurm gave it 1"),
        (1, {"ROCR_VISIBLE_DEVICES": ""}, "sees none (ROCR_VISIBLE_DEVICES is '')"),
        (1, {"CUDA_VISIBLE_DEVICES": "3"}, None),  # Slurm does not tell
        (None, {}, None),
        (0, {"CUDA_VISIBLE_DEVICES": ""}, None),
        (1, {}, "sees none (CUDA_VISIBLE_DEVICES is not set)"),
        (1, {"SLURM_JOB_GPUS": "2"}, "is not set, although it has 2 from Slurm"),
        (1, {"CUDA_VISIBLE_DEVICES": ""}, "sees none (CUDA_VISIBLE_DEVICES is '')"),
        (1, {"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, "sees none"),
        (1, {"CUDA_VISIBLE_DEVICES": "-1,2"}, "sees none"),
        (4, {"CUDA_VISIBLE_DEVICES": "0,1", "SLURM_JOB_GPUS": "0,1"}, "asked for 4 GPUs and sees 2"),
        (1, {"CUDA_VISIBLE_DEVICES": "3", "SLURM_JOB_GPUS": "2"}, "is '3', but Slurm gave it 2"),
        (1, {"CUDA_VISIBLE_DEVICES": "0,1,2,3", "SLURM_JOB_GPUS": "2"}, "not its own"),
        (1, {"CUDA_VISIBLE_DEVICES": "0", "WANDB_SUBMIT_GPUS": "2", "SUBMITIT_EXECUTOR": "workstation"}, "gave it 2"),
        (1, {"CUDA_VISIBLE_DEVICES": "2", "WANDB_SUBMIT_GPUS": "2", "SUBMITIT_EXECUTOR": "workstation"}, None),
    ],
)
def test_a_task_looks_whether_it_has_the_gpus_that_it_asked_for(
    monkeypatch: pytest.MonkeyPatch, asked: int | None, environment: dict[str, str], complaint: str | None
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    said = gpus.why_not(gpus.wanted(spec(gpus_per_task=asked)))
    assert (said is None) if complaint is None else (complaint in str(said))


@pytest.mark.parametrize(
    ("visible", "given", "reachable", "is_well"),
    [
        ("0", "2", 1, True),  # confined to its devices, which it counts from 0
        ("0", "2", 0, True),  # a node that does not show them
        ("0", "2", 4, False),  # a prolog that gives GPU 0 to everybody
        ("2", "2", 4, True),
        ("0", "0", 4, True),
        ("0,1", "2,3", 2, True),
        ("0,1", "2,3", 4, False),
    ],
)
def test_numbers_from_zero_are_right_only_where_a_job_reaches_no_other_gpus(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, visible: str, given: str, reachable: int, is_well: bool
) -> None:
    for name in ("nvidiactl", "nvidia-uvm", *(f"nvidia{number}" for number in range(reachable))):
        (tmp_path / name).touch()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setenv("SLURM_JOB_GPUS", given)
    said = gpus.why_not(len(given.split(",")))
    assert (said is None) is is_well


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({"gres": "gpu:a100:1"}, True),
        ({"gpus": "1"}, True),
        ({"gres": "tmpfs:10G"}, False),
        ({"exclusive": None}, False),
    ],
)
def test_gpus_in_sbatchs_own_words_count(options: dict[str, str | None], asked: bool) -> None:
    assert (gpus.why_not(gpus.wanted(spec(sbatch=options))) is not None) is asked


@pytest.mark.parametrize(
    ("visible", "step", "job", "asked", "numbers"),
    [
        ("0,1", "2,3", "2,3", "0,1", "2,3"),
        ("0,1,2,3", None, "4,5,6,7", "2,3", "6,7"),  # of one agent among several
        ("0", "1", "0,1,2,3", "0", "1"),
        ("0", None, None, "0", None),
        ("0,1", None, "3", "0", None),
        ("", None, "", "", None),
        (None, None, None, None, None),
    ],
)
def test_the_nodes_numbers_of_gpus_are_slurms(
    monkeypatch: pytest.MonkeyPatch,
    visible: str | None,
    step: str | None,
    job: str | None,
    asked: str | None,
    numbers: str | None,
) -> None:
    for name, value in (("CUDA_VISIBLE_DEVICES", visible), ("SLURM_STEP_GPUS", step), ("SLURM_JOB_GPUS", job)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert gpus.node_gpus(asked) == numbers
