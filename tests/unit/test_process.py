from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from unit.conftest import Program

from wandb_submit.errors import RefusedError, UnavailableError
from wandb_submit.system import process


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code]


def test_an_answer_is_status_and_both_streams(program: Program) -> None:
    program("answer", "echo out; echo err >&2; exit 3")
    done = process.run(["answer", "a b"], timeout_s=10)
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")
    assert done.argv == ("answer", "a b")


def test_no_shell_reads_the_arguments(program: Program) -> None:
    program("show", 'printf "%s|" "$@"')
    hostile = ["$(id)", "a b", "'", '"', "*", ";ls"]
    assert process.run(["show", *hostile], timeout_s=10).stdout == "".join(f"{part}|" for part in hostile)


def test_a_program_reads_what_it_is_given_and_otherwise_nothing() -> None:
    assert process.run(["cat"], timeout_s=10, stdin="é\n").stdout == "é\n"
    assert process.run(["cat"], timeout_s=10).stdout == ""


def test_an_environment_that_is_given_is_the_whole_environment() -> None:
    assert process.run(["/usr/bin/env"], timeout_s=10, env={"ONLY": "this"}).stdout == "ONLY=this\n"


def test_bytes_that_are_no_text_do_not_matter(program: Program) -> None:
    program("noise", r"printf '\377ok'")
    assert process.run(["noise"], timeout_s=10).stdout.endswith("ok")


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(RefusedError, match="'no-such-program' is not on PATH"):
        process.run(["no-such-program"], timeout_s=10)


def test_a_file_that_cannot_be_executed_is_refused_like_a_missing_program(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a program")
    with pytest.raises(RefusedError):
        process.run([str(tmp_path / "text")], timeout_s=10)


def test_a_program_that_does_not_answer_in_time_may_do_so_later(program: Program) -> None:
    program("slow", "exec sleep 60")
    before = time.monotonic()
    with pytest.raises(UnavailableError, match="slow has not answered within"):
        process.run(["slow"], timeout_s=0.1)
    assert time.monotonic() - before < 5


def test_a_detached_program_has_a_session_of_its_own_and_a_private_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    child = process.spawn_detached(
        python("import os, sys; print(os.getsid(0), os.getcwd()); print('err', file=sys.stderr)"), log=log, cwd=tmp_path
    )
    assert child.wait(10) == 0
    said = log.read_text().split()
    assert set(said) == {str(child.pid), str(tmp_path), "err"}
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_detached_program_belongs_to_no_task_and_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (process.JOB, "WANDB_RUN_ID", "KEPT"):
        monkeypatch.setenv(name, "x")
    assert process.spawn_detached(["env"], log=tmp_path / "log").wait(10) == 0
    names = {line.partition("=")[0] for line in (tmp_path / "log").read_text().splitlines()}
    assert names & {process.JOB, "WANDB_RUN_ID", "KEPT"} == {"KEPT"}


def test_a_log_is_appended_to(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    assert process.spawn_detached(["echo", "after"], log=log).wait(10) == 0
    assert log.read_text() == "before\nafter\n"


def test_waiting_ends_as_soon_as_it_has_happened() -> None:
    looks = iter([False, False, True])
    assert process.wait_until(lambda: next(looks), timeout_s=10, every_s=0.001)


def test_waiting_ends_when_the_time_is_up() -> None:
    assert not process.wait_until(lambda: False, timeout_s=0.01, every_s=0.001)


def test_the_tail_of_a_log_is_its_last_lines(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"one\ntwo\nthr\xffee\n\n")
    assert process.log_tail(tmp_path / "log", lines=2) == "two\nthr\N{REPLACEMENT CHARACTER}ee"
    assert process.log_tail(tmp_path / "none") == ""


def test_the_callers_descriptors_stay_as_they_were(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    process.spawn_detached(["true"], log=tmp_path / "log").wait(10)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_module_of_ours_imports_nothing_from_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
    argv = process.python_argv("wandb_submit", "--version")
    child = process.spawn_detached(argv, log=tmp_path / "log", cwd=tmp_path)
    assert child.wait(10) == 0
    assert "version" in (tmp_path / "log").read_text()
