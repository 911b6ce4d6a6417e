"""The GPUs that a process may use: what the driver knows, within what the environment and the person allow."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wandb_submit.devices import amd, nvidia
from wandb_submit.devices.cores import SYS
from wandb_submit.devices.gpu import Gpu, called
from wandb_submit.devices.slurm_node import jobs_gpus
from wandb_submit.devices.variables import CUDA, HIP, ROCR, VARIABLES, entries
from wandb_submit.errors import RefusedError


@dataclass(frozen=True, kw_only=True, slots=True)
class VisibleGpus:
    """The GPUs that a process may use, all of one vendor.

    Attributes:
        gpus: the devices, in the order in which they are to be handed out.
        variable: the environment variable that shows a task some of them, or hides all.
    """

    gpus: tuple[Gpu, ...]
    variable: str


def visible_gpus(environ: Mapping[str, str] | None = None, *, only: Sequence[str] = (), sys: Path = SYS) -> VisibleGpus:
    """Lists the GPUs that this process may use.

    They are the NVIDIA driver's, or else AMD's. `CUDA_VISIBLE_DEVICES` limits NVIDIA's, `ROCR_VISIBLE_DEVICES` and
    `HIP_VISIBLE_DEVICES` AMD's, and each is enough where there is no driver to ask. Empty, or -1, means none. A GPU in
    MIG mode stands for its instances.

    In a Slurm job they are the job's: also where Slurm sets no such variable, as in jobs without GPUs.

    Args:
        environ: the environment; by default this process's.
        only: limits them further, to the devices of these names.
        sys: where sysfs is.

    Raises:
        RefusedError: if there is none of such a name.
    """
    variables = os.environ if environ is None else environ
    if found := nvidia.gpus(sys):
        is_amd = False
    else:
        found = amd.gpus(sys)
        is_amd = bool(found) or (CUDA not in variables and (ROCR in variables or HIP in variables))
    limited = _amds(variables, found) if is_amd else _within(variables.get(CUDA, jobs_gpus(variables)), found)
    if only:
        limit = ", ".join(f"{name}={variables[name]!r}" for name in VARIABLES if name in variables)
        limited = list(_chosen(only, limited, limit))
    return VisibleGpus(gpus=_distinct(limited), variable=ROCR if is_amd else CUDA)


def _amds(variables: Mapping[str, str], driver: Sequence[Gpu]) -> list[Gpu]:
    """AMD's GPUs, as two variables limit them one after the other.

    Both with one value mean the same GPUs, as where Slurm sets all vendors' variables.
    """
    first, second = variables.get(ROCR, jobs_gpus(variables)), variables.get(HIP, variables.get(CUDA))
    gpus = _within(first, driver)
    if second is None or second == first:
        return gpus
    if first is None and not driver:
        return _within(second, ())
    known = {str(place): gpu for place, gpu in enumerate(gpus)} | {gpu.uuid: gpu for gpu in gpus if gpu.uuid}
    return [known[name] for name in itertools.takewhile(known.__contains__, entries(second))]


def _within(named: str | None, driver: Sequence[Gpu]) -> list[Gpu]:
    """The devices that a variable names; all that the driver knows where it is not set."""
    if named is None:
        return list(driver)
    found: list[Gpu] = []
    for name in entries(named):
        known = called(name, driver)
        if driver and not known and name.isdecimal():
            break  # invalid, as what stands behind it is
        found += [_as_named(name, gpu) for gpu in known] or [_unknown(name)]
    return found


def _as_named(name: str, gpu: Gpu) -> Gpu:
    """A known device under the name that somebody gave it, unless that is the name of the GPU it is a part of."""
    return gpu if gpu.parent and not name.startswith("MIG-") else dataclasses.replace(gpu, token=name)


def _unknown(name: str) -> Gpu:
    """A device that no driver tells of; the older name of a MIG instance, `MIG-GPU-UUID/1/0`, tells its GPU."""
    parent = name.removeprefix("MIG-").partition("/")[0]
    return Gpu(token=name, parent=parent if name.startswith("MIG-GPU-") else None)


def _chosen(names: Iterable[str], gpus: Sequence[Gpu], limit: str) -> Iterator[Gpu]:
    for name in names:
        if not (found := called(name, gpus)):
            there = ", ".join(gpu.words for gpu in gpus) or "none"
            raise RefusedError(
                f"--gpu-ids {name}: there is no GPU of this name, or several: the GPUs here are {there}"
                + (f" (within {limit})" if limit else "")
            )
        yield from found


def _distinct(gpus: Iterable[Gpu]) -> tuple[Gpu, ...]:
    first: dict[str, Gpu] = {}
    for gpu in gpus:
        first.setdefault(gpu.lock_name, gpu)
    return tuple(first.values())
