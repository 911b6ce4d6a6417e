"""How several agents of one array task share its devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from wandb_submit.devices.variables import CUDA, with_only

_T = TypeVar("_T")

# How many threads libraries start: some count the machine's cores, and not those that they may run on.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """What one agent's runs get of their task's devices.

    Attributes:
        gpus: the runs' GPUs, as `variable` names them; `None` where the task has it not set.
        cores: the cores that they run on.
        bind: whether they are bound to these devices; a task of one agent has them from its scheduler.
        variable: what tells them their GPUs.
    """

    gpus: str | None
    cores: tuple[int, ...]
    bind: bool = field(default=False)
    variable: str = CUDA

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """A run's environment: `base` with the variables that tell it its GPUs and, unless they are set, its cores."""
        threads = dict.fromkeys(_THREADS, str(len(self.cores))) if self.cores else {}
        own = with_only(base, self.variable, self.gpus) if self.bind and self.gpus is not None else base
        return {**threads, **own}

    def device(self) -> Mapping[str, object]:
        """What an agent tells of it in its heartbeats."""
        return {"cpus": len(self.cores), **({"gpus": self.gpus} if self.gpus else {})}


def shares(agents: int, *, gpus: str | None, cores: Sequence[int], variable: str = CUDA) -> list[Share]:
    """Splits a task's GPUs and cores among its agents.

    Each kind is split evenly where it divides by the number of agents; else all agents share all of it.

    Args:
        agents: how many there are.
        gpus: the task's GPUs, if `variable` is set.
        cores: the cores that the task may run on.
        variable: what tells the task its GPUs.
    """
    tokens = [token for token in (gpus or "").split(",") if token]
    return [
        Share(
            gpus=None if gpus is None else ",".join(own_tokens),
            cores=tuple(own_cores),
            bind=agents > 1,
            variable=variable,
        )
        for own_tokens, own_cores in zip(_split(tokens, agents), _split(cores, agents), strict=True)
    ]


def _split(items: Sequence[_T], parts: int) -> list[Sequence[_T]]:
    size, rest = divmod(len(items), parts)
    if size == 0 or rest:
        return [items] * parts
    return [items[part * size : (part + 1) * size] for part in range(parts)]
