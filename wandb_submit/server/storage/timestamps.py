"""Times as W&B's API writes them."""

from __future__ import annotations

import datetime as dt


def iso(seconds: float | None) -> str | None:
    """A moment (seconds since 1970) as UTC text; None stays None."""
    if seconds is None:
        return None
    moment = dt.datetime.fromtimestamp(seconds, tz=dt.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
