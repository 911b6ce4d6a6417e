"""Which metric a sweep's page is about, and which way is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wandb_submit.metrics import Metric


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """A metric and whether more of it is better.

    Attributes:
        metric: its name; None if there is nothing to choose from.
        own: whether it is what the sweep's configuration names.
    """

    metric: str | None
    maximize: bool
    own: bool

    @property
    def measure(self) -> Metric | None:
        """The same as what runs have a value of."""
        return None if self.metric is None else Metric(name=self.metric, maximize=self.maximize)

    @property
    def word(self) -> str:
        """W&B's word for the direction."""
        return "maximize" if self.maximize else "minimize"


def goal_of(config: Mapping[str, object]) -> Goal:
    """What the sweep's configuration names."""
    metric = Metric.of(config)
    if metric is None:
        return Goal(metric=None, maximize=False, own=False)
    return Goal(metric=metric.name, maximize=metric.maximize, own=True)


def chosen_goal(own: Goal, asked: Mapping[str, str], logged: Sequence[str]) -> Goal:
    """What the page's reader asks for (`metric`, `goal`), or the sweep's own, or the first that was logged."""
    metric = asked.get("metric") or own.metric or next(iter(logged), None)
    if metric == own.metric and not asked.get("goal"):
        return own
    is_own = metric == own.metric and metric is not None
    maximize = asked["goal"] == "maximize" if asked.get("goal") else False
    return Goal(metric=metric, maximize=maximize, own=is_own and maximize == own.maximize)
