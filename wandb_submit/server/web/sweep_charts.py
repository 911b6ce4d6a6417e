"""A sweep's charts, from its runs."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wandb_submit.metrics import CUT_SHORT, Metric, finite
from wandb_submit.server.storage.database import Transaction
from wandb_submit.server.web.charts.figure import Curve, Dot, Figure, plot
from wandb_submit.server.web.charts.parallel import Line, Parallel, parallel
from wandb_submit.server.web.curves import read_curve
from wandb_submit.server.web.goal import Goal
from wandb_submit.server.web.importance import Importance, importances
from wandb_submit.server.web.links import run_url
from wandb_submit.server.web.trials import Trial, ranked, thinned
from wandb_submit.server.web.wording import number_text, value_text

# What a browser draws at once, and an eye can tell apart.
_MAX_DOTS, _MAX_LINES = 300, 150
_MAX_CURVES = 8
_MAX_SCATTERS, _MAX_AXES = 12, 9

RunUrl = functools.partial[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepCharts:
    """All charts of one sweep; what there is nothing to draw for is None or empty."""

    progress: Figure | None
    curves: Figure | None
    scatters: tuple[Figure, ...]
    parallel: Parallel | None
    parallel_note: str
    importances: tuple[Importance, ...]


def sweep_charts(
    tx: Transaction, project: Mapping[str, str], trials: Sequence[Trial], parameters: Sequence[str], goal: Goal
) -> SweepCharts | None:
    """The charts of a sweep's metric; None if it has none.

    Args:
        tx: where the runs' curves are read.
        project: its `entity` and `name`, for links.
        trials: all runs of the sweep.
        parameters: the names of those that vary.
        goal: the metric, and which way is better.
    """
    if goal.metric is None or goal.measure is None:
        return None
    link = functools.partial(run_url, project["entity"], project["name"])
    best_first = ranked(trials, maximize=goal.maximize)
    lines = _parallel_lines(best_first, parameters[: _MAX_AXES - 1], goal.metric)
    return SweepCharts(
        progress=_progress(trials, goal, goal.metric, link),
        curves=_curves(tx, best_first, goal.measure, link),
        scatters=tuple(
            figure
            for name in parameters[:_MAX_SCATTERS]
            if (figure := _scatter(name, best_first, goal.metric, link)) is not None
        ),
        parallel=parallel([*parameters[: _MAX_AXES - 1], goal.metric], lines) if lines and parameters else None,
        parallel_note=_of(len(lines), len(best_first)),
        importances=tuple(importances(parameters, best_first)),
    )


def _progress(trials: Sequence[Trial], goal: Goal, metric: str, link: RunUrl) -> Figure | None:
    """The metric of each run in the order in which they ended, and the best so far."""
    ended = sorted(
        (trial for trial in trials if trial.ended and trial.metric is not None), key=lambda trial: trial.heartbeat_at
    )
    numbered = list(enumerate(ended, 1))
    best: list[tuple[float, float]] = []
    for number, trial in numbered:
        value = trial.metric or 0.0
        is_best = not best or (value > best[-1][1] if goal.maximize else value < best[-1][1])
        if is_best and trial.state not in CUT_SHORT:
            best.append((number, value))
    if not best:
        return None
    records = {number for number, _ in best}
    shown = set(thinned(range(1, len(ended) + 1), _MAX_DOTS)) | set(sorted(records)[-_MAX_DOTS:])
    return plot(
        "Best so far",
        curves=[Curve(name="best so far", points=[*best, (len(ended), best[-1][1])], css="best", steps=True)],
        dots=[
            Dot(x=number, y=trial.metric or 0.0, title=_title(trial, metric), css="dot", href=link(trial.name))
            for number, trial in numbered
            if number in shown
        ],
        x_label="runs, in the order in which they ended",
        y_label=metric,
        log_x=False,
        note=_of(len(shown), len(ended), "each that was the best so far among them"),
    )


def _curves(tx: Transaction, best_first: Sequence[Trial], metric: Metric, link: RunUrl) -> Figure | None:
    shown = best_first[:_MAX_CURVES]
    return plot(
        f"{metric.name} of the best runs" if len(best_first) > _MAX_CURVES else f"{metric.name} over steps",
        curves=[
            Curve(
                name=trial.display_name,
                points=read_curve(tx, trial.id, metric),
                css=f"c{number}",
                href=link(trial.name),
            )
            for number, trial in enumerate(shown)
        ],
        x_label="step",
        y_label=metric.name,
        log_x=False,
        note=_of(len(shown), len(best_first), "the best ones"),
    )


def _scatter(name: str, best_first: Sequence[Trial], metric: str, link: RunUrl) -> Figure | None:
    known = [trial for trial in best_first if name in trial.parameters]
    shown = thinned(known, _MAX_DOTS)
    if not any(finite(trial.parameters[name]) is None for trial in shown):
        places: list[float | str] = [finite(trial.parameters[name]) or 0.0 for trial in shown]
    else:
        places = [value_text(trial.parameters[name]) for trial in shown]
    # The best is drawn last, and so on top.
    dots = [
        Dot(
            x=place,
            y=trial.metric or 0.0,
            title=f"{_title(trial, metric)}, {name} = {value_text(trial.parameters[name])}",
            css="top" if trial is best_first[0] else "dot",
            href=link(trial.name),
        )
        for place, trial in zip(places, shown, strict=True)
    ]
    return plot(
        f"{metric} against {name}",
        dots=dots[::-1],
        x_label=name,
        y_label=metric,
        name_few=True,
        note=_of(len(shown), len(known)),
    )


def _parallel_lines(best_first: Sequence[Trial], parameters: Sequence[str], metric: str) -> list[Line]:
    complete = [trial for trial in best_first if all(name in trial.parameters for name in parameters)]
    shown = thinned(complete, _MAX_LINES)
    return [
        Line(
            values=[*(_axis_value(trial.parameters[name]) for name in parameters), trial.metric],
            rank=1 - place / max(len(shown) - 1, 1),
            title=_title(trial, metric),
        )
        for place, trial in enumerate(shown)
    ]


def _axis_value(value: object) -> object:
    number = finite(value)
    return value_text(value) if number is None else number


def _title(trial: Trial, metric: str) -> str:
    return f"{trial.display_name}: {metric} = {number_text(trial.metric or 0.0)}"


def _of(shown: int, there: int, which: str = "from the best to the worst") -> str:
    """A word about what is left out."""
    return "" if shown >= there else f"{shown} of {there:,} runs are drawn, {which}"
