"""A sweep's metric that the client summarizes (`define_metric`) or nests: everybody finds the same value of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from offline.clients import Protocol, Wandb
from offline.pages import parse
from offline.test_search import point, stock
from support import wait_until

from wandb_submit.server.control.lifecycle import ServerInfo
from wandb_submit.spec import Endpoint, SweepRef
from wandb_submit.wandb_api import results

GRID = {"method": "grid", "parameters": {"x": {"values": [1, 2]}}}
BAYES = {
    "method": "bayes",
    "metric": {"name": "acc", "goal": "maximize"},
    "parameters": {"x": {"min": 0.0, "max": 1.0}},
}
LOG = """
import json, os, sys
import wandb
sweep, defined, *names = sys.argv[1:]
# The best run by its last value is not the best by its extreme one.
for name, values in (("low", [1.0, 2.0, 2.0]), ("high", [1.0, 3.0, 1.5])):
    run = wandb.init(project="tests", id=f"{name}-{sweep}", settings=wandb.Settings(sweep_id=sweep))
    for metric, summary in json.loads(defined).items():
        run.define_metric(metric, summary=summary)
    run.log({"other": 1})
    for value in values:
        for key in reversed(names):
            value = {key: value}
        run.log(value)
    run.finish()
found = wandb.Api().sweep(f"local/tests/{sweep}")
print("RESULT", json.dumps(found.best_run().id.split("-")[0]))
"""


@pytest.mark.parametrize(
    ("metric", "goal", "defined", "names", "value"),
    [
        ("acc", "maximize", {}, ["acc"], ("low", 2)),
        ("acc", "maximize", {"acc": "max"}, ["acc"], ("high", 3)),
        ("acc", "maximize", {"*": "min,max"}, ["acc"], ("high", 3)),
        ("acc.max", "maximize", {"acc": "max,last"}, ["acc"], ("high", 3)),
        ("acc", "minimize", {"acc": "last"}, ["acc"], ("high", 1.5)),
        ("val.acc", "maximize", {}, ["val", "acc"], ("low", 2)),
        ("val.acc", "maximize", {"val.acc": "max"}, ["val", "acc"], ("high", 3)),
        ("val.acc", "maximize", {}, ["val.acc"], ("low", 2)),
    ],
)
def test_all_find_the_same_best_run(
    server: ServerInfo,
    protocol: Protocol,
    wandb: Wandb,
    metric: str,
    goal: str,
    defined: dict[str, str],
    names: list[str],
    value: tuple[str, float],
) -> None:
    sweep = protocol.create_sweep(**GRID, metric={"name": metric, "goal": goal})
    assert wandb.python(LOG, sweep, json.dumps(defined), *names) == value[0]
    assert protocol.sweep(sweep)["bestLoss"] == value[1]
    ref = SweepRef(entity="local", project="tests", id=sweep, base_url=server.url)
    endpoint = Endpoint(base_url=server.url, server_dir=Path(server.data_dir))
    found = results.read(ref, endpoint).best
    assert found is not None
    assert (found.id.split("-")[0], found.metric) == value
    best = results.best(ref, endpoint)
    assert best is not None
    assert (best.run.split("-")[0], best.value) == value
    page = parse(protocol.http.get(f"/local/tests/sweeps/{sweep}").text).text()
    assert f"Best {metric} {value[1]}" in " ".join(page.split())
    assert f"{metric} over steps" in page


def test_a_run_that_failed_or_was_stopped_is_nobodys_best(server: ServerInfo, protocol: Protocol) -> None:
    sweep = protocol.create_sweep(**GRID, metric={"name": "acc", "goal": "maximize"})
    agent = protocol.agent(sweep)
    for exit_code, value in ((0, 1.5), (1, 9.5)):
        run = protocol.take_run(agent)["run_id"]
        protocol.start_run(run)
        protocol.finish(run, exit_code, {"acc": value})
    ref = SweepRef(entity="local", project="tests", id=sweep, base_url=server.url)
    found = results.read(ref, Endpoint(base_url=server.url, server_dir=Path(server.data_dir))).best
    assert found is not None
    assert (found.metric, protocol.sweep(sweep)["bestLoss"]) == (1.5, 1.5)
    page = parse(protocol.http.get(f"/local/tests/sweeps/{sweep}").text).text()
    assert "Best acc 1.5" in " ".join(page.split())


@pytest.mark.parametrize("nested", [False, True])
def test_bayes_learns_from_what_define_metric_leaves_in_the_summary(
    server: ServerInfo, protocol: Protocol, nested: bool
) -> None:
    sweep = protocol.create_sweep(**BAYES)
    agent, found = protocol.agent(sweep), []
    for ended in range(16):
        wait_until(
            lambda ended=ended: [known for _, known in stock(Path(server.data_dir), sweep)] == [ended],
            what="the next point is chosen",
        )
        order = protocol.take_run(agent)
        found.append(point(order)["x"])
        value = 1 - (found[-1] - 0.3) ** 2
        protocol.start_run(order["run_id"])
        protocol.finish(order["run_id"], summary={"acc": {"max": value} if nested else value})
    assert len([x for x in found[8:] if abs(x - 0.3) < 0.1]) >= 6


def test_a_target_knows_a_metric_by_its_statistic(protocol: Protocol) -> None:
    target = {"name": "acc.max", "goal": "maximize", "target": 0.9}
    sweep = protocol.create_sweep(method="random", metric=target, parameters={"x": {"min": 0.0, "max": 1.0}})
    agent = protocol.agent(sweep)
    run = protocol.take_run(agent)["run_id"]
    protocol.start_run(run)
    protocol.log(run, [{"acc": 0.5}, {"other": 1}, {"acc": 0.95}, {"acc": 0.1}])
    protocol.finish(run, summary={"acc": {"max": 0.95}})
    wait_until(lambda: protocol.sweep(sweep)["state"] == "FINISHED", what="the sweep has ended")


@pytest.mark.parametrize(
    ("condition", "found"),
    [({"$gt": 2}, True), ({"$gt": 3}, False), (3, True), ({"max": 3}, True), ({"max": 4}, False), (None, False)],
)
def test_filters_know_a_metric_by_its_value_and_as_a_whole(protocol: Protocol, condition: object, found: bool) -> None:
    sweep = protocol.create_sweep(**GRID)
    protocol.start_run(f"one-{sweep}", sweep=sweep)
    protocol.finish(f"one-{sweep}", summary={"acc": {"max": 3}})
    query = """query Count($filters: JSONString) { project(name: "tests", entityName: "local") {
      runCount(filters: $filters) } }"""
    filters = {"$and": [{"sweep": sweep}, {"summary_metrics.acc": condition}]}
    assert protocol.data(query, filters=json.dumps(filters))["project"]["runCount"] == int(found)


def test_what_is_no_number_is_no_value(protocol: Protocol) -> None:
    sweep = protocol.create_sweep(**GRID, metric={"name": "acc", "goal": "maximize"})
    summaries = {"true": {"acc": True}, "text": {"acc": "zzz"}, "nan": {"acc": {"max": "NaN"}}, "one": {"acc": 0.5}}
    for name, summary in summaries.items():
        protocol.start_run(f"{name}-{sweep}", sweep=sweep)
        protocol.finish(f"{name}-{sweep}", summary=summary)
    assert protocol.sweep(sweep)["bestLoss"] == 0.5
    query = """query Runs($order: String, $filters: JSONString) { project(name: "tests", entityName: "local") {
      runs(order: $order, filters: $filters, first: 1) { edges { node { name } } } } }"""
    for order in ("-summary_metrics.acc", "+summary_metrics.acc"):
        data = protocol.data(query, order=order, filters=json.dumps({"sweep": sweep}))
        assert data["project"]["runs"]["edges"][0]["node"]["name"] == f"one-{sweep}"
