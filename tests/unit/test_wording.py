"""How numbers of things are told."""

from __future__ import annotations

import signal

import pytest

from wandb_submit.text import alike, counted, exit_words


@pytest.mark.parametrize(("number", "words"), [(0, "0 runs"), (1, "1 run"), (2, "2 runs")])
def test_one_thing_is_not_several(number: int, words: str) -> None:
    assert counted(number, "run") == words


@pytest.mark.parametrize(
    ("exit_code", "words"),
    [
        (0, "finished"),
        (3, "failed with exit status 3"),
        (128, "failed with exit status 128"),
        (139, "failed with exit status 139 (128 + SIGSEGV)"),
        (255, "failed with exit status 255"),
        (-11, "killed by signal 11 (SIGSEGV)"),
        (-(signal.SIGRTMIN + 6), f"killed by signal {signal.SIGRTMIN + 6} (SIGRTMIN+6)"),
    ],
)
def test_a_signal_is_told_by_its_name(exit_code: int, words: str) -> None:
    assert exit_words(exit_code, None) == words


def test_sentences_that_differ_by_numbers_alone_are_alike() -> None:
    said = [("a", "3 runs failed"), ("b", "no data"), ("c", "12 runs failed")]
    assert alike(said) == [(["a", "c"], "3 runs failed"), (["b"], "no data")]
