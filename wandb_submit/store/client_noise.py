"""What `wandb` and its libraries print into a run's log, which is not what the program itself said last.

The lines are known by wandb's prefix, by the logger's name, or by the frames of a traceback. Where a program does not
set up logging, Python prints a library's warnings as bare messages (`logging.lastResort`), which are known by their
words. wandb-core, a Go program, writes to the same standard error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

TRACEBACK = "Traceback (most recent call last):"
CHAINED = (
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
)
_LIBRARIES = r"(?:wandb|opentelemetry|urllib3)"
_LOGGER = rf"{_LIBRARIES}(?:\.[a-z0-9_]+)*(?![\w.])"  # a module's name, and not that of an exception
_LEVEL = r"(?:DEBUG|INFO|WARNING|ERROR|CRITICAL)"
_TELEMETRY = r"(?:metrics|logs|span|Span|traces)"
_SAID = re.compile(
    "|".join(
        (
            r"wandb:",
            rf".*\b{_LEVEL}\W+{_LOGGER}",
            rf".*\b{_LOGGER}\W+{_LEVEL}\b",
            # opentelemetry/exporter/otlp, opentelemetry/sdk/metrics
            rf".*Failed to (?:export|encode) {_TELEMETRY} batch\b",
            rf".*Dropping {_TELEMETRY} batch: ",
            rf".*Transient error .* encountered while exporting {_TELEMETRY} batch, retrying in ",
            rf".*Exception while exporting {_TELEMETRY}\b",
            r".*Exporter already shutdown, ignoring ",
            r".*OTLP client already shutdown, ignoring ",
            r".*Shutdown in progress, aborting retry\.",
            # urllib3/connectionpool.py
            r".*Retrying \(Retry\(total=",
            r".*Connection pool is full, discarding connection",
            # Go's net/http, by its logger
            r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d (?:https?|http2|net/http|Unsolicited response)\b",
            # Python's own, at the end of a process whose workers were killed
            r".*\bresource_tracker: ",
        )
    )
)
_IGNORED = re.compile(r"Exception ignored |Error in atexit\._run_exitfuncs")  # Python goes on, and ends as it would
_EXITS = re.compile(r"SystemExit\b")  # in a `with wandb.init()`; Python itself prints no traceback of it, but its text
_THREADS = "Exception in thread "
_FRAME = re.compile(r'  File "(?P<file>[^"]+)", line \d+')
_PYTHONS_OWN = re.compile(r"<frozen |.*/lib/python3\.\d+/(?!site-packages/|dist-packages/)")
_CLIENTS = re.compile(rf".*/(?:site|dist)-packages/{_LIBRARIES}/")
_GO_ENDS = re.compile(r"panic: |fatal error: |SIG[A-Z]+: ")
_GO_TRACE = re.compile(
    r"\[signal |\[recovered|goroutine \d+ |created by |\t|[\w./*()-]+\(.*\)$|exit status \d+|r\w+ +0x"
)
_WANDB_CORE = "github.com/wandb/wandb/"


def without_clients(lines: Sequence[str]) -> list[str]:
    """Leaves out of a log's lines those that the client and its libraries have printed.

    Args:
        lines: the lines that are not blank, in their order.
    """
    kept: list[str] = []
    at = 0
    while at < len(lines):
        if _IGNORED.match(lines[at]):
            told = at + 1  # a traceback, or the exception alone
            at = 1 + (_end_of_tracebacks(lines, told) if lines[told : told + 1] == [TRACEBACK] else told)
        elif lines[at] == TRACEBACK:
            end = _end_of_tracebacks(lines, at)
            if lines[end : end + 1] and _EXITS.match(lines[end]):
                last = max(begin for begin in range(at, end) if lines[begin] == TRACEBACK)
                kept += lines[at : max(at, last - 1)]  # what led to it in a chain, without the words that link them
                at = end + 1
                continue
            if not _is_clients(lines[at:end]):
                kept += lines[at:end]
                at = end
                continue
            if kept and kept[-1].startswith(_THREADS):
                kept.pop()
            at = end + 1  # with the exception's first line
        elif _GO_ENDS.match(lines[at]):
            end = next((at for at in range(at + 1, len(lines)) if not _GO_TRACE.match(lines[at])), len(lines))
            if not any(_WANDB_CORE in line for line in lines[at:end]):
                kept += lines[at:end]
            at = end
        else:
            if not _SAID.match(lines[at]):
                kept.append(lines[at])
            at += 1
    return kept


def _end_of_tracebacks(lines: Sequence[str], begin: int) -> int:
    """The index of the last exception's message, in a chain of tracebacks that begins at `begin`."""
    while True:
        end = next((at for at in range(begin + 1, len(lines)) if not lines[at].startswith(" ")), len(lines))
        follows = next((at for at in range(end, len(lines)) if lines[at] in (*CHAINED, TRACEBACK)), len(lines))
        if lines[follows : follows + 2] not in [[words, TRACEBACK] for words in CHAINED]:
            return end
        begin = follows + 1


def _is_clients(tracebacks: Sequence[str]) -> bool:
    """Whether the last traceback of a chain begins in the client or its libraries, frames of Python's own aside."""
    last = len(tracebacks) - 1 - tracebacks[::-1].index(TRACEBACK)
    return bool(_CLIENTS.match(next(_files(tracebacks[last:]), "")))


def _files(lines: Sequence[str]) -> Iterator[str]:
    """The files of a traceback's frames that are not Python's own."""
    for line in lines:
        if (frame := _FRAME.match(line)) and not _PYTHONS_OWN.match(frame["file"]):
            yield frame["file"]
