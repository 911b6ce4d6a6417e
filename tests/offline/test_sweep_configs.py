"""Sweep configurations: those that W&B takes give points, those that cannot be searched are refused with reasons."""

from __future__ import annotations

import json

import pytest
import yaml
from offline.clients import CREATE_SWEEP, Protocol, Wandb
from support import wait_until

METRIC = {"name": "loss", "goal": "minimize"}
NUMBERS = {
    "uniform": {"min": 0.5, "max": 2.0},
    "int_uniform": {"min": -3, "max": 4},
    "q_uniform": {"min": 0, "max": 256, "q": 8},
    "log_uniform": {"min": -3.0, "max": 0.0},
    "q_log_uniform": {"min": 0.0, "max": 5.0, "q": 2},
    "inv_log_uniform": {"min": 0.0, "max": 3.0},
    "log_uniform_values": {"min": 1e-5, "max": 0.1},
    "q_log_uniform_values": {"min": 1, "max": 1024, "q": 4},
    "inv_log_uniform_values": {"min": 0.001, "max": 0.5},
    "normal": {"mu": 100, "sigma": 10},
    "q_normal": {"mu": 0.0, "sigma": 3.0, "q": 0.5},
    "log_normal": {"mu": 0.0, "sigma": 1.0},
    "q_log_normal": {"q": 1.0},
    "beta": {"a": 2, "b": 5},
    "q_beta": {"a": 2.0, "b": 2.0, "q": 0.1},
}
ODD_VALUES = [
    None,
    True,
    False,
    1,
    2.5,
    "007",
    "08",
    "a b",
    "",
    "ünï☂",
    "yes",
    "null",
    "1e3",
    [1, [2]],
    {"deep": {"x": 1}},
]
BOMB = "\n".join(
    [
        "a0: &a0 [x, x, x, x, x, x, x, x]",
        *(f"a{level}: &a{level} [{', '.join(8 * [f'*a{level - 1}'])}]" for level in range(1, 9)),
        "method: grid",
        "parameters: {x: {values: [*a8]}}",
    ]
)
NESTED = {
    "plain": {"value": 1},
    "outer": {
        "parameters": {
            "rate": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-1},
            "inner": {"parameters": {"depth": {"values": [1, 2]}, "fixed": {"value": "x y"}}},
        }
    },
}


def first_points(protocol: Protocol, config: dict, count: int = 3) -> list[dict]:
    """The points that the first agents of a new sweep get; bayes may need a moment for each."""
    sweep = protocol.create_sweep(**config)
    points = []
    for _ in range(count):
        agent = protocol.agent(sweep)
        (order,) = wait_until(lambda agent=agent: protocol.heartbeat(agent), what="there is an order")
        if order["type"] == "exit":
            break
        points.append({name: entry["value"] for name, entry in order["args"].items()})
    return points


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_every_distribution_gives_points(protocol: Protocol, method: str):
    parameters = {name: {"distribution": name, **space} for name, space in NUMBERS.items()}
    parameters["weighed"] = {"values": ["a", "b", "c"], "probabilities": [0.2, 0.3, 0.5]}
    parameters["odd"] = {"values": ODD_VALUES}
    points = first_points(protocol, {"method": method, "metric": METRIC, "parameters": parameters})
    assert len(points) == 3
    for point in points:
        assert point.keys() == parameters.keys()
        assert 0.5 <= point["uniform"] <= 2
        assert point["int_uniform"] in range(-3, 5)
        assert point["q_uniform"] % 8 == 0
        assert 1e-5 <= point["log_uniform_values"] <= 0.1
        assert point["odd"] in ODD_VALUES
        assert point["weighed"] in ("a", "b", "c")


@pytest.mark.parametrize("method", ["random", "bayes", "grid"])
def test_nested_parameters_give_nested_points(protocol: Protocol, method: str):
    nested = json.loads(json.dumps(NESTED))
    if method == "grid":
        nested["outer"]["parameters"]["rate"] = {"values": [0.1, 0.2]}
    points = first_points(protocol, {"method": method, "metric": METRIC, "parameters": nested})
    for point in points:
        assert point["plain"] == 1
        assert point["outer"]["inner"]["fixed"] == "x y"
        assert point["outer"]["inner"]["depth"] in (1, 2)
        assert 1e-4 <= point["outer"]["rate"] <= 0.2
    assert len(points) == 3


