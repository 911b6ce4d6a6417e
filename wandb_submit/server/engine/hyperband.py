"""Which runs hyperband would stop, by the values of the sweep's metric that they have logged."""

from __future__ import annotations

import functools
import warnings
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol, cast

from wandb_submit.server.engine.config import Config
from wandb_submit.server.engine.package import load


@dataclass(kw_only=True, slots=True)
class Progress:
    """How far a run has come.

    Attributes:
        state: its state in the database.
        read: how many rows of its history have been looked at.
        values: the metric in those rows that hold it; hyperband counts in them.
        stopping: whether it was asked to stop.
        cut: whether only the beginning of the values was kept.
    """

    state: str = "pending"
    read: int = 0
    values: array[float] = field(default_factory=lambda: array("d"))
    stopping: bool = False
    cut: bool = False


def bands(config: Config) -> list[int]:
    """After how many values runs are compared, as the engine reckons.

    Raises:
        ValueError: if the sweep's `early_terminate` is malformed; in the engine's words.
    """
    probe = _run("probe", Progress(state="running"))
    load().stop_runs(dict(config), [probe])
    return sorted(set(probe.early_terminate_info["bands"]))


def runs_to_stop(config: Config, runs: Iterable[tuple[int, Progress]]) -> list[int]:
    """Those that are running and do worse than the engine's threshold at the last band that they reached."""
    made = [_run(str(number), progress) for number, progress in runs]
    return [int(run.name) for run in load().stop_runs(dict(config), made)]


class _Run(Protocol):
    """What we look at in a run of the engine's."""

    name: str
    history: list[float]
    early_terminate_info: dict[str, list[int]]


class _RunClass(Protocol):
    """How one is made."""

    def model_construct(self, *, name: str, state: str, history: list[float]) -> _Run: ...


def _run(name: str, progress: Progress) -> _Run:
    state = "running" if progress.state == "running" and not progress.stopping else "finished"
    return _run_class().model_construct(name=name, state=state, history=progress.values.tolist())


@functools.lru_cache(maxsize=1)
def _run_class() -> _RunClass:
    """The engine's run, but with a history of the metric's values alone.

    The engine's own goes over a mapping per row, whenever it looks; these were picked and checked when they were
    read.
    """

    def metric_history(run: _Run, _metric: str, filter_invalid: bool = False) -> list[float]:
        return run.history

    with warnings.catch_warnings():
        # As in `load`.
        warnings.simplefilter("ignore")
        return cast("_RunClass", type("Run", (load().SweepRun,), {"metric_history": metric_history}))
