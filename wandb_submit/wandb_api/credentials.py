"""Where the W&B API key is: the same places that `wandb` looks in, read when it is needed, never stored."""

from __future__ import annotations

import json
import netrc
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from wandb_submit.errors import ConfigError, NotLoggedInError, UnavailableError
from wandb_submit.spec import Endpoint
from wandb_submit.store.paths import server_command
from wandb_submit.system.files import typed_path
from wandb_submit.wandb_api.proxies import Proxies

# W&B's own cloud answers under two names, and a key that was stored for the older one is good for both
# (wandb 0.31, sdk/lib/urls.py and sdk/lib/wbauth/wbnetrc.py).
_SAME_DEPLOYMENT = {"api.forge.coreweave.com": "api.wandb.ai", "forge.coreweave.com": "api.wandb.ai"}

# How long `wandb` waits for the offline server. By default it gives a file up after 20 attempts, some 16 minutes, and
# then says that it was synced; `wandb.init` fails after 90 s. 10085 is what it takes for history: a week
# (wandb-core 0.31, its defaults for retries).
_PATIENCE = {
    "WANDB_INIT_TIMEOUT": "900",
    "WANDB_HTTP_TIMEOUT": "300",
    "WANDB_X_FILE_TRANSFER_RETRY_MAX": "10085",
    "WANDB_X_GRAPHQL_RETRY_MAX": "10085",
}
# So much of the end of an offline server's log is read.
_LAST_WORDS = 4000


@dataclass(frozen=True, slots=True)
class Login:
    """A server's address and the key for it. The key is kept out of `repr`, and so out of logs."""

    base_url: str
    api_key: str = field(repr=False)


def find_login(endpoint: Endpoint) -> Login:
    """Finds the key for a server: the offline server's own file, `WANDB_API_KEY`, or netrc.

    `wandb login` writes netrc; see https://docs.wandb.ai/guides/track/environment-variables.

    Raises:
        NotLoggedInError: if there is none.
        UnavailableError: if the offline server's file is not there.
    """
    if endpoint.server_dir is not None:
        return _offline_login(endpoint.server_dir)
    key = os.environ.get("WANDB_API_KEY") or _netrc_key(endpoint.base_url)
    if not key:
        raise NotLoggedInError(
            f"not logged in to W&B at {endpoint.base_url}: run `wandb login`, set WANDB_API_KEY, "
            "or use --offline to run the sweep without W&B"
        )
    return Login(endpoint.base_url.rstrip("/"), key)


def _offline_login(server_dir: Path) -> Login:
    """Reads the file in which the offline server says where it listens."""
    try:
        known = json.loads((server_dir / "server.json").read_text())
        return Login(str(known["url"]).rstrip("/"), str(known["api_key"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnavailableError(
            f"the offline server of {server_dir} is not running: start it with `{server_command('start', server_dir)}`"
            f"{why_it_ended(server_dir)}"
        ) from error


def why_it_ended(server_dir: Path) -> str:
    """What is known of the end of an offline server that does not run, as words to be added to that; maybe none."""
    if not server_dir.exists():
        return f"; {server_dir} is not there"
    try:
        with (server_dir / "server.log").open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _LAST_WORDS))
            lines = log.read().decode(errors="replace").rpartition(": serving ")[2].splitlines()
    except OSError:
        return ""
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return f"; it ended with: {errors[-1]}" if errors else ""


def _netrc_key(base_url: str) -> str | None:
    """The password of the server's entry in netrc, which is where `wandb login` puts the key."""
    named = os.environ.get("NETRC")
    candidates = [typed_path(named)] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]
    host = urlsplit(base_url).netloc
    for path in candidates:
        try:
            file = netrc.netrc(str(path))
            entry = file.authenticators(host) or file.authenticators(_SAME_DEPLOYMENT.get(host, host))
        except FileNotFoundError:
            continue
        except (netrc.NetrcParseError, OSError) as error:
            raise NotLoggedInError(f"cannot read {path}, where `wandb login` keeps the API key: {error}") from error
        return entry[2] if entry else None
    return None


def deployment(host: str) -> str:
    """What W&B deployment a host belongs to, be it that of its pages or that of its API."""
    bare = host.lower().removeprefix("www.")
    bare = _SAME_DEPLOYMENT.get(bare, bare)
    return bare.removeprefix("api.").removeprefix("app.")


def check_mode(environ: Mapping[str, str]) -> None:
    """Refuses a `WANDB_MODE` in which runs tell W&B nothing: the sweep would never learn of them.

    Raises:
        ConfigError: if that is the mode.
    """
    mode = environ.get("WANDB_MODE", "online").lower()
    if mode in ("offline", "disabled", "dryrun"):
        raise ConfigError(
            f"WANDB_MODE={mode} is set, in which runs do not report to the sweep: unset it, "
            "or use --offline to run the sweep without W&B"
        )


def trial_environment(login: Login, *, offline: bool) -> dict[str, str]:
    """The variables that point a `wandb` client at the server.

    Against W&B the client finds its key as it always does, so only the address is named. The offline server's
    key lives in no netrc, and three things that people set for W&B must not lead its clients astray:
    `WANDB_MODE=offline` in a cluster's profile, an http proxy, and another server's address. From a proxy of
    wandb's own settings no host is exempt, and none can be unset from here: the server is its own proxy then.
    """
    if not offline:
        return {"WANDB_BASE_URL": login.base_url}
    host = urlsplit(login.base_url).hostname or ""
    variables = {"WANDB_BASE_URL": login.base_url, "WANDB_API_KEY": login.api_key, "WANDB_MODE": "online"}
    if Proxies.read().own.get("http"):
        variables["WANDB_HTTP_PROXY"] = login.base_url
    for name in ("no_proxy", "NO_PROXY"):
        others = [entry.strip() for entry in os.environ.get(name, "").split(",")]
        kept = [entry for entry in others if entry and entry != host]
        variables[name] = "*" if "*" in kept else ",".join([*kept, host])  # "*" counts only if it stands alone
    return variables


def patience(environ: Mapping[str, str], *, offline: bool) -> dict[str, str]:
    """The variables with which `wandb` outwaits an offline server that is away; those that are set already stay.

    Against W&B they are the user's alone.
    """
    return {name: value for name, value in _PATIENCE.items() if offline and name not in environ}
