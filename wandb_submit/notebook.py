"""A submission in a Jupyter notebook: a table that keeps itself up to date while the kernel does other work."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from wandb_submit.errors import WandbSubmitError
from wandb_submit.store.journal import RunView
from wandb_submit.store.logs import LastWords
from wandb_submit.submission.snapshot import Snapshot, TaskView
from wandb_submit.submission.submission import Submission
from wandb_submit.text import duration, exit_words, uninitialized_words
from wandb_submit.wandb_api import results
from wandb_submit.wandb_api.results import Best

_EVERY_S = 1.0  # a table that changes more often is not easier to read
_BEST_EVERY_S = 5.0  # W&B counts requests
_SHOWN_FAILURES = 5


def register() -> None:
    """Lets this process's notebook, if it is one, show submissions by `show`; elsewhere they are text."""
    if "IPython" not in sys.modules:
        return
    from IPython.core.getipython import get_ipython

    shell: Any = get_ipython()
    if shell is not None and getattr(shell, "kernel", None) is not None:
        shell.display_formatter.ipython_display_formatter.for_type(Submission, show)


def show(submission: Submission) -> None:
    """Shows a submission in the current cell, and keeps it up to date until its end or the kernel's."""
    from IPython.display import display

    page = Page(Submission(submission.paths))  # of its own: a submission is one thread's
    shown = page.html(page.submission.status())
    handle = display(_bundle(shown, submission), raw=True, display_id=True)  # type: ignore[no-untyped-call]  # likewise

    def keep_up(last: str) -> None:
        for text in page.follow():
            if text != last:
                handle.update(_bundle(text, submission), raw=True)
                last = text

    threading.Thread(target=keep_up, args=(shown,), name=f"show {submission.id}", daemon=True).start()


def _bundle(text: str, submission: Submission) -> dict[str, Any]:
    return {"text/html": text, "text/plain": f"<Submission {submission.id}>"}


class Page:
    """The table of one submission. Not thread-safe."""

    def __init__(self, submission: Submission) -> None:
        self.submission = submission
        self._best: Best | None = None
        self._best_of = -1
        self._asked_at = -_BEST_EVERY_S
        self._unheard: int | None = None  # runs; not known before the end

    def follow(self) -> Iterator[str]:
        """Yields the table again and again until every task has ended."""
        shown_at = -_EVERY_S
        for snapshot, _ in self.submission.follow():
            if snapshot.is_over or time.monotonic() >= shown_at + _EVERY_S:
                yield self.html(snapshot)
                shown_at = time.monotonic()

    def html(self, snapshot: Snapshot) -> str:
        """The table as it is now; the server is asked for the best run when there may be a better one."""
        record = snapshot.record
        self._look_for_best(snapshot)
        rows = "".join(_row(task, snapshot.detail(task)) for task in snapshot.tasks)
        names = ("task", "state", "node", "GPU", "run", "done", "failed", "stopped", "")
        head = "".join(f"<th>{name}</th>" for name in names)
        parts = [
            f"<b>submission {escape(record.id)}</b>, sweep {escape(record.sweep.path)}, {escape(record.executor)}<br>",
            _progress(snapshot),
            f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>",
        ]
        if self._best is not None:
            link = f'<a href="{escape(self._best.url)}" target="_blank">{escape(self._best.name)}</a>'
            parts.append(f"best run: {link}, {escape(self._best.metric)} = {self._best.value:.6g}<br>")
        parts += [_failure(run) for run in _failures(self.submission)]
        notes = (self._uninitialized(snapshot), snapshot.halt and snapshot.halt.reason, snapshot.scheduler_error)
        parts += [escape(text) + "<br>" for text in notes if text]
        return "".join(parts)

    def _look_for_best(self, snapshot: Snapshot) -> None:
        done = snapshot.runs_done + snapshot.runs_stopped
        due = snapshot.is_over or time.monotonic() >= self._asked_at + _BEST_EVERY_S
        if done == 0 or done == self._best_of or not due:
            return
        self._asked_at = time.monotonic()
        try:
            self._best = results.best(snapshot.record.sweep, snapshot.record.endpoint)
            self._best_of = done
        except WandbSubmitError:  # the table shows what is known; `results` says what is wrong
            return

    def _uninitialized(self, snapshot: Snapshot) -> str | None:
        """At the end, what is wrong with runs that the server has not heard of."""
        if snapshot.is_over and self._unheard is None:
            with contextlib.suppress(WandbSubmitError):  # likewise
                self._unheard = len(self.submission.uninitialized(self.submission.results()))
        return uninitialized_words(self._unheard) if self._unheard else None


def _progress(snapshot: Snapshot) -> str:
    bar = f'<progress max="{snapshot.bar[0]}" value="{snapshot.bar[1]}"></progress> ' if snapshot.bar else ""
    running = sum(len(task.runs) for task in snapshot.tasks)
    return f"{bar}{snapshot.progress}, {running} running"


def _row(task: TaskView, detail: str) -> str:
    node = task.agents[0].host if task.agents else task.status.node
    cells = (
        str(task.index),
        task.status.state.value,
        node or "",
        "" if task.gpus is None else task.gpus or "none",
        ", ".join(run.id for run in task.runs),
        str(task.done),
        str(task.failed),
        str(task.cut_short),
        detail,
    )
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _failures(submission: Submission) -> list[RunView]:
    failed = [run for run in submission.runs() if run.failed]
    return failed[-_SHOWN_FAILURES:]


def _failure(run: RunView) -> str:
    """How a run failed; for one that raised something, its traceback can be unfolded."""
    if run.not_started is not None:
        return escape(f"run {run.id} not started: {run.not_started}") + "<br>"
    assert run.exit_code is not None  # noqa: S101 it has failed
    took = duration((run.ended or run.started) - run.started)
    end = exit_words(run.exit_code, run.stop_reason, out_of_memory=run.out_of_memory)
    last = LastWords.read(Path(run.log), run.exit_code)
    words = escape(f"run {run.id} {end} after {took}") + (f": <code>{escape(last.line)}</code>" if last.line else "")
    if not last.traceback:
        return f"{words}<br>"
    return f"<details><summary>{words}</summary><pre>{escape(last.traceback)}</pre></details>"
