"""A GPU, or a MIG instance of one, and the names that people and drivers have for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_UUIDS = ("GPU-", "MIG-")  # how they begin; CUDA takes the beginning of one for it where that is unambiguous


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """One device that tasks can have: a GPU, or an instance of one in MIG mode.

    Attributes:
        token: its name in the variable that shows it to a task: an index in PCI bus order, or a UUID.
        uuid: its UUID, where the driver tells; locks go by it, so that an index and a UUID are one device.
        model: its product name, where the driver tells.
        parent: the UUID of the GPU that it is a MIG instance of; `None` for a whole GPU.
        names: what else it is called; a MIG instance also goes by the names of its GPU.
        cores: the cores near it, where the machine tells.
    """

    token: str
    uuid: str | None = None
    model: str | None = None
    parent: str | None = None
    names: tuple[str, ...] = ()
    cores: tuple[int, ...] = ()

    @property
    def lock_name(self) -> str:
        """What identifies the device on this machine."""
        return f"gpu-{self.uuid or self.token}"

    @property
    def parent_lock_name(self) -> str | None:
        """The same for the GPU that it is an instance of."""
        return self.parent and f"gpu-{self.parent}"

    @property
    def is_instance(self) -> bool:
        """Whether it is a MIG instance, of which a process can use one only."""
        return self.parent is not None or self.token.startswith("MIG-")

    @property
    def words(self) -> str:
        """It, for people: its token and model."""
        return f"{self.token} ({self.model})" if self.model else self.token

    def all_names(self) -> set[str]:
        """Everything that it is called."""
        return {self.token, *self.names, *((self.uuid,) if self.uuid else ())}


def called(name: str, gpus: Sequence[Gpu]) -> list[Gpu]:
    """The devices of that name: none, one, or the MIG instances of one GPU.

    Args:
        name: an index, a UUID or the unambiguous beginning of one.
        gpus: the devices to look among.
    """
    names = {name} if name in _names(gpus) else {full for full in _names(gpus) if _abbreviates(name, full)}
    return [gpu for gpu in gpus if names & gpu.all_names()] if len(names) == 1 else []


def _names(gpus: Iterable[Gpu]) -> set[str]:
    return {name for gpu in gpus for name in gpu.all_names()}


def _abbreviates(name: str, full: str) -> bool:
    return name.startswith(_UUIDS) and full.startswith(name)
