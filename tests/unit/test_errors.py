from __future__ import annotations

import inspect
import pickle
import re

import pytest

from wandb_submit import errors
from wandb_submit.agent.protocol import BusyError, SweepEndedError, SweepGoneError
from wandb_submit.errors import UnavailableError, WandbSubmitError

CLASSES = [value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, Exception)]


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    assert errors.__doc__ is not None
    drawn = dict(re.findall(r"(\w+Error) +exit (\d+)", errors.__doc__))
    assert drawn == {cls.__name__: str(cls.exit_code) for cls in CLASSES}


def test_every_error_hangs_right_below_the_root() -> None:
    assert {cls.__bases__ for cls in CLASSES if cls is not WandbSubmitError} == {(WandbSubmitError,)}


def test_every_kind_of_error_has_an_exit_status_of_its_own() -> None:
    statuses = [cls.exit_code for cls in CLASSES]
    assert len(set(statuses)) == len(statuses)
    assert 0 not in statuses


def test_only_what_may_mend_itself_is_transient() -> None:
    assert [cls for cls in CLASSES if cls.transient] == [UnavailableError]


@pytest.mark.parametrize(
    ("error", "status", "transient"),
    [(SweepGoneError("gone"), 3, False), (SweepEndedError("over"), 6, False), (BusyError("busy"), 5, True)],
)
def test_the_agents_errors_mean_what_their_parents_mean(error: WandbSubmitError, status: int, transient: bool) -> None:
    assert (error.exit_code, error.transient) == (status, transient)


def test_an_error_survives_the_way_through_a_pickle() -> None:
    error = pickle.loads(pickle.dumps(BusyError("wait", 7.0)))
    assert (str(error), error.retry_after_s) == ("wait", 7.0)
