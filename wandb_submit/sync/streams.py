"""A run's lines, packed into requests as W&B's clients pack theirs."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from wandb_submit.server.export import CONSOLE, EVENTS, HISTORY, OfflineRun, Source
from wandb_submit.sync.journal import Journal

# wandb-core sends up to 10 MB at once.
_MAX_BYTES = 2 * 1024 * 1024
_MAX_LINES = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """How far a file's lines have been sent: the number of the next one, and the digest of those before it."""

    following: int
    digest: str


@dataclass(kw_only=True, slots=True)
class Parcel:
    """One request's worth of lines.

    Attributes:
        files: W&B's chunks: by file, the number of the first line and the lines.
        positions: how far each file will have been sent when this has arrived.
    """

    files: dict[str, tuple[int, list[str]]] = field(default_factory=dict)
    positions: dict[str, Position] = field(default_factory=dict)
    size: int = 0
    lines: int = 0

    def takes(self, file: str, number: int, line: str) -> bool:
        """Whether the line can go with these: they are not too many, and those of a file follow each other."""
        offset, lines = self.files.get(file, (number, []))
        fits = self.size + len(line) <= _MAX_BYTES and self.lines < _MAX_LINES
        return not self.lines or (fits and number == offset + len(lines))

    def add(self, file: str, number: int, line: str, digest: str) -> None:
        """Puts a line in."""
        self.files.setdefault(file, (number, []))[1].append(line)
        self.positions[file] = Position(following=number + 1, digest=digest)
        self.size += len(line)
        self.lines += 1

    def chunks(self) -> dict[str, Mapping[str, object]]:
        """The `files` of a file_stream request."""
        return {file: {"offset": offset, "content": lines} for file, (offset, lines) in self.files.items()}


def parcels(source: Source, journal: Journal, run: OfflineRun) -> Iterator[Parcel]:
    """The lines of a run that have not been sent, in order."""
    parcel = Parcel()
    for file, number, line, digest in itertools.chain.from_iterable(
        _unsent(source, journal, run, file) for file in (HISTORY, EVENTS, CONSOLE)
    ):
        if not parcel.takes(file, number, line):
            yield parcel
            parcel = Parcel()
        parcel.add(file, number, line, digest)
    if parcel.lines:
        yield parcel


def _unsent(source: Source, journal: Journal, run: OfflineRun, file: str) -> Iterable[tuple[str, int, str, str]]:
    """The lines of a file beyond those sent; all of them, if those sent have become others since.

    A run that was started again from its beginning has other lines under the same numbers.
    """
    first, sent = journal.stream(run.number, file)
    digest = hashlib.sha256()
    if first and _digest_below(source, run, file, first, digest) != sent:
        first, digest = 0, hashlib.sha256()
    for number, line in source.lines(run, file, first):
        _feed(digest, number, line)
        yield file, number, line, digest.hexdigest()


def _digest_below(source: Source, run: OfflineRun, file: str, end: int, digest: hashlib._Hash) -> str:
    for number, line in source.lines(run, file):
        if number >= end:
            break
        _feed(digest, number, line)
    return digest.hexdigest()


def _feed(digest: hashlib._Hash, number: int, line: str) -> None:
    digest.update(f"{number} {line}\n".encode())
