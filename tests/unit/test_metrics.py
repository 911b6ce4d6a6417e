"""The value of a sweep's metric in a run, and that SQL finds the same as Python."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

import pytest

from wandb_submit.metrics import Metric
from wandb_submit.server.runs.json_values import logged_number, summary_number

VALUES: list[tuple[str, bool, dict[str, Any], float | None]] = [
    ("acc", True, {"acc": 3}, 3),
    ("acc", True, {"acc": 0}, 0),
    ("acc", True, {}, None),
    ("acc", True, {"acc": None}, None),
    ("acc", True, {"acc": "NaN"}, None),
    ("acc", True, {"acc": "0.5"}, None),
    ("acc", True, {"acc": True}, None),
    ("acc", True, {"acc": [1]}, None),
    ("acc", True, {"acc": {"max": 3}}, 3),
    ("acc", True, {"acc": {"min": 1, "max": 3}}, 3),
    ("acc", False, {"acc": {"min": 1, "max": 3}}, 1),
    ("acc", False, {"acc": {"max": 3}}, 3),
    ("acc", True, {"acc": {"best": 3, "last": 2}}, 3),
    ("acc", True, {"acc": {"last": 2, "mean": 2.5}}, 2.5),
    ("acc", True, {"acc": {"last": 2}}, 2),
    ("acc", True, {"acc": {"first": 1}}, 1),
    ("acc", True, {"acc": {"max": "NaN", "last": 2}}, 2),
    ("acc", True, {"acc": {"max": "NaN"}}, None),
    ("acc", True, {"acc": {"max": True}}, None),
    ("acc", True, {"acc": {"other": 3}}, None),
    ("acc.max", True, {"acc": {"min": 1, "max": 3}}, 3),
    ("acc.max", False, {"acc": {"min": 1, "max": 3}}, 3),
    ("val.acc", True, {"val": {"acc": 3}}, 3),
    ("val.acc", True, {"val.acc": 3}, 3),
    ("val.acc", True, {"val.acc": 4, "val": {"acc": 3}}, 4),
    ("val.acc", True, {"val": {"acc": {"max": 3}}}, 3),
    ("val.acc", True, {"val.acc": {"max": 3}}, 3),
    ("val.acc.max", True, {"val.acc": {"max": 3}}, 3),
    ("val.acc.max", True, {"val": {"acc": {"max": 3}}}, 3),
    ("val.acc", True, {"val": 3}, None),
    ("val/acc", True, {"val/acc": {"max": 3}}, 3),
    ('an "é"', True, {'an "é"': {"max": 3}}, 3),
    ('an "é".x', True, {'an "é"': {"x": 3}}, 3),
    ('an "é".x', True, {'an "é"': {"x": True}}, None),
    (".", True, {".": 3}, 3),
    (".".join("a" * 30), True, {".".join("a" * 30): 3}, 3),
]


def as_sql(sql: tuple[str, tuple[str, ...]], summary: object) -> object:
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE runs (summary TEXT)")
        connection.execute("INSERT INTO runs VALUES (?)", (json.dumps(summary),))
        found = connection.execute(f"SELECT {sql[0]} FROM runs", sql[1]).fetchone()[0]
    connection.close()
    return found


@pytest.mark.parametrize(("name", "maximize", "summary", "value"), VALUES)
def test_a_metrics_value_is_found_wherever_the_client_puts_it(
    name: str, maximize: bool, summary: dict[str, Any], value: float | None
) -> None:
    metric = Metric(name=name, maximize=maximize)
    assert metric.value(summary) == value
    assert as_sql(summary_number(metric), summary) == value


def test_a_number_too_large_for_python_is_no_value() -> None:
    assert Metric(name="acc").value({"acc": 10**400}) is None
    assert Metric(name="acc").value({"acc": float("inf")}) is None


@pytest.mark.parametrize(
    ("name", "maximize", "row", "value"),
    [
        ("acc", True, {"acc": 3}, 3),
        ("acc", True, {"loss": 3}, None),
        ("acc", True, {"acc": False}, None),
        ("acc.max", True, {"acc": 3}, 3),
        ("acc.min", True, {"acc": 3}, None),
        ("acc.min", False, {"acc": 3}, 3),
        ("acc.mean", True, {"acc": 3}, None),
        ("val.acc.max", True, {"val": {"acc": 3}}, 3),
        ("val.acc", True, {"val": {"acc": 3}}, 3),
    ],
)
def test_a_row_of_the_history_holds_the_metric_itself(
    name: str, maximize: bool, row: dict[str, Any], value: float | None
) -> None:
    assert as_sql(logged_number("summary", Metric(name=name, maximize=maximize)), row) == value


@pytest.mark.parametrize("config", [{}, {"metric": None}, {"metric": "acc"}, {"metric": {"goal": "maximize"}}])
def test_a_sweep_may_name_no_metric(config: dict[str, Any]) -> None:
    assert Metric.of(config) is None


def test_the_best_of_several_is_the_first_of_the_equal_ones() -> None:
    runs = [("a", 1.0), ("b", None), ("c", 3.0), ("d", 3.0)]
    assert Metric(name="acc", maximize=True).best(runs, lambda run: run[1]) == ("c", 3.0)
    assert Metric(name="acc").best(runs, lambda run: run[1]) == ("a", 1.0)
    assert Metric(name="acc").best(runs[1:2], lambda run: run[1]) is None
