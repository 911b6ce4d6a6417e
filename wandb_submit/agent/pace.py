"""How often an agent speaks to its server, and how patient it is."""

from __future__ import annotations

import random
from dataclasses import dataclass

_FEW = 10  # agents that register at once without a burden for any server


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """The intervals of one agent, in seconds.

    Attributes:
        heartbeat_s: between two heartbeats: the stock agent's interval, which W&B's servers are used to.
        answer_s: how long the server may take to answer.
        first_retry_s: how long after an answer that failed the agent asks again; the double after the next one.
        last_retry_s: what that grows to: still less often than the heartbeats of good days, and little time lost
            once the server is back.
        spread_s: how long each agent beyond the first few adds to the time in which they register.
        longest_spread_s: what that time grows to.
    """

    heartbeat_s: float = 5.0
    answer_s: float = 60.0
    first_retry_s: float = 1.0
    last_retry_s: float = 20.0
    spread_s: float = 0.02
    longest_spread_s: float = 30.0

    def before_registering_s(self, agents: int) -> float:
        """How long to wait before registering, where so many agents may start at the same moment."""
        span = max(agents - _FEW, 0) * self.spread_s
        return random.uniform(0.0, min(span, self.longest_spread_s))  # noqa: S311

    def until_heartbeat_s(self, *, at_work: bool) -> float:
        """How long to wait for the next heartbeat; differently each time, which spreads a submission's agents.

        While a run is at work an agent asks no more often than the stock agent: it only waits to be told to stop.
        """
        return self.heartbeat_s * (random.uniform(1.0, 1.2) if at_work else random.uniform(0.9, 1.1))  # noqa: S311

    def until_retry_s(self, failures: int, asked_for_s: float | None = None) -> float:
        """How long to wait after so many failures in a row.

        Args:
            failures: at least one.
            asked_for_s: how long the server asks us to wait, if it does: longer than that rather than shorter.
        """
        delay = min(self.first_retry_s * 2.0 ** min(failures - 1, 30), self.last_retry_s)
        return max(asked_for_s or 0.0, delay) * random.uniform(1.0, 1.5)  # noqa: S311
