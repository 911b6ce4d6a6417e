"""The package `sweeps`, and the little that it must be protected from."""

from __future__ import annotations

import functools
import math
import warnings
from types import ModuleType
from typing import cast


@functools.lru_cache(maxsize=1)
def load() -> ModuleType:
    """Imports the engine, all but what bayes alone needs."""
    with warnings.catch_warnings():
        # It uses names that pydantic 2 renamed, and is told so on every import; the log is not the place.
        warnings.simplefilter("ignore")
        import sweeps
        import sweeps.grid_search
        import sweeps.random_search
    return cast("ModuleType", sweeps)


def plain(value: object) -> object:
    """numpy's numbers, which some distributions yield, as Python's; for `json.dumps(default=…)`."""
    item = getattr(value, "item", None)
    if item is None:
        raise TypeError(f"{value!r:.60} ({type(value).__name__}) cannot be a parameter's value")
    return item()


def unfit(value: object, name: str = "") -> str | None:
    """The name of the first parameter whose value holds a number that is none of JSON's, or that no double can hold.

    Args:
        value: a point (`{"lr": {"value": 0.1}}`), or a value in it.
        name: what it belongs to.
    """
    if isinstance(value, dict):
        inner = ((name or str(key), one) for key, one in value.items())
    elif isinstance(value, list):
        inner = ((name, one) for one in value)
    else:
        return name if isinstance(value, int | float) and not _is_finite(value) else None
    return next((found for key, one in inner if (found := unfit(one, key)) is not None), None)


def too_large(name: str) -> str:
    """What is wrong with a parameter of which no value can be drawn."""
    return f"parameter {name!r} draws values that are too large for a number: narrow its range"


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:
        return False


def sentence(error: Exception) -> str:
    """The first line of what the engine said; its later lines repeat the whole schema."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
