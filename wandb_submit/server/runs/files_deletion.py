"""Deleting single files of runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.projects.file_paths import checked_file_name, run_folder
from wandb_submit.server.request.context import Context
from wandb_submit.server.runs.run import SELECT
from wandb_submit.server.storage.refusals import Refusal

# As files_listing.py writes it: the run's number and the file's name.
_FILE_ID = re.compile(r"file-([0-9]{1,18})-(.+)", re.DOTALL)


def delete_files(context: Context, arguments: Arguments) -> Mapping[str, object]:
    """Mutation `deleteFiles`: forgets files of runs, by the ids that the listing gave; those that are gone are gone."""
    for file_id in arguments.nested("input").texts("files") or []:
        found = _FILE_ID.fullmatch(file_id)
        if found is None:
            raise Refusal(f"{file_id[:60]!r} is not the id of a run's file", status=404)
        number, name = int(found[1]), found[2]
        run = context.tx.one(f"{SELECT} WHERE runs.id = ?", (number,))
        if run is None:
            raise Refusal(f"the run of the file {name[:80]!r} does not exist", status=404)
        context.tx.execute("DELETE FROM files WHERE run = ? AND name = ?", (number, name))
        folder = run_folder(context.server.settings.data_dir, run["entity_name"], run["project_name"], run["name"])
        # Within the transaction, for the file's name may be uploaded anew right after it.
        _remove(folder, checked_file_name(name))
    return {"success": True}


def _remove(folder: Path, name: str) -> None:
    """Removes a file and the folders that are empty without it, which might be in the way of another file."""
    path = folder / name
    path.unlink(missing_ok=True)
    for parent in path.parents:
        if parent == folder:
            return
        try:
            parent.rmdir()
        except OSError:
            # Others are in it, or it has never been.
            return
