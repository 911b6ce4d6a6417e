"""Which of this machine's addresses others reach it by."""

from __future__ import annotations

import ipaddress
import socket

_ALL = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
# Nothing is sent there: it is an address of nobody (RFC 5737) that the way to the world leads to.
_ELSEWHERE = "198.51.100.1"


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach what listens on `host`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return all(ipaddress.ip_address(address).is_loopback for address in _resolved(host) or ["::"])


def announced(host: str) -> str:
    """The name under which clients reach what listens on `host`, on this machine and, if possible, on others.

    A server on all addresses goes by this machine's name; where the name means the machine itself to the machine
    itself (Debian's 127.0.1.1), it may mean nothing to others, and the address is taken.
    """
    if host in _ALL:
        name = socket.gethostname()
        return name if not is_loopback(name) else way_out() or name
    return f"[{host}]" if ":" in host else host


def own_address(other: str) -> str | None:
    """This machine's address on the way to another one; None if there is no way. Nothing is sent."""
    try:
        family, _, _, _, address = socket.getaddrinfo(other, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0])
    except OSError:
        return None


def way_out() -> str | None:
    """This machine's address on the way to the rest of the world; None if there is no way."""
    return own_address(_ELSEWHERE)


def _resolved(host: str) -> list[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [str(address[0]).partition("%")[0] for *_, address in found]
