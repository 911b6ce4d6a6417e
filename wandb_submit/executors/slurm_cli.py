"""What is said to Slurm's commands and how their answers read: argv and text in, values out, nothing is called."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from wandb_submit.errors import RefusedError, UnavailableError, WandbSubmitError
from wandb_submit.executors.base import TaskStatus
from wandb_submit.states import TaskState

# https://slurm.schedmd.com/squeue.html#SECTION_JOB-STATE-CODES
STATES = {
    "BOOT_FAIL": TaskState.NODE_FAIL,
    "CANCELLED": TaskState.CANCELLED,
    "COMPLETED": TaskState.COMPLETED,
    "CONFIGURING": TaskState.PENDING,
    "COMPLETING": TaskState.RUNNING,
    "DEADLINE": TaskState.TIMEOUT,
    "FAILED": TaskState.FAILED,
    "NODE_FAIL": TaskState.NODE_FAIL,
    "OUT_OF_MEMORY": TaskState.OUT_OF_MEMORY,
    "PENDING": TaskState.PENDING,
    "PREEMPTED": TaskState.PREEMPTED,
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
}


class Topic(enum.Enum):
    """What a refusal is about, where the site knows which values would do."""

    PARTITION = enum.auto()
    ACCOUNT = enum.auto()
    QOS = enum.auto()
    NODES = enum.auto()
    FEATURE = enum.auto()
    TIME = enum.auto()


# sbatch's refusals, what a person can do about them, and what they are about; the first that fits counts.
_REFUSALS: tuple[tuple[str, str, Topic | None], ...] = (
    (r"invalid partition", "no such partition, see --partition", Topic.PARTITION),
    (r"invalid account", "no such account for you, or not in this partition, see --account", Topic.ACCOUNT),
    (r"invalid qos|qos.*not (valid|allowed)", "no such QOS for you, see --qos", Topic.QOS),
    (r"memory specification can not be satisfied", "no node has that much memory: lower --mem", Topic.NODES),
    (
        r"node configuration is not available",
        "no node has all of it: see --gpus-per-task, --cpus-per-task, --mem, --gres and --constraint",
        Topic.NODES,
    ),
    (r"invalid (generic resource|gres|tres)", "no node has such GPUs, see --gpus-per-task and --gres", Topic.NODES),
    (r"invalid node name|node count", "no such nodes, see --nodelist and --exclude: `sinfo -N` lists them", None),
    (r"invalid feature", "no node has that feature, see --constraint", Topic.FEATURE),
    (r"submitjob", "you may not have that many jobs queued: lower --array", None),
    (
        r"violates accounting/qos policy",
        "over a limit of your account or QOS, on jobs, sizes or time: lower --array, what a task asks for, or --time",
        None,
    ),
    (r"time limit", "the limit is above what the partition allows: lower --time", Topic.TIME),
    (r"invalid job array specification", "the array is larger than the site's MaxArraySize: lower --array", None),
    (r"reservation", "you cannot use that reservation: `scontrol show reservation` lists them", None),
    (r"invalid license", "the cluster has no such licenses: `scontrol show licenses` lists them", None),
    (r"invalid wckey", "this site wants a wckey: --sbatch wckey=NAME", None),
    (r"unrecognized option|invalid option", "this sbatch does not know that option", None),
)
# sbatch options whose variable is not simply named after them.
_VARIABLES = {"time": "timelimit", "array": "array_inx", "mem": "mem_per_node"}
_UNREACHABLE = re.compile(
    r"unable to contact|connection refused|timed out|communication connection failure|temporarily unable|"
    r"zero bytes were transmitted|resource temporarily unavailable",
    re.IGNORECASE,
)


# The nodes' addresses, one a line.
NODES_ARGV = ("sinfo", "--Node", "--noheader", "--format=%o")


def squeue_argv(jobs: Iterable[str]) -> list[str]:
    """One question about all of a submission's tasks that are in the queue or left it just now."""
    return ["squeue", "--noheader", "--array", "--states=all", "--format=%i|%T|%N|%r", f"--jobs={_arrays(jobs)}"]


