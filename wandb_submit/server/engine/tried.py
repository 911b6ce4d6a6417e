"""What the search knows of a sweep's earlier points, read from the server's database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from wandb_submit.server.database import Transaction
from wandb_submit.server.engine.answers import Point
from wandb_submit.server.runs.history import json_path
from wandb_submit.server.sweeps.config import Config, metric


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """An earlier point: its values, and how far its run has come."""

    config: Point
    state: str = "pending"
    metric: object = None


def tried(tx: Transaction, sweep: int, before: int, config: Config, prior: Sequence[int] | None) -> list[Tried]:
    """The points with a number below `before`, runs that joined the sweep with a config of their own, and prior ones.

    Args:
        tx: the database.
        sweep: its number.
        before: which points count.
        config: names the metric.
        prior: the runs to count as tried, where the sweep is not in the database yet.
    """
    name = str(metric(config).get("name"))
    rows = tx.rows(
        # A dot may part a nested metric, or belong to the name.
        "SELECT id, config, state, COALESCE(json_extract(summary, :path), json_extract(summary, :nested)) AS metric"
        " FROM runs WHERE sweep = :sweep OR id IN (SELECT run FROM prior_runs WHERE sweep = :sweep)"
        " OR id IN (SELECT value FROM json_each(:prior))",
        {
            "path": json_path(name),
            "nested": json_path(*name.split(".")),
            "sweep": sweep,
            "prior": json.dumps(prior or []),
        },
    )
    runs = {int(row["id"]): row for row in rows}
    found = []
    for row in tx.rows("SELECT config, run FROM points WHERE sweep = ? AND number < ?", (sweep, before)):
        run = runs.pop(row["run"], None)
        state, value = ("pending", None) if run is None else (run["state"], run["metric"])
        found.append(Tried(config=json.loads(row["config"]), state=state, metric=value))
    # Those that joined, prior ones, and those of points beyond.
    found += [
        Tried(config=json.loads(run["config"]), state=run["state"], metric=run["metric"]) for run in runs.values()
    ]
    return found
