"""How strongly each parameter goes with the metric, by measures that anybody can check.

Ranks are used instead of values, so that neither an outlier nor a logarithmic scale decides. For numbers it is
Spearman's rank correlation, which sees whether the metric rises or falls with the parameter, but not a best value
in the middle. For names it is the share of the ranks' variance that lies between the groups, corrected for the
number of groupsXX, whose
root is comparable with a correlation. Both look at one parameter at a time.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from wandb_submit.server.web.trials import Trial
from wandb_submit.server.web.values import finite
from wandb_submit.server.web.wording import value_text

# Of fewer runs nothing can be said.
MIN_RUNS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Importance:
    """One parameter's.

    Attributes:
        strength: from 0 (none) to 1 (the metric's order follows from the parameter alone).
        correlation: of a numeric parameter, from -1 to 1.
        runs: of how many runs it was computed.
    """

    name: str
    strength: float
    correlation: float | None
    runs: int


def importances(names: Sequence[str], trials: Sequence[Trial]) -> list[Importance]:
    """Of each parameter that took more than one value, the strongest first."""
    found = [_importance(name, trials) for name in names]
    return sorted((one for one in found if one is not None), key=lambda one: -one.strength)


def _importance(name: str, trials: Sequence[Trial]) -> Importance | None:
    known = [trial for trial in trials if name in trial.parameters and trial.metric is not None]
    if len(known) < MIN_RUNS:
        return None
    values = [trial.parameters[name] for trial in known]
    metric = ranks([trial.metric or 0.0 for trial in known])
    numbers = [number for number in map(finite, values) if number is not None]
    if len(numbers) < len(values):
        groups = [value_text(value) for value in values]
        varies, correlation = len(set(groups)) > 1, None
        strength = math.sqrt(between(groups, metric))
    else:
        varies, correlation = len(set(numbers)) > 1, pearson(ranks(numbers), metric)
        strength = abs(correlation)
    return Importance(name=name, strength=strength, correlation=correlation, runs=len(known)) if varies else None


def ranks(values: Sequence[float]) -> list[float]:
    """The rank of each value; equal ones share the mean of theirs."""
    order = sorted(range(len(values)), key=values.__getitem__)
    found = [0.0] * len(values)
    first = 0
    while first < len(order):
        last = first
        while last + 1 < len(order) and values[order[last + 1]] == values[order[first]]:
            last += 1
        for place in range(first, last + 1):
            found[order[place]] = (first + last) / 2
        first = last + 1
    return found


def pearson(one: Sequence[float], other: Sequence[float]) -> float:
    """The linear correlation of two lists; 0 if one of them does not vary."""
    mean_one, mean_other = sum(one) / len(one), sum(other) / len(other)
    spread = math.sqrt(sum((x - mean_one) ** 2 for x in one) * sum((y - mean_other) ** 2 for y in other))
    if not spread:
        return 0.0
    return sum((x - mean_one) * (y - mean_other) for x, y in zip(one, other, strict=True)) / spread


def between(groups: Sequence[str], values: Sequence[float]) -> float:
    """The share of the values' variance that lies between the groups (epsilon squared, from 0 to 1).

    Where every value has a group of its own nothing can be said, and it is 0.
    """
    members: dict[str, list[float]] = defaultdict(list)
    for group, value in zip(groups, values, strict=True):
        members[group].append(value)
    mean = sum(values) / len(values)
    total = sum((value - mean) ** 2 for value in values)
    if not total or len(members) >= len(values):
        return 0.0
    inside = 0.0
    for own in members.values():
        own_mean = sum(own) / len(own)
        inside += sum((value - own_mean) ** 2 for value in own)
    return max(0.0, 1 - inside / total * (len(values) - 1) / (len(values) - len(members)))
