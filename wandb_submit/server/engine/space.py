"""A sweep's parameters as the engine reads them. That takes long where there are many: the last ones are remembered."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from wandb_submit.server.engine.package import load

if TYPE_CHECKING:
    from sweeps.params import HyperParameter, HyperParameterSet

_T = TypeVar("_T")
# Of so many sweeps.
_REMEMBERED = 4


class Remembered:
    """What was made of the last mappings that were asked for, which nobody may change."""

    def __init__(self) -> None:
        self._made: deque[tuple[Mapping[str, object], object]] = deque(maxlen=_REMEMBERED)

    def of(self, parameters: Mapping[str, object], make: Callable[[Mapping[str, object]], _T]) -> _T:
        """What `make` makes of them, always the same function."""
        for known, made in self._made:
            if known is parameters:
                return made  # type: ignore[return-value]
        fresh = make(parameters)
        self._made.append((parameters, fresh))
        return fresh


_spaces = Remembered()


def read_space(parameters: Mapping[str, object]) -> HyperParameterSet:
    """The engine's parameters.

    Raises:
        Exception: whatever the engine raises about malformed ones.
    """
    return _spaces.of(parameters, _read)


def _read(parameters: Mapping[str, object]) -> HyperParameterSet:
    load()
    from sweeps.params import HyperParameterSet

    return HyperParameterSet.from_config(dict(parameters))


def sample(space: HyperParameterSet, points: int) -> list[Mapping[str, object]]:
    """So many points at random, with Python's generator: those that the engine's random search would draw.

    The engine draws value by value, each of which costs as much as all of a parameter's at once.
    """
    # In the engine's order: all of a point's before the next point's.
    drawn = [[random.uniform(0.0, 1.0) for _ in space] for _ in range(points)]  # noqa: S311 - a search, not a secret
    columns = [_values(parameter, places) for parameter, places in zip(space, zip(*drawn, strict=True), strict=True)]
    found: list[Mapping[str, object]] = []
    for point in range(points):
        for parameter, values in zip(space, columns, strict=True):
            parameter.value = values[point]
        found.append(space.to_config())
    return found


def skip(space: HyperParameterSet, points: int) -> None:
    """Moves the generator on as if so many points had been drawn."""
    for _ in range(points * len(space)):
        random.uniform(0.0, 1.0)  # noqa: S311 - as above


def _values(parameter: HyperParameter, places: Sequence[float]) -> Sequence[object]:
    """A parameter's values at some places of its distribution, from 0 to 1."""
    import numpy as np

    if parameter.type == parameter.CONSTANT:
        return [parameter.config["value"]] * len(places)
    if parameter.type == parameter.CATEGORICAL_PROB:
        # The engine means something else by several places.
        return [parameter.ppf(place) for place in places]
    values = parameter.ppf(np.array(places))
    return values if isinstance(values, list) else list(values)
