"""Versions of the `wandb` client that are known to go wrong in runs, and what to do about each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from wandb_submit.doctor.finding import Finding, Verdict

_UPGRADE = "`pip install --upgrade wandb` in the runs' environment"


@dataclass(frozen=True, kw_only=True, slots=True)
class Trap:
    """What goes wrong with some versions.

    Attributes:
        since: the first of them.
        until: the first without it.
        words: what goes wrong.
        remedy: what to do about it.
    """

    since: tuple[int, ...] = (0,)
    until: tuple[int, ...]
    words: str
    remedy: str = _UPGRADE


# From W&B's release notes (https://docs.wandb.ai/release-notes/sdk-releases) and the issues that are named.
TRAPS = (
    Trap(until=(0, 17, 2), words="fails with numpy 2", remedy=f"{_UPGRADE}, or numpy below 2"),  # wandb/wandb#7816
    Trap(
        until=(0, 22, 3),  # wandb/server#163
        words="`wandb login` refuses W&B's newer API keys, of 86 characters (`must be 40 characters long`)",
        remedy=f"{_UPGRADE}, or put the key into WANDB_API_KEY",
    ),
    Trap(since=(0, 24, 0), until=(0, 24, 1), words="may lose runs' data without a word"),  # W&B says so on its pages
    Trap(until=(0, 26), words="older than what the offline server is tested with (0.26 and newer)"),
)


def findings(version: str) -> Iterator[Finding]:
    """Tells what is known of a version."""
    number = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    for trap in TRAPS:
        if trap.since <= number < trap.until:
            words = f"wandb {version} {trap.words}"
            yield Finding(topic="runs' wandb", words=words, verdict=Verdict.WARNING, remedy=trap.remedy)
