"""Parallel coordinates: one axis per parameter and one for the metric, one line per run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wandb_submit.server.web.charts.figure import Path
from wandb_submit.server.web.charts.scale import Categories, Scale, Tick, fit

# How many colours there are between the worst run and the best.
SHADES = 8
# Axes share the width of a page, but have room for their texts.
_WIDTH, _MARGIN = 1200, 80
_MIN_GAP, _MAX_GAP = 130, 280
_HEIGHT, _TOP, _BOTTOM = 320, 34, 16
_MAX_NAMES = 30
_MAX_LETTERS = 18


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One run: a value for each axis, the metric last, and how good it is among all (0 the worst, 1 the best)."""

    values: Sequence[object]
    rank: float
    title: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """A vertical axis and what stands beside it."""

    x: int
    name: str
    full_name: str
    ticks: tuple[Tick, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Parallel:
    """Parallel coordinates, drawn."""

    label: str
    axes: tuple[Axis, ...]
    paths: tuple[Path, ...]
    width: int
    height: int = _HEIGHT
    top: int = _TOP
    bottom: int = _HEIGHT - _BOTTOM


def parallel(names: Sequence[str], lines: Sequence[Line]) -> Parallel:
    """Draws the lines, the best ones last and so on top."""
    scales = [_scale([line.values[number] for line in lines]) for number in range(len(names))]
    between = max(len(names) - 1, 1)
    gap = min(_MAX_GAP, max(_MIN_GAP, (_WIDTH - 2 * _MARGIN) // between))
    places = [_MARGIN + number * gap for number in range(len(names))]
    axes = tuple(
        Axis(
            x=x,
            name=_shortened(name),
            full_name=name,
            ticks=tuple(Tick(at=tick.at, text=_shortened(tick.text)) for tick in scale.ticks()),
        )
        for x, name, scale in zip(places, names, scales, strict=True)
    )
    paths = tuple(
        Path(d=_path(places, scales, line.values), title=line.title, css=f"v{min(SHADES - 1, int(line.rank * SHADES))}")
        for line in sorted(lines, key=lambda line: line.rank)
    )
    return Parallel(
        label=f"Parallel coordinates of {len(lines)} runs over {', '.join(names)}",
        axes=axes,
        paths=paths,
        width=2 * _MARGIN + (len(names) - 1) * gap,
    )


def _scale(values: Sequence[object]) -> Scale | Categories:
    numbers = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) == len(values):
        return fit(numbers, _HEIGHT - _BOTTOM, _TOP, name_few=True)
    names = sorted({str(value) for value in values})
    if len(names) > _MAX_NAMES:
        names = [*names[: _MAX_NAMES - 1], _OTHERS]
    return Categories(names=names, start=_HEIGHT - _BOTTOM, end=_TOP)


_OTHERS = "others"


def _path(places: Sequence[int], scales: Sequence[Scale | Categories], values: Sequence[object]) -> str:
    points = []
    for x, scale, value in zip(places, scales, values, strict=True):
        if isinstance(scale, Categories):
            y = scale(str(value) if str(value) in scale.names else _OTHERS)
        else:
            assert isinstance(value, int | float)  # noqa: S101 - a numeric scale was made from numbers alone
            y = scale(value)
        points.append(f"{x} {y:g}")
    return "M" + "L".join(points)


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_LETTERS else text[: _MAX_LETTERS - 1] + "…"