def test_a_grid_keeps_every_value_as_it_is_and_leaves_out_doubles(protocol: Protocol):
    sweep = protocol.create_sweep(method="grid", parameters={"x": {"values": [*ODD_VALUES, 1.0, "007"]}})
    assert protocol.sweep(sweep)["runCountExpected"] == len(ODD_VALUES)
    agent, seen = protocol.agent(sweep), []
    while (order := protocol.heartbeat(agent)[0])["type"] == "run":
        seen.append(order["args"]["x"]["value"])
    assert len(seen) == len(ODD_VALUES)
    assert [(type(one) is bool, one) for one in seen] == [(type(one) is bool, one) for one in ODD_VALUES]


def test_ranges_of_a_grid(protocol: Protocol):
    sweep = protocol.create_sweep(
        method="grid",
        parameters={
            "n": {"min": 2, "max": 4},
            "q": {"distribution": "q_uniform", "min": 0.0, "max": 1.0, "q": 0.25},
            "c": {"value": 7},
        },
    )
    assert protocol.sweep(sweep)["runCountExpected"] == 12
    agent, seen = protocol.agent(sweep), []
    while (order := protocol.heartbeat(agent)[0])["type"] == "run":
        seen.append(tuple(order["args"][name]["value"] for name in "nqc"))
    assert seen == [(n, q, 7) for n in (2, 3, 4) for q in (0.0, 0.25, 0.5, 0.75)]


def test_a_grid_of_constants_has_one_point(protocol: Protocol):
    sweep = protocol.create_sweep(method="grid", parameters={"x": {"value": None}, "y": {"value": "0123"}})
    agent = protocol.agent(sweep)
    assert protocol.take_run(agent)["args"] == {"x": {"value": None}, "y": {"value": "0123"}}
    assert protocol.heartbeat(agent) == [{"type": "exit"}]


def test_a_grid_too_large_for_anybody_gives_points_at_once(protocol: Protocol):
    huge = {name: {"min": 0, "max": 10**11} for name in "abc"}
    sweep = protocol.create_sweep(method="grid", run_cap=2000, parameters={**huge, "z": {"values": [1, 2]}})
    assert protocol.sweep(sweep)["runCountExpected"] == 2000
    agent = protocol.agent(sweep)
    order = protocol.take_run(agent)
    assert {name: entry["value"] for name, entry in order["args"].items()} == {"a": 0, "b": 0, "c": 0, "z": 1}


@pytest.mark.parametrize(
    ("more", "expected"), [({}, 6), ({"run_cap": 4}, 4), ({"run_cap": 40}, 6), ({"method": "random"}, None)]
)
def test_the_expected_number_of_runs(protocol: Protocol, more: dict, expected: int | None):
    config = {"method": "grid", "parameters": {"x": {"values": [1, 2, 3]}, "y": {"min": 1, "max": 2}}, **more}
    assert protocol.sweep(protocol.create_sweep(**config))["runCountExpected"] == expected


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ("method: [", ["YAML"]),
        ("just text", ["mapping"]),
        (BOMB, ["more than 500000 values"]),
        ("method: grid\nparameters: {x: {values: &a [1, *a]}}", ["more than 500000 values"]),
        ("- a\n- b", ["mapping"]),
        ({"method": "grid"}, ["parameters"]),
        ({"method": "grid", "parameters": {}}, ["parameters"]),
        ({"method": "grid", "parameters": [1]}, ["parameters"]),
        ({"method": "grid", "parameters": {"x": 3}}, ["'x'"]),
        ({"parameters": {"x": {"value": 1}}}, ["method"]),
        ({"method": "random", "parameters": {"x": {"values": []}}}, ["x"]),
        ({"method": "random", "parameters": {"x": {"min": 1}}}, ["x"]),
        ({"method": "random", "parameters": {"x": {"distribution": "cauchy"}}}, ["x"]),
        ({"method": "grid", "parameters": {"x": {"values": [1, 2], "probabilities": [0.5, 0.5]}}}, ["x", "grid"]),
        ({"method": "grid", "parameters": {"x": {"distribution": "normal"}}}, ["x", "grid"]),
        ({"method": "bayes", "parameters": {"x": {"min": 0.0, "max": 1.0}}}, ["metric"]),
        ({"method": "bayes", "metric": METRIC, "parameters": {"x": {"value": 1}}}, ["not constant"]),
        ({"method": "random", "parameters": {"x": {"value": float("inf")}}}, ["x"]),
        ({"method": "random", "parameters": {"x": {"values": [1, float("nan")]}}}, ["'x'", "not finite"]),
        ({"method": "grid", "parameters": {"x": {"values": [10**400, 1]}}}, ["'x'", "too large for a double"]),
        ({"method": "random", "parameters": {"n": {"parameters": {"x": {"value": -(10**400)}}}}}, ["'n'", "too large"]),
        ({"method": "random", "parameters": {"x": {"min": -1.7e308, "max": 1.7e308}}}, ["'x'", "narrow its range"]),
        ({"method": "bayes", "metric": METRIC, "parameters": {"x": {"min": -1.7e308, "max": 1.7e308}}}, ["'x'"]),
        (
            {"method": "random", "metric": {"name": "l", "target": 10**400}, "parameters": {"x": {"value": 1}}},
            ["metric.target"],
        ),
        (
            {
                "method": "grid",
                "metric": METRIC,
                "early_terminate": {"type": "bands"},
                "parameters": {"x": {"value": 1}},
            },
            ["early_terminate", "bands"],
        ),
        (
            {
                "method": "grid",
                "metric": METRIC,
                "early_terminate": {"type": "hyperband"},
                "parameters": {"x": {"value": 1}},
            },
            ["early_terminate"],
        ),
        (
            {
                "method": "random",
                "run_cap": 0,
                "early_terminate": {"type": "hyperband", "min_iter": 3},
                "parameters": {"x": {"min": 2, "max": 1}, "y": {"vlaues": [1]}, "z": {"values": 3}},
            },
            ["run_cap", "metric", "min 2", "y", "z"],
        ),
    ],
)
def test_what_cannot_be_searched_is_refused_with_all_that_is_wrong(protocol: Protocol, config, named: list[str]):
    text = config if isinstance(config, str) else yaml.safe_dump(config)
    answer = protocol.post(CREATE_SWEEP, config=text, projectName="tests")
    assert answer.status_code == 400
    (error,) = answer.json()["errors"]
    assert [word for word in named if word not in error["message"]] == [], error


