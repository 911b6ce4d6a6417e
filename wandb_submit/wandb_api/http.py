"""How requests reach a W&B server: with its key, its certificates, and the proxies of wandb's client."""

from __future__ import annotations

import functools
import json
import os
import ssl
from base64 import b64encode
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from wandb_submit._version import __version__
from wandb_submit.errors import ConfigError, RefusedError, UnavailableError
from wandb_submit.wandb_api.answers import Answer
from wandb_submit.wandb_api.direct import DirectConnections
from wandb_submit.wandb_api.proxies import Proxies

if TYPE_CHECKING:
    from wandb_submit.wandb_api.proxied import ProxiedConnections

_CONNECT_S = 20.0


class NoAnswerError(UnavailableError):
    """The server could not be reached, or went away before it had answered."""


class Transport:
    """Connections that are kept open from one request to the next. One attempt per request; thread-safe.

    Args:
        base_url: the server's address.
        api_key: the key for it.
        offline: whether it is our own, on this machine or this cluster, where no proxy leads to.
        timeout_s: how long the server may take to go on with its answer.
    """

    def __init__(self, base_url: str, api_key: str, *, offline: bool, timeout_s: float) -> None:
        self._base_url = base_url
        self._key = {"Authorization": f"Basic {b64encode(f'api:{api_key}'.encode()).decode()}"}
        self._offline = offline
        self._connect_s, self._answer_s = min(timeout_s, _CONNECT_S), timeout_s
        # Only once, and where there is TLS: reading certificates takes time and memory.
        self._trusted = functools.cache(_trusted)
        self._proxies = functools.cache(Proxies.read)
        self._direct = DirectConnections(self._trusted, connect_s=self._connect_s, answer_s=self._answer_s)
        self._proxied: dict[str, ProxiedConnections] = {}

    def close(self) -> None:
        """Closes the connections; those of requests under way, once they have ended."""
        self._direct.close()
        for connections in self._proxied.values():
            connections.close()

    def post_json(self, path: str, content: object) -> Answer:
        """Sends JSON to one of the server's own addresses, with the key.

        Args:
            path: the address below the server's.
            content: what is sent.

        Raises:
            NoAnswerError: if there is no whole answer.
            ConfigError: if the proxy or the certificates that the environment names cannot be used.
        """
        headers = {"Content-Type": "application/json", **self._key}
        return self.request("POST", f"{self._base_url}{path}", json.dumps(content).encode(), headers)

    def request(self, method: str, url: str, body: bytes | Iterable[bytes], headers: Mapping[str, str]) -> Answer:
        """Sends one request, without the key; a redirection is an answer.

        Raises:
            NoAnswerError: if there is no whole answer.
            ConfigError: if the proxy or the certificates that the environment names cannot be used.
            RefusedError: if there can be no such address.
        """
        try:
            connections = self._connections(url)
            return connections.request(method, url, body, {"User-Agent": f"wandb-submit/{__version__}", **headers})
        except OSError as error:
            trouble = "" if self._offline else self._proxies().trouble(url)
            words = f"{_origin(url)}: {type(error).__name__} {error}"
            raise NoAnswerError(f"{words}; {trouble}" if trouble else words) from error
        except ValueError as error:
            raise RefusedError(f"the address {url} cannot be used: {error}") from error

    def _connections(self, url: str) -> DirectConnections | ProxiedConnections:
        """Those through the proxy that leads to an address, or without one."""
        proxy = None if self._offline else self._proxies().leading_to(url)
        if proxy is None:
            return self._direct
        if proxy not in self._proxied:
            from wandb_submit.wandb_api.proxied import ProxiedConnections  # a megabyte that few need

            try:
                self._proxied[proxy] = ProxiedConnections(
                    proxy, self._trusted(), connect_s=self._connect_s, answer_s=self._answer_s
                )
            except (ValueError, ImportError, OSError) as error:
                trouble = f"cannot connect to {_origin(url)}: {error}"
                raise ConfigError(f"{trouble}; check the proxy variables") from error
        return self._proxied[proxy]


def _origin(url: str) -> str:
    """An address without what may be secret: signed addresses carry a right to upload."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0].rpartition('@')[2]}"


def _trusted() -> ssl.SSLContext:
    """Whom to trust: as `wandb` does, `REQUESTS_CA_BUNDLE`, and anyone with `WANDB_INSECURE_DISABLE_SSL`.

    Raises:
        ConfigError: if there are no such certificates.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if os.environ.get("WANDB_INSECURE_DISABLE_SSL", "").lower() in ("1", "true"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    import certifi

    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE") or certifi.where()
    try:
        if Path(bundle).is_dir():
            context.load_verify_locations(capath=bundle)
        else:
            context.load_verify_locations(cafile=bundle)
    except OSError as error:
        raise ConfigError(f"no certificates can be read from {bundle}: {error}; check REQUESTS_CA_BUNDLE") from error
    return context
