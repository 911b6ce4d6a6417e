"""What a check found."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Verdict(str, enum.Enum):
    """How bad it is; only what fails makes the whole fail."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One line of the examination.

    Attributes:
        topic: what was looked at.
        words: what was found.
        remedy: what to do about it; empty where all is well.
    """

    topic: str
    words: str
    verdict: Verdict = Verdict.OK
    remedy: str = ""
