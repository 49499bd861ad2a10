"""benchmark/'s shell: what the printers print, and that local.sh and slurm.sh run it, with real processes."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import slurm_node
import torch
import tyro
from test_runs import assert_same_run, evaluations

import bco_baseline
import d3g_continuous
import d3g_from_obs
import d3g_gridworld
import tabular_qss
import td3_baseline

ROOT = Path(__file__).parent.parent
BENCHMARK = ROOT / "benchmark"
ENVIRONMENT = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
SMALL = "--hidden-sizes 8 8 --batch-size 16 --eval-episodes 1"


def call(script, *args, stdin="", status=0, **how):
    """Run one of benchmark/'s shell scripts; return its output, or its standard error if it is to fail."""
    how = {"env": ENVIRONMENT, "timeout": 120} | how
    done = subprocess.run([BENCHMARK / script, *args], input=stdin, capture_output=True, text=True, **how)
    assert done.returncode == status, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stderr if status == 2 else done.stdout


def skip(reason):
    """Skip a test, unless nothing may be skipped."""
    assert "REQUIRE_ALL_TESTS" not in os.environ, reason
    pytest.skip(reason)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to work in, from which the printed commands find the scripts."""
    for script in ROOT.glob("*.py"):
        (tmp_path / script.name).symlink_to(script)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ------------------------------------------------------------------------------------------------------- printers


def test_figure7_prints():
    algorithms = ["--algorithms", "d3g,td3,ddpg,d3g_no_cycle,d3g_plus"]
    selection = ["--tasks", "Hopper-v4,my.module:Walk-v0", *algorithms, "--seeds=3,11"]
    lines = call("figure7.sh", *selection, "--total-timesteps", "5000", "--exp-name", "a b").splitlines()
    assert len(lines) == 20
    more = "--total-timesteps 5000 --exp-name a\\ b"
    assert lines[:6] == [
        f"python d3g_continuous.py --env-id Hopper-v4 --seed 3 {more} "
        "--run-dir runs/figure7/Hopper-v4__d3g__3 --resume",
        f"python td3_baseline.py --env-id Hopper-v4 --seed 3 {more} --run-dir runs/figure7/Hopper-v4__td3__3 --resume",
        f"python td3_baseline.py --algorithm ddpg --env-id Hopper-v4 --seed 3 {more} "
        "--run-dir runs/figure7/Hopper-v4__ddpg__3 --resume",
        f"python d3g_continuous.py --no-cycle --env-id Hopper-v4 --seed 3 {more} "
        "--run-dir runs/figure7/Hopper-v4__d3g_no_cycle__3 --resume",
        f"python d3g_continuous.py --standardize --env-id Hopper-v4 --seed 3 {more} "
        "--run-dir runs/figure7/Hopper-v4__d3g_plus__3 --resume",
        f"python d3g_continuous.py --env-id my.module:Walk-v0 --seed 3 {more} "
        "--run-dir runs/figure7/my.module_Walk-v0__d3g__3 --resume",
    ]


def test_figure7_prints_the_paper_by_default():
    lines = call("figure7.sh").splitlines()
    assert len(lines) == len(set(lines)) == 8 * 4 * 10
    assert "--total-timesteps" not in "".join(lines)
    assert "--standardize" not in "".join(lines)
    assert lines[0].startswith("python td3_baseline.py --env-id HalfCheetah-v4 --seed 1 --run-dir ")
    tasks = {re.search(r"--env-id (\S+)", line)[1] for line in lines}
    assert tasks == {f"{name}-v4" for name in "HalfCheetah Hopper Walker2d Ant Humanoid Reacher".split()} | {
        "InvertedPendulum-v4",
        "InvertedDoublePendulum-v4",
    }


def test_table1_prints():
    selection = ["--tasks", "a/b:Reacher-v4", "--randomness", "0.25,1", "--seeds", "2"]
    selection += ["--algorithms", "d3g,d3g_plus,bco"]
    own = ["--expert", "--total-timesteps 9", "--data", "--dataset-size 7", "--d3g=--beta 2"]
    own += ["--bco", "--policy-updates 5"]
    quarter, random = (f"datasets/a_b_Reacher-v4__random{p}.npz" for p in ("0.25", "1"))
    task = "--env-id a/b:Reacher-v4"
    plus = "--standardize --scale-states --clamp-values --aim-halfway"
    expert = "--demonstrator runs/experts/a_b_Reacher-v4/model.pt"
    folder = "--run-dir runs/table1/a_b_Reacher-v4"
    assert call("table1.sh", *selection, *own, "--rounds", "3").splitlines() == [
        f"python td3_baseline.py {task} --total-timesteps 9 --run-dir runs/experts/a_b_Reacher-v4 --resume",
        "wait",
        f"python d3g_from_obs.py {task} {expert} --randomness 0.25 --dataset-size 7 --collect {quarter}",
        f"python d3g_from_obs.py {task} --randomness 1 --dataset-size 7 --collect {random}",
        "wait",
        f"python d3g_from_obs.py {task} --dataset {quarter} --seed 2 --rounds 3 --beta 2 "
        f"{folder}__random0.25__d3g__2 --resume",
        f"python d3g_from_obs.py {plus} {task} --dataset {quarter} --seed 2 --rounds 3 --beta 2 "
        f"{folder}__random0.25__d3g_plus__2 --resume",
        f"python bco_baseline.py {task} --dataset {quarter} --seed 2 --rounds 3 --policy-updates 5 "
        f"{folder}__random0.25__bco__2 --resume",
        f"python d3g_from_obs.py {task} --dataset {random} --seed 2 --rounds 3 --beta 2 "
        f"{folder}__random1__d3g__2 --resume",
        f"python d3g_from_obs.py {plus} {task} --dataset {random} --seed 2 --rounds 3 --beta 2 "
        f"{folder}__random1__d3g_plus__2 --resume",
        f"python bco_baseline.py {task} --dataset {random} --seed 2 --rounds 3 --policy-updates 5 "
        f"{folder}__random1__bco__2 --resume",
    ]


def test_table1_prints_the_paper_by_default_and_no_expert_for_random_data():
    lines = call("table1.sh").splitlines()
    assert [i for i, line in enumerate(lines) if line == "wait"] == [2, 13]
    assert len(lines) == len({*lines}) + 1 == 2 + 1 + 10 + 1 + 2 * 5 * 2 * 10
    assert not [line for line in lines if "--standardize" in line]
    assert not [line for line in call("table1.sh", "--randomness", "1").splitlines() if "expert" in line]
    assert [line for line in call("table1.sh", "--randomness", "1,0.1").splitlines() if "runs/experts/Reacher" in line]


def test_figure8_prints():
    lines = call("figure8.sh", "--data", "--dataset-size 7", "--rounds", "3").splitlines()
    tasks = ("InvertedPendulum-v4", "Reacher-v4")
    assert lines == [
        *(
            f"python d3g_from_obs.py --env-id {x} --randomness 1 --dataset-size 7 --collect datasets/{x}__random1.npz"
            for x in tasks
        ),
        "wait",
        *(
            f"python d3g_from_obs.py --env-id {x} --dataset datasets/{x}__random1.npz --run-dir runs/figure8/{x} "
            "--resume --rounds 3"
            for x in tasks
        ),
    ]
    collected = {line for line in call("table1.sh", "--randomness", "1").splitlines() if "--collect" in line}
    assert collected == {line for line in call("figure8.sh").splitlines() if "--collect" in line}


@pytest.mark.parametrize("script", ["figure2", "figure3", "figure4", "appendix", "figure6"])
def test_a_printer_passes_further_arguments_on(script):
    plain = call(f"{script}.sh").splitlines()
    assert len(plain) == {"figure4": 4, "appendix": 2, "figure6": 10}.get(script, 1)
    lines = call(f"{script}.sh", "--num-threads", "2", "--exp-name", "a b").splitlines()
    assert lines == [f"{line} --num-threads 2 --exp-name a\\ b" for line in plain]


def test_the_scripts_take_every_printed_command():
    scripts = {f"{m.__name__}.py": m for m in (d3g_continuous, td3_baseline, d3g_from_obs, bco_baseline)}
    scripts |= {f"{m.__name__}.py": m for m in (d3g_gridworld, tabular_qss)}
    printed = call("figure7.sh", "--algorithms", "td3,ddpg,d3g,d3g_no_cycle,d3g_plus")
    printed += call("table1.sh", "--algorithms", "d3g,d3g_plus,bco")
    for script in ("figure2", "figure3", "figure4", "figure6", "figure8", "appendix"):
        printed += call(f"{script}.sh")
    seen = set()
    for line in printed.splitlines():
        if line != "wait":
            python, script, *args = shlex.split(line)
            resolved = tyro.cli(scripts[script].Args, args=args)
            assert python == "python"
            assert resolved.resume or resolved.collect
            assert resolved.run_dir is None or "/table1/" not in line or resolved.run_dir.endswith(f"__{resolved.seed}")
            seen.add(script)
    assert seen == set(scripts)


FIXED = {  # what a printer sets in its commands, as somebody might type it
    "figure2": "--experiment=figure3 --seed --run-dir --resume --no-resume",
    "figure3": "--experiment=figure3 --seed --run-dir --resume --no-resume",
    "figure4": "--experiment=figure3 --seed --run-dir --resume --no-resume",
    "appendix": "--experiment=figure3 --seed --run-dir --resume --no-resume",
    "figure6": "--variants --seed --num-seeds --run-dir --resume --no-resume",
    "figure7": "--env-id --seed --run-dir --resume --no-resume --algorithm --cycle --no-cycle --standardize "
    "--no-standardize",
    "figure8": "--env-id --seed --run-dir --resume --no-resume --collect --dataset --demonstrator --randomness "
    "--dataset-size --data=--collect --data=--run-dir",
    "table1": "--env-id --seed --run-dir --resume --no-resume --demonstrator --collect --dataset --standardize "
    "--scale-states --clamp-values --aim-halfway --no-aim-halfway --dataset-size --dataset-seed "
    "--data=--collect --data=--randomness --d3g=--seed --d3g=--run-dir --bco=--no-resume "
    "--expert=--run-dir --expert=--env-id --d3g=--dataset --d3g=--dataset-size",
}


@pytest.mark.parametrize("script", FIXED)
def test_a_printer_refuses_what_it_sets_itself(script):
    """In both spellings, with = or a blank, before or behind other arguments: else runs would share a folder."""
    for typed in FIXED[script].split():
        *option, name = re.findall(r"--[a-z0-9-]+", typed)
        assert len(option) <= 1
        for spelling in {name, f"--{name[2:].replace('-', '_')}"}:
            for words in ([spelling, "3"], [f"{spelling}=3"], ["--num-threads", "2", spelling]):
                args = [option[0], " ".join(words)] if option else words
                said = call(f"{script}.sh", *args, status=2)
                assert said.startswith(f"error: {name}: "), args
                assert said.count("\n") == 1


@pytest.mark.parametrize("script", ["figure2", "figure4", "figure7", "table1", "local", "slurm", "fast_cpu"])
def test_headers_say_how_a_script_is_called(script):
    text = (BENCHMARK / f"{script}.sh").read_text()
    assert re.search(rf"^#     (.* \| )?benchmark/{script}.sh", text, re.M)
    first = {"local": "Runs the commands on", "slurm": "Submits the commands on", "fast_cpu": "Runs a command with"}
    shown = call(f"{script}.sh", "--help")
    assert shown.startswith(first.get(script, "Prints the command"))
    assert f"benchmark/{script}.sh" in shown
    assert "set -" not in shown


@pytest.mark.parametrize(
    ("script", "args", "error"),
    [
        ("figure7.sh", "--seeds", "--seeds: must be followed by its value, or values separated by commas"),
        ("figure7.sh", "--seeds=,", "--seeds: must be followed by its value, or values separated by commas"),
        ("figure7.sh", "--env_id=Ant-v4", "--env-id: is chosen for each run; select with --tasks, --algorithms and"),
        ("local.sh", None, "standard input: must be commands, one per line, has none"),
        ("slurm.sh", None, "standard input: must be commands, one per line, has none"),
        ("figure7.sh", "--seeds 1,x", "--seeds 1,x: must be whole numbers, separated by commas"),
        ("figure7.sh", "--seeds 1,01", "--seeds 1,01: must be whole numbers, separated by commas"),
        ("figure7.sh", "--seeds 1,2,1", "--seeds 1,2,1: must be different names of folders, has 1 twice"),
        ("figure7.sh", "--tasks a:b,c,a_b", "--tasks a:b,c,a_b: must be different names of folders, has a_b twice"),
        ("figure7.sh", "--tasks a/b,a:b", "--tasks a/b,a:b: must be different names of folders, has a_b twice"),
        ("figure7.sh", "--tasks a;b", "--tasks a;b: must be names of tasks, separated by commas"),
        ("figure7.sh", "--tasks -a", "--tasks -a: must be names of tasks, separated by commas"),
        ("figure7.sh", "--algorithms td3,td3", "--algorithms td3,td3: must be different names of folders, has td3"),
        (
            "figure7.sh",
            "--algorithms td3,sac",
            "--algorithms td3,sac: must be of td3, ddpg, d3g, d3g_no_cycle, d3g_plus, separated",
        ),
        ("figure7.sh", "--seed 3", "--seed: is chosen for each run; select with --tasks, --algorithms and --seeds"),
        ("table1.sh", "--randomness 1.5", "--randomness 1.5: must be 0, 0.25 or the like, or 1, separated by commas"),
        ("table1.sh", "--randomness 0.5,0.50", "--randomness 0.5,0.50: must be 0, 0.25 or the like, or 1, separated"),
        ("table1.sh", "--randomness 1,1", "--randomness 1,1: must be different names of folders, has 1 twice"),
        ("table1.sh", "--seeds 3,3", "--seeds 3,3: must be different names of folders, has 3 twice"),
        ("table1.sh", "--tasks $(x)", "--tasks $(x): must be names of tasks, separated by commas"),
        ("table1.sh", "--algorithms bco,bco", "--algorithms bco,bco: must be different names of folders, has bco"),
        ("table1.sh", "--algorithms td3", "--algorithms td3: must be of d3g, d3g_plus, bco, separated by commas"),
        ("table1.sh", "--seeds 1,2,", None),
        ("table1.sh", "--demonstrator x", "--demonstrator: is chosen for each run; select with --tasks, --randomness,"),
        ("figure8.sh", "--data", "--data: must be followed by its value"),
        ("local.sh", "--workers 0", "--workers 0: must be a whole number, at least 1"),
        ("local.sh", "--workers", "--workers : must be a whole number, at least 1"),
        ("local.sh", "4", "4: must be --workers N, with the commands on standard input"),
        ("local.sh", "", "standard input: must be commands, one per line, has none"),
        ("fast_cpu.sh", "", "benchmark/fast_cpu.sh: must be followed by a command"),
    ],
)
def test_bad_input(script, args, error, folder):
    before = set(folder.iterdir())
    environment = ENVIRONMENT
    if script == "slurm.sh":  # one that would submit anything
        (folder / "tools").mkdir()
        (folder / "tools" / "sbatch").symlink_to("/bin/true")
        environment = ENVIRONMENT | {"PATH": f"{folder / 'tools'}:{ENVIRONMENT['PATH']}"}
        before.add(folder / "tools")
    if error is None:
        assert len(call(script, *args.split()).splitlines()) == 2 + 1 + 10 + 1 + 2 * 5 * 2 * 2
    else:
        stdin = "" if args else "wait\n# a remark\n"
        said = call(script, *(args or "").split(), stdin=stdin, status=2, env=environment)
        assert said.startswith(f"error: {error}")
        assert said.count("\n") == 1
    assert set(folder.iterdir()) == before


# ------------------------------------------------------------------------------------------------------- local.sh


def test_local_runs_n_at_a_time_and_keeps_barriers(folder):
    """Five runs in two stages, three at a time: never more, and the second stage after the end of the first."""
    lines = [f"echo start {k} >> events; sleep 0.5; echo end {k} $OMP_NUM_THREADS >> events" for k in range(5)]
    environment = {name: x for name, x in ENVIRONMENT.items() if name != "OMP_NUM_THREADS"}
    stdin = "\n".join(["# a remark", *lines[:4], "wait", "", lines[4]])
    out = call("local.sh", "--workers", "3", stdin=stdin, env=environment).splitlines()
    events = [line.split() for line in (folder / "events").read_text().splitlines()]
    running = np.cumsum([1 if kind == "start" else -1 for kind, *_ in events])
    assert running.max() == 3
    assert [e[:2] for e in events[-2:]] == [["start", "4"], ["end", "4"]]
    assert {e[2] for e in events if e[0] == "end"} == {"1"}
    assert [line.split("] ")[1].split(":")[0] for line in out][:3] == [f"start {k}/5" for k in (1, 2, 3)]
    ended = [re.sub(r"^.{11}|:.*", "", line) for line in out if "ended" in line]
    assert [line.split(" in ")[0] for line in ended] == [
        *(f"ended {k}/5" for k in range(1, 6)),
        "5 of 5 ended well, 0 failed, 0 stopped, 0 not started",
    ]
    left = [re.search(r"in 0:00:0[01], (\d) left(, about 0:00:0\d)?", line) for line in out if " ended " in line][:-1]
    assert [m[1] for m in left] == ["4", "3", "2", "1", "0"]
    assert left[3][2] is not None
    assert left[4][2] is None


def test_local_takes_blanks_before_a_command_or_a_barrier(folder):
    out = call("local.sh", "--workers", "1", stdin="  false\n\t# a remark\n  wait\n  touch never", status=1)
    assert "0 of 2 ended well, 1 failed, 0 stopped, 1 not started" in out
    assert not (folder / "never").exists()


def test_local_runs_as_many_as_there_are_cores(folder):
    """`nproc` alone would take OMP_NUM_THREADS, which the runs get, for their number."""
    cores = int(subprocess.check_output(["nproc"], env={"PATH": ENVIRONMENT["PATH"]}))
    lines = [f": run {k}; echo 1 >> events; sleep 2; echo -1 >> events" for k in range(cores + 1)]
    call("local.sh", stdin="\n".join(lines), env=ENVIRONMENT | {"OMP_NUM_THREADS": str(cores + 1)})
    assert max(np.cumsum(np.loadtxt(folder / "events"))) == cores


def test_local_gives_every_run_a_log_of_its_own(folder):
    """Also where the names of folders are quoted, or differ in their last letters only."""
    names = [f"'my runs/{k}'" for k in (1, 2)] + [f"{'a' * 160}{k}" for k in (1, 2)] + ["b1", "b2"]
    lines = [f"echo {name}; : --run-dir {name}" for name in names]
    call("local.sh", "--workers", "3", stdin="\n".join(lines))
    logs = sorted((folder / "runs" / "logs").iterdir())
    assert len(logs) == 6
    assert [log.name for log in logs if log.name.startswith("b")] == ["b1.log", "b2.log"]
    assert sorted(log.read_text().splitlines()[-1] for log in logs) == sorted(name.strip("'") for name in names)


def test_local_reports_failures_and_holds_up_what_depends(folder):
    lines = [
        "echo some words; echo last words >&2; exit 3",
        "sleep 1; touch neighbour",
        "kill -9 $$",
        "wait",
        "touch never",
    ]
    out = call("local.sh", "--workers", "2", stdin="\n".join(lines), status=1)
    assert (folder / "neighbour").exists()
    assert not (folder / "never").exists()
    summary = out.splitlines()
    start = next(i for i, line in enumerate(summary) if "1 of 4 ended well, 2 failed, 0 stopped, 1 not started" in line)
    assert summary[start + 1] == f"status 3: {lines[0]}"
    assert re.fullmatch(r"    runs/logs/echo_some\S+\.log ends with", summary[start + 2])
    assert summary[start + 3].endswith(f" {lines[0]}")
    assert summary[start + 4 : start + 6] == ["    | some words", "    | last words"]
    assert summary[start + 6] == "status 137: kill -9 $$"


def launch(lines, *args):
    """Start local.sh as a terminal does, leading a process group of its own."""
    child = subprocess.Popen(
        [BENCHMARK / "local.sh", *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT,
        start_new_session=True,
    )  # fmt: skip
    child.stdin.write("\n".join(lines))
    child.stdin.close()
    return child


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "what was waited for did not come"
        time.sleep(0.05)


def test_local_is_interrupted_and_continues(folder):
    """Ctrl-C stops real runs with their checkpoints; the same line again ends them as if nothing had been."""
    how = "--seeds 1,2 --tasks InvertedPendulum-v4 --algorithms td3 --total-timesteps 1000"
    how += f" --learning-starts 100 --eval-frequency 200 {SMALL}"
    lines = [*call("figure7.sh", *how.split()).splitlines(), "touch third"]
    runs = [folder / "runs" / "figure7" / f"InvertedPendulum-v4__td3__{k}" for k in (1, 2)]
    reference = folder / "reference"
    subprocess.run(
        shlex.split(lines[0].replace(f"{runs[0].relative_to(folder)}", "reference")), env=ENVIRONMENT, check=True
    )
    child = launch(lines, "--workers", "2")
    wait_for(lambda: all((run / "evaluations.csv").exists() and len(evaluations(run)) >= 2 for run in runs))
    second = call("local.sh", stdin=lines[0], status=1)  # while the first one lives: refused, and nothing disturbed
    assert "error: the run that this log is of has not ended" in second
    os.killpg(child.pid, signal.SIGINT)
    out = child.stdout.read()
    assert child.wait(60) == 130
    assert "stopping 2 runs, each after its checkpoint; once more stops them at once" in out
    assert "0 of 3 ended well, 0 failed, 2 stopped, 1 not started" in out
    assert [(run / "checkpoint.pt").exists() for run in runs] == [True, True]
    assert not (folder / "third").exists()
    assert "3 of 3 ended well, 0 failed" in call("local.sh", "--workers", "2", stdin="\n".join(lines))
    assert "1 of 1 ended well, 0 failed" in call("local.sh", stdin=lines[0])  # all is there
    assert_same_run(runs[0], reference)
    assert [evaluations(run)[-1][0] for run in runs] == ["1000"] * 2
    assert (folder / "third").exists()
    (log,) = (folder / "runs" / "logs").glob("figure7_InvertedPendulum-v4__td3__1.log")
    text = log.read_text()
    assert text.count(f" {lines[0]}\n") == 3
    assert "stopped at step" in text
    assert text.splitlines()[-1].endswith("is complete")


@pytest.mark.parametrize("signals", [1, 2, 3])
def test_local_passes_every_signal_on_once(folder, signals):
    """The run counts its SIGTERMs: one for one, two for two; a third signal kills it. It is waited for to its end."""
    (folder / "run.py").write_text(
        "import pathlib, signal, time\ncount = []\n"
        "def handle(*_):\n    count.append(1)\n    pathlib.Path('count').write_text(str(len(count)))\n"
        "signal.signal(signal.SIGTERM, handle)\npathlib.Path('ready').touch()\nend = time.time() + 3\n"
        "while time.time() < end: time.sleep(0.05)\npathlib.Path('over').touch()\nraise SystemExit(143)\n"
    )
    child = launch(
        ["python run.py; touch after", "touch never"], "--workers", "1"
    )  # a shell between, which dies at once
    wait_for((folder / "ready").exists)
    for _ in range(signals):
        os.kill(child.pid, signal.SIGTERM)
        time.sleep(0.5)
    assert child.wait(60) == 143
    assert (folder / "count").read_text() == str(min(signals, 2))
    assert (folder / "over").exists() == (signals < 3)
    assert not (folder / "after").exists()
    assert not (folder / "never").exists()


def test_local_misses_no_signal_while_it_starts_runs(folder):
    """Wherever in the start of six runs the signal comes, none of them lives on and the status is the signal's."""
    for delay in (0.0, 0.01, 0.02, 0.03, 0.05, 0.08):
        child = launch([f"sleep 60.{k}" for k in range(6)], "--workers", "6")
        assert "start 1/6" in child.stdout.readline()
        time.sleep(delay)
        started = time.monotonic()
        child.terminate()
        out = child.stdout.read()
        assert child.wait(30) == 143
        assert time.monotonic() - started < 10
        assert "0 of 6 ended well, 0 failed" in out


