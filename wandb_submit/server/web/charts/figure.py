"""Charts of curves and of points: what is drawn where, ready for the template that writes the SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from wandb_submit.server.web.charts.scale import Categories, Scale, Tick, fit
from wandb_submit.server.web.wording import number_text

Point = tuple[float, float]

# A small chart's own units: about one pixel each, on a telephone as in one of three columns.
WIDTH, HEIGHT = 400, 230
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 10, 36
_MAX_TICK_LETTERS = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """A line to draw: its points in the data's units, and its place in the palette."""

    name: str
    points: Sequence[Point]
    css: str = "c0"
    href: str | None = None
    steps: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Dot:
    """A point to draw, with what is shown when somebody points at it."""

    x: float | str
    y: float
    title: str
    css: str = "c0"
    href: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """A drawn dot, in the drawing's units."""

    x: float
    y: float
    title: str
    css: str
    href: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Path:
    """A drawn line: an SVG path."""

    d: str
    title: str
    css: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """A line of a chart's legend."""

    css: str
    name: str
    href: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A chart, drawn.

    Attributes:
        title: its heading.
        label: what it shows, in words, for those who do not see it.
        note: what a reader has to know to read it rightly.
    """

    title: str
    label: str
    x_label: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    paths: tuple[Path, ...] = ()
    marks: tuple[Mark, ...] = ()
    legend: tuple[Key, ...] = ()
    note: str = ""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    top: int = TOP

    @property
    def right(self) -> int:
        """Where the plot ends."""
        return self.width - RIGHT

    @property
    def bottom(self) -> int:
        """Where the horizontal axis is."""
        return self.height - BOTTOM


def plot(
    title: str,
    *,
    curves: Sequence[Curve] = (),
    dots: Sequence[Dot] = (),
    x_label: str = "",
    y_label: str = "",
    log_x: bool | None = None,
    name_few: bool = False,
    note: str = "",
    legend: bool = True,
) -> Figure | None:
    """Draws curves and dots on common axes; None if there is nothing to draw."""
    heights = [y for curve in curves for _, y in curve.points] + [dot.y for dot in dots]
    if not heights:
        return None
    x_axis = _x_axis([x for curve in curves for x, _ in curve.points] + [dot.x for dot in dots], log_x, name_few)
    y_axis = fit(heights, HEIGHT - BOTTOM, TOP)
    x_ticks = x_axis.ticks()
    shown = [curve for curve in curves if curve.points]
    return Figure(
        title=title,
        label=f"{title}: values from {number_text(min(heights))} to {number_text(max(heights))}",
        x_label=x_label,
        y_label=y_label,
        x_ticks=tuple(Tick(at=tick.at, text=_short(tick.text, len(x_ticks))) for tick in x_ticks),
        y_ticks=y_axis.ticks(),
        paths=tuple(_path(curve, x_axis, y_axis) for curve in shown),
        marks=tuple(
            Mark(x=_place(x_axis, dot.x), y=y_axis(dot.y), title=dot.title, css=dot.css, href=dot.href) for dot in dots
        ),
        legend=tuple(Key(css=curve.css, name=curve.name, href=curve.href) for curve in shown)
        if legend and len(shown) > 1
        else (),
        note=note,
    )


def _x_axis(values: Sequence[float | str], log: bool | None, name_few: bool) -> Scale | Categories:
    """Numbers have a scale; as soon as there is a text among them, all are names."""
    numbers = [value for value in values if not isinstance(value, str)]
    if len(numbers) == len(values):
        return fit(numbers, LEFT, WIDTH - RIGHT, log=log, name_few=name_few)
    return Categories(names=sorted(set(map(str, values))), start=LEFT, end=WIDTH - RIGHT)


def _place(axis: Scale | Categories, value: float | str) -> float:
    return axis(str(value)) if isinstance(axis, Categories) else axis(float(value))


def _path(curve: Curve, x_axis: Scale | Categories, y_axis: Scale) -> Path:
    places = [(_place(x_axis, x), y_axis(y)) for x, y in curve.points]
    words = [f"M{_coordinate(places[0])}"]
    for before, here in pairwise(places):
        if here == before:
            continue
        words.append(f"H{here[0]:g}V{here[1]:g}" if curve.steps else f"L{_coordinate(here)}")
    if len(words) == 1:
        words.append("h0")  # a line without length shows as a dot, by its round ends
    last = curve.points[-1]
    title = f"{curve.name}: {number_text(last[1])} at {number_text(last[0])} ({len(curve.points)} points shown)"
    return Path(d="".join(words), title=title, css=curve.css)


def _coordinate(place: Point) -> str:
    return f"{place[0]:g} {place[1]:g}"


def _short(text: str, ticks: int) -> str:
    """A tick's text cut to what fits between its neighbours."""
    fits = max(4, min(_MAX_TICK_LETTERS, 48 // max(ticks, 1)))
    return text if len(text) <= fits else text[: fits - 1] + "…"
