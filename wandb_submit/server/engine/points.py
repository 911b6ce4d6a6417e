"""Draws a sweep's next points, reproducibly: each depends on the seed, its number and what was tried before it."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Iterable, Mapping, Sequence

from wandb_submit.metrics import Metric
from wandb_submit.server.engine.config import Config
from wandb_submit.server.engine.grid import read_grid
from wandb_submit.server.engine.package import load, plain, sentence, too_large, unfit
from wandb_submit.server.engine.space import read_space, sample, skip
from wandb_submit.server.engine.tried import Tried
from wandb_submit.server.request.engine_answers import Drawn, Point

# Random points are drawn so many at a time, and always the same ones together: all that a new sweep keeps in stock, so
# that agents which ask at once, before anything can be drawn in the background, get theirs.
_RANDOM_BLOCK = 64
# Of points with very many values fewer are drawn at a time: other sweeps wait for theirs.
_RANDOM_VALUES = 32_000
# A distribution may now and then draw a value that no number can hold: another is drawn in its place, so often.
_MAX_TRIES = 20
# In one request; a grid of which others have tried that much goes on with the next.
_MAX_BLOCKS = 64


def draw_grid(config: Config, tried: Iterable[Tried], block: int) -> Drawn:
    """The points of the grid's next block that has any which were not tried."""
    parameters = config["parameters"]
    assert isinstance(parameters, dict)  # noqa: S101 - judged when the sweep was made
    grid = read_grid(parameters)
    runs = _runs(config, tried)
    last = min(grid.blocks, block + _MAX_BLOCKS)
    while block < last:
        part = {"method": "grid", "parameters": grid.block(block)}
        block += 1
        found = [run for run in load().next_runs(part, runs, n=grid.size) if run is not None]
        if found:
            return Drawn(points=tuple(_points(found)), next_block=block, done=block == grid.blocks)
    return Drawn(next_block=block, done=block == grid.blocks)


def draw_random(config: Config, first: int, seed: str) -> Drawn:
    """The points from number `first` to the end of its block, or as many of them as are drawn at a time."""
    parameters = config["parameters"]
    assert isinstance(parameters, dict)  # noqa: S101 - judged when the sweep was made
    space = read_space(parameters)
    block, skipped = divmod(first - 1, _RANDOM_BLOCK)
    # The engine draws from Python's own generator.
    random.seed(f"{seed}/{block * _RANDOM_BLOCK + 1}")
    size = min(_RANDOM_BLOCK, max(1, _RANDOM_VALUES // max(1, len(space))))
    begin = skipped - skipped % size
    wanted = min(size, _RANDOM_BLOCK - begin)
    skip(space, begin)
    points: list[Point] = []
    for again in range(_MAX_TRIES):
        found = [_plain(config) for config in sample(space, wanted - len(points))]
        points += [point for point in found if unfit(point) is None]
        if len(points) == wanted:
            return Drawn(points=tuple(points[skipped - begin :]))
        if not again:
            # What is drawn in their place comes after all of the block.
            skip(space, _RANDOM_BLOCK - begin - wanted)
    odd = next(name for point in found if (name := unfit(point)) is not None)
    raise ValueError(too_large(odd))


def draw_bayes(config: Config, tried: Iterable[Tried], number: int, seed: str) -> Drawn:
    """Point `number`, given the earlier ones and their results."""
    import numpy as np

    config = {**config, "parameters": _without_probabilities(config["parameters"])}
    runs = _runs(config, _understood(config, tried))
    np.random.seed(random.Random(f"{seed}/{number}").getrandbits(32))  # noqa: S311 - a search, not a secret
    try:
        with warnings.catch_warnings():
            # scikit-learn comments on every fit that did not converge.
            warnings.simplefilter("ignore")
            point = _points(load().next_runs(dict(config), runs, n=1))[0]
            odd = unfit(point)
            if odd is None:
                return Drawn(points=(point,))
            problem = f"a value of {odd!r} that is too large for a number"
    except Exception as error:  # noqa: BLE001 - the engine raises whatever odd results make it trip over
        problem = sentence(error)
    # Agents that wait for an engine that cannot go on would wait for ever.
    point = draw_random(config, number, seed).points[0]
    return Drawn(points=(point,), remark=f"bayes cannot suggest a point ({problem}): random ones instead")


def _runs(config: Config, tried: Iterable[Tried]) -> list[object]:
    """Earlier points as the engine takes them; they hold numbers and texts from JSON, which need no validation."""
    metric, make = Metric.of(config), load().SweepRun.model_construct
    name = "" if metric is None else metric.name
    return [
        make(
            config=earlier.config,
            state=earlier.state,
            summary_metrics={} if earlier.metric is None else {name: earlier.metric},
            history=[] if earlier.metric is None else [{name: earlier.metric}],
        )
        for earlier in tried
    ]


def _points(runs: Iterable[object]) -> list[Point]:
    return [_plain(getattr(run, "config")) for run in runs]  # noqa: B009


def _plain(config: object) -> Point:
    found = json.loads(json.dumps(config, default=plain))
    assert isinstance(found, dict)  # noqa: S101 - the engine's
    return found


def _without_probabilities(parameters: object) -> dict[str, object]:
    """Parameters as bayes can take them: it fails over `probabilities`, which it would not look at."""
    assert isinstance(parameters, dict)  # noqa: S101 - judged when the sweep was made
    return {name: _equally_probable(space) for name, space in parameters.items()}


def _equally_probable(space: object) -> object:
    match space:
        case {"parameters": dict(inner)}:
            return {"parameters": _without_probabilities(inner)}
        case {"values": values, "probabilities": _}:
            return {"values": values}
    return space


def _understood(config: Config, tried: Iterable[Tried]) -> list[Tried]:
    """The points whose values bayes can place in the space; those of another config or program may not be."""
    from sweeps.params import HyperParameter, HyperParameterSet

    axes: list[tuple[list[str], Sequence[object] | None]] = []
    for parameter in HyperParameterSet.from_config(config["parameters"]).searchable_params:
        categories = parameter.config["values"] if parameter.type == HyperParameter.CATEGORICAL else None
        axes.append((parameter.name.split(HyperParameterSet.NESTING_DELIMITER), categories))
    return [earlier for earlier in tried if all(_fits(earlier.config, keys, categories) for keys, categories in axes)]


def _fits(config: Mapping[str, object], keys: Sequence[str], categories: Sequence[object] | None) -> bool:
    value: object = config
    for key in (keys[0], "value", *keys[1:]):
        if not isinstance(value, Mapping) or key not in value:
            return False
        value = value[key]
    if categories is not None:
        return value in categories
    return isinstance(value, int | float) and not isinstance(value, bool)