def test_local_stops_its_runs_when_nobody_reads_it(folder):
    child = launch(["sleep 61"])
    child.stdout.readline()
    child.stdout.close()
    child.send_signal(signal.SIGINT)
    assert child.wait(30) == 130
    assert not subprocess.run(["pgrep", "-x", "-f", "sleep 61"], capture_output=True).stdout


# ----------------------------------------------------------------------------------------------------------- slurm


@pytest.fixture(scope="module")
def slurm():
    if lacking := slurm_node.missing():
        skip(f"needs a Slurm (Debian: slurm-wlm, munge) and root, lacks: {lacking}")
    cluster = slurm_node.Slurm()
    yield cluster
    cluster.stop()


def submit(slurm, lines, *args):
    """Submit lines; return what slurm.sh says and the folder it made."""
    path = f"{Path(sys.executable).parent}:{slurm.environment['PATH']}"
    out = call("slurm.sh", *args, stdin="\n".join(lines), env=slurm.environment | {"PATH": path}).splitlines()
    job, report = re.fullmatch(r"report: job (\d+), (\S+/report.txt)", out[-1]).groups()
    return out, Path(report).parent


def ended(slurm, report):
    return report.exists() and "ended well" in report.read_text() and not slurm.run("squeue", "--noheader")


def test_slurm_runs_table1_in_stages(slurm, folder):
    """Expert, data sets, runs: a stage needs the files of the one before, so an early start would fail. The table is
    then made from their folders."""
    how = ["--tasks", "InvertedPendulum-v4", "--randomness", "0.5", "--seeds", "1", "--data", "--dataset-size 200"]
    how += ["--algorithms", "bco,d3g_plus", "--d3g", "--offline-updates 20", "--bco", "--policy-updates 5"]
    how += ["--expert", f"--total-timesteps 200 --learning-starts 100 {SMALL}"]
    how += [*"--rounds 2 --steps-per-round 20 --inverse-updates 5".split(), *SMALL.split()]
    out, made = submit(slurm, call("table1.sh", *how).splitlines(), "--limit", "1", "--comment=ours")
    assert [re.sub(r"job \d+|runs/\S+/", "", line) for line in out] == [
        "stage 1: 1 runs, , logs stage1.*.log",
        "stage 2: 1 runs, , logs stage2.*.log",
        "stage 3: 2 runs, , logs stage3.*.log",
        "report: , report.txt",
    ]
    jobs = [re.search(r"job (\d+)", line)[1] for line in out]
    last = slurm.run("scontrol", "show", "job", jobs[2])
    assert f"Dependency=afterok:{jobs[1]}_*(unfulfilled)" in last
    assert "ArrayTaskId=1-2%1" in last
    assert "Comment=ours" in last
    assert "Requeue=1" in last
    slurm.wait_for(lambda: ended(slurm, made / "report.txt"), 240)
    assert (made / "report.txt").read_text() == "4 of 4 ended well\n"
    runs = sorted((folder / "runs" / "table1").iterdir())
    assert [run.name for run in runs] == [f"InvertedPendulum-v4__random0.5__{a}__1" for a in ("bco", "d3g_plus")]
    assert all((run / "model.pt").exists() for run in runs)
    files = sorted(path.name for path in (folder / "datasets").iterdir())
    assert files == [f"InvertedPendulum-v4__random0.5.{x}" for x in ("json", "npz")]

    command = [sys.executable, BENCHMARK / "table1.py", *runs, "--output", "table1.md"]
    subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True)
    *_, header, _, row = Path("table1.md").read_text().splitlines()
    assert header.split("|")[5::2] == [f" {name} (IQM; seeds) " for name in ("BCO", "D3G", "D3G\u207a")]
    about = json.loads(Path("datasets", "InvertedPendulum-v4__random0.5.json").read_text())
    cells = [cell.strip() for cell in row.split("|")]
    assert cells[2:4] == ["50", f"{about['score']:.1f} ({about['mean_return']:.1f})"]
    for k in (5, 9):
        assert re.fullmatch(r"-?[\d.]+ ± 0.0 \(-?[\d.]+; 1\)", cells[k])
    assert cells[7] == "", "no run of D3G"


