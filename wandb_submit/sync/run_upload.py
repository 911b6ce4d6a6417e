"""One run's way to the server: its record, its lines, its files, and last the word that it has ended."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, wait
from dataclasses import dataclass
from itertools import islice

from wandb_submit.errors import RefusedError
from wandb_submit.server.export import SUMMARY, OfflineFile, OfflineRun, Source
from wandb_submit.sync.connection import StaleAddressError
from wandb_submit.sync.journal import Journal
from wandb_submit.sync.progress import Progress
from wandb_submit.sync.project import Project, SweepThere
from wandb_submit.sync.streams import Parcel, parcels

# The addresses of uploads are good for a while only.
_FILES_AT_ONCE = 100
_ADDRESSES = 3
# Exit codes from which W&B tells how a run ended (FACTS: wandb-core sends 255 when interrupted, 254 when aborted).
_INTERRUPTED, _ABORTED = 255, 254


@dataclass(frozen=True, kw_only=True, slots=True)
class RunUpload:
    """What the uploads of one sweep's runs share.

    Attributes:
        uploads: sends files, several of them at a time.
        heartbeat_s: how often a run is said to be alive while large files are sent; a server gives up one that says
            nothing for minutes.
    """

    source: Source
    journal: Journal
    project: Project
    sweep: SweepThere
    progress: Progress
    uploads: Executor
    heartbeat_s: float = 30.0

    def send(self, number: int) -> None:
        """Sends what the server lacks of a run.

        Raises:
            RefusedError: if the server does not want it, or has another run of that id.
            UnavailableError: if the server does not answer.
            OSError: if a file cannot be read.
        """
        run = self.source.run(number)
        self._claim(run)
        self.project.upsert_run(run, self.sweep)
        last = Parcel()
        for parcel in parcels(self.source, self.journal, run):
            if last.lines:
                self._send_lines(run, last)
            last = parcel
        self._send_files(run)
        # Most runs are small: their lines and their end are one request.
        self._send_lines(run, last, end=True)
        self.journal.note_complete(number, run.fingerprint)

    def _claim(self, run: OfflineRun) -> None:
        """Makes sure that the run there is ours or nobody's."""
        if self.journal.knows(run.number):
            return
        sweep = self.project.sweep_of_run(run.name)
        if sweep not in (None, self.sweep.name):
            where = f"in sweep {sweep}" if sweep else "in no sweep"
            raise RefusedError(f"another run of that id is there already, {where}: delete it, or choose a --project")
        files = {} if sweep is None else self.project.run_files(run.name)
        self.journal.note_begun(run.number, files)

    def _send_lines(self, run: OfflineRun, parcel: Parcel, *, end: bool = False) -> None:
        files = parcel.chunks()
        body: dict[str, object] = {"files": files}
        if end:
            files[SUMMARY] = {"offset": 0, "content": [run.summary]}
            body["uploaded"] = [file.name for file in run.files]
            body.update(complete=True, exitcode=exit_code(run))
        self.project.stream(run.name, body)
        for file, position in parcel.positions.items():
            self.journal.note_stream(run.number, file, position.following, position.digest)
        self.progress.add(lines=parcel.lines, bytes_sent=parcel.size)

    def _send_files(self, run: OfflineRun) -> None:
        there = self.journal.files(run.number)
        wanted = iter([file for file in run.files if there.get(file.name) != file.md5])
        while batch := list(islice(wanted, _FILES_AT_ONCE)):
            for attempt in range(1, _ADDRESSES + 1):
                batch = self._send_batch(run, batch, last=attempt == _ADDRESSES)
                if not batch:
                    break

    def _send_batch(self, run: OfflineRun, files: Sequence[OfflineFile], *, last: bool) -> list[OfflineFile]:
        """Sends files; returns those whose addresses were not good any more."""
        addresses, headers = self.project.upload_addresses(run.name, [file.name for file in files])
        problems: list[Exception] = []
        stale: list[OfflineFile] = []

        def send(file: OfflineFile) -> None:
            _check(file)
            if file.name not in addresses:
                raise RefusedError(f"the server names no address for the file {file.name!r}")
            self.project.upload(addresses[file.name], headers, file, self.progress.add_bytes)
            self.journal.note_file(run.number, file.name, file.md5)
            self.progress.add(files=1)

        pending = [(file, self.uploads.submit(send, file)) for file in files]
        for file, future in pending:
            while not wait([future], timeout=self.heartbeat_s).done:
                self.project.stream(run.name, {})
            error = future.exception()
            if isinstance(error, StaleAddressError) and not last:
                stale.append(file)
            elif isinstance(error, Exception):
                problems.append(error)
        if problems:
            raise problems[0]
        return stale


def _check(file: OfflineFile) -> None:
    """A copy of the data folder may be incomplete."""
    try:
        size = file.path.stat().st_size
    except FileNotFoundError as error:
        raise RefusedError(f"its file {file.name!r} is missing from the data folder ({file.path})") from error
    if size != file.size:
        raise RefusedError(f"its file {file.name!r} has {size} bytes here and should have {file.size}: {file.path}")


def exit_code(run: OfflineRun) -> int:
    """The exit code that brings a run into the state there that it has here."""
    fixed = {"finished": 0, "killed": _INTERRUPTED, "crashed": _ABORTED}.get(run.state)
    if fixed is not None:
        return fixed
    return run.exit_code if run.exit_code not in (None, 0, _INTERRUPTED, _ABORTED) else 1
