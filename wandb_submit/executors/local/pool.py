"""The devices that a submission may use, and who of its tasks has which."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from wandb_submit.devices import Gpu
from wandb_submit.devices.strangers import Watch, watch_nobody
from wandb_submit.devices.variables import CUDA, with_only
from wandb_submit.executors.local.closings import Closings
from wandb_submit.executors.local.line import Place
from wandb_submit.executors.local.locks import DeviceLocks, Lock, core_lock, gpu_locks, lock_folder
from wandb_submit.text import counted

_LOOK_AT_STRANGERS_S = 5.0  # how often to look whether a stranger's process has left a GPU: nothing tells


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """What each task needs.

    Attributes:
        gpus: how many GPUs; `None` asks for none and hides none.
        cores: how many cores of its own; `None` gives each task an even share that it does not own.
    """

    gpus: int | None = None
    cores: int | None = None

    @property
    def words(self) -> str:
        """The same for people."""
        asked = [(self.gpus or 0, "GPU"), (self.cores or 0, "core")]
        return " and ".join(counted(number, what) for number, what in asked if number)


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
        gpus: its GPUs; `None` leaves the variables that tell a process its GPUs as they are.
        cores: the cores that it runs on.
        variable: the variable that tells it its GPUs.
        descriptors: the open locks of its devices.
    """

    gpus: tuple[Gpu, ...] | None
    cores: tuple[int, ...]
    variable: str = CUDA
    descriptors: tuple[int, ...] = ()

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """The task's environment: `base` with the devices that it may see."""
        if self.gpus is None:
            return dict(base)
        tokens = ",".join(gpu.token for gpu in self.gpus)
        # WANDB_SUBMIT_GPUS: a line of --setup may change the other.
        variables = with_only(base, self.variable, tokens) | {"WANDB_SUBMIT_GPUS": tokens}
        # Indices are the driver's, in PCI bus order; with CUDA's own, fastest first, they would name others' GPUs.
        order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if self.variable == CUDA else {}
        return variables | order

    def close(self) -> None:
        """Closes our copies of the locks; a task that inherited them and lives goes on holding them."""
        for descriptor in self.descriptors:
            os.close(descriptor)


@dataclass(frozen=True, kw_only=True, slots=True)
class Shortage:
    """Why a task cannot have its devices now.

    Attributes:
        reason: for people, with numbers.
        awaits: the files in the locks' folder, as other submissions hold them, of which one has to be closed first;
            none if the end of a task of our own tells when there are more devices.
        strangers: whether processes of strangers compute on GPUs that it might have.
    """

    reason: str
    awaits: frozenset[str] = frozenset()
    strangers: bool = False


