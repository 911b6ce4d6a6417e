"""Slips in a sweep's configuration that W&B takes in silence, or tells in the words of its JSON schema.

The keys and values are those of https://docs.wandb.ai/models/sweeps/sweep-config-keys and of the schema in W&B's
package `sweeps`, which need not be installed. An error is what cannot come out as it was meant. All else is a warning,
because W&B may know more than is listed here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from wandb_submit.wandb_api.sweep_commands import MACROS, command_errors, command_warnings

METHODS = ("grid", "random", "bayes", "custom")
GOALS = ("minimize", "maximize")
KEYS = (
    *("method", "parameters", "metric", "metrics", "program", "command", "name", "description", "project", "entity"),
    *("early_terminate", "run_cap", "controller", "scheduler", "job", "image_uri", "apiVersion", "kind"),
)
METRIC_KEYS = ("name", "goal", "target", "impute", "impute_while_running")
STOPPING_KEYS = ("type", "min_iter", "max_iter", "s", "eta", "strict")
PARAMETER_KEYS = (
    *("value", "values", "min", "max", "distribution", "probabilities"),
    *("mu", "sigma", "q", "a", "b", "parameters"),
)
DISTRIBUTIONS = (
    *("constant", "categorical", "categorical_w_probabilities", "uniform", "int_uniform", "q_uniform"),
    *("log_uniform", "q_log_uniform", "inv_log_uniform"),
    *("log_uniform_values", "q_log_uniform_values", "inv_log_uniform_values"),
    *("normal", "q_normal", "log_normal", "q_log_normal", "beta", "q_beta"),
)
_NUMBERS = ("min", "max", "mu", "sigma", "q", "a", "b")
_NUMBER = re.compile(r"([-+]?)(\d[\d_]*)?(\.\d*)?(?:[eE]([-+]?)(\d+))?")
# What people write in a sweep's file that other tools call so.
_ELSEWHERE = {
    "early_stop": "early_terminate",
    "early_stopping": "early_terminate",
    "hyperband": "early_terminate",
    "max_runs": "run_cap",
    "num_runs": "run_cap",
    "count": "run_cap",
    "max_trials": "run_cap",
    "strategy": "method",
    "script": "program",
}


@dataclass(kw_only=True, slots=True)
class Remarks:
    """What is to be said of a configuration.

    Attributes:
        errors: what cannot come out as it was meant.
        warnings: what probably will not.
    """

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def remarks(config: Mapping[str, object]) -> Remarks:
    """Looks for slips; what is missing altogether is not looked for."""
    said = Remarks()
    method = config.get("method")
    if method and method not in METHODS:
        said.errors.append(f"`method: {method}` does not exist{_near(method, METHODS)}")
    said.warnings += _unknown_keys("", config, KEYS, _ELSEWHERE)
    metric = config.get("metric")
    _check_metric("metric", metric, said)
    metrics = config.get("metrics")
    for number, each in enumerate(metrics if isinstance(metrics, list) else ()):
        _check_metric(f"metrics[{number}]", each, said)
    if _names_goal(config.get("goal")) and not (isinstance(metric, dict) and "goal" in metric):
        said.errors.append("`goal:` belongs below `metric:`, beside the `name:`")
    said.warnings += _stopping(config)
    said.warnings += _text_for_number("run_cap", config.get("run_cap"))
    _check_parameters(config.get("parameters"), said)
    said.errors += command_errors(config)
    said.warnings += command_warnings(config)
    return said


def _check_metric(place: str, metric: object, said: Remarks) -> None:
    if not isinstance(metric, dict):
        return
    if "goal" in metric and metric["goal"] not in GOALS:
        meant = _goal(metric["goal"])
        both = f" (there are {' and '.join(GOALS)})" if meant in GOALS else ""
        said.errors.append(f"`{place}.goal: {_shown(metric['goal'])}` does not exist: write {meant}{both}")
    misplaced = [key for key, value in metric.items() if key not in METRIC_KEYS and _names_goal(value)]
    if misplaced and "goal" not in metric:
        said.errors.append(f"`{place}.{misplaced[0]}` does not exist: write `goal: {_goal(metric[misplaced[0]])}`")
        metric = {key: value for key, value in metric.items() if key != misplaced[0]}
    said.warnings += _unknown_keys(f"{place}.", metric, METRIC_KEYS)
    said.warnings += _text_for_number(f"{place}.target", metric.get("target"))


def _stopping(config: Mapping[str, object]) -> Iterator[str]:
    stopping = config.get("early_terminate")
    if stopping is None:
        return
    if not isinstance(stopping, dict):
        yield "`early_terminate:` is not a mapping: write `{type: hyperband, min_iter: 3}`"
        return
    yield from _unknown_keys("early_terminate.", stopping, STOPPING_KEYS)
    if stopping.get("type") != "hyperband":
        kind = _shown(stopping.get("type"))
        yield f"`early_terminate.type: {kind}` does not exist: W&B stops runs early by hyperband alone"
    if "min_iter" not in stopping and not {"max_iter", "s"} <= set(stopping):
        yield "`early_terminate:` lacks `min_iter:`, or `max_iter:` and `s:`"
    for key in ("min_iter", "max_iter", "s", "eta"):
        yield from _text_for_number(f"early_terminate.{key}", stopping.get(key))
    if not config.get("metric"):
        yield "`early_terminate:` compares runs by `metric:`, which is missing: no run will be stopped"


def _check_parameters(parameters: object, said: Remarks, above: str = "") -> None:
    if not isinstance(parameters, dict):
        return
    for name, entry in parameters.items():
        place = f"{above}{name}"
        if not isinstance(entry, dict):
            continue
        said.warnings += _unknown_keys(f"{place}.", entry, PARAMETER_KEYS)
        kind = entry.get("distribution")
        if kind is not None and kind not in DISTRIBUTIONS:
            near = _near(kind, DISTRIBUTIONS, all_of_them=False)
            said.warnings.append(f"`{place}.distribution: {kind}` does not exist{near}")
        for key in _NUMBERS:
            said.errors += _text_for_number(f"{place}.{key}", entry.get(key), quoted=True)
        values = entry.get("values")
        for value in (entry.get("value"), *(values if isinstance(values, list) else ())):
            said.warnings += _text_for_number(f"{place}.value{'s' if isinstance(values, list) else ''}", value)
        _check_parameters(entry.get("parameters"), said, f"{place}.")


def _unknown_keys(
    place: str,
    found: Mapping[object, object] | Mapping[str, object],
    known: Collection[str],
    aliases: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Names the keys that were probably meant to be others; of the rest the server will tell."""
    for key in map(str, found):
        if key in known:
            continue
        macro = key if key in MACROS else f"args_{key}"
        if not place and macro in MACROS:
            yield f"`{key}:` is not a key: to change how runs get their parameters write `${{{macro}}}` in `command:`"
            continue
        meant = (aliases or {}).get(key.lower()) or next(iter(_close(key, known)), None)
        if meant:
            yield f"`{place}{key}:` does not exist: did you mean `{meant}:`?"
        elif place:
            yield f"`{place}{key}:` does not exist: there are {', '.join(known)}"


