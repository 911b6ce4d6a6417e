"""What a server answers to a request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered.

    Attributes:
        headers: with names in lower case.
    """

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def ok(self) -> bool:
        """Whether the server has done what it was asked."""
        return 200 <= self.status < 300

    @property
    def busy(self) -> bool:
        """Whether the same request may be answered later: wandb-core repeats its own for the same statuses."""
        return means_busy(self.status)

    @property
    def text(self) -> str:
        """The body, whatever it holds."""
        return self.body.decode(errors="replace")

    def json(self) -> object:
        """The body's JSON.

        Raises:
            ValueError: if it is not JSON.
        """
        value: object = json.loads(self.body)
        return value

    @property
    def complaint(self) -> str:
        """Why the server has not done what it was asked, in its own words."""
        try:
            text = error_messages(self.json())
        except ValueError:
            text = self.text[:200]
        return text.strip() or self.reason

    @property
    def retry_after_s(self) -> float | None:
        """How long the server asks to wait; the date form of `Retry-After` is rare enough to be left to our own."""
        value = self.headers.get("retry-after", "")
        return float(value) if value.isdecimal() else None


def means_busy(status: int) -> bool:
    """Whether an HTTP status says that the same request may be answered later."""
    return status in (408, 425, 429) or status >= 500


def error_messages(body: object) -> str:
    """The messages of a GraphQL error answer, or of W&B's plain `{"error": …}`."""
    if not isinstance(body, dict):
        return ""
    errors = body.get("errors") or body.get("error") or []
    errors = errors if isinstance(errors, list) else [errors]
    return "; ".join(str(entry.get("message") if isinstance(entry, dict) else entry) for entry in errors)
