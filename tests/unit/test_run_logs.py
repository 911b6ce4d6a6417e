"""What a run's log tells of why the run failed, from logs of real interpreters."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from wandb_submit.store.logs import LastWords, failed_setup

CHAINED = """
import atexit
atexit.register(print, "wandb: Find logs at: ./wandb/run-1")
def broken():
    try:
        {}["lr"]
    except KeyError as error:
        raise ValueError("the\\n<sky> fell") from error
print("epoch 1")
broken()
"""
WENT_ON = """
import os, traceback
try:
    1 / 0
except ZeroDivisionError:
    traceback.print_exc()
print(*range(30), sep="\\n", flush=True)
os._exit(7)
"""


def last_words(code: str, folder: Path) -> LastWords:
    log = folder / "r1.log"
    with log.open("w") as file:
        done = subprocess.run([sys.executable, "-E", "-c", code], stdout=file, stderr=file, check=False)
    return LastWords.read(log, done.returncode)


def test_an_exception_is_told_with_those_that_led_to_it_and_without_what_wandb_says_behind_it(tmp_path: Path) -> None:
    last = last_words(CHAINED, tmp_path)
    assert last.line == "ValueError: the"
    lines = last.traceback.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-2:] == ["<sky> fell", "epoch 1"]  # which Python has held back until its end
    assert [line for line in lines if not line.startswith(" ")][1:3] == [
        "KeyError: 'lr'",
        "The above exception was the direct cause of the following exception:",
    ]


@pytest.mark.parametrize(
    ("code", "line"),
    [
        (WENT_ON, "29"),
        ("import sys; sys.exit('no data')", "no data"),
        ("print('wandb: one'); print('  two  ')", "  two  "),
        ("", ""),
    ],
    ids=["went on", "words", "spaces", "nothing"],
)
def test_what_did_not_end_with_an_exception_is_told_by_its_last_line(tmp_path: Path, code: str, line: str) -> None:
    assert last_words(code, tmp_path) == LastWords(line=line)


def test_an_exception_is_found_before_all_that_was_held_back_until_the_end(tmp_path: Path) -> None:
    last = last_words("print(*range(1000), sep='\\n')\nraise KeyError('lr')", tmp_path)
    assert last.line == "KeyError: 'lr'"
    assert last.traceback.endswith("\nKeyError: 'lr'\n" + "\n".join(map(str, range(19))))


RANKS = """\
0: epoch 1
1: Traceback (most recent call last):
1:   File "/train.py", line 8, in <module>
1:     raise ValueError("NaN")
1: ValueError: NaN
1: wandb-submit: rank 1 on n2: ended with status 1
0: Traceback (most recent call last):
0: KeyboardInterrupt
0: wandb-submit: rank 0 on n1: ended with status -2
srun: error: n2: task 1: Exited with exit code 1
"""


def test_of_several_ranks_the_first_that_failed_is_heard(tmp_path: Path) -> None:
    log = tmp_path / "r1.log"
    log.write_text(RANKS)
    last = LastWords.read(log, 1)
    assert last.line == "ValueError: NaN"
    assert last.traceback.splitlines()[0] == "Traceback (most recent call last):"
    assert last.traceback.count("\n") == 3
    log.write_text(RANKS.replace("0: ", " 0: ").replace("1: ", " 1: "))  # of ten ranks or more
    assert LastWords.read(log, 1) == last
    log.write_text("0: epoch 1\n1: wandb-submit: rank 1 on n2: out of memory: ended with status -9\nsrun: error: n2\n")
    assert LastWords.read(log, -9) == LastWords(line="rank 1 on n2: out of memory: ended with status -9")


def test_of_a_long_log_the_end_is_read(tmp_path: Path) -> None:
    last = last_words("print('\xe9' * 10**6, flush=True)\nraise OSError('at last')", tmp_path)
    assert (last.line, last.traceback.count("\n")) == ("OSError: at last", 2)


def test_a_log_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    assert LastWords.read(tmp_path / "none", 1) == LastWords(line="")


def test_last_words_carry_no_control_codes(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_bytes(b"\r 10%|#  \r100%|###\n\x1b]0;title\x07\x1b[2J\x1b[31mout of \x00\xff memory\x1b[0m\n")
    assert LastWords.read(log, 3).line == "out of \ufffd memory"
    log.write_bytes(b"\r 10%|#  \r100%|###")
    assert LastWords.read(log, 3).line == "100%|###"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "a\nbash: x: No such file\n\nwandb-submit: command 1 of setup failed with exit status 1\nslurmstepd: y\n",
            "command 1 of setup failed with exit status 1: bash: x: No such file",
        ),
        (
            "wandb-submit: command 2 of setup failed with exit status 3\n",
            "command 2 of setup failed with exit status 3",
        ),
        ("bash: x: No such file\n", ""),
        ("", ""),
    ],
)
def test_a_setup_that_failed_is_told_with_what_was_said_before(text: str, why: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert failed_setup(log) == ""
    log.write_text(text)
    assert failed_setup(log) == why


FAILED = "wandb-submit: command 2 of setup failed with exit status 1\n"
FIRST_CAUSES = {
    "conda": (
        """\
/var/spool/slurmd/job00012/slurm_script: line 20: conda: command not found
/var/spool/slurmd/job00012/slurm_script: line 20: /etc/profile.d/conda.sh: No such file or directory
""",
        "conda: command not found",
    ),
    "an echo": ("bash: line 9: module: command not found\nplease ask the help desk\n", "module: command not found"),
    "Lmod": (
        """\
loading
Lmod has detected the following error:  The following module(s) are unknown:
"cuda/99"

Please check the spelling or version number. Also try "module spider ..."
""",
        'Lmod has detected the following error:  The following module(s) are unknown: "cuda/99"',
    ),
    "no environment": (
        "\nEnvironmentNameNotFound: Could not find conda environment: vision\nYou can list all environments.\n",
        "EnvironmentNameNotFound: Could not find conda environment: vision",
    ),
    "a traceback": (
        'Traceback (most recent call last):\n  File "x", line 1, in <module>\nKeyError: 1\nwe are sorry\n',
        "KeyError: 1",
    ),
    "no reason": ("one\ntwo\n", "two"),
}


@pytest.mark.parametrize("name", FIRST_CAUSES)
def test_the_first_cause_of_a_setups_end_is_told(name: str, tmp_path: Path) -> None:
    text, cause = FIRST_CAUSES[name]
    (tmp_path / "log").write_text(f"{text}{FAILED}slurmstepd: error: x\n")
    assert failed_setup(tmp_path / "log") == f"command 2 of setup failed with exit status 1: {cause}"