def _text_for_number(place: str, value: object, *, quoted: bool = False) -> Iterator[str]:
    """Tells a text that looks like a number: with an exponent, YAML 1.1 reads one only if it has point and sign."""
    if not isinstance(value, str) or not (parts := _NUMBER.fullmatch(value.strip())) or not (parts[2] or parts[3]):
        return
    sign, whole, rest, exponent_sign, exponent = parts.groups()
    if exponent is not None:
        meant = f"{sign}{whole or 0}{rest if rest and rest != '.' else '.0'}e{exponent_sign or '+'}{exponent}"
        yield f"`{place}: {value}` is a text in YAML: write {meant}"
    elif quoted:
        yield f"`{place}: {value!r}` is a text: write it without quotes"


def _names_goal(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"(max|min)(imi[sz]e|imum)?", value.lower()) is not None


def _goal(value: object) -> str:
    """Which goal was meant, or both."""
    text = str(value).strip().lower()
    return next((goal for goal in GOALS if text.startswith(goal[:3])), "minimize or maximize")


def _near(value: object, known: Collection[str], *, all_of_them: bool = True) -> str:
    close = _close(str(value), known)
    there = f": there are {', '.join(known)}" if all_of_them or not close else ""
    return f": did you mean {close[0]}?" if close else there


def _close(word: str, known: Collection[str]) -> list[str]:
    plain = {_plain(one): one for one in known}
    return [plain[near] for near in difflib.get_close_matches(_plain(word), plain, n=1, cutoff=0.75)]


def _plain(word: str) -> str:
    return re.sub(r"[\s_-]", "", word.lower())


def _shown(value: object) -> str:
    return "" if value is None else f"{value}"
