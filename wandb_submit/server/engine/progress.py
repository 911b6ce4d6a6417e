"""Follows the runs of sweeps that stop early or have a target, reading each row of a history once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from wandb_submit.metrics import Metric, finite
from wandb_submit.server.engine.config import Config, stops_early, target
from wandb_submit.server.engine.hyperband import Progress, bands, runs_to_stop
from wandb_submit.server.request.engine_answers import Ruling
from wandb_submit.server.runs.history import metric_values
from wandb_submit.server.runs.json_values import summary_number
from wandb_submit.server.runs.state import LIVE
from wandb_submit.server.storage.database import Transaction


@dataclass(kw_only=True, slots=True)
class Follower:
    """What is known of the runs of one sweep under one config."""

    config: Config
    _runs: dict[int, Progress] = field(default_factory=dict)
    _bands: Sequence[int] = ()

    def __post_init__(self) -> None:
        if stops_early(self.config):
            self._bands = bands(self.config)

    def look(self, tx: Transaction, sweep: int, changed: Mapping[int, int | None] | None) -> Ruling:
        """Reads what is new and says what follows.

        Args:
            tx: the database.
            sweep: its number.
            changed: the runs that sent something, with the row that it began with where that is known; None means
                that any may have.
        """
        value, parameters = summary_number(self._metric)
        rows = tx.rows(
            f"SELECT id, state, stop_requested_at IS NOT NULL AS stopping, {value} AS metric FROM runs"  # noqa: S608
            " WHERE sweep = ? AND (? OR id IN (SELECT value FROM json_each(?)))",
            (*parameters, sweep, changed is None, json.dumps(list(changed or ()))),
        )
        reached = False
        # From which band to which each run has come.
        crossed: dict[int, tuple[int, int]] = {}
        for row in rows:
            run = self._runs.setdefault(row["id"], Progress())
            run.state, run.stopping = row["state"], bool(row["stopping"])
            began = (changed or {}).get(row["id"])
            alive = run.state in LIVE
            if (began is not None and began < run.read) or (alive and run.cut):
                # It sends rows again that we know (the same ones after a lost answer, or others after a restart), or
                # it had been given up.
                self._runs[row["id"]] = run = Progress(state=run.state, stopping=run.stopping)
            before = self._passed(run)
            new, run.read = metric_values(tx, row["id"], self._metric, run.read)
            run.values.extend(new)
            if run.state == "running" and self._passed(run) > before:
                crossed[row["id"]] = (before, self._passed(run))
            reached = reached or self._reached([*new, row["metric"]])
            if not alive:
                # Of a run that is over, only what it had at the bands still counts.
                del run.values[self._last_band(run) :]
                run.cut = True
        return Ruling(stop=tuple(sorted(self._stopped(crossed))), reached=reached)

    def _stopped(self, crossed: Mapping[int, tuple[int, int]]) -> set[int]:
        """The runs to stop, now that some have crossed bands.

        The engine judges a run at the last band that it has reached. A client sends what it has logged every 15 s,
        and a fast run may cross several bands in between: it is judged at each of them, as if it had been asked in
        time. Otherwise it would be compared only where nobody else has come yet.
        """
        if not crossed:
            return set()
        stop = set(runs_to_stop(self.config, self._runs.items()))
        for passed in range(min(before for before, _ in crossed.values()), max(now for _, now in crossed.values())):
            band = self._bands[passed]
            judged = {run for run, (before, now) in crossed.items() if before <= passed < now - 1}
            if judged:
                then = ((number, self._at(run, band, number in judged)) for number, run in self._runs.items())
                stop.update(runs_to_stop(self.config, then))
        return stop

    @staticmethod
    def _at(run: Progress, band: int, judged: bool) -> Progress:
        """A run as it was at a band if it is judged there, else one that is only compared with."""
        if judged:
            return Progress(state=run.state, values=run.values[:band], stopping=run.stopping)
        return Progress(state="finished", values=run.values)

    @property
    def _metric(self) -> Metric:
        found = Metric.of(self.config)
        assert found is not None  # noqa: S101 - no other sweep is followed
        return found

    def _passed(self, run: Progress) -> int:
        """How many bands a run has reached."""
        return sum(band <= len(run.values) for band in self._bands)

    def _last_band(self, run: Progress) -> int:
        return max((band for band in self._bands if band <= len(run.values)), default=0)

    def _reached(self, values: Iterable[object]) -> bool:
        wanted = target(self.config)
        if wanted is None:
            return False
        numbers = (number for value in values if (number := finite(value)) is not None)
        return any(not self._metric.is_better(wanted, number) for number in numbers)
