"""Finding and creating sweeps: the only module that imports `wandb`, and only its documented parts."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import yaml

from wandb_submit.errors import SEARCH_AWAY, ConfigError, NotFoundError, NotLoggedInError, UnavailableError
from wandb_submit.spec import Endpoint, SweepRef
from wandb_submit.wandb_api import graphql
from wandb_submit.wandb_api.answers import means_busy
from wandb_submit.wandb_api.credentials import Login, deployment, find_login, trial_environment
from wandb_submit.wandb_api.names import SweepFile, SweepName, grid_size
from wandb_submit.wandb_api.proxies import Proxies

if TYPE_CHECKING:
    import wandb

_IMPATIENT = {"WANDB_X_GRAPHQL_RETRY_MAX": "2", "WANDB_X_GRAPHQL_RETRY_WAIT_MAX_SECONDS": "1"}
_LOOK_UP = """
query LookUp($entity: String, $project: String, $sweep: String!, $waiting: JSONString) {
  project(name: $project, entityName: $entity) {
    sweep(sweepName: $sweep) { state runCount runCountExpected config }
    runCount(filters: $waiting)
  }
}
"""
_ENDED = ("FINISHED", "STOPPED", "CANCELED", "CANCELLED", "CRASHED", "FAILED")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """A sweep that exists.

    Attributes:
        runs_left: how many runs it has still to hand out; `None` if that has no bound, or is not known.
        runs_total: how many it has in all; likewise.
        url: its page; `None` where the server has none.
        config: its configuration, of a sweep that was looked up.
        warnings: what its server says against its configuration, of a sweep that was created.
    """

    ref: SweepRef
    state: str
    runs_left: int | None = None
    runs_total: int | None = None
    url: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def default_endpoint() -> Endpoint:
    """The W&B server that this user's `wandb` talks to."""
    import wandb

    with _environment({"WANDB_SILENT": "true"}):
        try:
            return Endpoint(base_url=str(wandb.setup().settings.base_url))
        except ValueError as error:  # pydantic's, which names the setting
            words = "; ".join(line.strip() for line in str(error).splitlines()[1:3]) or str(error)
            raise ConfigError(f"wandb does not accept its settings (WANDB_… variables): {words}") from error


def address_origin() -> str:
    """What names the server that this user's `wandb` talks to: a variable, a file, or W&B itself."""
    import wandb

    if os.environ.get("WANDB_BASE_URL"):
        return "WANDB_BASE_URL"
    settings = wandb.setup().settings
    for path in (settings.settings_workspace, settings.settings_system):
        # The nearer one wins (wandb 0.31, sdk/wandb_setup.py).
        with contextlib.suppress(OSError):
            if path and re.search(r"^base_url\s*[=:]", Path(path).read_text(errors="replace"), re.MULTILINE):
                return str(path)
    return "wandb's default"


def find(name: SweepName, endpoint: Endpoint) -> Sweep:
    """Looks a sweep up.

    Raises:
        NotFoundError: if the server has no such sweep.
        ConfigError: if its URL is of another server.
    """
    if endpoint.server_dir is not None and name.entity and name.project and not name.host:
        ref = SweepRef(entity=name.entity, project=name.project, id=name.id, base_url=endpoint.base_url)
        return _find_offline(ref, find_login(endpoint))
    with _session(endpoint) as api:
        entity = _entity(api, name.entity)
        project = name.project or str(api.settings.get("project") or "uncategorized")
        if name.host and deployment(name.host) != deployment(urlsplit(endpoint.base_url).netloc):
            if endpoint.server_dir is not None:
                raise ConfigError(f"the sweep's URL is on {name.host}, not on the offline server: leave --offline out")
            raise ConfigError(
                f"the sweep's URL is on {name.host}, but wandb is set to {endpoint.base_url}: "
                "set WANDB_BASE_URL, or run `wandb login --host`"
            )
        ref = SweepRef(entity=entity, project=project, id=name.id, base_url=endpoint.base_url)
        with _missing_means(_no_sweep(ref)):
            found = _load(api, ref.path)
        expected = getattr(found, "expected_run_count", None)
        total = expected if isinstance(expected, int) else None
        return Sweep(
            ref=ref,
            state=str(found.state),
            runs_left=None if total is None else max(total - len(found.runs), 0),
            runs_total=total,
            url=_url(found, endpoint),
            config=dict(found.config),
        )


