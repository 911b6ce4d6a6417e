"""Bringing a sweep to another server: what there is to do, and doing it.

What happens is resumable at every moment, and repeating it sends what is new alone. The sweep is made there first
and paused, so that nobody's agent gets new points of it; then its runs follow, several at a time; and when all have
arrived and the sweep is over here, it ends there, too.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from wandb_submit.errors import NotLoggedInError, RefusedError, WandbSubmitError
from wandb_submit.server.export import OfflineSweep, Source
from wandb_submit.sync.connection import LostError, StoppedError
from wandb_submit.sync.journal import Journal, JournalError
from wandb_submit.sync.progress import Progress
from wandb_submit.sync.project import Project, SweepThere, as_sent
from wandb_submit.sync.run_upload import RunUpload

# These end the whole sync: further runs would fail in the same way.
_FATAL = (LostError, NotLoggedInError, JournalError, StoppedError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a sync has to do.

    Attributes:
        send: the runs to send, by their numbers here.
        unchanged: how many runs are there already, as they are here.
        unfinished: the names of the runs that have not ended here; a later sync brings them.
        files, bytes: what the runs to send have of files that are not there, and how large they are.
        artifacts: how many artifacts its runs have logged, which stay here.
        sweep_there: the sweep's id there, if an earlier sync has noted it.
    """

    sweep: OfflineSweep
    send: tuple[int, ...]
    unchanged: int
    unfinished: tuple[str, ...]
    files: int
    bytes: int
    artifacts: int
    sweep_there: str | None

    @property
    def runs(self) -> int:
        """How many runs the sweep has."""
        return len(self.send) + self.unchanged + len(self.unfinished)


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A run that could not be sent."""

    run: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a sync has done.

    Attributes:
        sweep_id: the sweep's id there.
        state: the sweep's state there.
        created: whether this sync has made the sweep.
        failures: the runs that could not be sent.
    """

    sweep_id: str
    state: str
    created: bool
    failures: tuple[Failure, ...]


def make_plan(source: Source, journal: Journal, sweep: OfflineSweep) -> Plan:
    """Compares the data folder with what is known to have been sent."""
    send: list[int] = []
    unfinished: list[str] = []
    unchanged = files = size = 0
    for number in source.runs_of(sweep):
        run = source.run(number)
        if not run.is_over:
            unfinished.append(run.name)
        elif journal.fingerprint(number) == run.fingerprint:
            unchanged += 1
        else:
            send.append(number)
            there = journal.files(number)
            missing = [file.size for file in run.files if there.get(file.name) != file.md5]
            files += len(missing)
            size += sum(missing)
    return Plan(
        sweep=sweep,
        send=tuple(send),
        unchanged=unchanged,
        unfinished=tuple(unfinished),
        files=files,
        bytes=size,
        artifacts=source.artifacts_of(sweep),
        sweep_there=journal.sweep("id"),
    )


def carry_out(
    plan: Plan,
    *,
    source: Source,
    journal: Journal,
    project: Project,
    progress: Progress,
    jobs: int,
    stop: threading.Event,
) -> Outcome:
    """Does what the plan says; a run that cannot be sent does not keep the others.

    Args:
        plan: what is to be done.
        source: where from.
        journal: what has been sent before; is kept up to date.
        project: where to.
        progress: is counted up.
        jobs: how many runs, and how many files, are sent at a time.
        stop: set when everything is to end; it is set here as well when going on makes no sense.

    Raises:
        RefusedError: if the server does not accept the sweep, or has lost it.
        WandbSubmitError: what ended everything.
    """
    there, created = _sweep_there(plan.sweep, journal, project)
    with ThreadPoolExecutor(jobs) as uploads, ThreadPoolExecutor(jobs) as runs:
        upload = RunUpload(
            source=source, journal=journal, project=project, sweep=there, progress=progress, uploads=uploads
        )
        futures = {runs.submit(upload.send, number): number for number in plan.send}
        try:
            failures = _collect(futures, source, progress)
        except BaseException:
            # Also for Ctrl-C: what waits does not begin, what is under way ends at its next step.
            stop.set()
            runs.shutdown(wait=False, cancel_futures=True)
            raise
    arrived = not failures and not plan.unfinished
    state = _settled(plan.sweep, there, journal, project) if arrived else there.state
    return Outcome(sweep_id=there.name, state=state, created=created, failures=tuple(failures))


def _collect(futures: dict[Future[None], int], source: Source, progress: Progress) -> list[Failure]:
    failures = []
    for future in as_completed(futures):
        error = future.exception()
        progress.add(runs=1)
        if error is None:
            continue
        if isinstance(error, _FATAL) or not isinstance(error, WandbSubmitError | OSError):
            raise error
        failures.append(Failure(run=_name(source, futures[future]), reason=str(error)))
    return failures


def _name(source: Source, number: int) -> str:
    try:
        return source.run(number).name
    except WandbSubmitError:
        return f"number {number}"


def _sweep_there(sweep: OfflineSweep, journal: Journal, project: Project) -> tuple[SweepThere, bool]:
    """The sweep at the other end, made if there is none, and whether it was made."""
    known = journal.sweep("id")
    there = project.find_sweep(known) if known else project.find_copy(sweep)
    if known and there is None:
        raise RefusedError(
            f"the sweep {known} that an earlier sync made in {project.place} is not there any more; to send everything "
            f"anew, delete what is left of its runs there and the record of it, {journal.path}"
        )
    created = there is None
    if there is None:
        there = project.create_sweep(sweep)
    journal.note_sweep("id", there.name)
    digest = hashlib.sha256(as_sent(sweep).encode()).hexdigest()
    if journal.sweep("sent") not in (None, digest):
        project.update_sweep(there, sweep)
    journal.note_sweep("sent", digest)
    if journal.sweep("state") is None:
        there = _paused(there, project)
        journal.note_sweep("state", "PAUSED")
    return there, created


def _paused(there: SweepThere, project: Project) -> SweepThere:
    """Keeps agents of the other server from starting runs of their own, which the sweep does not have here."""
    try:
        project.set_sweep_state(there, "PAUSED")
    except RefusedError:
        # W&B's clients do not pause a sweep that no agent has joined yet. Then people must keep agents from it.
        return there
    return SweepThere(storage_id=there.storage_id, name=there.name, state="PAUSED")


def _settled(sweep: OfflineSweep, there: SweepThere, journal: Journal, project: Project) -> str:
    """Ends the sweep there if it has ended here, once: whoever takes it up again there afterwards is left alone."""
    if not sweep.is_over or journal.sweep("state") == sweep.state:
        return there.state
    project.set_sweep_state(there, sweep.state)
    journal.note_sweep("state", sweep.state)
    return sweep.state


def counts(plan: Plan, failures: Sequence[Failure]) -> dict[str, int]:
    """The runs of a sync, by what became of them."""
    return {
        "sent": len(plan.send) - len(failures),
        "unchanged": plan.unchanged,
        "unfinished": len(plan.unfinished),
        "failed": len(failures),
    }
