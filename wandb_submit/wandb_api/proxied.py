"""Connections to servers through a proxy, by urllib3, which `wandb` itself is built on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ssl import CERT_NONE, SSLContext
from urllib.parse import unquote, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, InsecureRequestWarning, LocationValueError
from urllib3.util import Timeout, make_headers

from wandb_submit.wandb_api.answers import Answer


class ProxiedConnections:
    """Connections through one proxy that are kept open from one request to the next. Thread-safe.

    Args:
        proxy: its address, which may hold a name and a password.
        trusted: the certificates that a server's is checked with.
        connect_s: how long a server may take to accept a connection.
        answer_s: how long it may take to go on with its answer.

    Raises:
        OSError, ValueError: if there can be no such proxy.
    """

    def __init__(self, proxy: str, trusted: SSLContext, *, connect_s: float, answer_s: float) -> None:
        self._timeout = Timeout(connect=connect_s, read=answer_s)
        if trusted.verify_mode == CERT_NONE:
            urllib3.disable_warnings(InsecureRequestWarning)  # one would come with every request
        try:
            self._pool = _pool_manager(proxy, trusted)
        except HTTPError as error:
            raise ValueError(str(error)) from error

    def close(self) -> None:
        """Closes the connections; those of requests under way, once they have ended."""
        self._pool.clear()

    def request(self, method: str, url: str, body: bytes | Iterable[bytes], headers: Mapping[str, str]) -> Answer:
        """Sends one request; a redirection is an answer.

        Raises:
            OSError: if there is no whole answer.
            ValueError: if there can be no such address.
        """
        try:
            answer = self._pool.request(
                method, url, body=body, headers=headers, timeout=self._timeout, retries=False, redirect=False
            )
        except LocationValueError:  # a ValueError as it is
            raise
        except HTTPError as error:
            raise ConnectionError(f"{type(error).__name__} {error}") from error
        return Answer(
            status=answer.status,
            reason=answer.reason or "",
            headers={name.lower(): value for name, value in answer.headers.items()},
            body=answer.data,
        )


def _pool_manager(proxy: str, trusted: SSLContext) -> urllib3.PoolManager:
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if parts.scheme.startswith("socks"):
        from urllib3.contrib.socks import SOCKSProxyManager

        return SOCKSProxyManager(parts.geturl(), ssl_context=trusted)
    login = None if parts.username is None else f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return urllib3.ProxyManager(
        parts.geturl(),
        proxy_headers=None if login is None else make_headers(proxy_basic_auth=login),
        ssl_context=trusted,
        proxy_ssl_context=trusted,
    )
