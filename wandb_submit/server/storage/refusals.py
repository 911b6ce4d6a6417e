"""How the server says no to a client."""

from __future__ import annotations


class Refusal(Exception):  # noqa: N818 - an answer to the client, not a failure of ours
    """A request that is answered with an error; what its transaction did is taken back.

    Attributes:
        status: the HTTP status. W&B's clients give up at once on 4xx and try a 5xx again for minutes, so 5xx is
            only for what may pass (a full disk).
    """

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
