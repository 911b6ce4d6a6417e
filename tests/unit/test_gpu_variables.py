"""The variables that tell a process its GPUs."""

from __future__ import annotations

from pathlib import Path

import pytest

from wandb_submit.devices.variables import CUDA, HIP, INTEL, ROCR, entries, variable_of, with_only


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("0,2", ["0", "2"]),
        (" GPU-1 , MIG-2", ["GPU-1", "MIG-2"]),
        ("", []),
        ("-1", []),
        ("0,-1,1", ["0"]),
        ("0,,1", ["0"]),
        ("NoDevFiles", []),
    ],
)
def test_what_stands_behind_an_invalid_entry_is_not_seen(value: str, named: list[str]) -> None:
    assert entries(value) == named


@pytest.mark.parametrize(
    ("environ", "driver", "counts"),
    [
        ({CUDA: "1"}, "nvidia", CUDA),
        ({CUDA: "1"}, "amd", CUDA),  # HIP reads it, too
        ({ROCR: "1"}, "amd", ROCR),
        ({ROCR: "1"}, "none", ROCR),
        ({HIP: "1"}, "amd", HIP),
        ({INTEL: "0.0"}, "none", INTEL),
        ({CUDA: "0", ROCR: "0", INTEL: "0"}, "amd", ROCR),  # Slurm sets all of them
        ({CUDA: "0", ROCR: "0", INTEL: "0"}, "nvidia", CUDA),
        ({CUDA: "0", ROCR: "0"}, "both", CUDA),
        ({CUDA: "", ROCR: "0"}, "none", ROCR),
        ({ROCR: "0", INTEL: "0"}, "nvidia", CUDA),
        ({ROCR: "0"}, "nvidia", ROCR),
        ({ROCR: ""}, "amd", ROCR),
        ({CUDA: "", ROCR: ""}, "nvidia", CUDA),
        ({}, "amd", CUDA),
    ],
)
def test_one_variable_counts(environ: dict[str, str], driver: str, counts: str, tmp_path: Path) -> None:
    if driver in ("amd", "both"):
        (tmp_path / "sys/class/kfd").mkdir(parents=True)
    if driver in ("nvidia", "both"):
        (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    assert variable_of(environ, machine=tmp_path) == counts


def test_no_other_variable_is_left_to_contradict() -> None:
    before = {CUDA: "0", HIP: "1", ROCR: "2", "GPU_DEVICE_ORDINAL": "3", "HOME": "/h"}
    assert with_only(before, ROCR, "4,5") == {ROCR: "4,5", "HOME": "/h"}
    assert with_only(before, CUDA, "") == {CUDA: "", "HOME": "/h"}
