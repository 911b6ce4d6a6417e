"""`early_terminate: hyperband`: runs that do badly at a band are asked to stop, by the values that they logged."""

from __future__ import annotations

import json
import os
import random
import signal
from array import array

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from offline.clients import Protocol, Wandb
from support import wait_until

from wandb_submit.server.engine.hyperband import Progress, bands, runs_to_stop
from wandb_submit.server.engine.package import load

CONFIG = {
    "method": "random",
    "metric": {"name": "loss", "goal": "minimize"},
    "early_terminate": {"type": "hyperband", "min_iter": 3, "eta": 3},
    "parameters": {"x": {"min": 0.0, "max": 1.0}},
}


def started(protocol: Protocol, sweep: str, count: int) -> list[str]:
    runs = [protocol.take_run(protocol.agent(sweep))["run_id"] for _ in range(count)]
    for run in runs:
        protocol.start_run(run)
    return runs


def rows(values: list[float], start: int = 0, name: str = "loss") -> list[dict]:
    return [{"_step": step, name: value} for step, value in enumerate(values, start)]


def asked_to_stop(protocol: Protocol, run: str) -> bool:
    return protocol.stream(run).json() == {"stopped": True}


def asked(protocol: Protocol, runs: list[str]) -> list[str]:
    return [run for run in runs if asked_to_stop(protocol, run)]


@pytest.mark.parametrize(
    ("metric", "sign", "logged"),
    [
        ({"name": "loss", "goal": "minimize"}, 1, "loss"),
        ({"name": "val.äcc/x y", "goal": "maximize"}, -1, "val.äcc/x y"),
        # What `define_metric(summary="max")` leaves in the summary is no row's.
        ({"name": "acc.max", "goal": "maximize"}, -1, "acc"),
    ],
)
def test_a_run_that_does_badly_at_a_band_is_stopped_and_the_others_go_on(
    protocol: Protocol, metric: dict, sign: int, logged: str
):
    sweep = protocol.create_sweep(**{**CONFIG, "metric": metric})
    runs = started(protocol, sweep, 4)
    for number, run in enumerate(runs):
        # Rows without the metric do not count.
        protocol.log(run, [{"_step": 0, "other": 1}, *rows([sign * number] * 2, 1, logged)])
    assert asked(protocol, runs) == []
    # The worst comes first: whenever the server looks, the better two are not among those to stop.
    for number, run in reversed(list(enumerate(runs))):
        protocol.log(run, rows([sign * number], 3, logged), offset=3)
    wait_until(lambda: asked(protocol, runs) == runs[2:], what="the worst runs are stopped")
    for run in runs:
        protocol.finish(run, 255 if run in runs[2:] else 0)
    assert sorted(protocol.states(sweep)) == ["finished", "finished", "killed", "killed"]
    assert protocol.sweep(sweep)["state"] == "RUNNING"


def test_a_run_that_crosses_several_bands_at_once_is_judged_at_each(protocol: Protocol):
    sweep = protocol.create_sweep(**CONFIG)
    first, fast, slow = started(protocol, sweep, 3)
    protocol.log(first, rows([1.0] * 4))
    protocol.log(slow, rows([9.0] * 2))
    protocol.log(fast, rows([5.0] * 30))
    wait_until(lambda: asked_to_stop(protocol, fast), what="the fast run is stopped")
    assert asked(protocol, [first, slow]) == []


def test_rows_that_come_twice_count_once_and_a_run_that_starts_again_counts_anew(protocol: Protocol):
    sweep = protocol.create_sweep(**CONFIG)
    good, bad = started(protocol, sweep, 2)
    protocol.log(good, rows([0.0] * 9))
    for _ in range(5):
        protocol.log(bad, rows([9.0] * 2))
    protocol.log(bad, rows([9.0]))
    protocol.log(bad, rows([9.0], 1), offset=1)
    third = started(protocol, sweep, 1)[0]
    protocol.log(third, rows([5.0] * 3))
    wait_until(lambda: asked_to_stop(protocol, third), what="the third run is stopped")
    assert not asked_to_stop(protocol, bad)
    protocol.log(bad, rows([9.0], 2), offset=2)
    wait_until(lambda: asked_to_stop(protocol, bad), what="the bad run is stopped")
    assert not asked_to_stop(protocol, good)


