"""When agents speak: a whole array that starts at the same moment does not register at the same moment."""

from __future__ import annotations

import pytest

from wandb_submit.agent.pace import Pace


@pytest.mark.parametrize(("agents", "most_s"), [(1, 0.0), (10, 0.0), (60, 1.0), (1010, 20.0), (10**6, 30.0)])
def test_registration_is_spread_in_proportion_to_the_array_and_bounded(agents: int, most_s: float) -> None:
    drawn = [Pace().before_registering_s(agents) for _ in range(200)]
    assert all(0 <= seconds <= most_s for seconds in drawn)
    assert most_s == 0 or max(drawn) - min(drawn) > most_s / 2


@pytest.mark.parametrize("failures", [1, 3, 30])
def test_what_the_server_asks_for_is_the_least_that_is_waited(failures: int) -> None:
    assert all(Pace().until_retry_s(failures, 40.0) >= 40.0 for _ in range(50))
