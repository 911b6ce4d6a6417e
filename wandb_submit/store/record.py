"""A submission's record: what was asked for and which jobs it became; how submissions are found by their folders."""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from wandb_submit.errors import NotFoundError
from wandb_submit.spec import Endpoint, SweepRef
from wandb_submit.store import paths as layout
from wandb_submit.store.paths import SubmissionPaths
from wandb_submit.system.files import is_full, keep_out_of_git, unwritable, write_private

VERSION = 1

# Without the letters and digits that people mistake for one another.
_ID_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmissionRecord:
    """What `submission.json` holds.

    Attributes:
        jobs: the scheduler's ids of the array tasks, in the order of the array.
        resources: what each task was given, for people to read.
        runs_left: how many runs the sweep had still to hand out then; `None` if that has no bound.
        runs_total: how many the sweep has in all; `None` if that is not known.
        agent: whose agents its tasks run; of the runs of W&B's own, `wandb`, nothing is on record.
    """

    id: str
    created: str
    executor: str
    sweep: SweepRef
    endpoint: Endpoint
    workdir: str
    array: str
    jobs: tuple[str, ...]
    resources: Mapping[str, Any]
    runs_left: int | None = None
    runs_total: int | None = None
    agent: str = "native"
    version: int = VERSION


def new_id() -> str:
    """A short random id for a submission."""
    return "".join(secrets.choice(_ID_ALPHABET) for _ in range(6))


def elsewhere(error: OSError) -> str:
    """What to do where a submission's folder cannot be written to."""
    room = "make room there, or " if is_full(error) else ""
    return f"{room}submit from a folder that you may write to, or name one in WANDB_SUBMIT_DIR"


def create_folder(home: Path, submission_id: str) -> SubmissionPaths:
    """Makes a submission's folder, readable by its owner alone.

    Raises:
        ConfigError: if it cannot be made.
    """
    paths = SubmissionPaths(home / submission_id)
    try:
        home.mkdir(parents=True, exist_ok=True)
        keep_out_of_git(home)
        paths.folder.mkdir(mode=0o700)
        paths.jobs.mkdir(mode=0o700)
    except OSError as error:
        raise unwritable(paths.folder, error, elsewhere(error)) from error
    return paths


def save(paths: SubmissionPaths, record: SubmissionRecord) -> None:
    """Writes the record, whole or not at all."""
    text = json.dumps(dataclasses.asdict(record), indent=2, default=str) + "\n"
    write_private(paths.submission, text)


def now() -> str:
    """The present moment in UTC, as the records write it."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def load(paths: SubmissionPaths) -> SubmissionRecord:
    """Reads a submission's record.

    Raises:
        NotFoundError: if there is none, or it is not readable as one.
    """
    try:
        data = json.loads(paths.submission.read_text())
        if data["version"] > VERSION:
            raise NotFoundError(f"{paths.submission} was written by a newer wandb-submit: upgrade to read it")
        endpoint = data["endpoint"]
        server_dir = endpoint["server_dir"]
        return SubmissionRecord(
            **{
                **data,
                "sweep": SweepRef(**data["sweep"]),
                "endpoint": Endpoint(
                    base_url=endpoint["base_url"], server_dir=Path(server_dir) if server_dir else None
                ),
                "jobs": tuple(data["jobs"]),
            }
        )
    except FileNotFoundError as error:
        raise NotFoundError(f"no submission {paths.id} in {paths.folder.parent}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotFoundError(f"cannot read {paths.submission}: {error}") from error


def all_submissions(home: Path | None = None) -> list[SubmissionPaths]:
    """The submissions below a home folder (default: that of the current folder), newest last."""
    folder = layout.home() if home is None else home
    found = [path.parent for path in folder.glob("*/submission.json")]
    # By the record, which is written once; its folder changes with every agent that starts.
    return sorted(map(SubmissionPaths, found), key=lambda paths: paths.submission.stat().st_mtime)


def find(submission_id: str | None, home: Path | None = None) -> SubmissionPaths:
    """Finds a submission by its id or the beginning of it; without one, the newest.

    Raises:
        NotFoundError: if there is none, or several begin so.
    """
    folder = layout.home() if home is None else home
    known = all_submissions(folder)
    if not known:
        raise NotFoundError(f"no submissions in {folder}: go to the folder that you submitted from")
    if submission_id is None:
        return known[-1]
    matching = [paths for paths in known if paths.id.startswith(submission_id)]
    exact = [paths for paths in matching if paths.id == submission_id]
    match exact or matching:
        case [only]:
            return only
        case []:
            recent = ", ".join(paths.id for paths in known[-5:])
            raise NotFoundError(f"no submission {submission_id!r} in {folder}; the newest are: {recent}")
        case several:
            raise NotFoundError(
                f"{submission_id!r} could be {', '.join(paths.id for paths in several)}: type more of it"
            )
