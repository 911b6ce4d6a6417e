"""The ASGI application: routes, the key at the door, and errors as W&B's clients understand them."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from wandb_submit.server.artifacts.endpoints import ArtifactEndpoints
from wandb_submit.server.request.auth import is_authorized
from wandb_submit.server.request.connections import Connection
from wandb_submit.server.request.context import Context, ServerFacts
from wandb_submit.server.request.signed_urls import is_signed
from wandb_submit.server.request.text_only import TextOnly
from wandb_submit.server.service.browsers import OwnPagesOnly
from wandb_submit.server.service.endpoints import Endpoints
from wandb_submit.server.service.watch import Watch
from wandb_submit.server.storage.database import Database
from wandb_submit.server.storage.place import GoneError
from wandb_submit.server.storage.refusals import Refusal
from wandb_submit.server.sweeps.background import BackgroundSearch
from wandb_submit.server.web.routes import not_found, web_routes
from wandb_submit.system.files import is_full, try_to_write

_log = logging.getLogger(__name__)
_RUN = "/{entity}/{project}/{run}"
_CONTENTS, _MANIFEST = "/artifact/contents", "/artifact/manifests/{number:int}"

Endpoint = Callable[[Request], Awaitable[Response]]


def make_app(database: Database, server: ServerFacts, search: BackgroundSearch) -> Starlette:
    """The application of one server; the database stays the caller's to close."""
    endpoints = Endpoints(database=database, server=server)
    artifacts = ArtifactEndpoints(database=database, server=server)

    def guarded(endpoint: Endpoint, after_mistake: int = 500, *, or_signed: bool = False) -> Endpoint:
        async def answer(request: Request) -> Response:
            authorized = is_authorized(request.headers.get("authorization"), server.key)
            if not authorized and not (or_signed and is_signed(request, server.key)):
                return _error("the API key is missing or wrong", 401)
            connection = request.scope.get("state", {}).get("connection")
            if isinstance(connection, Connection):
                connection.trust()
            return await _answered(endpoint, request, after_mistake, server.settings.data_dir)

        return answer

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        working = search.run(lambda tx: Context(tx=tx, server=server, base_url=""))
        tasks = [asyncio.create_task(working), asyncio.create_task(Watch(database, server).run())]
        for task in tasks:
            task.add_done_callback(_report_death)
        yield
        endpoints.clerk.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    return Starlette(
        lifespan=lifespan,
        middleware=[Middleware(OwnPagesOnly), Middleware(TextOnly)],
        exception_handlers={404: not_found(server)},
        routes=[
            Route("/healthz", endpoints.health),
            Route("/healthz/facts", guarded(endpoints.facts)),
            Route("/healthz/storage", guarded(endpoints.storage), methods=["POST"]),
            Route("/graphql", guarded(endpoints.graphql, after_mistake=400), methods=["POST"]),
            Route(f"/files{_RUN}/file_stream", guarded(endpoints.file_stream), methods=["POST"]),
            Route(f"/storage{_RUN}/{{file:path}}", guarded(endpoints.upload), methods=["PUT"]),
            Route(f"/storage{_RUN}/{{file:path}}", guarded(endpoints.download, or_signed=True), methods=["GET"]),
            Route(f"{_CONTENTS}/{{artifact:int}}/{{content}}", guarded(artifacts.upload_content), methods=["PUT"]),
            Route(f"{_CONTENTS}/{{content}}/{{name:path}}", guarded(artifacts.download_content, or_signed=True)),
            Route(_MANIFEST, guarded(artifacts.upload_manifest), methods=["PUT"]),
            Route(_MANIFEST, guarded(artifacts.download_manifest, or_signed=True)),
            Route("/artifactsV2/{place:path}", guarded(artifacts.download_by_layout)),
            *web_routes(database, server),
        ],
    )


async def _answered(endpoint: Endpoint, request: Request, after_mistake: int, data_dir: Path) -> Response:
    """An endpoint's answer, or the error that tells why there is none.

    Args:
        endpoint: what answers.
        request: what it answers.
        after_mistake: the status after a mistake of ours. At a 5xx the client keeps what it has and sends it again,
            which is right for a run's data; a query would be repeated for minutes to no avail.
        data_dir: where things are stored.
    """
    try:
        return await endpoint(request)
    except Refusal as refusal:
        return _error(str(refusal), refusal.status)
    except RecursionError:
        return _error("the request is nested too deeply", 400)
    except (OverflowError, UnicodeEncodeError, sqlite3.DataError) as error:
        return _error(f"the request holds a value that cannot be stored: {error}", 400)
    except ClientDisconnect:
        return Response(status_code=499)
    except (sqlite3.Error, OSError) as error:
        return _storage_error(error, data_dir)
    except Exception:  # noqa: BLE001 - the edge: nobody above would tell the client
        _log.exception("the request %s %.200s failed by a mistake of the server", request.method, request.url.path)
        return _error("the offline sweep server made a mistake: its log has the details", after_mistake)


def _report_death(task: asyncio.Task[None]) -> None:
    """Says so when work in the background ends by a mistake of ours; nobody else would."""
    if not task.cancelled() and task.exception() is not None:
        _log.error("work in the background has ended", exc_info=task.exception())


def _error(message: str, status: int) -> Response:
    """An error in GraphQL's form, which wandb shows to its user."""
    headers = {"WWW-Authenticate": 'Basic realm="wandb-submit"'} if status == 401 else None
    # In ASCII: a message may quote half of a surrogate pair, which is in no other encoding.
    text = json.dumps({"errors": [{"message": message}], "data": None})
    return Response(text, status_code=status, headers=headers, media_type="application/json")


def _storage_error(error: sqlite3.Error | OSError, data_dir: Path) -> Response:
    """A disk that is full, or a database that fails: clients keep what they have and try again for minutes."""
    if isinstance(error, GoneError):
        return _error(str(error), 503)
    _log.error("cannot store what a client sent: %s", error)
    # SQLite says "I/O error" of all but a full disk; the file system tells the reason.
    reason = error if isinstance(error, OSError) else try_to_write(data_dir)
    if "full" in str(error) or (reason is not None and is_full(reason)):
        quota = isinstance(reason, OSError) and reason.errno == errno.EDQUOT
        what = "disk quota is used up" if quota else "disk is full"
        # RFC 4918, section 11.5. wandb-core sends it again like any other 5xx.
        return _error(f"the server's {what}: make room in {data_dir}", 507)
    why = "" if reason is None else f": {reason.strerror or reason} in {data_dir}"
    return _error(f"the server cannot store anything now{why}", 503)
