"""The end of a run's console output, as plain text."""

from __future__ import annotations

import re

from wandb_submit.server.storage.database import Transaction

TAIL = 200
# A line may be a megabyte of a progress bar.
_MAX_LINE = 2000
# Colours and cursor movements (ECMA-48: CSI, OSC, and two-letter sequences), and other letters that no text has.
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def console_tail(tx: Transaction, run: int) -> list[str]:
    """The last lines that a run has printed."""
    rows = tx.rows(
        # As bytes, for SQLite cuts texts at a zero byte.
        "SELECT substr(CAST(line AS BLOB), 1, ?) AS line FROM console WHERE run = ? ORDER BY number DESC LIMIT ?",
        (_MAX_LINE, run, TAIL),
    )
    return [plain(bytes(row["line"] or b"").decode(errors="replace")) for row in reversed(rows)]


def plain(line: str) -> str:
    """A line without colours; of one that was written over, what is seen last."""
    text = _ESCAPES.sub("", line.rstrip("\r\n"))
    return _CONTROLS.sub("", text.rpartition("\r")[2])
