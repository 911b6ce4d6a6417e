"""The devices that a submission may use, and who of its tasks has which."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from wandb_submit.devices import Gpu
from wandb_submit.executors.local.locks import try_lock

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """What each task needs.

    Attributes:
        gpus: how many GPUs; `None` asks for none and hides none.
        cores: how many cores of its own; `None` gives each task an even share that it does not own.
    """

    gpus: int | None = None
    cores: int | None = None


def places(at_once: int, demand: Demand, gpus: Sequence[Gpu], cores: Sequence[int]) -> int:
    """How many tasks have devices at the same time, if no other submission holds any."""
    bounds = [at_once]
    if demand.gpus:
        bounds.append(len(gpus) // demand.gpus)
    if demand.cores:
        bounds.append(len(cores) // demand.cores)
    return min(bounds)


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """What one task holds.

    Attributes:
        gpus: its GPUs; `None` leaves `CUDA_VISIBLE_DEVICES` as it is.
        cores: the cores that it runs on.
        descriptors: the open locks of its devices.
    """

    gpus: tuple[Gpu, ...] | None
    cores: tuple[int, ...]
    descriptors: tuple[int, ...] = ()

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """The task's environment: `base` with the devices that it may see."""
        variables = dict(base)
        if self.gpus is not None:
            variables["CUDA_VISIBLE_DEVICES"] = ",".join(gpu.token for gpu in self.gpus)
            variables["WANDB_SUBMIT_GPUS"] = variables["CUDA_VISIBLE_DEVICES"]  # a line of --setup may change the other
            # Indices are the driver's, in PCI bus order; CUDA's own default is fastest first.
            variables.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
        return variables

    def close(self) -> None:
        """Closes our copies of the locks; a task that inherited them goes on holding them."""
        for descriptor in self.descriptors:
            os.close(descriptor)


@dataclass(frozen=True, kw_only=True, slots=True)
class Shortage:
    """Why a task cannot have its devices now.

    Attributes:
        reason: for people, with numbers.
        others: whether another submission holds any of ours, so that no end of our own tasks tells when there are more.
    """

    reason: str
    others: bool


@dataclass(kw_only=True, slots=True)
class Pool:
    """This submission's devices.

    Attributes:
        places: how many tasks run at a time at most, for sharing the cores out.
        shortage: what the last task that asked lacked; `None` if it got its devices.
    """

    gpus: Sequence[Gpu]
    cores: Sequence[int]
    places: int
    shortage: Shortage | None = None
    _taken: dict[int, Slot] = field(default_factory=dict)

    def take(self, task: int, demand: Demand) -> Slot | None:
        """Takes devices for a task, and their locks; `None`, and a `shortage`, if too few are free now."""
        own_gpus = {gpu.token for slot in self._taken.values() for gpu in slot.gpus or ()}
        own_cores = {core for slot in self._taken.values() for core in slot.cores}
        free_gpus = [gpu for gpu in self.gpus if gpu.token not in own_gpus]
        free_cores = [core for core in self.cores if core not in own_cores]
        gpus, gpu_locks = _lock(demand.gpus or 0, free_gpus, lambda gpu: gpu.lock_name)
        cores, core_locks = _lock(demand.cores or 0, free_cores, lambda core: f"core-{core}")
        held = (*gpu_locks, *core_locks)
        lacks = [
            f"{wanted} {what}{'s' * (wanted > 1)} ({len(found)} of {len(known)} free)"
            for what, wanted, found, known in (
                ("GPU", demand.gpus or 0, gpus, self.gpus),
                ("core", demand.cores or 0, cores, self.cores),
            )
            if len(found) < wanted
        ]
        if lacks:
            for descriptor in held:
                os.close(descriptor)
            others = (len(gpus) < (demand.gpus or 0) and len(gpus) < len(free_gpus)) or (
                len(cores) < (demand.cores or 0) and len(cores) < len(free_cores)
            )
            self.shortage = Shortage(reason=f"waits for {' and '.join(lacks)}", others=others)
            return None
        self.shortage = None
        slot = Slot(
            gpus=None if demand.gpus is None else tuple(gpus),
            cores=tuple(cores) if demand.cores else self._share(),
            descriptors=held,
        )
        self._taken[task] = slot
        return slot

    def give_back(self, task: int) -> None:
        """Frees a task's devices once it has ended."""
        self._taken.pop(task, None)

    def _share(self) -> tuple[int, ...]:
        """An even share of the cores; all of them where there are more tasks than cores."""
        width = len(self.cores) // self.places
        if width == 0:
            return tuple(self.cores)
        used = [slot.cores[0] for slot in self._taken.values()]
        starts = [self.cores[place * width] for place in range(self.places)]
        first = next(place for place, start in enumerate(starts) if start not in used)
        return tuple(self.cores[first * width : (first + 1) * width])


def _lock(wanted: int, free: Iterable[_T], name: Callable[[_T], str]) -> tuple[list[_T], list[int]]:
    """The first devices whose locks can be had, at most as many as wanted, with the locks' descriptors."""
    taken: list[_T] = []
    descriptors: list[int] = []
    for device in free:
        if len(taken) == wanted:
            break
        if (descriptor := try_lock(name(device))) is not None:
            taken.append(device)
            descriptors.append(descriptor)
    return taken, descriptors
