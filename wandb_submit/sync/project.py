"""The project that a sweep goes to: W&B's operations on its sweeps and runs.

The texts are those of wandb 0.31 (`wandb sweep`, wandb-core), with what is not needed left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from wandb_submit.errors import NotLoggedInError, RefusedError, UnavailableError
from wandb_submit.server.export import OfflineFile, OfflineRun, OfflineSweep
from wandb_submit.sync.connection import Connection, DoneAlreadyError, GoneError
from wandb_submit.sync.place import Place

_VIEWER = "query Viewer { viewer { entity } }"
_SWEEPS = """
query GetSweeps($project: String!, $entity: String!, $cursor: String, $perPage: Int = 100) {
  project(name: $project, entityName: $entity) {
    sweeps(after: $cursor, first: $perPage) {
      edges { node { id name state description } }
      pageInfo { endCursor hasNextPage }
    }
  }
}
"""
_SWEEP = """
query GetSweep($name: String!, $project: String, $entity: String) {
  project(name: $project, entityName: $entity) { sweep(sweepName: $name) { id name state } }
}
"""
_UPSERT_SWEEP = """
mutation UpsertSweep($id: ID, $config: String, $description: String, $entityName: String, $projectName: String,
                     $state: String, $displayName: String) {
  upsertSweep(input: {id: $id, config: $config, description: $description, entityName: $entityName,
                      projectName: $projectName, state: $state, displayName: $displayName}) {
    sweep { id name }
    configValidationWarnings
  }
}
"""
_RUN = """
query Run($project: String!, $entity: String!, $name: String!) {
  project(name: $project, entityName: $entity) { run(name: $name) { id name sweepName } }
}
"""
_RUN_FILES = """
query RunFiles($project: String!, $entity: String!, $name: String!, $cursor: String, $perPage: Int = 500) {
  project(name: $project, entityName: $entity) {
    run(name: $name) {
      files(after: $cursor, first: $perPage) {
        edges { node { name md5 } }
        pageInfo { endCursor hasNextPage }
      }
    }
  }
}
"""
_UPSERT_RUN = """
mutation UpsertBucket($name: String, $project: String, $entity: String, $groupName: String, $description: String,
                      $displayName: String, $notes: String, $commit: String, $config: JSONString, $host: String,
                      $program: String, $repo: String, $jobType: String, $sweep: String, $tags: [String!]) {
  upsertBucket(input: {name: $name, modelName: $project, entityName: $entity, groupName: $groupName,
                       description: $description, displayName: $displayName, notes: $notes, commit: $commit,
                       config: $config, host: $host, jobProgram: $program, jobRepo: $repo, jobType: $jobType,
                       sweep: $sweep, tags: $tags}) {
    bucket { id name }
    inserted
  }
}
"""
_CREATE_FILES = """
mutation CreateRunFiles($entity: String!, $project: String!, $run: String!, $files: [String!]!) {
  createRunFiles(input: {entityName: $entity, projectName: $project, runName: $run, files: $files}) {
    runID
    uploadHeaders
    files { name uploadUrl }
  }
}
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepThere:
    """A sweep of the project: `name` is what people call its id, `storage_id` what mutations want."""

    storage_id: str
    name: str
    state: str = "PENDING"