def _find_offline(ref: SweepRef, login: Login) -> Sweep:
    """Asks our own server, whose answers we know, without `wandb`: its import alone takes a second."""
    # Runs that somebody has put into the sweep, or that were given back, are still to be handed out.
    waiting = {"$and": [{"sweep": ref.id}, {"state": {"$in": ["pending", "preempted"]}}]}
    asked = {"entity": ref.entity, "project": ref.project, "sweep": ref.id, "waiting": json.dumps(waiting)}
    project = graphql.ask(login, _LOOK_UP, asked, offline=True).get("project") or {}
    found = project.get("sweep")
    if found is None:
        raise NotFoundError(_no_sweep(ref))
    expected = found["runCountExpected"]
    left = None if expected is None else max(expected - found["runCount"], 0) + project["runCount"]
    config = yaml.safe_load(found["config"]) or {}
    return Sweep(ref=ref, state=found["state"], runs_left=left, runs_total=expected, config=config)


def _no_sweep(ref: SweepRef) -> str:
    return f"no sweep {ref.path} at {ref.base_url}: check its id, project and entity"


def create(file: SweepFile, endpoint: Endpoint) -> Sweep:
    """Creates a sweep on the server.

    Raises:
        ConfigError: if the server does not accept the configuration.
    """
    with _session(endpoint) as api:
        config = dict(file.config)
        # `wandb sweep` takes both from the environment before the file, too (wandb 0.31, cli.py).
        entity = _entity(api, os.environ.get("WANDB_ENTITY") or config.get("entity"))
        project = str(os.environ.get("WANDB_PROJECT") or config.get("project") or "uncategorized")
        import wandb

        login, offline = find_login(endpoint), endpoint.server_dir is not None
        if offline:  # `wandb` would try again for minutes
            graphql.check_storage(login)
        said = _Said()
        try:
            # It prints the id; stdout is for our results.
            with contextlib.redirect_stdout(io.StringIO()), said.instead_of_the_terminal():
                sweep_id = wandb.sweep(config, entity=entity, project=project)
        except (ValueError, wandb.errors.UsageError, wandb.errors.CommError) as error:
            if offline:
                graphql.check_storage(login)
            if _is_connection_problem(error):
                raise _away(endpoint, error) from error
            said_so = graphql.first_line(error)
            if SEARCH_AWAY in said_so:
                raise UnavailableError(f"{said_so}; see `wandb-submit server log`") from error
            raise ConfigError(f"the server does not accept {file.path}: {said_so}") from error
        found = _load(api, f"{entity}/{project}/{sweep_id}")
        ref = SweepRef(entity=entity, project=project, id=sweep_id, base_url=endpoint.base_url)
        size = grid_size(config)
        return Sweep(
            ref=ref,
            state=str(found.state),
            runs_left=size,
            runs_total=size,
            url=_url(found, endpoint),
            warnings=tuple(f"{file.path}: {warning}, says the server" for warning in said.warnings),
        )


