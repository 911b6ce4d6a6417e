"""A sweep that takes long to be judged and searched, and the other sweeps meanwhile."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from offline.in_process import App, running

from wandb_submit.server.engine.config import is_large
from wandb_submit.server.sweeps.search_process import SearchProcess

CREATE_SWEEP = """
mutation S($config: String) {
  upsertSweep(input: {config: $config, entityName: "local", projectName: "tests"}) { sweep { name } }
}
"""
CREATE_AGENT = 'mutation A($sweep: String!) { createAgent(input: {sweep: $sweep, host: "node"}) { agent { id } } }'
HEARTBEAT = 'mutation H($id: ID!) { agentHeartbeat(input: {id: $id, metrics: "{}", runState: "{}"}) { commands } }'

SMALL = json.dumps({"method": "random", "parameters": {"lr": {"min": 0.0, "max": 1.0}}})
PARAMETERS = json.dumps({"method": "random", "parameters": {f"p{n}": {"min": 0.0, "max": 1.0} for n in range(1500)}})
VALUES = json.dumps({"method": "grid", "parameters": {"x": {"values": [1.5] * 20_000}}})
REPEATED = "method: grid\nparameters:\n  x:\n    values: [&one [1, 2], *one, *one]\n"


def create(app: App, config: str) -> str:
    return str(app.graphql(CREATE_SWEEP, config=config)["upsertSweep"]["sweep"]["name"])


def orders(app: App, agent: str) -> list[dict[str, object]]:
    return list(json.loads(app.graphql(HEARTBEAT, id=agent)["agentHeartbeat"]["commands"]))


@pytest.mark.parametrize("config", [PARAMETERS, VALUES, REPEATED], ids=["parameters", "values", "repeated"])
def test_other_sweeps_go_on_while_a_large_one_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str):
    go_on = threading.Event()
    answered = SearchProcess._answered

    async def slow_if_large(self: SearchProcess, request: Mapping[str, object]) -> Mapping[str, object]:
        while is_large(str(request["config"])) and not go_on.is_set():
            await asyncio.sleep(0.01)
        return await answered(self, request)

    monkeypatch.setattr(SearchProcess, "_answered", slow_if_large)
    with running(tmp_path / "data") as app, ThreadPoolExecutor(2) as beside:
        large = beside.submit(create, app, config)
        try:
            sweep = beside.submit(create, app, SMALL).result(60)
            agent = app.graphql(CREATE_AGENT, sweep=sweep)["createAgent"]["agent"]["id"]
            # More than were drawn when it was made.
            taken = 0
            while taken < 150:
                taken += len(orders(app, agent))
            assert not large.done()
        finally:
            go_on.set()
        agent = app.graphql(CREATE_AGENT, sweep=large.result(120))["createAgent"]["agent"]["id"]
        assert orders(app, agent)[0]["type"] == "run"


@pytest.mark.parametrize("config", [PARAMETERS, VALUES], ids=["parameters", "values"])
def test_the_server_itself_reads_no_large_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str):
    config = json.dumps({**json.loads(config), "metric": {"name": "loss", "goal": "maximize"}, "run_cap": 7})
    with running(tmp_path / "data") as app:
        monkeypatch.setattr(yaml, "load", lambda *_, **__: pytest.fail("the server reads the YAML"))
        sweep = create(app, config)
        agent = app.graphql(CREATE_AGENT, sweep=sweep)["createAgent"]["agent"]["id"]
        assert orders(app, agent)[0]["type"] == "run"
        query = '{ project(name: "tests", entityName: "local") { sweep(sweepName: "%s") { %s } } }'
        asked = query % (sweep, "method config runCountExpected bestLoss")
        shown = app.graphql(asked)["project"]["sweep"]
        page = app.send("GET", f"/local/tests/sweeps/{sweep}")
    assert (shown["method"], shown["config"]) == (json.loads(config)["method"], config)
    assert shown["runCountExpected"] == (7 if shown["method"] == "random" else 1)
    assert page.status == 200


@pytest.mark.parametrize(
    ("text", "large"),
    [
        (SMALL, False),
        ("command: [python, ${program}, --glob, a*b, '* 2']", False),
        ("values: [2 * 3, 2*x]", False),
        ("a: &x 1\nb: *x", True),
        ("a: [*x]", True),
        ("- *x", True),
        (PARAMETERS, True),
    ],
)
def test_what_is_large_is_told_without_reading_it(text: str, large: bool):
    assert is_large(text) is large
