"""What is said to Slurm's commands and how their answers read: argv and text in, values out, nothing is called."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from wandb_submit.errors import UnavailableError
from wandb_submit.executors.base import TaskStatus
from wandb_submit.executors.states import TaskState

# The states and flags of https://slurm.schedmd.com/job_state_codes.html; EXPEDITING came with Slurm 25.11. Whatever
# may begin or begin again is pending; whatever holds its devices is running.
STATES = {
    "BOOT_FAIL": TaskState.NODE_FAIL,
    "CANCELLED": TaskState.CANCELLED,
    "COMPLETED": TaskState.COMPLETED,
    "CONFIGURING": TaskState.PENDING,
    "COMPLETING": TaskState.RUNNING,
    "DEADLINE": TaskState.TIMEOUT,
    "EXPEDITING": TaskState.PENDING,
    "FAILED": TaskState.FAILED,
    "LAUNCH_FAILED": TaskState.PENDING,
    "NODE_FAIL": TaskState.NODE_FAIL,
    "OUT_OF_MEMORY": TaskState.OUT_OF_MEMORY,
    "PENDING": TaskState.PENDING,
    "POWER_UP_NODE": TaskState.PENDING,
    "PREEMPTED": TaskState.PREEMPTED,
    "RECONFIG_FAIL": TaskState.PENDING,
    "RUNNING": TaskState.RUNNING,
    "RESV_DEL_HOLD": TaskState.PENDING,
    "REQUEUE_FED": TaskState.PENDING,
    "REQUEUE_HOLD": TaskState.PENDING,
    "REQUEUED": TaskState.PENDING,
    "RESIZING": TaskState.RUNNING,
    "REVOKED": TaskState.CANCELLED,
    "SIGNALING": TaskState.RUNNING,
    "SPECIAL_EXIT": TaskState.PENDING,
    "STAGE_OUT": TaskState.RUNNING,
    "STOPPED": TaskState.RUNNING,
    "SUSPENDED": TaskState.RUNNING,
    "TIMEOUT": TaskState.TIMEOUT,
    "UPDATE_DB": TaskState.RUNNING,
}


# sbatch options whose variable is not simply named after them.
_VARIABLES = {"time": "timelimit", "array": "array_inx", "mem": "mem_per_node"}

# Where the cluster is; and what a job has set that says nothing about the next one.
_PLACE = ("SLURM_CONF", "SLURM_CLUSTERS")
_JOBS_OWN = ("SLURM_", "SRUN_", "SLURMD_", "SBATCH_CPU_BIND", "SBATCH_MEM_BIND")

# The nodes' addresses, one a line.
NODES_ARGV = ("sinfo", "--Node", "--noheader", "--format=%o")


def squeue_argv(jobs: Iterable[str], users: Iterable[int]) -> list[str]:
    """One question about all tasks that are in the queue or left it just now.

    Args:
        jobs: the tasks.
        users: whose they are. Of a single array Slurm tells that alone; of several it would tell all jobs of the
            cluster, were it not for a single user's.
    """
    arrays, owners = _arrays(jobs), sorted(set(users))
    narrowed = [f"--user={owners[0]}"] if "," in arrays and len(owners) == 1 else []
    return ["squeue", "--noheader", "--array", "--states=all", "--format=%i|%T|%N|%r", f"--jobs={arrays}", *narrowed]


def sacct_argv(jobs: Iterable[str]) -> list[str]:
    """One question about tasks that the queue has forgotten."""
    return ["sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,State,NodeList", "-j", _arrays(jobs)]


def scancel_argv(jobs: Iterable[str], *, whole: bool) -> list[str]:
    """Cancels whole arrays, or the tasks alone."""
    return ["scancel", *(_arrays(jobs).split(",") if whole else jobs)]


def plain_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment to ask Slurm in, without a person's own filters and formats of its commands' answers."""
    own = ("SQUEUE_", "SINFO_", "SACCT_", "SCANCEL_")
    whole = {"SLURM_BITSTR_LEN": "0"}  # lists of tasks are not cut short
    return {name: value for name, value in environ.items() if not name.startswith(own)} | whole


