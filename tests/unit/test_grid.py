"""A grid drawn in blocks is the engine's grid: the same points in the same order."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from wandb_submit.server.engine import grid as grid_module
from wandb_submit.server.engine.grid import Grid
from wandb_submit.server.engine.package import load
from wandb_submit.server.engine.points import draw_grid
from wandb_submit.server.engine.tried import Tried

VALUES = st.lists(st.sampled_from([1, 1.0, 2, "a", "1", None, True, [1], {"k": 2}]), min_size=1, max_size=5)
SPACES = st.one_of(
    VALUES.map(lambda values: {"values": values}),
    st.integers(-3, 3).flatmap(lambda low: st.integers(1, 6).map(lambda span: {"min": low, "max": low + span})),
    st.sampled_from([{"value": 3}, {"distribution": "q_uniform", "min": 0, "max": 2, "q": 0.5}]),
)
PARAMETERS = st.dictionaries(
    st.sampled_from("abcd"),
    st.one_of(
        SPACES, st.dictionaries(st.sampled_from("xy"), SPACES, min_size=1).map(lambda inner: {"parameters": inner})
    ),
    min_size=1,
)


def in_blocks(config: dict, tried: list[Tried]) -> list[dict]:
    points, block, done = [], 0, False
    while not done:
        drawn = draw_grid(config, tried, block)
        points += drawn.points
        block, done = drawn.next_block, drawn.done
    return points


@pytest.mark.parametrize("size", [1, 5])
@given(parameters=PARAMETERS, picks=st.lists(st.integers(0, 50), max_size=4))
@settings(max_examples=20, deadline=None)
def test_blocks_of_any_size_are_the_engines_grid(size: int, parameters: dict, picks: list[int]) -> None:
    assume(Grid(parameters).size <= 2000)  # the engine lists them all
    config = {"method": "grid", "parameters": parameters}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(grid_module, "_MAX_BLOCK", size)
        whole = [run.config for run in load().next_runs(config, [], n=10**5) if run is not None]
        assert Grid(parameters).size == len(whole)
        assert in_blocks(config, []) == whole
        tried = [whole[pick % len(whole)] for pick in picks]
        left = [point for point in whole if point not in tried]
        found = in_blocks(config, [Tried(config=point) for point in tried])
        # Python takes 1 for True, the engine does not.
        assert [point for point in found if point not in tried] == left
        assert len(found) >= len(left)


def test_a_grid_of_any_size_is_not_listed() -> None:
    parameters = {name: {"min": 0, "max": 10**15} for name in "abc"}
    grid = Grid(parameters)
    assert grid.size == (10**15 + 1) ** 3
    first, last = grid.block(0), grid.block(grid.blocks - 1)
    assert [space["values"][0] for space in first.values()] == [0, 0, 0]
    assert [space["values"][-1] for space in last.values()] == [10**15] * 3


def test_every_block_holds_other_points() -> None:
    parameters = {"a": {"min": 0, "max": 2999}, "b": {"values": [1, 2, 3]}}
    grid = Grid(parameters)
    seen = [
        point
        for number in range(grid.blocks)
        for point in itertools.product(*(grid.block(number)[name]["values"] for name in "ab"))
    ]
    assert len(seen) == len(set(seen)) == grid.size == 9000
