"""What a data folder remembers of the server's starts, so that the next one goes on as the last one did."""

from __future__ import annotations

import secrets
from pathlib import Path

from wandb_submit.server.control.settings import Choices, Settings
from wandb_submit.server.storage.database import Transaction


def settle(tx: Transaction, data_dir: Path, choices: Choices) -> Settings:
    """The settings of this start: what is asked for now, else what was asked for before, else the defaults.

    The port is that of last time, which others may have taken meanwhile; 0 if there was none.
    """
    given = choices.given()
    if_new = given.pop("host_if_new", None)
    for name, value in given.items():
        _remember(tx, name, value, replace=True)
    if if_new is not None:
        _remember(tx, "host", if_new, replace=False)
    # The searches' seed is drawn once.
    _remember(tx, "seed", str(secrets.randbits(32)), replace=False)
    known = {row["name"]: row["value"] for row in tx.rows("SELECT name, value FROM settings")}
    defaults = Settings(data_dir=data_dir)
    return Settings(
        data_dir=data_dir,
        host=known.get("host", defaults.host),
        port=int(known.get("port", 0)),
        seed=int(known["seed"]),
        crash_after_s=float(known.get("crash_after_s", defaults.crash_after_s)),
        gone_grace_s=float(known.get("gone_grace_s", defaults.gone_grace_s)),
        stop_grace_s=float(known.get("stop_grace_s", defaults.stop_grace_s)),
    )


def remember_port(tx: Transaction, port: int) -> None:
    """Notes the port that the server has got."""
    _remember(tx, "port", str(port), replace=True)


def _remember(tx: Transaction, name: str, value: str, *, replace: bool) -> None:
    how = "REPLACE" if replace else "IGNORE"
    tx.execute(f"INSERT OR {how} INTO settings (name, value) VALUES (?, ?)", (name, value))  # noqa: S608 - two words
