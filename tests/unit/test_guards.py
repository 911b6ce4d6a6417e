from __future__ import annotations

import pytest

from wandb_submit.agent import guards
from wandb_submit.agent.guards import FailureGuard


def record(guard: FailureGuard, outcomes: str) -> list[bool]:
    """Records runs, `x` for a failed one; tells after which of them the agent should stop."""
    return [guard.record(failed=outcome == "x") is not None for outcome in outcomes]


@pytest.fixture
def old(monkeypatch: pytest.MonkeyPatch) -> FailureGuard:
    """The guard of an agent whose first minute is over."""
    monkeypatch.setattr(guards, "FLAPPING_WINDOW_S", -1.0)
    return FailureGuard()


def test_an_agent_whose_runs_succeed_goes_on() -> None:
    assert not any(record(FailureGuard(), 20 * "."))


def test_three_failures_in_the_first_minute_are_flapping() -> None:
    assert record(FailureGuard(), "xxx") == [False, False, True]


def test_successes_in_between_do_not_stop_the_flapping() -> None:
    assert record(FailureGuard(), "x..x..x")[-1]


def test_the_verdict_names_the_variable_that_lifts_it() -> None:
    guard = FailureGuard()
    record(guard, "xx")
    assert "WANDB_AGENT_DISABLE_FLAPPING" in str(guard.record(failed=True))


def test_a_success_is_no_reason_to_stop_even_after_many_failures() -> None:
    guard = FailureGuard()
    record(guard, "xxx")
    assert guard.record(failed=False) is None


def test_flapping_can_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_AGENT_DISABLE_FLAPPING", "true")
    assert record(FailureGuard(), "xxxxx") == [False, False, False, False, True]


def test_after_the_first_minute_five_failures_are_too_many(old: FailureGuard) -> None:
    assert record(old, "xxxxx") == [False, False, False, False, True]


def test_failures_among_as_many_successes_are_borne(old: FailureGuard) -> None:
    assert not any(record(old, "......xxxxx"))


@pytest.mark.parametrize(("named", "borne"), [("2", 1), ("8", 7), ("", 4)])
def test_how_many_failures_are_borne_can_be_set(
    named: str, borne: int, old: FailureGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_AGENT_MAX_INITIAL_FAILURES", named)
    assert record(FailureGuard(), (borne + 1) * "x") == [*borne * [False], True]


def test_a_number_that_is_none_means_the_default_as_to_the_stock_agent(
    old: FailureGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_AGENT_MAX_INITIAL_FAILURES", "many")
    assert record(FailureGuard(), "xxxxx") == [False, False, False, False, True]


def test_runs_and_failures_are_counted() -> None:
    guard = FailureGuard()
    record(guard, ".x.")
    assert (guard.finished, guard.failed) == (3, 1)


def test_a_run_that_was_stopped_has_neither_failed_nor_succeeded() -> None:
    guard = FailureGuard()
    assert [guard.record(failed=False, stopped=True) for _ in range(9)] == [None] * 9
    assert (guard.finished, guard.failed, guard.has_succeeded) == (9, 0, False)
