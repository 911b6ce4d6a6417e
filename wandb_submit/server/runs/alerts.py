"""What runs want people to hear of, by `run.alert()`: kept, logged and shown on the run's page, but sent to nobody."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.request.context import Context
from wandb_submit.server.runs.run import required

_MS = 1000  # what the client gives `waitDuration` in (wandb 0.31)
_log = logging.getLogger(__name__)


def notify_alert(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Mutation `notifyScriptableRunAlert`: keeps an alert, unless the run gave one of that title just now."""
    values = arguments.nested("input")
    name, title, text = (values.required_text(key) for key in ("runName", "title", "text"))
    row = required(context.tx, values.required_text("entityName"), values.required_text("projectName"), name)
    wait_s = values.number("waitDuration") / _MS if "waitDuration" in values else 0
    since = context.tx.one("SELECT MAX(at) AS at FROM alerts WHERE run = ? AND title = ?", (row["id"], title))
    if since is None or since["at"] is None or context.now - since["at"] >= wait_s:
        severity = values.text("severity") or "INFO"
        context.tx.execute(
            "INSERT INTO alerts (run, at, severity, title, text) VALUES (?, ?, ?, ?, ?)",
            (row["id"], context.now, severity, title, text),
        )
        _log.warning("run %s alerts (%s): %.200r: %.500r", name, severity, title, text)
    return {"success": True}