class Project:
    """One project on one server."""

    def __init__(self, connection: Connection, place: Place) -> None:
        self.place = place
        self._connection = connection
        self._names = {"entity": place.entity, "project": place.project}

    def find_sweep(self, name: str) -> SweepThere | None:
        """The sweep of that id."""
        try:
            data = self._connection.graphql(_SWEEP, {**self._names, "name": name})
        except GoneError:
            return None
        found = (data.get("project") or {}).get("sweep")
        return _sweep(found) if found else None

    def find_copy(self, sweep: OfflineSweep) -> SweepThere | None:
        """The sweep that an earlier sync of this one has made, known by its description."""
        mark = _mark(sweep)
        pages = self._pages(_SWEEPS, lambda project: project.get("sweeps"))
        return next((_sweep(node) for node in pages if mark in str(node.get("description") or "")), None)

    def create_sweep(self, sweep: OfflineSweep) -> SweepThere:
        """Creates the sweep, once: if the answer is lost, it is looked for before it is created again.

        Raises:
            RefusedError: if the server does not accept its configuration.
        """
        names = {"entityName": self.place.entity, "projectName": self.place.project}
        found: list[SweepThere] = []

        def done() -> bool:
            found.extend(filter(None, [self.find_copy(sweep)]))
            return bool(found)

        try:
            return self._upsert_sweep({**names, **_of_sweep(sweep)}, done)
        except DoneAlreadyError:
            return found[0]

    def update_sweep(self, there: SweepThere, sweep: OfflineSweep) -> None:
        """Gives the sweep the configuration and the names that it has here by now."""
        self._upsert_sweep({"id": there.storage_id, **_of_sweep(sweep)})

    def set_sweep_state(self, there: SweepThere, state: str) -> None:
        """Sets the sweep's state as `wandb sweep --pause`, `--stop` and `--cancel` do."""
        names = {"entityName": self.place.entity, "projectName": self.place.project}
        self._upsert_sweep({**names, "id": there.storage_id, "state": state})

    def sweep_of_run(self, name: str) -> str | None:
        """The sweep of the run of that id: "" if it is of none; `None` if there is no such run."""
        try:
            data = self._connection.graphql(_RUN, {**self._names, "name": name})
        except GoneError:
            return None
        found = (data.get("project") or {}).get("run")
        return str(found.get("sweepName") or "") if found else None

    def run_files(self, name: str) -> dict[str, str]:
        """The files that a run has there, with their MD5 (base64) where the server tells it."""
        pages = self._pages(_RUN_FILES, lambda project: (project.get("run") or {}).get("files"), name=name)
        return {str(node["name"]): str(node["md5"]) for node in pages if node.get("md5")}

    def upsert_run(self, run: OfflineRun, sweep: SweepThere) -> None:
        """Creates the run in the sweep or changes it; either way it is running then."""
        variables = {
            **self._names,
            "name": run.name,
            "displayName": run.display_name,
            "description": run.description,
            "notes": run.notes,
            "tags": list(run.tags),
            "groupName": run.group,
            "jobType": run.job_type,
            "commit": run.commit,
            "repo": run.repo,
            "program": run.program,
            # A run that never began has no host; the first request of a run must name one.
            "host": run.host or "offline",
            "config": _config(run),
            "sweep": sweep.name,
        }
        self._connection.graphql(_UPSERT_RUN, variables)

    def stream(self, run: str, body: Mapping[str, object]) -> None:
        """Sends a part of a run's lines, or the word that it has ended."""
        path = "/".join(quote(part, safe="") for part in (self.place.entity, self.place.project, run))
        self._connection.post(f"/files/{path}/file_stream", body)

    def upload_addresses(self, run: str, names: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
        """Where a run's files are to be sent (by name), and the headers for it."""
        data = self._connection.graphql(_CREATE_FILES, {**self._names, "run": run, "files": list(names)})
        answer = data.get("createRunFiles") or {}
        try:
            addresses = {str(file["name"]): str(file["uploadUrl"]) for file in answer["files"]}
            headers = dict(str(header).split(":", 1) for header in answer.get("uploadHeaders") or ())
        except (KeyError, TypeError, ValueError) as error:
            raise UnavailableError(f"the server's answer about uploads cannot be read: {str(data)[:200]}") from error
        return addresses, headers

    def upload(self, address: str, headers: Mapping[str, str], file: OfflineFile, sent: Callable[[int], None]) -> None:
        """Sends one file to where `upload_addresses` said."""
        self._connection.put(address, headers, file.path, sent)

    def _upsert_sweep(self, variables: Mapping[str, object], done: Callable[[], bool] | None = None) -> SweepThere:
        data = self._connection.graphql(_UPSERT_SWEEP, variables, done=done)
        found = (data.get("upsertSweep") or {}).get("sweep")
        if not found:
            raise RefusedError(f"{self.place.base_url} does not make the sweep, and does not say why")
        return _sweep(found)

    def _pages(
        self, query: str, select: Callable[[Mapping[str, Any]], Mapping[str, Any] | None], **variables: object
    ) -> Iterator[Mapping[str, Any]]:
        cursor: str | None = None
        while True:
            data = self._connection.graphql(query, {**self._names, **variables, "cursor": cursor})
            page = select(data.get("project") or {})
            if not page:
                return
            yield from (edge["node"] for edge in page.get("edges") or ())
            info = page.get("pageInfo") or {}
            if not info.get("hasNextPage") or info.get("endCursor") in (None, cursor):
                return
            cursor = str(info["endCursor"])


def own_entity(connection: Connection) -> str | None:
    """The entity that things go to which name none; asking for it tells whether the server takes our key.

    Raises:
        NotLoggedInError: if it does not.
    """
    viewer = connection.graphql(_VIEWER, {}).get("viewer")
    if not viewer:
        raise NotLoggedInError(f"{connection.base_url} does not know our API key: run `wandb login --relogin`")
    return str(viewer["entity"]) if viewer.get("entity") else None


def _of_sweep(sweep: OfflineSweep) -> dict[str, object]:
    description = f"{sweep.description}\n\n{_mark(sweep)}" if sweep.description else _mark(sweep)
    return {"config": sweep.config, "displayName": sweep.display_name, "description": description}


def _config(run: OfflineRun) -> str:
    """A run's configuration; a fork's without where it branches off: all of its rows are sent as its own."""
    if '"branch_point"' not in run.config:
        return run.config
    config = json.loads(run.config)
    own = config.get("_wandb")
    if isinstance(own, dict) and isinstance(own.get("value"), dict):
        own["value"].pop("branch_point", None)
    return json.dumps(config)


def _mark(sweep: OfflineSweep) -> str:
    """What a copy's description says of its origin; by it a copy is found whose making was not noted any more."""
    return f"Uploaded by wandb-submit from the offline sweep {sweep.path}."


def _sweep(node: Mapping[str, Any]) -> SweepThere:
    return SweepThere(
        storage_id=str(node["id"]), name=str(node["name"]), state=str(node.get("state") or "PENDING").upper()
    )


def as_sent(sweep: OfflineSweep) -> str:
    """All that is sent of a sweep, as one text."""
    return json.dumps(_of_sweep(sweep), sort_keys=True)
