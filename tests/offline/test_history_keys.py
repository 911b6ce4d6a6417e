"""Which metrics a run has logged: what is kept of it stays true, whatever happens to the run's rows."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from offline.clients import Protocol

from wandb_submit.server.request import history_keys
from wandb_submit.server.storage.database import Database

KEYS = 'query K($run: String!) { project(name: "tests", entityName: "local") { run(name: $run) { historyKeys } } }'
REWIND = """
mutation R($run: String!, $to: Float!) {
  rewindRun(input: {runName: $run, entityName: "local", projectName: "tests", metricName: "_step", metricValue: $to}) {
    rewoundRun { name }
  }
}
"""


def test_metrics_are_told_as_rows_come_are_replaced_and_go(protocol: Protocol):
    protocol.start_run("keys")

    def keys() -> dict[str, list[object]]:
        found = protocol.data(KEYS, run="keys")["project"]["run"]["historyKeys"]
        return {
            name: [{one["type"]: one["count"] for one in entry["typeCounts"]}, entry["previousValue"]]
            for name, entry in found["keys"].items()
        } | {"last": [found["lastStep"]]}

    assert keys() == {"last": [-1]}
    protocol.log("keys", [{"_step": step, "a": step, "b": {"c": "x"}} for step in range(3)])
    three = {"_step": [{"number": 3}, 2], "a": [{"number": 3}, 2], "b.c": [{"string": 3}, "x"], "last": [2]}
    assert keys() == keys() == three
    protocol.log("keys", [{"_step": 5, "a": "text", "d": [1, {"e": 2}]}], offset=3)
    four = {"_step": [{"number": 4}, 5], "a": [{"number": 3, "string": 1}, "text"], "d": [{"array": 1}, [1, {"e": 2}]]}
    assert keys() == {**three, **four, "last": [5]}
    # From the second row on, others come in their place.
    protocol.log("keys", [{"_step": 1, "f": True}], offset=1)
    two = {
        "_step": [{"number": 2}, 1],
        "a": [{"number": 1}, 0],
        "b.c": [{"string": 1}, "x"],
        "f": [{"boolean": 1}, True],
    }
    assert keys() == {**two, "last": [1]}
    protocol.data(REWIND, run="keys", to=0)
    assert keys() == {"_step": [{"number": 1}, 0], "a": [{"number": 1}, 0], "b.c": [{"string": 1}, "x"], "last": [0]}


def test_long_histories_are_read_in_pieces(protocol: Protocol):
    rows = history_keys._CHUNK * 2 + 500
    protocol.start_run("long")
    for first in range(0, rows, 1500):
        protocol.log(
            "long", [{"_step": step, "m": step} for step in range(first, min(first + 1500, rows))], offset=first
        )
    found = protocol.data(KEYS, run="long")["project"]["run"]["historyKeys"]
    assert found["keys"]["m"] == {
        "typeCounts": [{"type": "number", "count": rows}],
        "monotonic": False,
        "previousValue": rows - 1,
    }


def test_many_names_are_kept_of_few_runs_and_shown_without_repetition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(history_keys, "_MAX_NAMES", 250)
    database = Database(tmp_path / "server.sqlite3")
    row = json.dumps({f"m/{number}": number / 7 for number in range(100)})
    keys = history_keys.HistoryKeys()

    def work(tx):
        for run in range(5):
            tx.execute("INSERT INTO history VALUES (?, 'history', 0, 0, ?)", (run, row))
        return [keys.of(tx, run)["keys"] for run in range(5)]

    async def scene():
        return await database.write(work)

    try:
        shown = asyncio.run(scene())
    finally:
        database.close()
    assert all(len(names) == 100 for names in shown)
    assert len({id(entry["typeCounts"]) for entry in shown[0].values()}) == 1
    assert sum(len(found.counts) for found in keys._found.values()) == 200
