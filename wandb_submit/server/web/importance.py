"""How strongly each parameter goes with the metric, by measures that anybody can check.

Strength is the share of the variance of the metric's ranks that lies between groups of runs, corrected for the
number of groups (epsilon squared), and its root, which compares with a correlation. Named values are groups; numbers
are cut into a few groups of equal size, so that a best value in the middle shows as well as a trend. Trend is
Spearman's rank correlation. Ranks are used so that neither outliers nor logarithmic scales decide. Both look at one
parameter at a time.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from wandb_submit.metrics import finite
from wandb_submit.server.web.trials import Trial
from wandb_submit.server.web.wording import value_text

# Of fewer runs nothing can be said.
MIN_RUNS = 5
# Into how many groups numbers are cut, and how many runs each has at least.
_MAX_PIECES, _RUNS_PER_PIECE = 6, 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Importance:
    """One parameter's.

    Attributes:
        strength: from 0 (none) to 1 (the metric's order follows from the parameter alone).
        trend: of a numeric parameter, from -1 to 1.
        runs: of how many runs it was computed.
    """

    name: str
    strength: float
    trend: float | None
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
    numeric = len(numbers) == len(values)
    groups = pieces(numbers) if numeric else [value_text(value) for value in values]
    if len(set(numbers if numeric else groups)) < 2:
        return None
    return Importance(
        name=name,
        strength=math.sqrt(between(groups, metric)),
        trend=pearson(ranks(numbers), metric) if numeric else None,
        runs=len(known),
    )


def pieces(numbers: Sequence[float]) -> list[str]:
    """Numbers by groups: of equal ones if those are few, else of about equal size."""
    if len(set(numbers)) <= _MAX_PIECES:
        return [str(number) for number in numbers]
    count = min(_MAX_PIECES, max(2, len(numbers) // _RUNS_PER_PIECE))
    return [str(int(rank * count / len(numbers))) for rank in ranks(numbers)]


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
