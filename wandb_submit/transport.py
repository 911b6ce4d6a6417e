"""How requests reach a W&B server: with its key, its certificates, and the proxies of the environment.

By urllib3, which `wandb` itself is built on: a process that has nothing else to do than wait for a run holds half of
what it would with httpx.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import certifi
import urllib3
from urllib3.exceptions import HTTPError, InsecureRequestWarning, LocationValueError
from urllib3.util import Timeout, make_headers

from wandb_submit import __version__
from wandb_submit.errors import ConfigError, RefusedError, UnavailableError

_CONNECT_S = 20.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered.

    Attributes:
        headers: with names in lower case.
    """

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def ok(self) -> bool:
        """Whether the server has done what it was asked."""
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """The body, whatever it holds."""
        return self.body.decode(errors="replace")

    def json(self) -> object:
        """The body's JSON.

        Raises:
            ValueError: if it is not JSON.
        """
        value: object = json.loads(self.body)
        return value

    @property
    def complaint(self) -> str:
        """Why the server has not done what it was asked, in its own words."""
        try:
            text = error_messages(self.json())
        except ValueError:
            text = self.text[:200]
        return text.strip() or self.reason

    @property
    def retry_after_s(self) -> float | None:
        """How long the server asks to wait; the date form of `Retry-After` is rare enough to be left to our own."""
        value = self.headers.get("retry-after", "")
        return float(value) if value.isdecimal() else None


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
        self._key = make_headers(basic_auth=f"api:{api_key}")
        self._offline = offline
        self._timeout = Timeout(connect=min(timeout_s, _CONNECT_S), read=timeout_s)
        self._pools: dict[str | None, urllib3.PoolManager] = {}

    def close(self) -> None:
        """Closes the connections; those of requests under way, once they have ended."""
        for pool in self._pools.values():
            pool.clear()

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
        pool = self._pool(url)
        try:
            answer = pool.request(
                method,
                url,
                body=body,
                headers={"User-Agent": f"wandb-submit/{__version__}", **headers},
                timeout=self._timeout,
                retries=False,
                redirect=False,
            )
        except LocationValueError as error:
            raise RefusedError(f"the address {url} cannot be used: {error}") from error
        except (HTTPError, OSError) as error:
            raise NoAnswerError(f"{_origin(url)}: {type(error).__name__} {error}") from error
        return Answer(
            status=answer.status,
            reason=answer.reason or "",
            headers={name.lower(): value for name, value in answer.headers.items()},
            body=answer.data,
        )

    def _pool(self, url: str) -> urllib3.PoolManager:
        """The connections through the proxy that leads to an address, or without one."""
        proxy = None if self._offline else _proxy(url)
        if proxy not in self._pools:
            try:
                self._pools[proxy] = _pool_manager(proxy, tls=not url.startswith("http:"))
            except (HTTPError, ValueError, ImportError, OSError) as error:
                trouble = f"cannot connect to {_origin(url)}: {error}"
                raise ConfigError(f"{trouble}; check the proxy variables and REQUESTS_CA_BUNDLE") from error
        return self._pools[proxy]


def error_messages(body: object) -> str:
    """The messages of a GraphQL error answer, or of W&B's plain `{"error": …}`."""
    if not isinstance(body, dict):
        return ""
    errors = body.get("errors") or body.get("error") or []
    errors = errors if isinstance(errors, list) else [errors]
    return "; ".join(str(entry.get("message") if isinstance(entry, dict) else entry) for entry in errors)


def _origin(url: str) -> str:
    """An address without what may be secret: signed addresses carry a right to upload."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0].rpartition('@')[2]}"


def _pool_manager(proxy: str | None, *, tls: bool) -> urllib3.PoolManager:
    options = _certificates() if tls else {}  # without TLS no certificates are read, which takes time and memory
    if proxy is None:
        return urllib3.PoolManager(**options)
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if parts.scheme.startswith("socks"):
        from urllib3.contrib.socks import SOCKSProxyManager

        return SOCKSProxyManager(parts.geturl(), **options)
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        options["proxy_headers"] = make_headers(proxy_basic_auth=login)
    return urllib3.ProxyManager(parts.geturl(), **options)


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for an address, as Python's own library reads it."""
    if proxy_bypass(urlsplit(url).netloc):
        return None
    proxies = getproxies_environment()
    return proxies.get(urlsplit(url).scheme) or proxies.get("all")


def _certificates() -> dict[str, Any]:
    """Whom to trust: as `wandb` does, `REQUESTS_CA_BUNDLE`, and anyone with `WANDB_INSECURE_DISABLE_SSL`.

    Raises:
        OSError: if there are no such certificates.
    """
    if os.environ.get("WANDB_INSECURE_DISABLE_SSL", "").lower() in ("1", "true"):
        urllib3.disable_warnings(InsecureRequestWarning)  # one would come with every request
        return {"cert_reqs": "CERT_NONE"}
    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE") or certifi.where()
    if not Path(bundle).exists():
        raise FileNotFoundError(f"no certificates at {bundle}")
    return {"ca_cert_dir" if Path(bundle).is_dir() else "ca_certs": bundle}
