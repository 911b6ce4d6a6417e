"""Questions to a W&B server without `wandb`, whose import alone takes a second; one attempt each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from wandb_submit.errors import NotLoggedInError, UnavailableError
from wandb_submit.wandb_api.credentials import Login

if TYPE_CHECKING:
    from wandb_submit.wandb_api.answers import Answer

_ANSWER_S = 20.0


def greet(login: Login, *, offline: bool) -> None:
    """Asks the server who we are; `wandb` needs 19 s to find that it is not there, and calls that a wrong key."""
    if ask(login, "query Viewer { viewer { id } }", {}, offline=offline).get("viewer") is None:
        raise _not_accepted(login)


def check_storage(login: Login) -> None:
    """Makes sure that our own server can store things now, before something is asked of it for which it must.

    Raises:
        UnavailableError: if it cannot: its disk is full, or the like.
    """
    answer = _post(login, "/healthz/storage", {}, offline=True)
    if answer.busy:
        raise UnavailableError(f"the offline server at {login.base_url} cannot store a sweep: {answer.complaint}")


def ask(login: Login, query: str, variables: Mapping[str, str], *, offline: bool) -> Mapping[str, Any]:
    """Asks the server something in GraphQL; returns the answer's `data`."""
    answer = _post(login, "/graphql", {"query": query, "variables": dict(variables)}, offline=offline)
    if answer.status in (401, 403):
        raise _not_accepted(login)
    if answer.busy:
        raise UnavailableError(f"{login.base_url} cannot answer now ({answer.status} {answer.reason}): try again later")
    try:
        body = answer.json()
    except ValueError:
        body = None
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, dict):
        words = f"answers with status {answer.status}, and not as a W&B server does"
        raise UnavailableError(f"{login.base_url} {words}; check WANDB_BASE_URL, or try again later")
    return data


def first_line(error: Exception) -> str:
    """The first line of what an error says, or its kind."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _not_accepted(login: Login) -> NotLoggedInError:
    return NotLoggedInError(f"{login.base_url} does not accept this API key: run `wandb login --relogin`")


def _post(login: Login, path: str, content: object, *, offline: bool) -> Answer:
    from wandb_submit.wandb_api.http import NoAnswerError, Transport  # which `status` has no use for

    transport = Transport(login.base_url, login.api_key, offline=offline, timeout_s=_ANSWER_S)
    try:
        return transport.post_json(path, content)
    except NoAnswerError as error:
        raise UnavailableError(f"{login.base_url} does not answer: {first_line(error)}; try again later") from error
    finally:
        transport.close()
