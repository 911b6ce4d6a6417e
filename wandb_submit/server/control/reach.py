"""A server that the machines reach which run the sweep's agents."""

from __future__ import annotations

import socket
from pathlib import Path

from wandb_submit.errors import RefusedError
from wandb_submit.server.control import lifecycle
from wandb_submit.server.control.addresses import is_loopback, own_address, way_out
from wandb_submit.server.control.lifecycle import ServerInfo
from wandb_submit.store.paths import server_command


def address_for(node: str | None) -> str | None:
    """The address of this machine that another machine reaches; None if that other machine is this one.

    It is the address in the network that the two share, rather than all of them: a login node is in others, too.
    """
    if node is None:
        return None
    address = own_address(node) or way_out() or socket.gethostname()
    return None if is_loopback(address) else address


def start(data_dir: Path, node: str | None) -> ServerInfo:
    """Starts a folder's server, unless it runs already, so that a machine reaches it.

    Args:
        data_dir: the server's folder.
        node: the machine's address; None stands for this machine.

    Raises:
        RefusedError: if the server runs, or is remembered to run, where only this machine reaches it.
        WandbSubmitError: if it cannot be started.
    """
    address = address_for(node)
    running = lifecycle.start(data_dir, host_if_new=address)
    if address is not None and is_loopback(running.host):
        raise RefusedError(
            f"the offline sweep server of {data_dir} listens on {running.host}, which the cluster's nodes do not "
            f"reach. Its data stays if you start it again: `{server_command('stop', data_dir)}`, then "
            f"`{server_command('start', data_dir)} --host {address}`"
        )
    return running
