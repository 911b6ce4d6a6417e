"""The web page's routes: they come after those of the API, and only read."""

from __future__ import annotations

import functools
import gzip
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from wandb_submit.server.request.auth import is_authorized
from wandb_submit.server.request.connections import Connection
from wandb_submit.server.request.context import ServerFacts
from wandb_submit.server.storage.database import Database, Lane, Transaction
from wandb_submit.server.storage.refusals import Refusal
from wandb_submit.server.web.home import read_home, read_project
from wandb_submit.server.web.run import read_run
from wandb_submit.server.web.site import ASSETS, asset, error_page, page, render
from wandb_submit.server.web.sweep import read_sweep

_log = logging.getLogger(__name__)

# The lowest: the higher ones take longer than they save.
_GZIP_LEVEL = 1
_KEY_WANTED = "The user is `api`; the password is the key of this server."

View = Callable[[Transaction, Mapping[str, str], Mapping[str, str]], object]
Endpoint = Callable[[Request], Awaitable[Response]]


def web_routes(database: Database, server: ServerFacts) -> list[Route]:
    """All pages, at the addresses that W&B's own have and its client prints."""
    data_dir = server.settings.data_dir

    def home(tx: Transaction, _path: Mapping[str, str], asked: Mapping[str, str]) -> object:
        return read_home(tx, asked)

    def project(tx: Transaction, path: Mapping[str, str], asked: Mapping[str, str]) -> object:
        return read_project(tx, path["entity"], path["project"], asked)

    def sweep(tx: Transaction, path: Mapping[str, str], asked: Mapping[str, str]) -> object:
        return read_sweep(tx, path["entity"], path["project"], path["sweep"], asked, data_dir, time.time())

    def run(tx: Transaction, path: Mapping[str, str], _asked: Mapping[str, str]) -> object:
        return read_run(tx, path["entity"], path["project"], path["run"], data_dir)

    def shown(path: str, template: str, view: View) -> Route:
        return Route(path, _guarded(server.key, functools.partial(_answer, database, template, view)))

    async def file(request: Request) -> Response:
        return asset(request.url.path.rpartition("/")[2])

    # No entity is called "-", so that these are nobody's project.
    assets = [Route(f"/-/{name}", _guarded(server.key, file)) for name in ASSETS]
    return [
        *assets,
        shown("/", "home.html", home),
        shown("/{entity}/{project}", "project.html", project),
        *(shown(f"/{{entity}}/{{project}}/{tab}", "project.html", project) for tab in ("sweeps", "runs", "workspace")),
        shown("/{entity}/{project}/sweeps/{sweep}", "sweep.html", sweep),
        shown("/{entity}/{project}/runs/{run}", "run.html", run),
    ]


def not_found(server: ServerFacts) -> Callable[[Request, Exception], Response]:
    """What answers an address that nothing is at: a page for a browser, W&B's clients get by with a word."""

    def answer(request: Request, _error: Exception) -> Response:
        if "text/html" not in request.headers.get("accept", ""):
            return PlainTextResponse("Not Found", status_code=404)
        if not is_authorized(request.headers.get("authorization"), server.key):
            return error_page(_KEY_WANTED, 401)
        return error_page("There is no such page.", 404)

    return answer


async def _answer(database: Database, template: str, view: View, request: Request) -> Response:
    path, asked = request.path_params, dict(request.query_params)
    packed = "gzip" in request.headers.get("accept-encoding", "")

    def work(tx: Transaction) -> bytes:
        # Written in the reader's thread, too: it takes as long as the reading.
        body = render(template, {"view": view(tx, path, asked)})
        # Charts become a tenth of their size, which one feels through a tunnel.
        return gzip.compress(body, _GZIP_LEVEL) if packed else body

    headers = {"Vary": "Accept-Encoding", **({"Content-Encoding": "gzip"} if packed else {})}
    return page(await database.read(work, Lane.PAGES), headers=headers)


def _guarded(key: str, endpoint: Endpoint) -> Endpoint:
    """An endpoint for those who have the key; whatever goes wrong is told in a page."""

    async def answer(request: Request) -> Response:
        if not is_authorized(request.headers.get("authorization"), key):
            return error_page(_KEY_WANTED, 401)
        connection = request.scope.get("state", {}).get("connection")
        if isinstance(connection, Connection):
            connection.trust()
        try:
            return await endpoint(request)
        except Refusal as refusal:
            return error_page(str(refusal), refusal.status)
        except sqlite3.Error as error:
            _log.error("cannot read what the page %.200s shows: %s", request.url.path, error)
            return error_page("The server cannot read its database now.", 503)
        except Exception:  # noqa: BLE001 - the edge: nobody above would tell the reader
            _log.exception("the page %.200s failed by a mistake of the server", request.url.path)
            return error_page("The offline sweep server made a mistake: its log has the details.", 500)

    return answer
