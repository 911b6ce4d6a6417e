"""The word that ends a whole submission: no agent of it takes another run once the word is there."""

from __future__ import annotations

import json
import logging
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from wandb_submit.system.files import write_private

# Why an agent and its runs are told to end.
CANCELLED = "the submission was cancelled"
TIME_LIMIT = "the task's time limit is near"
PREEMPTED = "the task is preempted"
SERVER_ASKED = "the server asked for it"
_LOG = logging.getLogger("wandb_submit.agent")
_BY_HAND = "somebody made the submission's halt file"


@dataclass(frozen=True, kw_only=True, slots=True)
class Halt:
    """Why a submission takes no more runs; what runs goes on to its end.

    Attributes:
        ok: whether it ends as it should: the sweep is over. False where somebody should look.
    """

    reason: str
    ok: bool

    def declare(self, path: Path) -> Halt:
        """Writes the word, unless there is one already: the first one counts, and is returned.

        Raises:
            OSError: if it cannot be written.
        """
        if (first := self.read(path)) is not None:
            return first
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        write_private(draft, json.dumps(asdict(self)) + "\n")
        try:
            os.link(draft, path)  # of several at the same moment one succeeds
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        return self.read(path) or self

    def tell(self, path: Path) -> Halt:
        """Declares it for all agents, as far as that can be written; returns the word that counts."""
        try:
            return self.declare(path)
        except OSError as error:
            _LOG.warning("cannot tell the other agents: %s", error)
            return self

    @classmethod
    def read(cls, path: Path) -> Halt | None:
        """The word, if there is one; a file made by hand, with anything or nothing in it, is one too."""
        try:
            text = path.read_text(errors="replace")
        except OSError:
            return None
        try:
            said = json.loads(text)
            return cls(reason=str(said["reason"]), ok=said["ok"] is True)
        except (ValueError, KeyError, TypeError):
            return cls(reason=text.strip()[:200] or _BY_HAND, ok=True)