def test_slurm_preempts_a_run_and_continues_it(slurm, folder):
    """A job of higher priority takes the node: the run gets one SIGTERM, and when it is back it goes on."""
    how = f"--seeds 1 --tasks InvertedPendulum-v4 --algorithms td3 --total-timesteps 2000 --learning-starts 100 {SMALL}"
    (line,) = call("figure7.sh", *how.split(), "--eval-frequency", "250").splitlines()
    run, reference = folder / "runs" / "figure7" / "InvertedPendulum-v4__td3__1", folder / "reference"
    subprocess.run(shlex.split(line.replace(f"{run.relative_to(folder)}", "reference")), env=ENVIRONMENT, check=True)
    _, made = submit(slurm, [line])
    slurm.wait_for(lambda: (run / "evaluations.csv").exists() and len(evaluations(run)) >= 2)
    slurm.run("sbatch", "--partition=high", "--cpus-per-task=2", "--output=/dev/null", "--wrap=sleep 1")
    slurm.wait_for(lambda: ended(slurm, made / "report.txt"), 120)
    log = (made / "stage1.1.log").read_text()
    assert re.findall(r"restart (\d)", log) == ["0", "1"]
    assert log.count("stopped at step") == 1
    assert "DUE TO PREEMPTION" in log
    assert (made / "report.txt").read_text() == "1 of 1 ended well\n"
    assert_same_run(run, reference)


