"""A sweep's configuration, as far as the server itself reads it; the search process reads the rest."""

from __future__ import annotations

import functools
import json
import re
import sqlite3
from collections.abc import Mapping

import yaml

from wandb_submit.metrics import Metric

Config = Mapping[str, object]
# The searches of W&B's engine. A `custom` one is steered by a program of the user's.
METHODS = ("grid", "random", "bayes")
# The longest that somebody may want, a list of ten thousand values, is a tenth of this.
_MAX_LETTERS = 2_000_000
_MAX_VALUES = 500_000
# What has more letters, or repeats values by name, is not searched among the others.
_LARGE_LETTERS = 32_000
_REPETITION = re.compile(r"(?:^|[\s\[{,:-])\*\w")
# libyaml where PyYAML was built with it: ten times as fast.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@functools.lru_cache(maxsize=256)
def parse_config(text: str) -> Config:
    """A sweep's YAML as a mapping, which nobody may change: the last ones are remembered.

    Raises:
        ValueError: if it is not YAML or not a mapping.
    """
    if len(text) > _MAX_LETTERS:
        raise ValueError(f"the sweep's config has {len(text)} letters: at most {_MAX_LETTERS} are taken")
    try:
        config = yaml.load(text, Loader=_LOADER)  # noqa: S506 - both loaders are safe ones
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"the sweep's config is not YAML: {error}") from error
    if not isinstance(config, dict):
        raise ValueError("the sweep's config is not a mapping")  # noqa: TRY004 - a value that a client sent
    if _is_larger(config, _MAX_VALUES):
        raise ValueError(f"the sweep's config holds more than {_MAX_VALUES} values, repeated ones (*name) included")
    return config


def is_large(text: str) -> bool:
    """Whether reading, judging and searching a config may take long; told without reading it."""
    return len(text) > _LARGE_LETTERS or _REPETITION.search(text) is not None


def outline_of(text: str, config: Config) -> str | None:
    """What the server itself reads of a large config, as JSON: its lists of values are cut off after the second."""
    if not is_large(text):
        return None
    return json.dumps({**config, "parameters": _cut(config.get("parameters"))}, default=str)


def config_of(sweep: sqlite3.Row) -> Config:
    """A sweep's config, or its outline: reading YAML of megabytes would hold up the event loop."""
    outline = sweep["outline"]
    return parse_config(sweep["config"]) if outline is None else _parse_outline(outline)


@functools.lru_cache(maxsize=16)
def _parse_outline(text: str) -> Config:
    config = json.loads(text)
    assert isinstance(config, dict)  # noqa: S101 - `outline_of` has written it
    return config


def _cut(value: object) -> object:
    if isinstance(value, dict):
        return {name: _cut(inner) for name, inner in value.items()}
    return [_cut(inner) for inner in value[:2]] if isinstance(value, list) else value


def _is_larger(value: object, limit: int) -> bool:
    """Whether a value holds more than `limit` others; YAML can repeat one a billion times, or let it hold itself."""
    left, seen = [value], 0
    while left and seen <= limit:
        one = left.pop()
        seen += 1
        if isinstance(one, dict | list):
            left.extend(one.values() if isinstance(one, dict) else one)
    return seen > limit


def run_cap(config: Config) -> int | None:
    """How many runs the sweep may have at most."""
    cap = config.get("run_cap")
    return cap if isinstance(cap, int) and not isinstance(cap, bool) else None


def target(config: Config) -> float | None:
    """The value of the metric that ends the sweep once a run reaches it."""
    metric = config.get("metric")
    value = metric.get("target") if isinstance(metric, dict) and Metric.of(config) is not None else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def stops_early(config: Config) -> bool:
    """Whether runs that do badly are to be stopped."""
    return isinstance(config.get("early_terminate"), dict) and Metric.of(config) is not None


def searched_here(config: Config) -> bool:
    """Whether the server chooses the points, and not a program of the user's (a scheduler or local controller)."""
    return config.get("method") in METHODS and config.get("scheduler") is None and not is_controlled(config)


def is_controlled(config: Config) -> bool:
    """Whether a `wandb controller` of the user's chooses the points."""
    controller = config.get("controller")
    return isinstance(controller, dict) and controller.get("type") == "local"
