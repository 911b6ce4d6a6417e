"""Tells what is wrong with a proposed sweep."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping

from wandb_submit.metrics import Metric
from wandb_submit.server.engine.config import METHODS, Config, searched_here
from wandb_submit.server.engine.grid import Grid, read_grid
from wandb_submit.server.engine.hyperband import bands
from wandb_submit.server.engine.package import load, plain, sentence, too_large, unfit
from wandb_submit.server.engine.space import read_space, sample
from wandb_submit.server.request.engine_answers import Verdict

# What the database can hold; nobody will see the end of such a grid.
_MAX_SIZE = 2**62


def judge(config: Config) -> Verdict:
    """Tells what W&B's schema says of a sweep, and whether the engine can search it at all.

    W&B takes a sweep that only breaks its schema, and shows what is wrong as warnings; so does this server, as
    long as the engine is able to draw a point.
    """
    try:
        violations = [*load().schema_violations_from_proposed_config(dict(config))]
    except Exception as error:  # noqa: BLE001 - the engine raises whatever a malformed config trips over
        # Which parameter it is does not end the list: what else is wrong is told with it.
        violations = []
        errors = [sentence(error), *_errors(config)]
    else:
        errors = _errors(config)
    if errors:
        # What the schema says may explain the errors, or be one more problem of the config.
        return Verdict(errors=tuple(dict.fromkeys((*violations, *errors))))
    size = None
    if config.get("method") == "grid" and searched_here(config):
        size = min(_MAX_SIZE, read_grid(_parameters(config)).size)
    return Verdict(warnings=tuple(dict.fromkeys((*violations, *_remarks(config)))), grid_size=size)


def _errors(config: Config) -> list[str]:
    """All that keeps a sweep from being searched."""
    errors = []
    method = config.get("method")
    if method not in (*METHODS, "custom"):
        errors.append(f"method {method!r}: this server searches by {', '.join(METHODS)}")
    cap = config.get("run_cap")
    if cap is not None and (not isinstance(cap, int) or isinstance(cap, bool) or cap < 1):
        errors.append(f"run_cap must be a whole number from 1 on, not {cap!r:.60}")
    if unfit(config.get("metric")) is not None:
        errors.append("metric.target must be a finite number that a double can hold (up to 1.8e308)")
    if config.get("early_terminate") is not None:
        try:
            bands(config)
        except Exception as error:  # noqa: BLE001 - as above
            errors.append(f"early_terminate: {sentence(error)}")
    if not searched_here(config):
        return errors
    parameters = config.get("parameters")
    if not isinstance(parameters, dict) or not parameters:
        return [*errors, "parameters must name at least one parameter"]
    broken = _broken(config, parameters)
    if broken:
        return [*errors, *broken]
    if method == "bayes" and Metric.of(config) is None:
        errors.append("bayes needs a metric with a name")
    if method == "bayes" and not read_space(parameters).searchable_params:
        errors.append("bayes needs at least one parameter that is not constant")
    return errors


def _broken(config: Config, parameters: Mapping[str, object]) -> list[str]:
    """What is wrong with the parameters, each looked at alone if there is something."""
    if config.get("method") != "grid":
        with contextlib.suppress(Exception):  # whatever the engine raises: below, it is told of which parameter
            drawn = json.loads(json.dumps(sample(read_space(parameters), 1), default=plain))
            if unfit(parameters) is None and unfit(drawn) is None:
                return []
    return [problem for name, space in parameters.items() for problem in _problems(config, name, space)]


def _problems(config: Config, name: object, space: object) -> list[str]:
    """What is wrong with one parameter: whether a point of it alone can be drawn, and sent."""
    alone: dict[str, object] = {"method": "grid" if config.get("method") == "grid" else "random"}
    try:
        if unfit(space) is not None:
            return [f"parameter {name!r} holds a number that is not finite, or too large for a double (1.8e308)"]
        alone["parameters"] = Grid({str(name): space}).block(0) if alone["method"] == "grid" else {name: space}
        drawn = load().next_runs(alone, [], n=1)
        if drawn[0] is None:
            return [f"parameter {name!r} has no value at all"]
        if unfit(json.loads(json.dumps(drawn[0].config, default=plain))) is not None:
            return [too_large(str(name))]
    except Exception as error:  # noqa: BLE001 - as above
        said = sentence(error)
        return [said if str(name) in said else f"parameter {name!r}: {said}"]
    return []


def _parameters(config: Config) -> Mapping[str, object]:
    found = config["parameters"]
    assert isinstance(found, dict)  # noqa: S101 - `_errors` has looked
    return found


def _remarks(config: Config) -> list[str]:
    """What the schema does not say, and a user would wonder about."""
    remarks = []
    if config.get("method") == "bayes" and '"probabilities"' in json.dumps(config, default=str):
        remarks.append("bayes takes the values of a parameter with probabilities as equally probable")
    if config.get("method") == "custom" and config.get("scheduler") is None:
        remarks.append("method custom: this server hands out only runs that are enqueued")
    return remarks
