"""A run's charts: one per metric that it logged, and its machine's."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wandb_submit.server.storage.database import Transaction
from wandb_submit.server.web.charts.figure import Curve, Figure, Point, plot
from wandb_submit.server.web.curves import read_curves

_MAX_CHARTS = 60
# Curves of one chart; a node has at most sixteen GPUs.
_MAX_CURVES = 16
_GPU = re.compile(r"system\.gpu\.(?:process\.)?(\d+)\.(\w+)$")
# What people look at, by W&B's names (https://docs.wandb.ai/ref/app/features/system-metrics), in our order.
_GPU_TITLES = {
    "gpu": "GPU utilization (%)",
    "memoryAllocated": "GPU memory (%)",
    "powerWatts": "GPU power (W)",
    "temp": "GPU temperature (°C)",
}
_TITLES = {
    "system.cpu": "CPU of the process (%)",
    "system.memory_percent": "Memory of the machine (%)",
    "system.proc.memory.rssMB": "Memory of the process (MB)",
    "system.proc.memory.percent": "Memory of the process (%)",
    "system.proc.cpu.threads": "Threads",
    "system.network.sent": "Network sent (bytes)",
    "system.network.recv": "Network received (bytes)",
}
_FIRST = {*_GPU_TITLES.values(), *list(_TITLES.values())[:3]}


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Charts under a common heading: what stands before the `/` in their metrics' names."""

    name: str
    figures: tuple[Figure, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunCharts:
    """A run's charts.

    Attributes:
        left_out: how many metrics there was no room for.
        system: what people look at first.
        more_system: the rest of what the client tells of its machine.
    """

    groups: tuple[Group, ...]
    left_out: int
    system: tuple[Figure, ...]
    more_system: tuple[Figure, ...]


def run_charts(tx: Transaction, run: int) -> RunCharts:
    """Draws all that a run has logged."""
    curves = read_curves(tx, run, "history")
    shown = sorted(curves, key=lambda name: (("/" in name), name))[:_MAX_CHARTS]
    groups: dict[str, list[Figure]] = defaultdict(list)
    for name in shown:
        figure = plot(name, curves=[Curve(name=name, points=curves[name])], x_label="step", log_x=False)
        if figure is not None:
            groups[name.rpartition("/")[0]].append(figure)
    system = _system(read_curves(tx, run, "events"))
    return RunCharts(
        groups=tuple(Group(name=name, figures=tuple(figures)) for name, figures in groups.items()),
        left_out=len(curves) - len(shown),
        system=tuple(figure for figure in system if figure.title in _FIRST),
        more_system=tuple(figure for figure in system if figure.title not in _FIRST),
    )


def _system(curves: Mapping[str, Sequence[Point]]) -> tuple[Figure, ...]:
    """All GPUs in one chart per quantity, then the rest."""
    charts: dict[str, list[Curve]] = {title: [] for title in (*_GPU_TITLES.values(), *_TITLES.values())}
    for name, points in sorted(curves.items()):
        gpu = _GPU.match(name)
        if gpu is not None:
            title = _GPU_TITLES.get(gpu[2], f"GPU {gpu[2]}")
            own = charts.setdefault(title, [])
            if len(own) < _MAX_CURVES and ".process." not in name:
                own.append(Curve(name=f"GPU {gpu[1]}", points=points, css=f"c{int(gpu[1]) % 8}"))
        else:
            charts.setdefault(_TITLES.get(name, name.removeprefix("system.")), []).append(
                Curve(name=name.removeprefix("system."), points=points)
            )
    figures = [plot(title, curves=own, x_label="seconds", log_x=False) for title, own in charts.items()]
    return tuple(figure for figure in figures if figure is not None)[:_MAX_CHARTS]
