"""The state of a run that clients are shown, in Python and as SQL."""

from __future__ import annotations

import sqlite3

# What clients are shown: a run that has announced that it will be preempted, and still runs, is `preempting`.
SHOWN_STATE = "CASE WHEN runs.state = 'running' AND runs.preempting THEN 'preempting' ELSE runs.state END"


def shown_state(run: sqlite3.Row) -> str:
    """The state that clients are shown; `SHOWN_STATE` is the same as SQL."""
    return "preempting" if run["state"] == "running" and run["preempting"] else str(run["state"])
