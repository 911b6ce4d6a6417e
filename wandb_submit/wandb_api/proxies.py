"""The proxies that wandb's client goes through: agents take the same way as their runs.

The rules are those of wandb-core, which speaks for the runs (measured with wandb 0.26 and 0.31). A proxy of wandb's own
settings leads to every server. One of the usual variables follows Go's rules
(https://pkg.go.dev/golang.org/x/net/http/httpproxy): upper case first, no `ALL_PROXY`, never to this machine itself.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

from wandb_submit.system.files import typed_path

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, kw_only=True, slots=True)
class Proxies:
    """What the environment and wandb's settings say of proxies.

    Attributes:
        own: wandb's own settings, by the scheme of the server's address.
        usual: the variables of all programs, likewise.
        exempt: which hosts the latter do not lead to.
        ignored: what `ALL_PROXY` names, which wandb does not read.
    """

    own: Mapping[str, str]
    usual: Mapping[str, str]
    exempt: tuple[str, ...] = ()
    ignored: str = ""

    @classmethod
    def read(cls) -> Proxies:
        """Those of this process: wandb's variables, its settings files here and at home, the usual variables."""
        files = {**_settings(_home_settings()), **_settings(_settings_here())}
        own = {scheme: os.environ.get(f"WANDB_{scheme.upper()}_PROXY") or files.get(scheme, "") for scheme in _PORTS}
        exempt = (entry.strip().lower() for entry in _variable("no_proxy").split(","))
        return cls(
            own={scheme: proxy for scheme, proxy in own.items() if proxy},
            usual={scheme: proxy for scheme in _PORTS if (proxy := _variable(f"{scheme}_proxy"))},
            exempt=tuple(entry for entry in exempt if entry),
            ignored=_variable("all_proxy"),
        )

    def leading_to(self, url: str) -> str | None:
        """The proxy for an address; `None` if it is asked directly."""
        scheme = urlsplit(url).scheme
        return self.own.get(scheme) or (None if self._is_exempt(url) else self.usual.get(scheme))

    def variables(self, url: str) -> dict[str, str]:
        """The usual variables that lead to a server the way that wandb's own settings do.

        The Python side of older clients, which wandb 0.26 uses for its API, reads no others.
        """
        scheme = urlsplit(url).scheme
        proxy = self.own.get(scheme)
        return dict.fromkeys((f"{scheme}_proxy", f"{scheme.upper()}_PROXY"), proxy) if proxy else {}

    def trouble(self, url: str) -> str:
        """Says that a proxy is named in a way that wandb does not read; empty if all is well."""
        if not self.ignored or self.leading_to(url) or self._is_exempt(url):
            return ""
        name = f"{urlsplit(url).scheme.upper()}_PROXY"
        return f"ALL_PROXY is set, but wandb and its runs do not read it: set {name} to the same proxy"

    def _is_exempt(self, url: str) -> bool:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port or _PORTS.get(parts.scheme, 0)
        address = _address(host)
        if host == "localhost" or (address is not None and address.is_loopback):
            return True
        return any(_matches(entry, host, address, port) for entry in self.exempt)


def _matches(entry: str, host: str, address: _Address | None, port: int) -> bool:
    """Whether an entry of `NO_PROXY` means a host: `*`, an address, a network, a domain; those but nets with a port."""
    if entry == "*":
        return True
    if "/" in entry:
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, colon, its_port = entry.rpartition(":")
    if not colon or _address(entry) is not None:
        name, its_port = entry, ""
    if its_port not in ("", str(port)):
        return False
    if address is not None:
        return _address(name) == address
    domain = name.removeprefix("*")
    return bool(domain) and (host.endswith(f".{domain.removeprefix('.')}") or host == domain)


def _address(host: str) -> _Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def _variable(name: str) -> str:
    return os.environ.get(name.upper()) or os.environ.get(name) or ""


def _home_settings() -> Path:
    named = os.environ.get("WANDB_CONFIG_DIR")
    return typed_path(named or "~/.config/wandb") / "settings"


def _settings_here() -> Path:
    return Path(".wandb" if Path(".wandb").exists() else "wandb") / "settings"


def _settings(path: Path) -> Mapping[str, str]:
    """The proxies of a settings file, by scheme; wandb itself complains of one that cannot be read."""
    if not os.access(path, os.R_OK):
        return {}
    import configparser  # a file that few have

    parser = configparser.ConfigParser()
    try:
        parser.read(path)
        found = dict(parser.items("default")) if parser.has_section("default") else {}
    except (OSError, UnicodeDecodeError, configparser.Error):
        return {}
    return {scheme: found[f"{scheme}_proxy"] for scheme in _PORTS if found.get(f"{scheme}_proxy")}
