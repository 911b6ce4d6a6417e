"""Pages as HTTP answers: the templates, what every page has in common, and the files that pages refer to."""

from __future__ import annotations

import functools
import time
from importlib.resources import files

import jinja2
from starlette.responses import Response

from wandb_submit._version import __version__
from wandb_submit.server.web import wording

# The files that pages refer to, and their types.
ASSETS = {
    "style.css": "text/css; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


def render(template: str, values: dict[str, object]) -> bytes:
    """A page's HTML. What UTF-8 cannot hold (half of a pair, which JSON can spell) becomes a question mark."""
    text = _templates().get_template(template).render(now=time.time(), version=__version__, **values)
    return text.encode("utf-8", errors="replace")


def page(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """The answer that holds a page; compressed ones say so in `headers`."""
    return Response(body, status, headers, "text/html; charset=utf-8")


def error_page(message: str, status: int) -> Response:
    """The answer that tells why there is no page; at 401 a browser asks for the key."""
    title = {401: "The API key, please", 404: "Not here"}.get(status, "That did not work")
    headers = {"WWW-Authenticate": 'Basic realm="wandb-submit", charset="UTF-8"'} if status == 401 else None
    return page(render("error.html", {"message": message, "title": title, "status": status}), status, headers)


def asset(name: str) -> Response:
    """A file that pages refer to, one of `ASSETS`."""
    return Response(_asset(name), 200, {"Cache-Control": "private, max-age=300"}, ASSETS[name])


@functools.lru_cache
def _asset(name: str) -> bytes:
    return files(__package__).joinpath("static", name).read_bytes()


@functools.lru_cache(maxsize=1)
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(str(__package__), "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=wording.number_text,
        duration=wording.duration_text,
        ago=wording.ago_text,
        moment=wording.moment_text,
        filesize=wording.size_text,
    )
    return environment
