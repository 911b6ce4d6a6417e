"""The server's log: what happened, without keys, in lines and a file that do not grow without bound."""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

FILE = "server.log"
# What was in the file before it began anew.
_EARLIER = "server.log.1"
_MAX_BYTES = 5 * 1024 * 1024
_MAX_LINE = 2000
_LOOK_S = 0.2
_MAX_TRACEBACK = 10_000
# What may stand between // and @ in an address is a name and a password.
_PASSWORD = re.compile(r"//[^/@\s]+@")


class LineFormatter(logging.Formatter):
    """Writes records in one line each (tracebacks aside), cut where they are endless, and hides keys."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._key: str | None = None

    def hide(self, key: str) -> None:
        """Never writes this key."""
        self._key = key

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """One line."""
        line = super().formatMessage(record)
        line = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line[: _MAX_LINE + 1])
        return line if len(line) <= _MAX_LINE else line[:_MAX_LINE] + "…"

    def formatException(self, ei: object) -> str:  # noqa: N802 - logging's own name
        """A traceback; the end of it tells the most."""
        text = super().formatException(ei)  # type: ignore[arg-type]
        return text if len(text) <= _MAX_TRACEBACK else "…" + text[-_MAX_TRACEBACK:]

    def format(self, record: logging.LogRecord) -> str:
        """A record as it is written."""
        text = _PASSWORD.sub("//***@", super().format(record))
        return text.replace(self._key, "***") if self._key else text


class CappedHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to standard error; where that is the folder's log, the file begins anew when it has become large."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(sys.stderr)
        self._data_dir = data_dir

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record."""
        super().emit(record)
        try:
            self._begin_anew()
        except OSError:
            self.handleError(record)

    def _begin_anew(self) -> None:
        """Copies and empties the file instead of renaming it: everything else that is printed goes there, too."""
        descriptor = sys.stderr.fileno()
        if os.fstat(descriptor).st_size <= _MAX_BYTES:
            return
        path = self._data_dir / FILE
        if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
            shutil.copyfile(path, self._data_dir / _EARLIER)
            os.ftruncate(descriptor, 0)


def tail(path: Path, lines: int, *, follow: bool) -> Iterator[str]:
    """The last lines of a log, and then, if wanted, what is written to it from now on, without end."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - lines * _MAX_LINE))
        kept = file.read().decode(errors="replace").splitlines(keepends=True)
        yield from kept[len(kept) - min(lines, len(kept)) :]
        while follow:
            if more := file.read():
                yield more.decode(errors="replace")
            elif path.stat().st_size < file.tell():  # it has begun anew
                file.seek(0)
            else:
                time.sleep(_LOOK_S)


def set_up(data_dir: Path) -> LineFormatter:
    """Has everything that is logged written to standard error; returns what can be told the key."""
    formatter = LineFormatter()
    handler = CappedHandler(data_dir)
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # anybody can have it warn of what is not HTTP
    return formatter
