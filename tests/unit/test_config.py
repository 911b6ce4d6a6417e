from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from wandb_submit.errors import ConfigError, NotFoundError
from wandb_submit.executors.catalog import pick
from wandb_submit.options import build as config
from wandb_submit.options import sbatch
from wandb_submit.options.table import Options
from wandb_submit.spec import Activation, ArraySpec, Preload, SubmissionSpec

WORKDIR = Path("/somewhere")


def build(**options: Any) -> SubmissionSpec:
    return config.build_spec(
        {"executor": "slurm", **options},
        workdir=WORKDIR,
        pick_executor=pick,
        default_array=lambda spec: ArraySpec(count=5),
    )


def template(tmp_path: Path, text: str, name: str = "t.yaml") -> str:
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)


def test_flags_become_a_spec() -> None:
    spec = build(array="4%2", gpus_per_task=1, cpus_per_task=8, mem="16G", time="4:00:00", count=3)
    assert spec == SubmissionSpec(
        executor="slurm",
        array=ArraySpec(count=4, parallel=2),
        workdir=WORKDIR,
        gpus_per_task=1,
        cpus_per_task=8,
        mem="16G",
        time_min=240,
        time="4:00:00",
        count=3,
    )


def test_what_is_not_asked_for_is_left_to_the_site() -> None:
    assert build() == SubmissionSpec(executor="slurm", array=ArraySpec(count=5), workdir=WORKDIR)


def test_the_default_array_is_asked_for_with_what_a_task_gets() -> None:
    asked = []

    def default(spec: SubmissionSpec) -> ArraySpec:
        asked.append((spec.executor, spec.gpus_per_task, spec.cpus_per_task, spec.agents_per_task))
        return ArraySpec(count=1)

    options: Options = {"executor": "local", "gpus_per_task": 2, "agents_per_task": 3}
    config.build_spec(options, workdir=WORKDIR, pick_executor=pick, default_array=default)
    assert asked == [("local", 2, None, 3)]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("0,2", ("0", "2")),
        ("3-5, 1", ("3", "4", "5", "1")),
        ("GPU-8932f9,MIG-b7-c3", ("GPU-8932f9", "MIG-b7-c3")),
        ("MIG-GPU-8932/1/0", ("MIG-GPU-8932/1/0",)),
    ],
)
def test_gpus_of_this_machine_are_named(text: str, names: tuple[str, ...], tmp_path: Path) -> None:
    assert build(executor="local", gpu_ids=text).gpus == names
    assert build(executor="local", templates=(template(tmp_path, f"gpu-ids: {text}"),)).gpus == names
    assert build(executor="local", templates=(template(tmp_path, f"gpu-ids: [{text}]"),)).gpus == names


def test_the_default_number_of_gpus_is_a_workstations_alone() -> None:
    asked = []

    def default(spec: SubmissionSpec) -> int:
        asked.append((spec.executor, spec.gpus))
        return 1

    def gpus(**options: Any) -> int | None:
        place = {"workdir": WORKDIR, "pick_executor": pick, "default_array": lambda spec: ArraySpec(count=1)}
        return config.build_spec(Options(**options), **place, default_gpus=default).gpus_per_task

    assert gpus(executor="slurm") is None
    assert [gpus(executor="local", gpu_ids="0,2", gpus_per_task=asks) for asks in (2, 0)] == [2, 0]
    assert not asked
    assert gpus(executor="local", gpu_ids="0,2") == 1
    assert asked == [("local", ("0", "2"))]


@pytest.mark.parametrize("text", ["", "0,", "a100:1", "-1", "2-0", "0;1", "all"])
def test_what_is_no_list_of_gpus_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"--gpu-ids {text!r} is no list of GPUs"):
        build(executor="local", gpu_ids=text)


@pytest.mark.parametrize(
    ("options", "says"), [({"gpu_ids": "1"}, "--gpu-ids"), ({"include_busy": True}, "--include-busy")]
)
def test_slurm_chooses_its_own_gpus(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=f"^{says} works only with --executor local. On Slurm, use --gpus-per-task.$"):
        build(**options)


