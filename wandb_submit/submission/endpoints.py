"""The server that a submission talks to: the user's own W&B, or this folder's offline server."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from urllib.parse import urlsplit

from wandb_submit.errors import ConfigError, NotFoundError, NotLoggedInError, UnavailableError, WandbSubmitError
from wandb_submit.spec import Endpoint
from wandb_submit.store.paths import server_dir
from wandb_submit.wandb_api import names, sweeps
from wandb_submit.wandb_api.credentials import check_mode


def endpoint(*, offline: bool, start: bool = True, node: str | None = None) -> Endpoint:
    """The W&B server to use: the user's own, or the offline server of this folder, started if need be.

    Args:
        offline: whether to use the offline server.
        start: whether it may be started.
        node: the address of a machine that must reach it then; `None` stands for this machine.

    Raises:
        NotFoundError: if the offline server does not run and is not to be started.
        WandbSubmitError: if it cannot be started, or runs could not report to W&B.
    """
    if not offline:
        check_mode(os.environ)
        return sweeps.default_endpoint()
    from wandb_submit.server.control import lifecycle, reach

    running = reach.start(server_dir(), node) if start else lifecycle.status(server_dir())
    if running is None:
        raise NotFoundError(f"no offline server runs on {server_dir()}: `wandb-submit server start` starts it")
    return Endpoint(base_url=running.url, server_dir=running.data_dir)


def find(name: names.SweepName, *, offline: bool, start: bool, node: str | None) -> sweeps.Sweep:
    """Looks a sweep up; says so if it is on this folder's offline server, which was not named."""
    try:
        return sweeps.find(name, endpoint(offline=offline, start=start, node=node))
    except (ConfigError, NotFoundError, NotLoggedInError, UnavailableError) as error:
        if offline:
            raise
        from wandb_submit.server.export import Source

        try:
            here = Source(server_dir()).sweep(name.id, entity=name.entity, project=name.project)
        except WandbSubmitError:  # none is here, or none can be read: the error is what it was
            raise error from None
        raise ConfigError(f"the sweep {here.path} is on this folder's offline server: add --offline") from error


def words_on_server(node: str | None) -> list[str]:
    """What a person should know of an offline server that other machines use."""
    from wandb_submit.server.control import lifecycle, reach

    address = reach.address_for(node)
    if address is None:
        return []
    if running := lifecycle.status(server_dir()):
        address = urlsplit(running.url).hostname
    return [
        f"the cluster's nodes reach the offline server on {address}: only its key lets a client in, and only you "
        "can read the key; connections are not encrypted"
    ]


def keep(server: Endpoint) -> None:
    """Has an offline server stay: there is something on it now that a person wants."""
    if server.server_dir is not None:
        from wandb_submit.server.control import lifecycle

        lifecycle.keep(server.server_dir)


@contextlib.contextmanager
def no_server_for_nothing() -> Iterator[None]:
    """Stops an offline server that was started for what fails, unless it is of use to anybody."""
    try:
        yield
    except BaseException:
        from wandb_submit.server.control import lifecycle

        with contextlib.suppress(WandbSubmitError):  # what has failed is worth more words
            lifecycle.stop_unless_kept(server_dir())
        raise
