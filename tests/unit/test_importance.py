"""What the web page says about parameters, against figures that are known."""

from __future__ import annotations

import random

import pytest

from wandb_submit.server.web.importance import between, importances, pearson, pieces, ranks
from wandb_submit.server.web.trials import Trial


def trials(points: list[tuple[dict[str, object], float]]) -> list[Trial]:
    return [
        Trial(
            id=number,
            name=str(number),
            display_name=str(number),
            state="finished",
            created_at=0,
            heartbeat_at=0,
            runtime_s=None,
            agent=None,
            metric=metric,
            parameters=parameters,
            sort_value=None,
        )
        for number, (parameters, metric) in enumerate(points)
    ]


def test_ranks_are_shared_by_equals() -> None:
    assert ranks([10, 30, 20, 20]) == [0, 3, 1.5, 1.5]


def test_correlations_are_spearmans() -> None:
    # The example of https://en.wikipedia.org/wiki/Spearman%27s_rank_correlation_coefficient: -29/165.
    iq = [106.0, 100, 86, 101, 99, 103, 97, 113, 112, 110]
    hours = [7.0, 27, 2, 50, 28, 29, 20, 12, 6, 17]
    assert pearson(ranks(iq), ranks(hours)) == pytest.approx(-29 / 165)
    assert pearson([1, 1, 1], [1, 2, 3]) == 0


def test_what_lies_between_groups_is_corrected_for_their_number() -> None:
    assert between(["a", "a", "b", "b"], [1, 1, 2, 2]) == 1
    assert between(["a", "b", "c"], [1, 2, 3]) == 0
    # 1 - (SS within / (n - k)) / (SS total / (n - 1)), here 1 - (1 / 2) / (5 / 3).
    assert between(["a", "a", "b", "b"], [1, 2, 3, 4]) == pytest.approx(0.7)
    noise = random.Random(1)
    values = ranks([noise.random() for _ in range(2000)])
    assert between([str(number % 50) for number in range(2000)], values) < 0.02


def test_an_optimum_in_the_middle_is_strong_without_a_trend() -> None:
    noise = random.Random(2)
    points = [({"lr": x, "seed": noise.random(), "same": 1}, (x - 0.5) ** 2) for x in (n / 100 for n in range(101))]
    first, second = importances(["seed", "lr", "same", "absent"], trials(points))
    assert (first.name, second.name) == ("lr", "seed")
    assert first.strength > 0.9
    assert first.trend == pytest.approx(0, abs=0.01)
    assert second.strength < 0.4


def test_nothing_is_said_of_a_handful_of_runs() -> None:
    assert importances(["x"], trials([({"x": 1}, 1.0), ({"x": 2}, 2.0)])) == []


def test_few_numbers_are_groups_and_many_are_cut_into_equal_ones() -> None:
    assert len(set(pieces([1.0, 2.0] * 10))) == 2
    cut = pieces([float(number) for number in range(60)])
    assert [cut.count(piece) for piece in dict.fromkeys(cut)] == [10] * 6