def test_slurm_reports_a_failure_and_does_not_start_what_depends(slurm, folder):
    _, made = submit(slurm, ["touch well", "echo last words; exit 5", "wait", "touch never"])
    slurm.wait_for(lambda: ended(slurm, made / "report.txt"), 120)
    name = made / "stage1.2.log"
    first, second, _, words, never, total = (made / "report.txt").read_text().splitlines()
    assert (first, second, words) == ("status 5: echo last words; exit 5", f"    {name} ends with", "    | last words")
    assert never == "status none, was not started or killed: touch never"
    assert total == "1 of 3 ended well"
    assert (folder / "well").exists()
    assert not (folder / "never").exists()


def test_slurm_takes_blanks_before_a_command_or_a_barrier(folder):
    (folder / "tools").mkdir()
    (folder / "tools" / "sbatch").symlink_to("/bin/true")
    environment = ENVIRONMENT | {"PATH": f"{folder / 'tools'}:{ENVIRONMENT['PATH']}"}
    call("slurm.sh", stdin="  true\n\t# a remark\n  wait\n  touch later", env=environment)
    stages = {file.name: file.read_text() for file in (folder / "runs" / "slurm").glob("*/stage*.txt")}
    assert stages == {"stage1.txt": "true\n", "stage2.txt": "touch later\n"}


