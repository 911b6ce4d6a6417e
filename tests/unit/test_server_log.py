"""The server's log: no keys, no endless lines, and a file that begins anew."""

from __future__ import annotations

import itertools
import logging
import sys
from pathlib import Path

import pytest

from wandb_submit.server.control import log

KEY = "0123456789" * 4


def written(message: str, *args: object, error: BaseException | None = None) -> str:
    formatter = log.LineFormatter()
    formatter.hide(KEY)
    info = None if error is None else (type(error), error, error.__traceback__)
    return formatter.format(logging.LogRecord("x", logging.WARNING, "f", 1, message, args, info))


@pytest.mark.parametrize("text", [f"http://api:{KEY}@host/graphql", f"?key={KEY}", f"Authorization: {KEY}", KEY])
def test_a_key_is_never_written(text: str) -> None:
    assert KEY not in written("a client said %s", text)
    assert KEY not in written("failed", error=ValueError(text))
    assert "other" not in written("see %s", "http://api:other@host/")


def test_what_a_client_says_stays_in_one_line_of_bounded_length() -> None:
    line = written("%s", "a\nERROR forged\r\x1b[2J\u2028\ud800")
    assert line.isprintable()
    assert "a\\nERROR forged\\r\\x1b[2J\\u2028\\ud800" in line
    assert len(written("%s", "x" * 10**6)) < 2100
    assert len(written("failed", error=ValueError("x" * 10**6))) < 15_000


def test_the_file_begins_anew_when_it_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / log.FILE
    monkeypatch.setattr(log, "_MAX_BYTES", 1000)
    with path.open("a") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        handler = log.CappedHandler(tmp_path)
        handler.setFormatter(log.LineFormatter())
        for number in range(100):
            handler.emit(logging.LogRecord("x", logging.INFO, "f", 1, f"line {number}", (), None))
            assert path.stat().st_size < 1200
        earlier = (tmp_path / "server.log.1").read_text().splitlines()
        now = path.read_text().splitlines()
        # No line is lost between the two.
        numbers = [int(line.rpartition(" ")[2]) for line in (*earlier, *now)]
        assert numbers == list(range(numbers[0], 100))
        # A file that is not the folder's own, such as a person's redirection, is left alone.
        path.rename(tmp_path / "mine.log")
        for _ in range(100):
            handler.emit(logging.LogRecord("x", logging.INFO, "f", 1, "line", (), None))
    assert (tmp_path / "mine.log").stat().st_size > 1200


def test_the_end_of_a_log_and_what_follows(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("".join(f"{number}\n" for number in range(100)))
    assert list(log.tail(path, 3, follow=False)) == ["97\n", "98\n", "99\n"]
    assert list(log.tail(path, 0, follow=False)) == []
    assert len(list(log.tail(path, 1000, follow=False))) == 100
    following = log.tail(path, 1, follow=True)
    assert next(following) == "99\n"
    with path.open("a") as file:
        file.write("more\n")
    assert next(following) == "more\n"
    path.write_text("anew\n")
    assert "".join(itertools.islice(following, 1)) == "anew\n"