def test_warnings_are_w_and_bs(protocol: Protocol):
    config = {
        "method": "bayes",
        "metric": {"name": "loss", "goal": "least"},
        "unheard": 1,
        "parameters": {
            "old": {"distribution": "log_uniform", "min": -3.0, "max": 0.0},
            "p": {"values": [1, 2], "probabilities": [0.5, 0.4]},
        },
    }
    data = protocol.data(CREATE_SWEEP, config=json.dumps(config), projectName="p")
    warnings = " ".join(data["upsertSweep"]["configValidationWarnings"])
    for word in ("least", "unheard", "log_uniform_values", "do not sum to 1", "equally probable"):
        assert word in warnings


CLIENT = """
import json, sys, wandb
configs = json.loads(sys.argv[1])
api = wandb.Api()
found = []
for config in configs:
    name = wandb.sweep(config, project="configs", prior_runs=config.get("prior"))
    sweep = api.sweep(f"local/configs/{name}")
    found.append([name, sweep.config, sweep.expected_run_count, sweep.name])
print("RESULT", json.dumps(found))
"""


def test_the_client_sends_and_reads_all_sorts_of_configurations(wandb: Wandb, protocol: Protocol):
    common = {"program": "train.py", "command": ["${env}", "python", "a b.py", "${args}"], "description": "a: sweep"}
    x = {"x": {"values": ["007", "0.10", "a b", None, True, "ü"]}}
    configs = [
        {"method": "grid", "name": "one", "parameters": x, **common},
        {"method": "random", "parameters": {"x": {"min": 0, "max": 5}, "y": {"min": 0.0, "max": 1.0}}},
        {"method": "bayes", "metric": {**METRIC, "target": 0.1}, "parameters": NESTED, "run_cap": 3},
        {
            "method": "grid",
            "metric": METRIC,
            "early_terminate": {"type": "hyperband", "max_iter": 27, "s": 2, "eta": 3},
            "parameters": x,
        },
        {"method": "custom", "parameters": x},
    ]
    found = wandb.python(CLIENT, json.dumps(configs))
    assert [expected for _, _, expected, _ in found] == [6, None, 3, 6, None]
    assert found[0][3] == "one"
    for config, (name, read, _, _) in zip(configs, found, strict=True):
        assert {key: read[key] for key in config if key != "parameters"} == {
            key: value for key, value in config.items() if key != "parameters"
        }
        agent = protocol.agent(name)
        if config["method"] == "custom":
            assert protocol.heartbeat(agent) == []
            continue
        assert protocol.take_run(agent)["args"].keys() == config["parameters"].keys()