@pytest.mark.parametrize(("value", "taken"), [("true", True), ("false", False)])
def test_a_template_says_whether_busy_gpus_will_do(value: str, taken: bool, tmp_path: Path) -> None:
    name = template(tmp_path, f"include-busy: {value}")
    assert build(executor="local", templates=(name,)).include_busy is taken
    with pytest.raises(ConfigError, match="include-busy 'perhaps' is neither true nor false"):
        build(executor="local", templates=(template(tmp_path, "include-busy: perhaps"),))


def test_no_gpus_is_not_the_same_as_no_word_about_gpus() -> None:
    assert build(gpus_per_task=0).gpus_per_task == 0
    assert build().gpus_per_task is None


def test_gpus_of_a_type_come_from_flags_and_templates(tmp_path: Path) -> None:
    spec = build(templates=(template(tmp_path, "gpus-per-task: a100:2"),))
    assert (spec.gpu_type, spec.gpus_per_task) == ("a100", 2)
    assert build(gpus_per_task="a100:0").gpu_type is None


def test_every_problem_is_in_one_message(tmp_path: Path) -> None:
    name = template(tmp_path, "gpus-per-tsk: 1\nmem: lots\n")
    with pytest.raises(ConfigError) as caught:
        build(
            executor="slrum",
            array="0",
            gpus_per_task=-1,
            cpus_per_task=0,
            count=0,
            time="soon",
            sbatch={"array": "3", "wrap": "x"},
            templates=(name,),
        )
    problems = str(caught.value).splitlines()
    named = ("gpus-per-tsk", "slrum", "--array '0'", "--gpus-per-task", "--cpus-per-task", "--count", "lots", "soon")
    assert [word for word in named if not any(word in line for line in problems)] == []
    assert any(line.startswith("--sbatch array:") for line in problems)
    assert any(line.startswith("--sbatch wrap:") for line in problems)
    assert len(problems) == len(named) + 2


