"""A sweep's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wandb_submit.server.engine.config import Config, config_of
from wandb_submit.server.storage.database import Transaction
from wandb_submit.server.storage.refusals import Refusal
from wandb_submit.server.web.agents import AgentLine, agent_lines
from wandb_submit.server.web.goal import Goal, chosen_goal
from wandb_submit.server.web.links import run_url
from wandb_submit.server.web.run_table import RunTable, logged_metrics, run_table, sorted_metric
from wandb_submit.server.web.sweep_charts import SweepCharts, sweep_charts
from wandb_submit.server.web.sweep_line import SELECT, SweepLine, sweep_lines
from wandb_submit.server.web.trials import Trial, best_trial, read_trials


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepView:
    """What a sweep's page shows."""

    line: SweepLine
    config: str
    goal: Goal
    metrics: Sequence[str]
    best: Trial | None
    best_url: str | None
    charts: SweepCharts | None
    table: RunTable
    agents: Sequence[AgentLine]
    agents_total: int

    def run_url(self, name: str) -> str:
        """The page of one of its runs."""
        return run_url(self.line.entity, self.line.project, name)


def read_sweep(
    tx: Transaction, entity: str, project: str, sweep: str, asked: Mapping[str, str], data_dir: Path, now: float
) -> SweepView:
    """Reads a sweep's page.

    Args:
        tx: where to read.
        entity: of the project.
        project: its name.
        sweep: the sweep's id.
        asked: `metric` and `goal` of the charts, `sort` and `page` of the table.
        data_dir: the server's folder, with the runs' files.
        now: the moment.

    Raises:
        Refusal: 404 if there is no such sweep.
    """
    row = tx.one(
        f"{SELECT} WHERE projects.entity = ? AND projects.name = ? AND sweeps.id = ?", (entity, project, sweep)
    )
    if row is None:
        raise Refusal(f"there is no sweep {sweep} in {entity}/{project} here", status=404)
    (line,) = sweep_lines(tx, [row])
    metrics = logged_metrics(tx, row["number"])
    goal = chosen_goal(line.goal, asked, metrics)
    trials = read_trials(tx, row["number"], goal.measure, sorted_metric(asked))
    parameters = _varying(config_of(row), trials)
    best = best_trial(trials, maximize=goal.maximize)
    agents, agents_total = agent_lines(tx, row, data_dir, now)
    return SweepView(
        line=line,
        config=row["config"],
        goal=goal,
        metrics=metrics,
        best=best,
        best_url=run_url(entity, project, best.name) if best else None,
        charts=sweep_charts(tx, {"entity": entity, "name": project}, trials, parameters, goal),
        table=run_table(tx, trials, parameters, goal, metrics, asked),
        agents=agents,
        agents_total=agents_total,
    )


def _varying(config: Config, trials: Sequence[Trial]) -> list[str]:
    """The parameters that the sweep varies, in its configuration's order."""
    names = dict.fromkeys(_named(config.get("parameters")))
    if not names:
        names = dict.fromkeys(name for trial in trials[:1] for name in trial.parameters)
    return list(names)


def _named(parameters: object, prefix: str = "") -> list[str]:
    """The names in a sweep's `parameters`, but not of those that have one value."""
    found: list[str] = []
    for name, space in parameters.items() if isinstance(parameters, Mapping) else ():
        if not isinstance(space, Mapping):
            continue
        values = space.get("values")
        if "parameters" in space:
            found += _named(space["parameters"], f"{prefix}{name}.")
        elif "value" not in space and not (isinstance(values, list) and len(values) == 1):
            found.append(f"{prefix}{name}")
    return found
