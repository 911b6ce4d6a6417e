"""How numbers of things are told."""

from __future__ import annotations

import pytest

from wandb_submit.wording import counted


@pytest.mark.parametrize(("number", "words"), [(0, "0 runs"), (1, "1 run"), (2, "2 runs")])
def test_one_thing_is_not_several(number: int, words: str) -> None:
    assert counted(number, "run") == words
