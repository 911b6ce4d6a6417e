"""Where a sweep is to go: a server, an entity and a project there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from wandb_submit.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A project on a W&B server.

    Attributes:
        base_url: the API's address, as `WANDB_BASE_URL` names it.
    """

    base_url: str
    entity: str
    project: str

    def __str__(self) -> str:
        return f"{self.entity}/{self.project} at {self.base_url}"

    def sweep_url(self, sweep_id: str) -> str:
        """The page of a sweep."""
        return f"{pages_url(self.base_url)}/{quote(self.entity)}/{quote(self.project)}/sweeps/{sweep_id}"


def pages_url(base_url: str) -> str:
    """The address of a server's pages: the API's, or with another name as `wandb` knows it (0.31, util.py)."""
    named = os.environ.get("WANDB_APP_URL")
    if named:
        return named.strip("/")
    host = urlsplit(base_url).netloc
    shown = host
    if host.startswith("api.wandb."):
        shown = host.removeprefix("api.")
    elif host.startswith("api."):
        shown = f"app.{host.removeprefix('api.')}"
    return base_url.replace(f"://{host}", f"://{shown}", 1).rstrip("/")


def api_address(url: str) -> str:
    """The address of a server's API, from what a person names the server by.

    Raises:
        ConfigError: if it is no server's address, or has a password in it, which all users of this machine can read.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{url} is not a server's address: that is such as https://api.wandb.ai")
    if parts.username is not None:
        raise ConfigError("the server's address has a user name in it: leave it out, and run `wandb login --host`")
    # The address that people see is that of W&B's pages.
    host = {"wandb.ai": "api.wandb.ai", "www.wandb.ai": "api.wandb.ai"}.get(parts.netloc.lower(), parts.netloc)
    return f"{parts.scheme}://{host}{parts.path}".rstrip("/")