def test_a_misspelt_template_key_brings_the_one_that_was_meant(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown template key 'partitoin': did you mean 'partition'\?"):
        build(templates=(template(tmp_path, "partitoin: gpu"),))


def test_a_template_key_that_may_be_two_options_brings_both(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown template key 'gpus': did you mean 'gpus-per-task' or 'gpu-ids'\?"):
        build(templates=(template(tmp_path, "gpus: 2"),))


@pytest.mark.parametrize("given", [str, Path, lambda name: [Path(name)]])
def test_one_template_may_be_named_without_a_list_and_by_its_path(given: Any, tmp_path: Path) -> None:
    assert build(templates=given(template(tmp_path, "mem: 1G"))).mem == "1G"


@pytest.mark.parametrize("name", ["~nobody-of-that-name/t.yaml", f"{'t' * 300}.yaml"])
def test_a_template_whose_path_can_not_be_is_not_found(name: str) -> None:
    with pytest.raises(NotFoundError, match="no template '"):
        build(templates=[name])


def test_variables_of_any_mapping_are_joined_with_a_templates(tmp_path: Path) -> None:
    spec = build(templates=template(tmp_path, "env: {A: 1}"), env=MappingProxyType({"B": "2"}))
    assert spec.activation.env == {"A": "1", "B": "2"}


@pytest.mark.parametrize("key", sorted(sbatch.OWNED))
@pytest.mark.parametrize("form", ["{}=x", "{}", "--{}=x"])
def test_options_that_are_ours_are_refused_with_what_to_do_instead(key: str, form: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(sbatch=dict([sbatch.key_value(form.format(key))]))
    assert str(caught.value) == f"--sbatch {key}: {sbatch.OWNED[key]}"


def test_an_underscore_does_not_get_an_owned_option_through(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--sbatch cpus-per-task: use --cpus-per-task"):
        build(sbatch={"cpus_per_task": 4})
    with pytest.raises(ConfigError, match="--sbatch job-name"):
        build(templates=(template(tmp_path, "sbatch: {job_name: x}"),))


def test_further_sbatch_options_keep_their_values_or_have_none() -> None:
    spec = build(sbatch=dict(map(sbatch.key_value, ("exclusive", "mail_type=END", "--comment=a=b", "licenses="))))
    assert spec.sbatch == {"exclusive": None, "mail-type": "END", "comment": "a=b", "licenses": ""}


def test_a_template_can_name_an_option_without_a_value(tmp_path: Path) -> None:
    spec = build(templates=(template(tmp_path, "sbatch:\n  exclusive:\n  nice: 5\n"),))
    assert spec.sbatch == {"exclusive": None, "nice": "5"}


@pytest.mark.parametrize("name", sbatch.FLAGS)
def test_sbatch_options_with_a_flag_of_their_own_come_from_flags_and_templates(name: str, tmp_path: Path) -> None:
    written = template(tmp_path, f"{name}: theirs")
    assert build(templates=(written,)).sbatch == {name: "theirs"}
    assert build(templates=(written,), **{name: "mine"}).sbatch == {name: "mine"}


def test_flags_win_over_templates(tmp_path: Path) -> None:
    text = (
        "array: 9\ngpus-per-task: 9\ncpus-per-task: 9\nmem: 9G\ntime: 9\ncount: 9\nexecutor: local\nsbatch: {nice: 9}"
    )
    ours = {"array": "1", "gpus_per_task": 0, "cpus_per_task": 1, "mem": "1G", "time": "3", "count": 1}
    spec = build(**ours, sbatch={"nice": "1"}, templates=(template(tmp_path, text),))
    assert spec == build(**ours, sbatch={"nice": "1"})


def test_a_flag_wins_over_a_template_that_names_the_same_option_below_sbatch(tmp_path: Path) -> None:
    written = template(tmp_path, "sbatch: {partition: theirs}")
    assert build(templates=(written,), partition="mine").sbatch == {"partition": "mine"}


def test_a_free_sbatch_option_wins_over_a_templates_own_key(tmp_path: Path) -> None:
    written = template(tmp_path, "partition: theirs")
    assert build(templates=(written,), sbatch={"partition": "mine"}).sbatch == {"partition": "mine"}


def test_later_templates_win_over_earlier_ones(tmp_path: Path) -> None:
    first = template(tmp_path, "mem: 1G\ntime: 1:00:00\nsbatch: {nice: 1, comment: a}", "first.yaml")
    second = template(tmp_path, "mem: 2G\nsbatch: {nice: 2}", "second.yaml")
    spec = build(templates=(first, second))
    assert (spec.mem, spec.time_min, spec.sbatch) == ("2G", 60, {"nice": "2", "comment": "a"})


def test_how_runs_environments_are_made_is_joined_of_templates_and_flags(tmp_path: Path) -> None:
    first = template(tmp_path, "env: {A: 1, B: 1}\nsetup: one\nteardown: [x]\npython: p1", "first.yaml")
    second = template(tmp_path, "env: {B: 2}\nsetup:\n  - two\n", "second.yaml")
    spec = build(templates=(first, second), env={"C": "a=b"}, setup=("three",), python="p2")
    assert spec.activation == Activation(
        env={"A": "1", "B": "2", "C": "a=b"}, setup=("one", "two", "three"), teardown=("x",), python="p2"
    )


def test_a_template_is_checked_by_itself_with_all_its_problems(tmp_path: Path) -> None:
    bad = template(tmp_path, "executor: moon\nmem: lots\nsetpu: x\nsetup: 'if'\nenv: [A]\nsbatch: {output: x}")
    with pytest.raises(ConfigError) as caught:
        config.check_template(bad, pick)
    problems = str(caught.value).splitlines()
    for words in (
        "--executor 'moon'",
        "--mem 'lots'",
        "did you mean 'setup'?",
        "--setup 'if'",
        "--env (",
        "--sbatch output",
    ):
        assert any(words in problem for problem in problems), words
    assert len(problems) == 6
    config.check_template(template(tmp_path, "mem: 1G", "good.yaml"), pick)


def test_numbers_of_a_template_are_checked_like_flags(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--gpus-per-task 'two' is not a number of GPUs"):
        build(templates=(template(tmp_path, "gpus-per-task: two"),))


def test_sbatch_options_must_be_a_mapping(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a mapping of sbatch options"):
        build(templates=(template(tmp_path, "sbatch: [exclusive]"),))


def test_a_template_that_is_not_there_is_not_found() -> None:
    with pytest.raises(NotFoundError, match="no template 'nope'"):
        build(templates=("nope",))


@pytest.mark.parametrize("text", ["=x", "a b=x", "comment=one\ntwo"])
def test_what_would_not_stay_one_line_of_the_script_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        build(sbatch=dict([sbatch.key_value(text)]))


def test_how_runs_end_and_tasks_begin_anew() -> None:
    spec = build(grace=120, max_requeues=3, min_time_per_run="2:00:00", time="1-00:00:00")
    assert (spec.grace_s, spec.max_requeues, spec.min_run_s) == (120, 3, 7200)
    assert spec.signal_delay_s == 150
    assert build().signal_delay_s == 90
    assert build(grace="5m").grace_s == 300
    assert build(grace="20h", executor="local").grace_s == 72000
    assert (build(time="UNLIMITED").time, build(time="UNLIMITED").time_min) == ("UNLIMITED", None)


def test_a_job_that_slurm_may_not_requeue_does_not_try() -> None:
    assert build(sbatch={"no-requeue": None}).max_requeues == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"grace": -1}, "--grace -1 is not a number of seconds"),
        ({"grace": float("nan")}, "--grace nan is not a number of seconds"),
        ({"grace": "5x"}, "--grace '5x' is not a number of seconds: write .* 5m"),
        ({"grace": "20h"}, "--grace 72000 is more than Slurm can give. Ask for at most 65505 s"),
        ({"time": "25:61:00"}, "--time '25:61:00': .* 1-02:01:00"),
        ({"time": "1"}, "--time 1 min leaves 0 s for runs, .* Ask for at least 3 minutes"),
        ({"max_requeues": -1}, "--max-requeues -1 is not a whole number"),
        ({"agent": "ours"}, "--agent 'ours' is none of native, wandb"),
        ({"agent": "wandb", "preload": ["torch"]}, "--agent wandb: --preload needs the native agent"),
        ({"preload": ["torch,two words"]}, "--preload 'two words': not a module's name"),
        ({"agent": "wandb", "min_time_per_run": "1"}, "`wandb agent` does not look at the time"),
        ({"min_time_per_run": "soon"}, "--min-time-per-run 'soon' is not a time"),
        ({"grace": 300, "time": "5"}, "--time 5 min leaves 0 s for runs"),
        ({"min_time_per_run": "60", "time": "1:00:00"}, "and a run is said to take 3600 s"),
    ],
)
def test_what_does_not_fit_is_said(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build(**options)


@pytest.mark.parametrize(
    ("text", "preload", "modules"),
    [
        ("{}", None, None),
        ("{}", ["torch, torch.nn"], ("torch", "torch.nn")),
        ("preload: torch,numpy", None, ("torch", "numpy")),
        ("preload: [torch, numpy]", None, ("torch", "numpy")),
        ("preload: [torch, numpy]", ["wandb"], ("wandb",)),
        ("preload: torch", [], None),
    ],
)
def test_modules_to_preload_come_from_templates_and_flags(
    tmp_path: Path, text: str, preload: list[str] | None, modules: tuple[str, ...] | None
) -> None:
    spec = build(templates=[template(tmp_path, text)], preload=preload)
    assert spec.preload == (None if modules is None else Preload(modules=modules))


def test_what_a_function_uses_is_preloaded_where_it_can_be_unless_something_else_was_asked_for() -> None:
    def of(preload: list[str] | None, nodes: int | None = None) -> SubmissionSpec:
        return config.build_spec(
            {"executor": "slurm", "preload": preload, "nodes": nodes},
            workdir=WORKDIR,
            pick_executor=pick,
            default_array=lambda spec: ArraySpec(count=5),
            function=Preload(modules=("numpy",), required=False, folders=("/home/me",)),
        )

    assert of(None).preload == Preload(modules=("numpy",), required=False, folders=("/home/me",))
    assert of(["torch"]).preload == Preload(modules=("torch",), folders=("/home/me",))
    assert of([]).preload is None
    assert of(None, nodes=2).preload is None
    assert of([]).function