def sacct_argv(jobs: Iterable[str]) -> list[str]:
    """One question about tasks that the queue has forgotten."""
    return ["sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,State,NodeList", "-j", _arrays(jobs)]


def scancel_argv(jobs: Iterable[str]) -> list[str]:
    """Cancels whole arrays."""
    return ["scancel", *_arrays(jobs).split(",")]


def sbatch_environment(environ: Mapping[str, str], script: str) -> dict[str, str]:
    """The environment to submit a script in, so that what it says is what counts.

    sbatch prefers its input variables to the script (https://slurm.schedmd.com/sbatch.html#SECTION_INPUT-ENVIRONMENT-VARIABLES):
    the ones that name an option of the script are left out. So is what a surrounding job has set, such as its CPU
    binding, which breaks the srun of ours.
    """
    options = re.findall(r"^#SBATCH --([a-z-]+)", script, re.MULTILINE)
    named = {f"SBATCH_{_VARIABLES.get(option, option).upper().replace('-', '_')}" for option in options}
    inside = "SLURM_JOB_ID" in environ
    return {
        name: value
        for name, value in environ.items()
        if name not in named
        and not (inside and name != "SLURM_CONF" and name.startswith(("SLURM_", "SRUN_", "SLURMD_")))
    }


def parse_squeue(text: str) -> dict[str, TaskStatus]:
    """Reads squeue's answer, by `ARRAY_TASK`."""
    answer: dict[str, TaskStatus] = {}
    for line in text.splitlines():
        fields = line.strip().split("|")
        if len(fields) == 4:
            job, state, node, reason = fields
            answer[job] = TaskStatus(
                state=read_state(state), node=node, detail=reason if reason not in ("None", "") else ""
            )
    return answer


def parse_sacct(text: str) -> dict[str, TaskStatus]:
    """Reads sacct's answer, by `ARRAY_TASK`; a range of tasks that never started is one line of it."""
    answer: dict[str, TaskStatus] = {}
    for line in text.splitlines():
        fields = line.strip().split("|")
        if len(fields) == 3:
            job, state, node = fields
            status = TaskStatus(state=read_state(state), node="" if node == "None assigned" else node)
            answer.update(dict.fromkeys(_expand(job), status))
    return answer


def read_state(text: str) -> TaskState:
    """Reads a state as squeue and sacct write it, `CANCELLED by 1000` included."""
    return STATES.get(text.split(" ")[0].rstrip("+"), TaskState.UNKNOWN)


def refusal(text: str, choices: Callable[[Topic], str] = lambda topic: "") -> WandbSubmitError:
    """Translates what a Slurm command said on its way out.

    Args:
        text: what it said.
        choices: tells the values that the site has, as half a sentence, or nothing.
    """
    said = [re.sub(r"^(\w+: (error: )?|allocation failure: )", "", line) for line in text.splitlines() if line.strip()]
    words = "; ".join(dict.fromkeys(said))[:400] or "it gave no reason"
    if _UNREACHABLE.search(text):
        return UnavailableError(f"Slurm does not answer now: {words}")
    for pattern, advice, topic in _REFUSALS:
        if re.search(pattern, text, re.IGNORECASE):
            values = choices(topic) if topic else ""
            there = f" ({values})" if values else ""
            return RefusedError(f"Slurm refuses the job: {words}. {advice[0].upper()}{advice[1:]}{there}")
    return RefusedError(f"Slurm refuses the job: {words}")


def _arrays(jobs: Iterable[str]) -> str:
    """The array ids of tasks, each once."""
    return ",".join(dict.fromkeys(job.partition("_")[0] for job in jobs))


def _expand(job: str) -> Iterator[str]:
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
