"""The environment variables that tell a process which GPUs it sees.

NVIDIA has one, AMD three that stack up: `ROCR_VISIBLE_DEVICES` picks some of the machine's GPUs and numbers them
anew, and `HIP_VISIBLE_DEVICES`, or `CUDA_VISIBLE_DEVICES` where that is not set, picks some of these
(https://rocm.docs.amd.com/en/latest/conceptual/gpu-isolation.html). With the first set for a task, one of the others
that is left over would name the wrong GPUs or none.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

CUDA = "CUDA_VISIBLE_DEVICES"
# AMD's advice on Linux. Unlike HIP's, it hides all GPUs where it is empty.
ROCR = "ROCR_VISIBLE_DEVICES"
HIP = "HIP_VISIBLE_DEVICES"
INTEL = "ZE_AFFINITY_MASK"

VARIABLES = (CUDA, ROCR, HIP, INTEL)
_RIVALS = (CUDA, ROCR, HIP, "GPU_DEVICE_ORDINAL")  # whoever reads one of them also reads others
_NONE = ("NoDevFiles",)  # what Slurm calls GPUs that it has no files of


def entries(value: str) -> list[str]:
    """The devices that a variable's value names; what stands behind an invalid one is ignored, as CUDA and ROCm do.

    Source: https://docs.nvidia.com/cuda/cuda-c-programming-guide/index.html#cuda-environment-variables
    """
    found: list[str] = []
    for entry in map(str.strip, value.split(",")):
        if not entry or entry.startswith("-") or entry in _NONE:
            break
        found.append(entry)
    return found


def variable_of(environ: Mapping[str, str], machine: Path = Path("/")) -> str:
    """The variable that tells a process of this environment its GPUs.

    Where its configuration does not tell the vendor, Slurm sets NVIDIA's, AMD's and Intel's alike
    (https://slurm.schedmd.com/gres.conf.html#OPT_Flags): then the driver tells which counts.

    Args:
        environ: the environment.
        machine: the root folder of the machine whose driver is looked at.
    """
    named = [name for name in VARIABLES if entries(environ.get(name, ""))]
    if len(named) > 1 and (machine / "proc/driver/nvidia").exists():
        return CUDA
    if ROCR in named and (machine / "sys/class/kfd").exists():
        return ROCR
    return next((name for name in (*named, *VARIABLES) if name in environ), CUDA)


def with_only(environ: Mapping[str, str], variable: str, value: str) -> dict[str, str]:
    """An environment in which that variable alone tells the GPUs."""
    return {name: text for name, text in environ.items() if name not in _RIVALS} | {variable: value}
