"""The value of a sweep's metric in a run: one definition for the search, the pages, the commands and notebooks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

_T = TypeVar("_T")

# A name of more levels has the rest of them in its last one.
_MAX_LEVELS = 20
# A sweep's best run is in none of these states, whatever it has logged.
CUT_SHORT = ("failed", "crashed", "killed")


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """What a sweep optimizes: a metric, and whether more of it is better."""

    name: str
    maximize: bool = False

    @classmethod
    def of(cls, config: Mapping[str, object]) -> Metric | None:
        """The metric that a sweep's configuration names; None if it names none."""
        found = config.get("metric")
        if not isinstance(found, Mapping) or not isinstance(name := found.get("name"), str) or not name:
            return None
        return cls(name=name, maximize=found.get("goal") == "maximize")

    @property
    def goal(self) -> str:
        """W&B's word for the direction."""
        return "maximize" if self.maximize else "minimize"

    @property
    def extremum(self) -> str:
        """The statistic of `define_metric` that goes with the goal."""
        return "max" if self.maximize else "min"

    @property
    def order(self) -> str:
        """W&B's words for the best runs first."""
        return f"{'-' if self.maximize else '+'}summary_metrics.{self.name}"

    def places(self) -> Iterator[tuple[str, ...]]:
        """Where in a run's summary the value can be; the first place with a finite number counts.

        After `run.define_metric(name, summary="max")` the client writes `{"max": 3}` instead of a number (wandb 0.31,
        core/internal/runsummary). Of several statistics the one that goes with the goal counts.
        """
        statistics = (self.extremum, "best", "mean", "last", "first", "min" if self.maximize else "max")
        for home in _homes(self.name):
            yield home
            yield from ((*home, statistic) for statistic in statistics)

    def logged_places(self) -> Iterator[tuple[str, ...]]:
        """Where a row of the history can hold it: `acc.max` is the best `acc` that was logged, if more is better."""
        yield from self.places()
        whole, _, statistic = self.name.rpartition(".")
        if whole and statistic in (self.extremum, "best"):
            yield from _homes(whole)

    def value(self, summary: Mapping[str, object]) -> float | None:
        """The value in a run's summary; None if there is none: texts (`NaN` is one) and truth values are no numbers."""
        found = (finite(_look_up(summary, place)) for place in self.places())
        return next((number for number in found if number is not None), None)

    def is_better(self, value: float, than: float) -> bool:
        """Whether one value is better than another."""
        return value > than if self.maximize else value < than

    def best(self, items: Iterable[_T], value: Callable[[_T], float | None]) -> _T | None:
        """The item with the best value, the first of several; None if none has one."""
        sign = -1 if self.maximize else 1
        measured = [(sign * number, item) for item in items if (number := value(item)) is not None]
        return min(measured, key=lambda pair: pair[0])[1] if measured else None


def finite(value: object) -> float | None:
    """A number that can be compared and drawn; None for anything else, truth values among them."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _homes(name: str) -> Iterator[tuple[str, ...]]:
    """Where a name can lead: a dot parts nested metrics (`run.log({"val": {"acc": 1}})`), or belongs to the name."""
    yield (name,)
    outer, dot, inner = name.rpartition(".")
    if dot:
        yield (outer, inner)
    if "." in outer:
        yield tuple(name.split(".", _MAX_LEVELS - 1))


def _look_up(summary: object, place: tuple[str, ...]) -> object:
    for key in place:
        if not isinstance(summary, Mapping):
            return None
        summary = summary.get(key)
    return summary
