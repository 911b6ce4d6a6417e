"""How a sweep came out so far: its runs as the server tells them, and the best one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import yaml

from wandb_submit.errors import NotFoundError
from wandb_submit.metrics import Metric
from wandb_submit.spec import Endpoint, SweepRef
from wandb_submit.wandb_api.credentials import find_login
from wandb_submit.wandb_api.graphql import ask

_CONFIG = """
query Config($entity: String, $project: String, $sweep: String!) {
  project(name: $project, entityName: $entity) { sweep(sweepName: $sweep) { config } }
}
"""
_FIRST_RUN = """
query FirstRun($entity: String, $project: String, $filters: JSONString, $order: String, $defined: String) {
  project(name: $project, entityName: $entity) {
    plain: runs(filters: $filters, order: $order, first: 1) { edges { node { name displayName summaryMetrics } } }
    defined: runs(filters: $filters, order: $defined, first: 1) { edges { node { name displayName summaryMetrics } } }
  }
}
"""
_RUNS = """
query Runs($entity: String, $project: String, $sweep: String!, $filters: JSONString, $cursor: String) {
  project(name: $project, entityName: $entity) {
    sweep(sweepName: $sweep) { config }
    runs(filters: $filters, order: "+created_at", first: 200, after: $cursor) {
      pageInfo { endCursor hasNextPage }
      edges { node { name displayName state config summaryMetrics } }
    }
  }
}
"""
_CLIENTS_OWN = ("_wandb", "wandb_version")  # in a run's config, beside what people put there


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """One run as the server tells it.

    Attributes:
        initialized: whether a client has begun it by `wandb.init()`; until then it has no more than its parameters.
    """

    id: str
    name: str
    state: str
    config: Mapping[str, Any]
    metric: float | None
    initialized: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Best:
    """The best run of a sweep, and where its page is."""

    run: str
    name: str
    metric: str
    value: float
    url: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """How a sweep came out.

    Attributes:
        states: how many runs are in which state.
        metric: the name of the metric that the sweep optimises, if it names one.
        goal: `minimize` or `maximize`.
        best: the best finished run, if there is a metric and a run that has it.
        runs: all of them.
    """

    states: Mapping[str, int]
    metric: str | None = None
    goal: str | None = None
    best: RunResult | None = None
    parameters: Sequence[str] = field(default_factory=tuple)
    runs: Sequence[RunResult] = field(default_factory=tuple)


def read(ref: SweepRef, endpoint: Endpoint) -> Results:
    """Reads how a sweep came out so far.

    Raises:
        UnavailableError: if the server does not answer.
        NotFoundError: if the sweep is gone.
    """
    # Without `wandb`: of the runs that it lists in pages it drops the client's own part of the config (wandb 0.31).
    login, offline = find_login(endpoint), endpoint.server_dir is not None
    asked = {
        "entity": ref.entity,
        "project": ref.project,
        "sweep": ref.id,
        "filters": json.dumps({"sweep": ref.id}),
    }
    nodes: list[Mapping[str, Any]] = []
    more = True
    while more:
        project = ask(login, _RUNS, asked, offline=offline).get("project") or {}
        if project.get("sweep") is None:
            raise NotFoundError(f"no sweep {ref.path} at {ref.base_url} any more")
        page = project["runs"]
        nodes += [edge["node"] for edge in page["edges"]]
        more, asked["cursor"] = page["pageInfo"]["hasNextPage"], page["pageInfo"]["endCursor"]
    config = yaml.safe_load(project["sweep"]["config"]) or {}
    metric = Metric.of(config)
    told = [_told(node, metric) for node in nodes]
    return Results(
        states=Counter(run.state for run in told),
        metric=None if metric is None else metric.name,
        goal=None if metric is None else metric.goal,
        best=None if metric is None else _best(told, metric),
        parameters=tuple(config.get("parameters") or ()),
        runs=told,
    )


def _told(node: Mapping[str, Any], metric: Metric | None) -> RunResult:
    config = json.loads(node["config"] or "{}")
    return RunResult(
        id=node["name"],
        name=node["displayName"] or node["name"],
        state=node["state"],
        config={
            key: entry["value"] if isinstance(entry, dict) and "value" in entry else entry
            for key, entry in config.items()
            if key not in _CLIENTS_OWN
        },
        metric=None if metric is None else _measured(node, metric),
        # The client's, from `wandb.init()` on; a run that was handed out has its parameters alone.
        initialized="_wandb" in config,
    )


def _measured(node: Mapping[str, Any], metric: Metric) -> float | None:
    return metric.value(json.loads(node["summaryMetrics"] or "{}"))


def _best(runs: Iterable[RunResult], metric: Metric) -> RunResult | None:
    return metric.best(runs, lambda run: run.metric if run.state == "finished" else None)


def best(ref: SweepRef, endpoint: Endpoint) -> Best | None:
    """The best finished run of a sweep so far, without `wandb`; `None` if there is none, or nothing to tell it by.

    Unlike `results` it may be called in any thread: it leaves the environment alone.

    Raises:
        UnavailableError: if the server does not answer.
        NotLoggedInError: if it does not accept the key.
    """
    login, offline = find_login(endpoint), endpoint.server_dir is not None
    place = {"entity": ref.entity, "project": ref.project}
    data = ask(login, _CONFIG, {**place, "sweep": ref.id}, offline=offline)
    config = yaml.safe_load(((data.get("project") or {}).get("sweep") or {}).get("config") or "") or {}
    metric = Metric.of(config)
    if metric is None:
        return None
    asked = {
        "filters": json.dumps({"$and": [{"sweep": ref.id}, {"state": "finished"}]}),
        "order": metric.order,
        # W&B is not known to look into what `define_metric(summary=…)` leaves there.
        "defined": f"{metric.order}.{metric.extremum}",
    }
    project = ask(login, _FIRST_RUN, {**place, **asked}, offline=offline).get("project") or {}
    nodes = [edge["node"] for order in ("plain", "defined") for edge in (project.get(order) or {}).get("edges") or []]
    node = metric.best(nodes, lambda node: _measured(node, metric))
    if node is None or (value := _measured(node, metric)) is None:
        return None
    return Best(
        run=node["name"],
        name=node["displayName"] or node["name"],
        metric=metric.name,
        value=value,
        url=f"{_pages(login.base_url)}/{quote(ref.entity)}/{quote(ref.project)}/runs/{quote(node['name'])}",
    )


def _pages(base_url: str) -> str:
    """Where a server's pages are, as W&B's own are beside its API."""
    return "https://wandb.ai" if base_url == "https://api.wandb.ai" else base_url
