"""What is drawn from a sweep's parameters is what the engine would draw, at a fraction of its work."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import math
import random

import pytest

from wandb_submit.server.engine.grid import Grid, _identity, read_grid
from wandb_submit.server.engine.judge import judge
from wandb_submit.server.engine.package import load, plain
from wandb_submit.server.engine.points import draw_grid, draw_random

load()
from sweeps import grid_search  # noqa: E402 - without warnings only once it is loaded so
from sweeps.params import HyperParameter  # noqa: E402

EVERY_KIND: dict[str, object] = {
    "constant": {"value": 3},
    "listed": {"values": [1, "two", None, 2.5, {"a": [1]}]},
    "weighted": {"values": ["a", "b", "c"], "probabilities": [0.1, 0.2, 0.7]},
    "whole": {"min": 1, "max": 9},
    "uniform": {"min": 0.0, "max": 3.0},
    "stepped": {"distribution": "q_uniform", "min": 0.0, "max": 10.0, "q": 0.5},
    "stepped_whole": {"distribution": "q_uniform", "min": 0.0, "max": 10.0, "q": 2},
    "log": {"distribution": "log_uniform_values", "min": 1e-5, "max": 1.0},
    "old_log": {"distribution": "log_uniform", "min": -3.0, "max": 1.0},
    "inverse": {"distribution": "inv_log_uniform_values", "min": 0.1, "max": 2.0},
    "old_inverse": {"distribution": "inv_log_uniform", "min": 0.1, "max": 2.0},
    "log_stepped": {"distribution": "q_log_uniform_values", "min": 1.0, "max": 99.0, "q": 3},
    "old_log_stepped": {"distribution": "q_log_uniform", "min": 0.0, "max": 4.0, "q": 0.5},
    "normal": {"distribution": "normal", "mu": 1.0, "sigma": 2.0},
    "normal_stepped": {"distribution": "q_normal", "mu": 1.0, "sigma": 2.0, "q": 1},
    "log_normal": {"distribution": "log_normal", "mu": 0.0, "sigma": 1.0},
    "log_normal_stepped": {"distribution": "q_log_normal", "mu": 0.0, "sigma": 1.0, "q": 0.1},
    "beta": {"distribution": "beta", "a": 2, "b": 5},
    "beta_stepped": {"distribution": "q_beta", "a": 2, "b": 5, "q": 0.25},
    "inner": {"parameters": {"x": {"min": 0.0, "max": 1.0}, "y": {"values": ["p", "q"]}}},
}


def engine_block(config: dict[str, object], first: int, seed: str) -> list[object]:
    """A block as the engine itself draws it."""
    random.seed(f"{seed}/{first}")
    return [json.loads(json.dumps(run.config, default=plain)) for run in load().next_runs(config, [], n=64)]


@pytest.mark.parametrize("names", [*((name,) for name in EVERY_KIND), tuple(EVERY_KIND)], ids="+".join)
def test_random_points_are_the_engines(names: tuple[str, ...]):
    config = {"method": "random", "parameters": {name: EVERY_KIND[name] for name in names}}
    assert judge(config).errors == ()
    for first in (1, 65):
        drawn = list(draw_random(config, first, "7").points)
        expected = engine_block(config, first, "7")
        assert drawn == expected
        for later in (first + 1, first + 63):
            assert list(draw_random(config, later, "7").points) == expected[later - first :]


def test_points_of_many_values_are_drawn_few_at_a_time(monkeypatch: pytest.MonkeyPatch):
    config = {"method": "random", "parameters": {f"p{number}": {"min": 0.0, "max": 1.0} for number in range(1000)}}
    calls = 0
    ppf = HyperParameter.ppf

    def counted(self: HyperParameter, place: object) -> object:
        nonlocal calls
        calls += 1
        return ppf(self, place)

    monkeypatch.setattr(HyperParameter, "ppf", counted)
    drawn: list[object] = []
    while len(drawn) < 64:
        drawn += draw_random(config, len(drawn) + 1, "7").points
    assert calls == 2000, "each parameter once for each of the two parts of a block"
    monkeypatch.undo()
    assert drawn == engine_block(config, 1, "7")


def test_one_broken_parameter_among_others_is_named():
    for method in ("random", "bayes"):
        config = {"method": method, "metric": {"name": "loss"}, "parameters": {**EVERY_KIND, "odd": {"min": "a"}}}
        assert any("odd" in error for error in judge(config).errors)


NUMBERS = [0, 0.0, -0.0, 1, 1.0, 1.5, 1e300, 1e22, 10**22, math.inf, -math.inf, math.nan]
OTHERS = [True, False, None, "1", "1.0", "true", "", "é", "\n", dt.date(2026, 1, 1)]
MANY = [[1], [1.0], {"a": 1}, {"b": 1, "a": 2}, {"a": 2, "b": 1}]
VALUES = [*NUMBERS, *OTHERS, *MANY]


def test_values_are_one_point_of_a_grid_if_they_are_to_the_engine():
    for one, other in itertools.product(VALUES, VALUES):
        same = grid_search.yaml_hash(one) == grid_search.yaml_hash(other)
        assert (_identity(one) == _identity(other)) is same, (one, other)


def test_values_of_a_grid_are_not_looked_at_again_for_each_block(monkeypatch: pytest.MonkeyPatch):
    parameters = {"x": {"values": [1.5] * 5000 + list(range(3000))}, "y": {"values": [{"deep": [1, 2]}] * 4}}
    config = {"method": "grid", "parameters": parameters}
    hashes = grids = 0
    yaml_hash, make = grid_search.yaml_hash, Grid.__init__

    def hashed(value: object) -> str:
        nonlocal hashes
        hashes += 1
        return yaml_hash(value)

    def made(self: Grid, given: dict[str, object]) -> None:
        nonlocal grids
        grids += given is parameters
        make(self, given)

    monkeypatch.setattr(grid_search, "yaml_hash", hashed)
    monkeypatch.setattr(Grid, "__init__", made)
    assert judge(config).grid_size == 3001
    points, block = [], 0
    while True:
        drawn = draw_grid(config, [], block)
        points += drawn.points
        block = drawn.next_block
        if drawn.done:
            break
    assert len(points) == 3001
    assert grids == 1
    # The engine hashes each value of a block; besides, only what is no plain value is hashed.
    assert hashes < 1.5 * 3001
    assert read_grid(parameters) is read_grid(parameters)
