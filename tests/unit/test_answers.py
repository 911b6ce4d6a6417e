"""Answers are the JSON that Python itself writes, in pieces that hold nobody up for long."""

from __future__ import annotations

import json

import pytest

from wandb_submit.server.graphql import answer

RUNS = [{"name": f"run{number}", "config": "x" * 1000, "tags": ["é", None, 1.5]} for number in range(1000)]


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        {"a": {}, "b": [], "c": [1, "\ud800", True, None, -0.0]},
        {"runs": {"edges": RUNS, "pageInfo": {"hasNextPage": False}}},
        {str(number): {"n": number} for number in range(500)},
        list(range(51)),
        (1, 2),
    ],
    ids=["empty", "list", "small", "runs", "names", "long", "tuple"],
)
def test_answers_are_written_as_python_writes_them(value: object):
    assert answer.written(value) == json.dumps(value).encode()


def test_a_long_answer_is_written_in_short_pieces():
    pieces = list(answer._pieces({"data": {"edges": RUNS, "keys": dict.fromkeys(map(str, range(100_000)))}}))
    assert max(map(len, pieces)) < sum(map(len, pieces)) / 20
