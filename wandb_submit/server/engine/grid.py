"""A grid in blocks: the engine lists all points of what it is given, and a grid may have more than fit anywhere.

The axes stay in the engine's order and so do the points: the last axes of a block are whole, one is cut, and
those before it have one value each. Blocks share no point, so a block that was drawn need not be looked at again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import overload

from wandb_submit.server.engine.space import Remembered, read_space

# The points of a block: drawn together, and written in one transaction of milliseconds.
_MAX_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class _Steps(Sequence[float]):
    """The values of a quantised range, as numpy's `arange` has them, without keeping them."""

    start: float
    step: float
    length: int

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> float: ...
    @overload
    def __getitem__(self, index: slice) -> list[float]: ...
    def __getitem__(self, index: int | slice) -> float | list[float]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(self.length))]
        if index >= self.length:
            raise IndexError(index)
        step = (self.start + self.step) - self.start
        return self.start + index * step


class Grid:
    """The grid of a sweep's parameters."""

    def __init__(self, parameters: Mapping[str, object]) -> None:
        """Reads the parameters as the engine does.

        Raises:
            ValueError: if they are no grid; with the engine's own words.
        """
        # Flat names, with the engine's own delimiter between the levels: it nests them again.
        self._constants: dict[str, object] = {}
        self._axes: list[tuple[str, Sequence[object]]] = []
        for parameter in read_space(parameters):
            axis = _axis(parameter.config)
            if axis is None:
                self._constants[parameter.name] = parameter.config
            else:
                self._axes.append((parameter.name, axis))
        self._cut = len(self._axes)
        self._whole = 1
        while self._cut and self._whole * len(self._axes[self._cut - 1][1]) <= _MAX_BLOCK:
            self._cut -= 1
            self._whole *= len(self._axes[self._cut][1])

    @property
    def size(self) -> int:
        """How many points there are."""
        return math.prod(len(axis) for _, axis in self._axes)

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        if self._cut == 0:
            return 1
        leading = math.prod(len(axis) for _, axis in self._axes[: self._cut - 1])
        return leading * self._pieces

    @property
    def _pieces(self) -> int:
        return -(-len(self._axes[self._cut - 1][1]) // self._piece)

    @property
    def _piece(self) -> int:
        """How many values of the cut axis a block has."""
        return max(1, _MAX_BLOCK // self._whole)

    def block(self, number: int) -> dict[str, object]:
        """The parameters of one block, for the engine."""
        chosen: dict[str, object] = dict(self._constants)
        for name, axis in self._axes[self._cut :]:
            chosen[name] = {"values": list(axis)}
        if self._cut:
            number, piece = divmod(number, self._pieces)
            name, axis = self._axes[self._cut - 1]
            chosen[name] = {"values": list(axis[piece * self._piece : (piece + 1) * self._piece])}
            for name, axis in reversed(self._axes[: self._cut - 1]):
                number, index = divmod(number, len(axis))
                chosen[name] = {"values": [axis[index]]}
        return chosen


_grids = Remembered()


def read_grid(parameters: Mapping[str, object]) -> Grid:
    """The grid of a sweep's parameters; each of its blocks asks for it."""
    return _grids.of(parameters, Grid)


def _axis(space: Mapping[str, object]) -> Sequence[object] | None:
    """The different values of one parameter; None if it has but one, or is not one of a grid."""
    match space:
        case {"probabilities": _}:
            return None
        case {"values": list(values)}:
            # 1 and 1.0 are one point to the engine, which then takes the latter.
            return list({_identity(value): value for value in values}.values())
        case {
            "distribution": "q_uniform",
            "min": int() | float() as low,
            "max": int() | float() as high,
            "q": int() | float() as step,
        }:
            return _Steps(low, step, max(0, math.ceil((high - low) / step)))
        case {"distribution": "int_uniform", "min": int(low), "max": int(high)}:
            return range(low, high + 1)
    return None


def _identity(value: object) -> object:
    """The same for values that are one to the engine, which compares the hashes of what YAML makes of them."""
    match value:
        case bool() | str() | None:
            return type(value), value
        case float() if value.is_integer():
            return float, int(value)
        case int():
            return float, value
        case float():
            return float, repr(value)
    from sweeps.grid_search import yaml_hash

    return yaml_hash(value)