@dataclass(kw_only=True, slots=True)
class Pool:
    """This submission's devices.

    Attributes:
        gpus: the GPUs, in the order in which they are handed out.
        cores: the cores, likewise; those near a task's GPUs come first.
        places: how many tasks run at a time at most, for sharing the cores out.
        neighbours: the cores in the order of their places on the machine, for sharing them out; by default as above.
        variable: the variable that tells a task its GPUs.
        watch: tells who else computes on a GPU; such a GPU is passed over.
        locks: what gathers a task's devices.
        place: the place in line for them; `None` for a plan, which waits for nobody.
        closings: what tells that another submission may have freed one.
        holders: tells which submissions hold locks of these files, in words; empty if nobody knows.
        shortage: what the last task that asked lacked; `None` if it got its devices.
    """

    gpus: Sequence[Gpu]
    cores: Sequence[int]
    places: int
    neighbours: Sequence[int] = ()
    variable: str = CUDA
    watch: Watch = watch_nobody
    locks: DeviceLocks = field(default_factory=DeviceLocks)
    place: Place | None = None
    closings: Closings = field(default_factory=Closings)
    holders: Callable[[Collection[str]], str] = lambda names: ""
    shortage: Shortage | None = None
    _taken: dict[int, Slot] = field(default_factory=dict)
    _shares: dict[int, int] = field(default_factory=dict)

    def take(self, task: int, demand: Demand) -> Slot | None:
        """Takes devices for a task, and their locks.

        `None`, and a `shortage`, if too few are free now or a submission that came earlier waits for any of them; then
        this one is in line, too, until `leave_line`.
        """
        if self.place is None:
            return self._take(task, demand)
        wanted = [lock for gpu in self.gpus if demand.gpus for lock in gpu_locks(gpu)]
        wanted += map(core_lock, self.cores if demand.cores else ())
        slot = self._take_in_turn(self.place, wanted, task, demand)
        # Before it watched, whatever was closed was not told.
        if self.shortage and self.shortage.awaits and self.closings.begin(lock_folder()):
            slot = self._take_in_turn(self.place, wanted, task, demand)
        if slot is None:
            self.place.wait(wanted)
        return slot

    def leave_line(self) -> None:
        """Says that no task waits for devices now."""
        self.closings.end()
        self.locks.stop_waiting()
        if self.place is not None:
            self.place.leave()

    def may_have_changed(self) -> bool:
        """Whether what a task waits for has been freed, or may have been, since this was last asked."""
        return self.closings.tell_of(self.shortage.awaits if self.shortage else ())

    def patience_s(self) -> float:
        """When to look again for what nothing may tell; infinity if there is no such thing."""
        due = [_LOOK_AT_STRANGERS_S] if self.shortage and self.shortage.strangers else []
        due += [self.closings.patience_s()] if self.shortage and self.shortage.awaits else []
        return min(due, default=math.inf)

    def _take_in_turn(self, place: Place, wanted: Sequence[Lock], task: int, demand: Demand) -> Slot | None:
        if (earlier := place.is_behind(wanted)) is None:
            return self._take(task, demand)
        who = self.holders([earlier]) or "a submission"
        reason = f"waits for {demand.words}, behind {who} that came earlier"
        self.shortage = Shortage(reason=reason, awaits=frozenset([earlier]))
        return None

    def _take(self, task: int, demand: Demand) -> Slot | None:
        taken = [device for slot in self._taken.values() for device in (*(slot.gpus or ()), *slot.cores)]
        free_gpus = [gpu for gpu in self.gpus if gpu not in taken]
        free_cores = [core for core in self.cores if core not in taken]
        strangers = dict[str, str]()
        gpus = self._lock_gpus(demand.gpus or 0, free_gpus, strangers)
        near = {core for gpu in gpus for core in gpu.cores}
        cores = self._lock_cores(demand.cores or 0, sorted(free_cores, key=lambda core: core not in near))
        lacks = [
            f"{counted(wanted, what)} ({len(found)} of {len(known)} free{self._held(locks)})"
            for what, wanted, found, known, locks in (
                ("GPU", demand.gpus or 0, gpus, self.gpus, [lock for gpu in free_gpus for lock in gpu_locks(gpu)]),
                ("core", demand.cores or 0, cores, self.cores, map(core_lock, free_cores)),
            )
            if len(found) < wanted
        ]
        if lacks:
            self.locks.free()
            busy = "".join(f"; GPU {token} is busy with {who}" for token, who in strangers.items())
            self.shortage = Shortage(
                reason=f"waits for {' and '.join(lacks)}{busy}", awaits=self.locks.refused, strangers=bool(strangers)
            )
            return None
        self.shortage = None
        slot = Slot(
            gpus=None if demand.gpus is None else tuple(gpus),
            cores=tuple(cores) if demand.cores else self._share(task, near),
            variable=self.variable,
            descriptors=self.locks.hand_over(),
        )
        self._taken[task] = slot
        return slot

    def _held(self, locks: Iterable[Lock]) -> str:
        """Who holds any of these locks that were refused, for people; empty if nobody knows."""
        who = self.holders(self.locks.refused.intersection(lock.file for lock in locks))
        return f"; held by {who}" if who else ""

    def give_back(self, task: int) -> None:
        """Frees a task's devices once it and what it has left behind have ended, or if it could not be started."""
        self.locks.free()  # what it had of them
        if slot := self._taken.pop(task, None):
            slot.close()
        self._shares.pop(task, None)

    def _lock_gpus(self, wanted: int, free: Sequence[Gpu], strangers: dict[str, str]) -> list[Gpu]:
        """The first GPUs that can be had, at most as many as wanted; notes who computes on those that cannot."""
        found: list[Gpu] = []
        with self.watch() if wanted else watch_nobody() as look:
            for gpu in free:
                before = len(self.locks.descriptors)
                if len(found) == wanted:
                    break
                if not self.locks.add(gpu_locks(gpu)):
                    continue
                if (who := look(gpu)) is not None:
                    strangers[gpu.token] = who
                    self.locks.free(keep=before)
                    continue
                found.append(gpu)
        return found

    def _lock_cores(self, wanted: int, free: Sequence[int]) -> list[int]:
        had = (core for core in free if self.locks.add([core_lock(core)]))
        return list(itertools.islice(had, wanted))

    def _share(self, task: int, near: set[int]) -> tuple[int, ...]:
        """An even share of the cores, near the task's GPUs if possible; all of them where there are more tasks."""
        width = len(self.cores) // self.places
        if width == 0:
            return tuple(self.cores)
        row = self.neighbours or self.cores
        shares = [tuple(row[place * width : (place + 1) * width]) for place in range(self.places)]
        free = [place for place in range(self.places) if place not in self._shares.values()]
        self._shares[task] = max(free, key=lambda place: len(near.intersection(shares[place])))
        return shares[self._shares[task]]