class _Said:
    """What `wandb` says of a sweep's configuration; a logger, as `wandb.termsetup` wants one for its silence."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    @contextlib.contextmanager
    def instead_of_the_terminal(self) -> Iterator[None]:
        """Listens for a while. What else `wandb` has to say is its chatter, or comes as an exception, too."""
        import wandb

        wandb.termsetup(wandb.Settings(silent=True), self)
        try:
            yield
        finally:
            wandb.termsetup(wandb.setup().settings, None)

    def warning(self, text: str) -> None:
        """Keeps the violations, which follow lines of advice (wandb 0.26 and 0.31, sdk/launch/sweeps/utils.py)."""
        self.warnings += re.findall(r"Violation \d+\. (.*)", text)

    def info(self, text: str) -> None:
        """Chatter."""

    def error(self, text: str) -> None:
        """It is raised as well."""


def _entity(api: wandb.Api, named: object) -> str:
    entity = named or api.settings.get("entity") or api.default_entity
    if not entity:
        raise ConfigError("W&B tells no default entity: name one, as entity/project/id or in WANDB_ENTITY")
    return str(entity)


def _load(api: wandb.Api, path: str) -> wandb.apis.public.Sweep:
    return api.sweep(path)  # type: ignore[no-any-return,no-untyped-call]  # wandb does not type it


def is_over(sweep: Sweep) -> bool:
    """Whether a sweep hands out no more runs."""
    return sweep.state.upper() in _ENDED


def _url(found: wandb.apis.public.Sweep, endpoint: Endpoint) -> str | None:
    return None if endpoint.server_dir is not None else str(found.url)


@contextlib.contextmanager
def _session(endpoint: Endpoint) -> Iterator[wandb.Api]:
    """Yields `wandb`'s API of a server, and turns what it raises into our errors.

    `wandb` takes its server and key from the environment; that is as it was afterwards, because what we submit
    inherits it.
    """
    login = find_login(endpoint)  # before `wandb` looks: it would ask for a key at the terminal
    offline = endpoint.server_dir is not None
    graphql.greet(login, offline=offline)
    # A shell that is pointed at the offline server has its clients wait for days; a person waits here.
    ways = _IMPATIENT if offline else Proxies.read().variables(login.base_url)
    with _environment({"WANDB_SILENT": "true", **ways, **trial_environment(login, offline=offline)}):
        import wandb
        from wandb import errors

        try:
            yield wandb.Api(overrides={"base_url": login.base_url}, api_key=login.api_key)
        except errors.AuthenticationError as error:
            raise NotLoggedInError(
                f"{endpoint.base_url} does not accept this login: {graphql.first_line(error)}; "
                "run `wandb login --relogin`"
            ) from error
        except (errors.Error, OSError) as error:
            raise _away(endpoint, error) from error


def greet(endpoint: Endpoint) -> None:
    """Makes sure that a server answers and knows this user.

    Raises:
        NotLoggedInError: if there is no key for it, or it is refused.
        UnavailableError: if it does not answer as a W&B server does.
    """
    graphql.greet(find_login(endpoint), offline=endpoint.server_dir is not None)


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets variables for a while; also undoes what `wandb` sets meanwhile.

    The service of another `wandb` process, which a shell or a job may have inherited, is not ours, and may be gone.
    """
    before = dict(os.environ)
    os.environ.update(variables)
    os.environ.pop("WANDB_SERVICE", None)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


@contextlib.contextmanager
def _missing_means(message: str) -> Iterator[None]:
    """`wandb` reports what it does not find as a ValueError or a CommError that says so."""
    from wandb.errors import CommError

    try:
        yield
    except (ValueError, CommError) as error:
        if isinstance(error, CommError) and _is_connection_problem(error):
            raise
        raise NotFoundError(message) from error


def _is_connection_problem(error: Exception) -> bool:
    """Whether a request that `wandb` has sent was not answered, be it only for now.

    The server's status decides, where `wandb` tells it: a refusal may name a parameter that is called `timeout`.
    """
    if (status := _status(error)) is not None:
        return means_busy(status)
    text = str(error).lower()
    words = ("connection", "timed out", "timeout", "refused", "unreachable", "in time", "service process")
    return (
        any(word in text for word in words) or re.search(r"\b(status|error|http|code)\W{1,5}5\d\d\b", text) is not None
    )


def _status(error: BaseException | None) -> int | None:
    """The HTTP status behind an error of `wandb`; `None` where there was no answer, or it is not told.

    The error that it keeps as `exc` has the answer: of `requests` in wandb 0.26, of wandb-core in 0.31.
    """
    while error is not None:
        answer = getattr(error, "response", None)
        status = getattr(answer, "status_code", None) or getattr(answer, "http_status", None)
        if status:
            return int(status)
        error = getattr(error, "exc", None) or error.__cause__
    return None


def _away(endpoint: Endpoint, error: Exception) -> UnavailableError:
    return UnavailableError(f"{endpoint.base_url} does not answer as it should: {graphql.first_line(error)}")
