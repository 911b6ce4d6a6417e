"""Axes and lines of the web page's charts."""

from __future__ import annotations

import math

import pytest

from wandb_submit.server.web.charts.figure import HEIGHT, WIDTH, Curve, Dot, plot
from wandb_submit.server.web.charts.parallel import Line, parallel
from wandb_submit.server.web.charts.scale import fit


def texts(values: list[float], **options: bool) -> list[str]:
    return [tick.text for tick in fit(values, 0, 300, **options).ticks()]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 10], ["0", "2", "4", "6", "8", "10"]),
        ([0.13, 0.78], ["0.2", "0.4", "0.6"]),
        ([-3, 3], ["-3", "-2", "-1", "0", "1", "2", "3"]),
        ([1e-5, 1e-4, 1e-3, 1], ["1e-5", "0.0001", "0.001", "0.01", "0.1", "1"]),
        ([5], ["3", "4", "5", "6", "7"]),
        ([0, 0], ["-1", "-0.5", "0", "0.5", "1"]),
        ([1e9, 3e9], ["1e9", "1.5e9", "2e9", "2.5e9", "3e9"]),
    ],
)
def test_ticks_are_round(values: list[float], expected: list[str]) -> None:
    assert texts(values) == expected


def test_a_scale_is_logarithmic_where_most_values_would_be_squeezed() -> None:
    assert fit([0.001, 0.01, 0.1, 1], 0, 1).log
    assert not fit([0.001, 0.3, 0.5, 0.7, 1], 0, 1).log
    assert not fit([0, 0.01, 1], 0, 1).log
    assert not fit([0.001, 0.01, 0.1, 1], 0, 1, log=False).log


def test_few_choices_are_named_and_not_written_over_one_another() -> None:
    assert texts([32, 64, 128, 256], name_few=True) == ["32", "64", "128", "256"]
    assert texts([1, 2, 3], name_few=True) == ["1", "2", "3"]
    assert texts([1, 1.001, 3], name_few=True) == ["1", "3"]


@pytest.mark.parametrize("extreme", [1e308, -1e308, 5e-324, 1e-300])
def test_extreme_values_stay_inside(extreme: float) -> None:
    scale = fit([extreme, 1.0, -extreme], 10, 200)
    assert all(10 <= scale(value) <= 200 for value in (extreme, -extreme, 0, 1))
    assert all(math.isfinite(tick.at) for tick in scale.ticks())


def test_values_that_hardly_differ_have_a_tick() -> None:
    assert texts([1.0, math.nextafter(1.0, 2)])


def test_a_figure_holds_its_marks_inside() -> None:
    figure = plot("f", curves=[Curve(name="c", points=[(0, 1), (5, 9)])], dots=[Dot(x=3, y=4, title="t")])
    assert figure is not None
    assert figure.paths[0].d.startswith("M")
    (mark,) = figure.marks
    assert 0 < mark.x < WIDTH
    assert 0 < mark.y < HEIGHT
    assert plot("empty", curves=[Curve(name="c", points=[])]) is None


def test_texts_among_numbers_make_an_axis_of_names() -> None:
    figure = plot("f", dots=[Dot(x="b", y=1, title=""), Dot(x=2, y=2, title=""), Dot(x="a", y=3, title="")])
    assert figure is not None
    assert [tick.text for tick in figure.x_ticks] == ["2", "a", "b"]


def test_parallel_lines_meet_all_axes_and_the_best_is_on_top() -> None:
    lines = [Line(values=[number, str(number), -number], rank=number / 39, title=str(number)) for number in range(40)]
    drawn = parallel(["x", "name", "loss"], lines[::-1])
    assert [path.title for path in drawn.paths][-1] == "39"
    assert drawn.paths[-1].css == "v7"
    assert drawn.paths[0].css == "v0"
    assert all(path.d.count("L") == 2 for path in drawn.paths)
    assert drawn.axes[-1].x < drawn.width
