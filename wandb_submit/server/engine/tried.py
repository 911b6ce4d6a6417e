"""What the search knows of a sweep's earlier points, read from the server's database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from wandb_submit.metrics import Metric
from wandb_submit.server.engine.config import Config
from wandb_submit.server.request.engine_answers import Point
from wandb_submit.server.runs.json_values import summary_number
from wandb_submit.server.storage.database import Transaction


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """An earlier point: its values, and how far its run has come."""

    config: Point
    state: str = "pending"
    metric: float | None = None


def tried(tx: Transaction, sweep: int, before: int, config: Config, prior: Sequence[int] | None) -> list[Tried]:
    """The points with a number below `before`, runs that joined the sweep with a config of their own, and prior ones.

    Args:
        tx: the database.
        sweep: its number.
        before: which points count.
        config: names the metric.
        prior: the runs to count as tried, where the sweep is not in the database yet.
    """
    metric = Metric.of(config)
    value, parameters = ("NULL", ()) if metric is None else summary_number(metric)
    rows = tx.rows(
        f"SELECT id, config, state, {value} AS metric FROM runs"  # noqa: S608 - no client's text in it
        " WHERE sweep = ? OR id IN (SELECT run FROM prior_runs WHERE sweep = ?)"
        " OR id IN (SELECT value FROM json_each(?))",
        (*parameters, sweep, sweep, json.dumps(prior or [])),
    )
    runs = {int(row["id"]): row for row in rows}
    found = []
    for row in tx.rows("SELECT config, run FROM points WHERE sweep = ? AND number < ?", (sweep, before)):
        run = runs.pop(row["run"], None)
        state, reached = ("pending", None) if run is None else (run["state"], run["metric"])
        found.append(Tried(config=json.loads(row["config"]), state=state, metric=reached))
    # Those that joined, prior ones, and those of points beyond.
    found += [
        Tried(config=json.loads(run["config"]), state=run["state"], metric=run["metric"]) for run in runs.values()
    ]
    return found
