"""Scales: where a value lies along an axis, and which values its ticks name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wandb_submit.server.web.wording import number_text

# A linear axis would squeeze values into its first pixels if the largest is so many times the smallest, and half of
# them lie below such a part of it. The latter tells a uniform choice that came close to zero from a logarithmic one.
_LOG_RATIO, _LOG_MEDIAN = 100, 0.1
# What a float can hold between, with room to compute; what lies outside is drawn at the edge.
_LIMIT = 1e300
_LEAST, _MOST = 5e-324, 1e308
# What a tick's text needs at least, in the drawing's units.
_TICK_ROOM = 22
# Up to so many different values an axis names each of them.
_FEW = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Tick:
    """A mark of an axis: where, and what is written there."""

    at: float
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """A numeric axis from `start` (where `low` lies) to `end` (where `high` lies).

    Attributes:
        named: the only values that there are, where they are few: the ticks stand there.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    named: tuple[float, ...] = ()

    def __call__(self, value: float) -> float:
        """Where a value lies; one beyond the axis lies at its edge."""
        low, high, value = (self._measure(one) for one in (self.low, self.high, value))
        share = min(1.0, max(0.0, (value - low) / (high - low)))
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, wanted: int = 5) -> tuple[Tick, ...]:
        """About so many ticks at round values, or at the only ones that there are."""
        values = self._apart() or (self._decades(wanted) if self.log else ())
        if len(values) < 2 and not self.named:
            values = _round_values(self.low, self.high, wanted)
        return tuple(Tick(at=self(value), text=number_text(value)) for value in values)

    def _measure(self, value: float) -> float:
        return math.log10(max(value, self.low)) if self.log else value

    def _apart(self) -> tuple[float, ...]:
        """The named values whose ticks would not be written over one another."""
        kept: list[float] = []
        for value in self.named:
            if not kept or abs(self(value) - self(kept[-1])) >= _TICK_ROOM:
                kept.append(value)
        return tuple(kept)

    def _decades(self, wanted: int) -> tuple[float, ...]:
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        step = max(1, math.ceil((last - first) / wanted))
        return tuple(10.0**exponent for exponent in range(first, last + 1, step))


@dataclass(frozen=True, kw_only=True, slots=True)
class Categories:
    """An axis of names, evenly spread."""

    names: Sequence[str]
    start: float
    end: float

    def __call__(self, name: str) -> float:
        """Where a name lies."""
        share = (self.names.index(name) + 0.5) / len(self.names)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, wanted: int = 12) -> tuple[Tick, ...]:
        """A tick for every name, or for some of many."""
        every = -(-len(self.names) // wanted)
        return tuple(Tick(at=self(name), text=name) for name in self.names[::every])


def fit(values: Iterable[float], start: float, end: float, *, log: bool | None = None, name_few: bool = False) -> Scale:
    """The scale that shows all of the values, with a little room around them.

    Args:
        values: finite numbers.
        start: where the axis begins, in the drawing's units.
        end: where it ends.
        log: whether it is logarithmic; None means if the values are positive, span two decades, and most are small.
        name_few: whether the ticks stand at the values themselves if those are few, as a parameter's choices are.
    """
    known = [min(_LIMIT, max(-_LIMIT, float(value))) for value in values] or [0.0, 1.0]
    low, high = min(known), max(known)
    distinct = sorted(set(known)) if name_few else []
    named = tuple(distinct) if len(distinct) <= _FEW else ()
    if log is None:
        log = low > 0 and high / low >= _LOG_RATIO and sorted(known)[len(known) // 2] <= high * _LOG_MEDIAN
    if low == high:
        room = abs(low) / 2 or 1.0
        return Scale(low=low - room, high=high + room, start=start, end=end, named=named)
    if log:
        room = 10 ** (0.03 * (math.log10(high) - math.log10(low)))
        bounds = max(low / room, _LEAST), min(high * room, _MOST)
        return Scale(low=bounds[0], high=bounds[1], start=start, end=end, log=True, named=named)
    room = (high - low) * 0.03
    return Scale(low=low - room, high=high + room, start=start, end=end, named=named)


def _round_values(low: float, high: float, wanted: int) -> tuple[float, ...]:
    """Multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / max(wanted, 1)
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 0.0
    if not power:
        return (low,)
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.75)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    if last - first > 4 * wanted:  # the values differ less than a float can tell
        return (low,)
    return tuple(float(f"{count * step:.12g}") for count in range(first, last + 1))