def test_slurm_needs_slurm_and_commands(folder):
    bare = ENVIRONMENT | {"PATH": "/bin"} if not Path("/bin/sbatch").exists() else None
    if bare:
        said = call("slurm.sh", stdin="true", status=2, env=bare)
        assert said == "error: sbatch: must be installed; on a single machine benchmark/local.sh does the same\n"
    said = call("slurm.sh", "--limit", "x", stdin="true", status=2)
    assert said == "error: --limit x: must be a whole number, at least 1\n"
    assert not (folder / "runs").exists()


# -------------------------------------------------------------------------------------------------------- fast_cpu.sh


def processor(folder, amd):
    """The environment of a machine whose /proc/cpuinfo names AMD's processor, or not, as far as `grep` tells it."""
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    (tools / "grep").write_text(
        f"#!/bin/sh\n[ \"$*\" = '-q AuthenticAMD /proc/cpuinfo' ] && exit {0 if amd else 1}\nexit 2\n"
    )
    (tools / "grep").chmod(0o755)
    return ENVIRONMENT | {"PATH": f"{tools}:{ENVIRONMENT['PATH']}", "XDG_CACHE_HOME": str(folder / "cache")}


def compiler():
    """A C compiler, or the test is skipped."""
    found = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not found:
        skip("needs a C compiler")
    return found


