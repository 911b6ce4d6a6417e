"""The HTTP endpoints: they read the request, run its work in the database's threads, and write the answer."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from graphql.language import OperationType
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from wandb_submit._version import __version__
from wandb_submit.server.graphql.answer import written
from wandb_submit.server.graphql.arguments import Arguments
from wandb_submit.server.graphql.executor import Execution, UnknownFieldError
from wandb_submit.server.graphql.request import choose, read
from wandb_submit.server.projects.file_paths import checked_file_name, new_file_name, run_folder, same_place
from wandb_submit.server.request.bodies import QUERY, STREAM, Bodies
from wandb_submit.server.request.clerk import Clerk
from wandb_submit.server.request.context import Context, Preparing, Resolver, ServerFacts
from wandb_submit.server.request.downloads import attached_text, attachment
from wandb_submit.server.request.uploads import UPLOADS, received
from wandb_submit.server.runs.console import CONSOLE_FILE, streamed_text
from wandb_submit.server.runs.intake import Intake, Turns
from wandb_submit.server.runs.run import required
from wandb_submit.server.service import schema
from wandb_submit.server.storage import slices
from wandb_submit.server.storage.database import Database, Transaction
from wandb_submit.server.storage.refusals import Refusal
from wandb_submit.server.storage.staging import stage_query
from wandb_submit.system.files import try_to_write

_log = logging.getLogger(__name__)
# How many unknown fields are worth a line in the log.
_MAX_UNKNOWN = 1000
# An agent that is at work says so every few seconds.
_AGENT_SILENCE_S = 120.0
_JSON = "application/json"


@dataclass(frozen=True, kw_only=True)
class Endpoints:
    """The endpoints of one server."""

    database: Database
    server: ServerFacts
    clerk: Clerk = field(default_factory=Clerk)
    _turns: Turns = field(default_factory=Turns)
    _unknown: set[str] = field(default_factory=set)

    @functools.cached_property
    def _bodies(self) -> Bodies:
        return Bodies(self.server.settings.data_dir / UPLOADS)

    async def health(self, _request: Request) -> Response:
        """Says that the server is up; the only thing that it says without a key."""
        return JSONResponse({"ok": True})

    async def facts(self, _request: Request) -> Response:
        """Says what it is and how much it holds, for `wandb-submit server status`."""
        now = time.time()

        def count(tx: Transaction) -> dict[str, object]:
            states = tx.rows("SELECT state, COUNT(*) AS number FROM runs GROUP BY state")
            alive = "SELECT COUNT(*) FROM agents WHERE state = 'RUNNING' AND heartbeat_at > ?"
            return {
                "sweeps": tx.integer("SELECT COUNT(*) FROM sweeps"),
                "runs": {row["state"]: row["number"] for row in states},
                "agents": tx.integer(alive, (now - _AGENT_SILENCE_S,)),
            }

        counts = await self.database.read(count)
        return JSONResponse({"version": __version__, "uptime_s": round(self.server.clock.uptime_s()), **counts})

    async def storage(self, _request: Request) -> Response:
        """`POST /healthz/storage`: stores a little; the answer is that of any write, a full disk's too."""
        data_dir = self.server.settings.data_dir
        for folder in (data_dir, data_dir / "files", data_dir / "artifacts"):  # may be on several disks
            error = await asyncio.to_thread(try_to_write, folder) if folder.exists() else None
            if error is not None:
                raise error
        await self.database.write(
            # Pages of their own, in the place of those of last time.
            lambda tx: tx.execute("INSERT OR REPLACE INTO settings VALUES ('storage', hex(randomblob(16384)))")
        )
        return JSONResponse({"ok": True})

    async def graphql(self, request: Request) -> Response:
        """`POST /graphql`: one query or mutation, in one transaction."""
        # A form on somebody else's page is sent as one of the other types.
        kind = request.headers.get("content-type", _JSON)
        if kind.partition(";")[0].strip().lower() != _JSON:
            raise Refusal(f"a GraphQL request has the content type {_JSON}, not {kind[:80]!r}", status=415)
        async with self._bodies.json_object(request, QUERY) as body:
            base_url = str(request.base_url).rstrip("/")
            if isinstance(body, Path):
                return await self._answer(await self.clerk.do(stage_query, body), base_url, long=True)
            return await self._answer(body, base_url)

    async def _answer(self, body: Mapping[str, object], base_url: str, *, long: bool = False) -> Response:
        """Runs a GraphQL request."""
        text, variables, name = body.get("query"), body.get("variables") or {}, body.get("operationName")
        if not isinstance(text, str) or not isinstance(variables, dict):
            raise Refusal("a GraphQL request has a text as query and an object as variables")
        document = read(text)
        operation = choose(document, name if isinstance(name, str) and name else None)
        execution = Execution(document, operation, variables)
        mutates = operation.operation is OperationType.MUTATION
        try:
            resolvers = [await self._resolver(execution, *root, mutates=mutates) for root in execution.roots()]

            def work(tx: Transaction) -> dict[str, object]:
                context = Context(tx=tx, server=self.server, base_url=base_url)
                answering = iter(resolvers)
                return execution.run(lambda _, arguments: next(answering)(context, arguments))

            if mutates:
                data = {"data": await slices.written(self.database, self.server.history_keys, work, long=long)}
                answer = Response(
                    await asyncio.to_thread(written, data) if long else json.dumps(data), media_type=_JSON
                )
            else:
                # What was read can be long: it is written down where it was read.
                text = await self.database.read(lambda tx: written({"data": work(tx)}))
                answer = Response(text, media_type=_JSON)
        except UnknownFieldError as error:
            self._note_unknown([error.field], execution.name)
            raise
        self._note_unknown(execution.lacking, execution.name)
        return answer

    def _note_unknown(self, fields: Iterable[str], operation: str) -> None:
        """Logs what clients ask for and this server does not have, once."""
        for field_name in fields:
            if field_name not in self._unknown and len(self._unknown) < _MAX_UNKNOWN:
                self._unknown.add(field_name)
                _log.warning("a client asked for the unknown field %.80r in %.80s", field_name, operation)

    async def _resolver(
        self, execution: Execution, field_name: str, arguments: Arguments, *, mutates: bool
    ) -> Resolver:
        """What answers a root field; what takes long of it has been done when this returns."""
        if schema.INTROSPECTION.answers(field_name):
            return lambda _, wanted: schema.INTROSPECTION.resolve(field_name, wanted, mutates=mutates)
        if mutates and field_name in schema.PREPARED:
            return await schema.PREPARED[field_name](Preparing(database=self.database, server=self.server), arguments)
        resolver = (schema.MUTATIONS if mutates else schema.QUERIES).get(field_name)
        if resolver is None:
            raise UnknownFieldError(field_name, execution.name)
        return resolver

    async def file_stream(self, request: Request) -> Response:
        """`POST /files/ENTITY/PROJECT/RUN/file_stream`: what a run has logged since last time."""
        entity, project, run = _run_path(request)
        intake = Intake(database=self.database, server=self.server, clerk=self.clerk)
        async with self._bodies.json_object(request, STREAM, self._turns.of(entity, project, run)) as body:
            return JSONResponse(await intake.take((entity, project, run), body))

    async def upload(self, request: Request) -> Response:
        """`PUT /storage/ENTITY/PROJECT/RUN/FILE`: a file, streamed to disk and then put in its place at once."""
        entity, project, run = _run_path(request)
        try:
            name = new_file_name(request.path_params["file"])
        except Refusal as refusal:
            # The client says so nowhere but in its own log.
            _log.warning("a file of run %.80s was refused: %s", run, refusal)
            raise
        data_dir = self.server.settings.data_dir
        target = run_folder(data_dir, entity, project, run) / name
        row = await self.database.read(lambda tx: required(tx, entity, project, run))
        async with received(request, data_dir, place=target.parent) as file:

            def keep(tx: Transaction) -> bool:
                """Within the transaction, so that nobody deletes the one of file and row without the other."""
                if target.exists():
                    known = tx.rows("SELECT name FROM files WHERE run = ?", (row["id"],))
                    names = [one["name"] for one in known]
                    if name not in names and (other := same_place(name, names)) is not None:
                        raise Refusal(f"{name!r} and {other!r} are the same file where this server keeps its files")
                stored = tx.execute(
                    # Unless the run was deleted meanwhile.
                    "INSERT OR REPLACE INTO files (run, name, size, md5, updated_at)"
                    " SELECT id, ?, ?, ?, ? FROM runs WHERE id = ?",
                    (name, file.size, file.md5, time.time(), row["id"]),
                )
                if stored:
                    file.move_to(target)
                return stored > 0

            try:
                kept = await self.database.write(keep)
            except (NotADirectoryError, IsADirectoryError, FileExistsError) as error:
                raise Refusal(f"{name!r} is in the way of another file of the run") from error
        if not kept:
            raise Refusal(f"run {entity}/{project}/{run} was deleted meanwhile", status=404)
        return Response()

    async def download(self, request: Request) -> Response:
        """`GET /storage/ENTITY/PROJECT/RUN/FILE`; a console that is not uploaded yet is what the run has streamed."""
        entity, project, run = _run_path(request)
        name = checked_file_name(request.path_params["file"])
        path = run_folder(self.server.settings.data_dir, entity, project, run) / name
        if not path.is_file():
            text = None
            if name == CONSOLE_FILE:
                text = await self.database.read(lambda tx: streamed_text(tx, entity, project, run))
            if text is not None:
                return attached_text(name, text)
            raise Refusal(f"{name!r} is not a file of run {entity}/{project}/{run}", status=404)
        return attachment(path)


def _run_path(request: Request) -> tuple[str, str, str]:
    return request.path_params["entity"], request.path_params["project"], request.path_params["run"]
