"""The devices that a submission may use, and who of its tasks has which."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from wandb_submit.devices import Gpu
from wandb_submit.executors.local.locks import try_lock


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


@dataclass(kw_only=True, slots=True)
class Pool:
    """This submission's devices.

    Attributes:
        places: how many tasks run at a time at most, for sharing the cores out.
    """

    gpus: Sequence[Gpu]
    cores: Sequence[int]
    places: int
    _taken: dict[int, Slot] = field(default_factory=dict)

    def take(self, task: int, demand: Demand) -> Slot | None:
        """Takes devices for a task, and their locks; `None` if too few are free now."""
        held: list[int] = []
        own_gpus = {gpu.token for slot in self._taken.values() for gpu in slot.gpus or ()}
        own_cores = {core for slot in self._taken.values() for core in slot.cores}
        gpus: list[Gpu] = []
        for gpu in self.gpus:
            if len(gpus) == (demand.gpus or 0):
                break
            if gpu.token not in own_gpus and (descriptor := try_lock(gpu.lock_name)) is not None:
                held.append(descriptor)
                gpus.append(gpu)
        cores: list[int] = []
        for core in self.cores:
            if len(cores) == (demand.cores or 0):
                break
            if core not in own_cores and (descriptor := try_lock(f"core-{core}")) is not None:
                held.append(descriptor)
                cores.append(core)
        if len(gpus) < (demand.gpus or 0) or len(cores) < (demand.cores or 0):
            for descriptor in held:
                os.close(descriptor)
            return None
        slot = Slot(
            gpus=None if demand.gpus is None else tuple(gpus),
            cores=tuple(cores) if demand.cores else self._share(),
            descriptors=tuple(held),
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