def test_fast_cpu_on_amd_preloads_the_answer_once_built(folder):
    """In the command MKL's question is answered with 1; the library is built once; numbers are equal to rounding."""
    compiler()
    environment = processor(folder, amd=True)
    question = "import ctypes; print(ctypes.CDLL(None).mkl_serv_intel_cpu_true())"
    assert call("fast_cpu.sh", "python", "-c", question, env=environment) == "1\n"
    (library,) = (folder / "cache" / "qss-d3g").iterdir()
    built = library.stat().st_mtime_ns
    product = "import torch; torch.manual_seed(0); x = torch.randn(64, 64); torch.save(x @ x, 'product.pt')"
    call("fast_cpu.sh", "python", "-c", product, env=environment)
    torch.manual_seed(0)
    x = torch.randn(64, 64)
    torch.testing.assert_close(torch.load("product.pt", weights_only=True), x @ x)
    assert library.stat().st_mtime_ns == built
    call("fast_cpu.sh", "false", status=1, env=environment)


TWENTY_STEPS = """
import sys
import torch
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Tanh())
for _ in range(20):
    loss = net(torch.randn(256, 64)).square().mean()
    net.zero_grad()
    loss.backward()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter -= 0.1 * parameter.grad
torch.save(net.state_dict(), sys.argv[1])
"""