def test_bands_are_known_again_after_a_restart(serve, tmp_path):
    info = serve(tmp_path / "data")
    with Protocol(info) as protocol:
        sweep = protocol.create_sweep(**CONFIG)
        runs = started(protocol, sweep, 3)
        for number, run in enumerate(runs[:2]):
            protocol.log(run, rows([float(number)] * 3))
        protocol.log(runs[2], rows([7.0] * 2))
        protocol.finish(runs[0])
        wait_until(lambda: asked(protocol, runs[1:]) == [runs[1]], what="the second is stopped")
    os.kill(info.pid, signal.SIGKILL)
    with Protocol(serve(tmp_path / "data")) as protocol:
        assert asked(protocol, runs[1:]) == [runs[1]]
        protocol.log(runs[2], rows([7.0], 2), offset=2)
        wait_until(lambda: asked(protocol, runs[1:]) == runs[1:], what="the third is stopped")


@given(
    histories=st.lists(st.lists(st.integers(-5, 5), max_size=40), min_size=1, max_size=8),
    goal=st.sampled_from(["minimize", "maximize"]),
    how=st.sampled_from([{"min_iter": 2, "eta": 2}, {"max_iter": 27, "s": 2}, {"min_iter": 3, "strict": False}]),
)
@settings(max_examples=60, deadline=None)
def test_the_verdict_is_the_engines_on_whole_histories(histories: list[list[int]], goal: str, how: dict):
    config = {
        **CONFIG,
        "metric": {"name": "m", "goal": goal},
        "early_terminate": {"type": "hyperband", **how},
    }
    engine = load()
    states = [random.Random(number).choice(["running", "finished"]) for number in range(len(histories))]
    whole = [
        engine.SweepRun(name=str(number), state=state, history=[{"m": value} for value in values])
        for number, (values, state) in enumerate(zip(histories, states, strict=True))
    ]
    expected = [int(run.name) for run in engine.stop_runs(config, whole)]
    last = {
        number: max((band for band in bands(config) if band <= len(values)), default=0)
        for number, values in enumerate(histories)
    }
    kept = [
        # Of those that are over, what came after their last band is forgotten.
        Progress(state=state, values=array("d", values if state == "running" else values[: last[number]]))
        for number, (values, state) in enumerate(zip(histories, states, strict=True))
    ]
    assert runs_to_stop(config, enumerate(kept)) == expected


SCRIPT = """
import time, wandb
with wandb.init() as run:
    for step in range(600):
        run.log({"loss": run.config.x + 1 / (step + 1)})
        time.sleep(0.1)
"""


def test_a_script_is_stopped_by_the_client_with_all_that_it_logged(wandb: Wandb, protocol: Protocol):
    sweep = protocol.create_sweep(**{**CONFIG, "method": "grid", "parameters": {"x": {"values": [0.0, 1.0, 5.0]}}})
    for run in started(protocol, sweep, 2):
        protocol.log(run, rows([0.0] * 3))
        protocol.finish(run)
    order = protocol.take_run(protocol.agent(sweep))
    parameters = wandb.folder / "parameters.yaml"
    parameters.write_text(yaml.safe_dump({"wandb_version": 1, **order["args"]}))
    done = wandb.run(
        *("python", "-c", SCRIPT),
        WANDB_SWEEP_ID=sweep,
        WANDB_RUN_ID=order["run_id"],
        WANDB_PROJECT=protocol.project,
        WANDB_SWEEP_PARAM_PATH=str(parameters),
        WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL="1",
    )
    assert done.returncode != 0, done.stdout
    assert "KeyboardInterrupt" in done.stdout
    run = protocol.runs(sweep)[order["run_id"]]
    assert run["state"] == "killed"
    assert json.loads(run["summaryMetrics"])["loss"] > 5
    assert protocol.sweep(sweep)["state"] == "FINISHED"
