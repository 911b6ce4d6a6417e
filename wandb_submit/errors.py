"""Everything that wandb-submit refuses or fails at, as one tree.

```
WandbSubmitError                exit 1   something failed
├── ConfigError                 exit 2   an option, a file or a value is wrong (also click's own usage errors)
├── NotFoundError               exit 3   no such sweep, submission, run or log
├── NotLoggedInError            exit 4   W&B has no API key for us, or refuses it
├── UnavailableError            exit 5   a server or the scheduler does not answer; trying again may help
└── RefusedError                exit 6   the scheduler or this machine cannot give what was asked for
```

The text of an error says what happened, with which value, and what to do next. It never holds a secret.
"""

from __future__ import annotations

from typing import ClassVar

# How the offline server begins to say that a sweep could not be looked at, for which its configuration is not to blame.
SEARCH_AWAY = "the search does not answer"


class WandbSubmitError(Exception):
    """The root: catch this to catch all of ours.

    Attributes:
        exit_code: what the command line exits with.
        transient: whether the same call may succeed later without anybody changing anything.
    """

    exit_code: ClassVar[int] = 1
    transient: ClassVar[bool] = False

    def _render_traceback_(self) -> list[str]:
        """What IPython shows of it: the text, which says what to do; our own frames would only hide that."""
        return [f"{type(self).__name__}: {self}"]


class ConfigError(WandbSubmitError):
    """An option, a configuration file or a value is wrong; the text names every problem found."""

    exit_code = 2


class NotFoundError(WandbSubmitError):
    """The sweep, submission, run or log that was named does not exist."""

    exit_code = 3


class NotLoggedInError(WandbSubmitError):
    """There is no API key for the W&B server in use, or the server refuses it."""

    exit_code = 4


class UnavailableError(WandbSubmitError):
    """A W&B server or the scheduler does not answer, or answers that it cannot now."""

    exit_code = 5
    transient = True


class RefusedError(WandbSubmitError):
    """The scheduler refused the job, or this machine does not have what was asked for."""

    exit_code = 6
