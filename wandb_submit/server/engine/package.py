"""The package `sweeps`, and the little that it must be protected from."""

from __future__ import annotations

import functools
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


def sentence(error: Exception) -> str:
    """The first line of what the engine said; its later lines repeat the whole schema."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
