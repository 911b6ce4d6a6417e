"""W&B's own search engine, the package `sweeps`, behind three functions.

It takes a second or two to import (scipy, and scikit-learn for bayes), so it is imported when first needed; the
server warms it up in a thread soon after it has begun to answer.
"""

from __future__ import annotations

import functools
import json
import math
import random
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import cast

import yaml

Config = Mapping[str, object]
# A point of the search space, as W&B writes a run's config: {"lr": {"value": 0.1}}.
Point = dict[str, object]
# The engine lists all values of each parameter whenever it draws from a grid: two seconds for as many as these,
# and a server without memory for a range that somebody gave for random search.
_MAX_GRID_AXIS = 100_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """What the search knows of an earlier point: its values, and how far its run has come."""

    config: Point
    state: str = "pending"
    summary: Mapping[str, object] | None = None
    metric_values: Sequence[float] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What is wrong with a proposed sweep.

    Attributes:
        errors: why it cannot be searched; empty if it can.
        warnings: what W&B's schema says against it.
    """

    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


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


@functools.lru_cache(maxsize=256)
def parse_config(text: str) -> Config:
    """A sweep's YAML as a mapping, which nobody may change: the last ones are remembered.

    Raises:
        ValueError: if it is not YAML or not a mapping.
    """
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"the sweep's config is not YAML: {error}") from error
    if not isinstance(config, dict):
        raise ValueError("the sweep's config is not a mapping")  # noqa: TRY004 - a value that a client sent
    return config


def judge(config: Config) -> Verdict:
    """Tells what W&B's schema says of a sweep, and whether the engine can search it at all.

    W&B takes a sweep that only breaks its schema, and shows what is wrong as warnings; so does this server, as
    long as the engine is able to draw a point.
    """
    engine = load()
    try:
        violations = tuple(engine.schema_violations_from_proposed_config(dict(config)))
    except Exception as error:  # noqa: BLE001 - the engine raises whatever a malformed config trips over
        return Verdict(errors=(_sentence(error),))
    if config.get("method") not in ("grid", "random", "bayes"):
        return Verdict(
            errors=(*violations, f"method {config.get('method')!r}: this server searches by grid, random or bayes")
        )
    try:
        if any(size > _MAX_GRID_AXIS for size in _grid_axes(config)):
            return Verdict(
                errors=(*violations, f"a grid can have {_MAX_GRID_AXIS} values per parameter: search it by random")
            )
        # Drawing a point by bayes needs scikit-learn and seconds; its parameters are random search's.
        tried = {**config, "method": "random"} if config["method"] == "bayes" else config
        drawn = engine.next_runs(tried, [], n=1)
        if drawn[0] is None:
            return Verdict(errors=(*violations, "the search space is empty"))
        json.dumps(drawn[0].config, allow_nan=False)
    except Exception as error:  # noqa: BLE001 - as above
        return Verdict(errors=tuple(dict.fromkeys((*violations, _sentence(error)))))
    return Verdict(warnings=violations)


def next_points(config: Config, tried: Sequence[Tried], *, n: int, seed: str) -> list[Point]:
    """Chooses the next points; fewer than `n` means that a grid has no more.

    The engine draws from Python's and numpy's global generators, so they are seeded here: the same config,
    points and seed give the same answer in every process. Only one thread may call this for random sweeps and
    one for bayes.
    """
    engine = load()
    runs = [
        engine.SweepRun(
            config=earlier.config,
            state=earlier.state,
            summary_metrics=dict(earlier.summary or {}),
            history=[{_metric(config): value} for value in earlier.metric_values],
        )
        for earlier in tried
    ]
    if config["method"] == "bayes":
        import numpy as np

        np.random.seed(random.Random(seed).getrandbits(32))  # noqa: S311 - a search, not a secret
    else:
        random.seed(seed)
    with warnings.catch_warnings():
        # scikit-learn comments on every fit that did not converge.
        warnings.simplefilter("ignore")
        drawn = engine.next_runs(dict(config), runs, n=n)
    return [json.loads(json.dumps(run.config, default=_plain_number)) for run in drawn if run is not None]


@functools.lru_cache(maxsize=256)
def grid_size(text: str) -> int | None:
    """How many points a sweep's grid has; None for other searches."""
    config = parse_config(text)
    return math.prod(_grid_axes(config)) if config.get("method") == "grid" else None


def _grid_axes(config: Config) -> list[int]:
    """How many values each parameter of a grid has; none for other searches."""
    if config.get("method") != "grid":
        return []
    load()
    from sweeps.params import HyperParameterSet

    sizes = []
    for parameter in HyperParameterSet.from_config(config["parameters"]):
        space = parameter.config
        if "values" in space:
            sizes.append(len(space["values"]))
        elif "q" in space:
            sizes.append(math.ceil((space["max"] - space["min"]) / space["q"]))
        elif "min" in space:
            sizes.append(space["max"] - space["min"] + 1)
    return sizes


def _metric(config: Config) -> str:
    metric = config.get("metric")
    return str(metric.get("name")) if isinstance(metric, dict) else ""


def _plain_number(value: object) -> object:
    """numpy's numbers, which some distributions yield, as Python's."""
    item = getattr(value, "item", None)
    if item is None:
        raise TypeError(f"{value!r} cannot be a parameter's value")
    return item()


def _sentence(error: Exception) -> str:
    """The first line of what the engine said; its later lines repeat the whole schema."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