def test_fast_cpu_elsewhere_keeps_every_bit(folder):
    """On another processor than AMD's no library is built, and training steps end in the same weights, bit by bit."""
    environment = processor(folder, amd=False)
    call("fast_cpu.sh", "python", "-c", TWENTY_STEPS, "fast.pt", env=environment)
    subprocess.run([sys.executable, "-c", TWENTY_STEPS, "plain.pt"], env=ENVIRONMENT, check=True)
    fast, plain = (torch.load(name, weights_only=True) for name in ("fast.pt", "plain.pt"))
    assert all(torch.equal(fast[name], plain[name]) for name in plain)
    assert not (folder / "cache").exists()


@pytest.mark.parametrize("amd", [False, True])
def test_fast_cpu_preloads_tcmalloc_where_it_is_installed(folder, amd):
    """What ldconfig finds under its name is in the command's memory, beside what was to be preloaded before."""
    environment = processor(folder, amd)
    names = ("libtcmalloc_minimal.so.4", "before.so")
    for name in names:
        code = f"int answer_of_{name.partition('.')[0]}(void) {{ return 1; }}"
        command = [compiler(), "-shared", "-fPIC", "-x", "c", "-", "-o", folder / name]
        subprocess.run(command, input=code, text=True, check=True)
    lists = [f"libtcmalloc_minimal_debug.so.4 (libc6) => {folder / 'debug.so'}"]
    lists.append(f"libtcmalloc_minimal.so.4 (libc6) => {folder / names[0]}")
    for found, expected in ((lists, {*names}), (lists[:1], {names[1]}), ([], {names[1]})):
        text = "".join(f"echo '\t{line}'\n" for line in ["2 libs found in cache", *found])
        (folder / "tools" / "ldconfig").write_text(f"#!/bin/sh\n{text}")
        (folder / "tools" / "ldconfig").chmod(0o755)
        maps = call("fast_cpu.sh", "cat", "/proc/self/maps", env=environment | {"LD_PRELOAD": str(folder / names[1])})
        assert {name for name in names if f"{folder / name}\n" in maps} == expected
        assert ("amd_avx512.so" in maps) == amd


def test_fast_cpu_without_a_compiler(folder):
    """AMD's processors need one; all others do not."""
    tools = folder / "tools"
    for amd in (True, False):
        environment = processor(folder, amd) | {"PATH": str(tools)}
        for name in ("bash", "env", "mkdir", "sed", "true"):
            if not (tools / name).exists():
                (tools / name).symlink_to(shutil.which(name))
        said = call("fast_cpu.sh", "true", status=2 if amd else 0, env=environment)
        expected = "error: benchmark/fast_cpu.sh: needs a C compiler (cc, gcc or clang; Debian: gcc); without"
        assert said.startswith(expected) if amd else said == ""