def sbatch_environment(environ: Mapping[str, str], script: str) -> dict[str, str]:
    """The environment to submit a script in, so that what it says is what counts.

    sbatch prefers its input variables to the script (https://slurm.schedmd.com/sbatch.html#SECTION_INPUT-ENVIRONMENT-VARIABLES):
    the ones that name an option of the script are left out. So is what a surrounding job has set, such as its CPU
    binding, which breaks the srun of ours; a person's own defaults, such as SBATCH_ACCOUNT, stay.
    """
    options = re.findall(r"^#SBATCH --([a-z-]+)", script, re.MULTILINE)
    named = {f"SBATCH_{_VARIABLES.get(option, option).upper().replace('-', '_')}" for option in options}
    inside = "SLURM_JOB_ID" in environ
    return {
        name: value
        for name, value in environ.items()
        if name not in named and not (inside and name not in _PLACE and name.startswith(_JOBS_OWN))
    }


def parse_sbatch(text: str) -> str:
    """Reads the array's id from what `sbatch --parsable` printed, `ID` or `ID;CLUSTER`.

    Sites wrap sbatch, and print greetings and balances around it.

    Raises:
        UnavailableError: if there is no id; the job may be in the queue all the same.
    """
    found = re.findall(r"^\s*(?:Submitted batch job )?(\d+)(?:;\S+)?\s*$", text, re.MULTILINE)
    if not found:
        raise UnavailableError(f"sbatch has printed no job id, but {text.strip()[:200]!r}")
    return str(found[-1])


def parse_max_array_size(text: str) -> int | None:
    """How many tasks an array may have, from `scontrol show config`; `None` if it does not say."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", text, re.MULTILINE)
    return int(found[1]) if found and int(found[1]) > 0 else None


def parse_kill_wait_s(text: str) -> int | None:
    """How long Slurm waits between SIGTERM and SIGKILL, from `scontrol show config`; `None` if it does not say."""
    found = re.search(r"^KillWait\s*=\s*(\d+)", text, re.MULTILINE)
    return int(found[1]) if found else None


def parse_squeue(text: str) -> dict[str, TaskStatus]:
    """Reads squeue's answer, by `ARRAY_TASK`."""
    answer: dict[str, TaskStatus] = {}
    for line in text.splitlines():
        fields = line.strip().split("|")
        if len(fields) == 4:
            job, state, node, reason = fields
            known = read_state(state)
            detail = "" if reason == "None" else reason
            if known is TaskState.CANCELLED and not node:  # the reason is why it waited
                detail = "it was cancelled before it began"
            status = TaskStatus(state=known, node=node, detail=detail)
            answer.update(dict.fromkeys(expand(job), status))
    return answer


def parse_sacct(text: str) -> dict[str, TaskStatus]:
    """Reads sacct's answer, by `ARRAY_TASK`; a range of tasks that never started is one line of it."""
    answer: dict[str, TaskStatus] = {}
    for line in text.splitlines():
        fields = line.strip().split("|")
        if len(fields) == 3:
            job, state, node = fields
            status = TaskStatus(state=read_state(state), node="" if node == "None assigned" else node)
            answer.update(dict.fromkeys(expand(job), status))
    return answer


def read_state(text: str) -> TaskState:
    """Reads a state as squeue and sacct write it, `CANCELLED by 1000` included."""
    return STATES.get(text.split(" ")[0].rstrip("+"), TaskState.UNKNOWN)


def expand(job: str) -> Iterator[str]:
    """Yields the tasks that `7_3` or `7_[1-3,5%2]` stands for."""
    array, bracket, inside = job.partition("_[")
    if not bracket:
        yield job
        return
    for part in inside.rstrip("]").partition("%")[0].split(","):
        # A long list is cut short with "..." unless SLURM_BITSTR_LEN is 0; what was cut off is not guessed.
        if match := re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part):
            first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
            for task in range(first, last + 1, max(step, 1)):
                yield f"{array}_{task}"


def _arrays(jobs: Iterable[str]) -> str:
    """The array ids of tasks, each once."""
    return ",".join(dict.fromkeys(job.partition("_")[0] for job in jobs))
