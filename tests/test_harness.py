"""benchmark/'s shell: what the printers print, and that local.sh and slurm.sh run it, with real processes."""

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
    selection = "--tasks Hopper-v4,my.module:Walk-v0 --algorithms d3g,td3,ddpg,d3g_no_cycle --seeds 3,11".split()
    lines = call("figure7.sh", *selection, "--total-timesteps", "5000", "--exp-name", "a b").splitlines()
    assert len(lines) == 16
    more = "--total-timesteps 5000 --exp-name a\\ b"
    assert lines[:5] == [
        f"python d3g_continuous.py --env-id Hopper-v4 --seed 3 {more} "
        "--run-dir runs/figure7/Hopper-v4__d3g__3 --resume",
        f"python td3_baseline.py --env-id Hopper-v4 --seed 3 {more} --run-dir runs/figure7/Hopper-v4__td3__3 --resume",
        f"python td3_baseline.py --algorithm ddpg --env-id Hopper-v4 --seed 3 {more} "
        "--run-dir runs/figure7/Hopper-v4__ddpg__3 --resume",
        f"python d3g_continuous.py --no-cycle --env-id Hopper-v4 --seed 3 {more} "
        "--run-dir runs/figure7/Hopper-v4__d3g_no_cycle__3 --resume",
        f"python d3g_continuous.py --env-id my.module:Walk-v0 --seed 3 {more} "
        "--run-dir runs/figure7/my.module_Walk-v0__d3g__3 --resume",
    ]


def test_figure7_prints_the_paper_by_default():
    lines = call("figure7.sh").splitlines()
    assert len(lines) == len(set(lines)) == 8 * 4 * 10
    assert "--total-timesteps" not in "".join(lines)
    assert lines[0].startswith("python td3_baseline.py --env-id HalfCheetah-v4 --seed 1 --run-dir ")
    tasks = {re.search(r"--env-id (\S+)", line)[1] for line in lines}
    assert tasks == {f"{name}-v4" for name in "HalfCheetah Hopper Walker2d Ant Humanoid Reacher".split()} | {
        "InvertedPendulum-v4",
        "InvertedDoublePendulum-v4",
    }


def test_table1_prints():
    selection = ["--tasks", "Reacher-v4", "--randomness", "0.25,1", "--seeds", "2"]
    own = [
        "--expert",
        "--total-timesteps 9",
        "--data",
        "--dataset-size 7",
        "--d3g",
        "--beta 2",
        "--bco",
        "--policy-updates 5",
    ]
    expert = "--demonstrator runs/experts/Reacher-v4/model.pt "
    assert call("table1.sh", *selection, *own, "--rounds", "3").splitlines() == [
        "python td3_baseline.py --env-id Reacher-v4 --total-timesteps 9 --run-dir runs/experts/Reacher-v4 --resume",
        "wait",
        f"python d3g_from_obs.py --env-id Reacher-v4 {expert}--randomness 0.25 --dataset-size 7 --collect-only",
        "python d3g_from_obs.py --env-id Reacher-v4 --randomness 1 --dataset-size 7 --collect-only",
        "wait",
        f"python d3g_from_obs.py --env-id Reacher-v4 {expert}--randomness 0.25 --dataset-size 7 --seed 2 --rounds 3 "
        "--beta 2 --run-dir runs/table1/Reacher-v4__random0.25__d3g__2 --resume",
        f"python bco_baseline.py --env-id Reacher-v4 {expert}--randomness 0.25 --dataset-size 7 --seed 2 --rounds 3 "
        "--policy-updates 5 --run-dir runs/table1/Reacher-v4__random0.25__bco__2 --resume",
        "python d3g_from_obs.py --env-id Reacher-v4 --randomness 1 --dataset-size 7 --seed 2 --rounds 3 "
        "--beta 2 --run-dir runs/table1/Reacher-v4__random1__d3g__2 --resume",
        "python bco_baseline.py --env-id Reacher-v4 --randomness 1 --dataset-size 7 --seed 2 --rounds 3 "
        "--policy-updates 5 --run-dir runs/table1/Reacher-v4__random1__bco__2 --resume",
    ]


def test_table1_prints_the_paper_by_default_and_no_expert_for_random_data():
    lines = call("table1.sh").splitlines()
    assert [i for i, line in enumerate(lines) if line == "wait"] == [2, 13]
    assert len(lines) == len({*lines}) + 1 == 2 + 1 + 10 + 1 + 2 * 5 * 2 * 10
    assert not [line for line in call("table1.sh", "--randomness", "1").splitlines() if "expert" in line]


def test_the_scripts_take_every_printed_command():
    scripts = {f"{m.__name__}.py": m for m in (d3g_continuous, td3_baseline, d3g_from_obs, bco_baseline)}
    seen = set()
    for line in (call("figure7.sh") + call("table1.sh")).splitlines():
        if line != "wait":
            python, script, *args = shlex.split(line)
            resolved = tyro.cli(scripts[script].Args, args=args)
            assert python == "python"
            assert resolved.resume or resolved.collect_only
            assert resolved.run_dir is None or "experts" in line or resolved.run_dir.endswith(f"__{resolved.seed}")
            seen.add(script)
    assert seen == set(scripts)


@pytest.mark.parametrize(
    ("script", "args", "error"),
    [
        ("figure7.sh", "--seeds", "--seeds: must be followed by its value, or values separated by commas"),
        ("figure7.sh", "--seeds=,", "--seeds: must be followed by its value, or values separated by commas"),
        ("figure7.sh", "--env_id=Ant-v4", "--env-id: is chosen for each run; select with --tasks, --algorithms and"),
        ("local.sh", None, "standard input: must be commands, one per line, has none"),
        ("slurm.sh", None, "standard input: must be commands, one per line, has none"),
        ("figure7.sh", "--seeds 1,x", "--seeds 1,x: must be whole numbers, separated by commas"),
        (
            "figure7.sh",
            "--algorithms td3,sac",
            "--algorithms td3,sac: must be of td3, ddpg, d3g, d3g_no_cycle, separated",
        ),
        ("figure7.sh", "--seed 3", "--seed: is chosen for each run; select with --tasks, --algorithms and --seeds"),
        ("table1.sh", "--randomness 1.5", "--randomness 1.5: must be 0, 0.25 or the like, or 1, separated by commas"),
        ("table1.sh", "--algorithms td3", "--algorithms td3: must be of d3g, bco, separated by commas"),
        ("table1.sh", "--seeds 1,2,", None),
        ("table1.sh", "--demonstrator x", "--demonstrator: is chosen for each run; select with --tasks, --randomness,"),
        ("local.sh", "--workers 0", "--workers 0: must be a whole number, at least 1"),
        ("local.sh", "--workers", "--workers : must be a whole number, at least 1"),
        ("local.sh", "4", "4: must be --workers N, with the commands on standard input"),
        ("local.sh", "", "standard input: must be commands, one per line, has none"),
        ("amd_avx512.sh", "", "benchmark/amd_avx512.sh: must be followed by a command"),
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
    how = "--seeds 1,2,3 --tasks InvertedPendulum-v4 --algorithms td3 --total-timesteps 3000"
    how += f" --learning-starts 100 --eval-frequency 500 {SMALL}"
    lines = call("figure7.sh", *how.split()).splitlines()
    runs = [folder / "runs" / "figure7" / f"InvertedPendulum-v4__td3__{k}" for k in (1, 2, 3)]
    reference = folder / "reference"
    subprocess.run(
        shlex.split(lines[0].replace(f"{runs[0].relative_to(folder)}", "reference")), env=ENVIRONMENT, check=True
    )
    child = launch(lines, "--workers", "2")
    wait_for(lambda: all((run / "evaluations.csv").exists() and len(evaluations(run)) >= 2 for run in runs[:2]))
    second = call("local.sh", stdin=lines[0], status=1)  # while the first one lives: refused, and nothing disturbed
    assert "error: the run that this log is of has not ended" in second
    os.killpg(child.pid, signal.SIGINT)
    out = child.stdout.read()
    assert child.wait(60) == 130
    assert "stopping 2 runs, each after its checkpoint; once more stops them at once" in out
    assert "0 of 3 ended well, 0 failed, 2 stopped, 1 not started" in out
    assert [(run / "checkpoint.pt").exists() for run in runs] == [True, True, False]
    assert "3 of 3 ended well, 0 failed" in call("local.sh", "--workers", "2", stdin="\n".join(lines))
    assert "1 of 1 ended well, 0 failed" in call("local.sh", stdin=lines[0])  # all is there
    assert_same_run(runs[0], reference)
    assert [evaluations(run)[-1][0] for run in runs] == ["3000"] * 3
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
    """Expert, data sets, runs: a stage needs the files of the one before, so an early start would fail."""
    how = ["--tasks", "InvertedPendulum-v4", "--randomness", "0,1", "--seeds", "1", "--data", "--dataset-size 200"]
    how += ["--expert", f"--total-timesteps 200 --learning-starts 100 {SMALL}", "--d3g", "--offline-updates 20"]
    how += [
        "--bco",
        "--policy-updates 5",
        *"--rounds 2 --steps-per-round 20 --inverse-updates 5".split(),
        *SMALL.split(),
    ]
    out, made = submit(slurm, call("table1.sh", *how).splitlines(), "--limit", "1", "--comment=ours")
    assert [re.sub(r"job \d+|runs/\S+/", "", line) for line in out] == [
        "stage 1: 1 runs, , logs stage1.*.log",
        "stage 2: 2 runs, , logs stage2.*.log",
        "stage 3: 4 runs, , logs stage3.*.log",
        "report: , report.txt",
    ]
    jobs = [re.search(r"job (\d+)", line)[1] for line in out]
    last = slurm.run("scontrol", "show", "job", jobs[2])
    assert f"Dependency=afterok:{jobs[1]}_*(unfulfilled)" in last
    assert "ArrayTaskId=1-4%1" in last
    assert "Comment=ours" in last
    assert "Requeue=1" in last
    slurm.wait_for(lambda: ended(slurm, made / "report.txt"), 120)
    assert (made / "report.txt").read_text() == "7 of 7 ended well\n"
    runs = sorted((folder / "runs" / "table1").iterdir())
    assert [run.name for run in runs] == [
        f"InvertedPendulum-v4__random{p}__{a}__1" for p in (0, 1) for a in ("bco", "d3g")
    ]
    assert all((run / "model.pt").exists() for run in runs)
    assert len(list((folder / "datasets").glob("*.npz"))) == 2


def test_slurm_preempts_a_run_and_continues_it(slurm, folder):
    """A job of higher priority takes the node: the run gets one SIGTERM, and when it is back it goes on."""
    how = f"--seeds 1 --tasks InvertedPendulum-v4 --algorithms td3 --total-timesteps 4000 --learning-starts 100 {SMALL}"
    (line,) = call("figure7.sh", *how.split(), "--eval-frequency", "500").splitlines()
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


def test_slurm_needs_slurm_and_commands(folder):
    bare = ENVIRONMENT | {"PATH": "/bin"} if not Path("/bin/sbatch").exists() else None
    if bare:
        said = call("slurm.sh", stdin="true", status=2, env=bare)
        assert said == "error: sbatch: must be installed; on a single machine benchmark/local.sh does the same\n"
    said = call("slurm.sh", "--limit", "x", stdin="true", status=2)
    assert said == "error: --limit x: must be a whole number, at least 1\n"
    assert not (folder / "runs").exists()


# --------------------------------------------------------------------------------------------------------- AVX-512


def test_amd_avx512_preloads_the_answer_and_nothing_else(folder, monkeypatch):
    """In the command MKL's question is answered with 1; the library is built once; numbers stay what they were."""
    if not (shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")):
        skip("needs a C compiler")
    monkeypatch.setitem(ENVIRONMENT, "XDG_CACHE_HOME", str(folder / "cache"))
    question = "import ctypes; print(ctypes.CDLL(None).mkl_serv_intel_cpu_true())"
    assert call("amd_avx512.sh", "python", "-c", question) == "1\n"
    (library,) = (folder / "cache" / "qss-d3g").iterdir()
    built = library.stat().st_mtime_ns
    product = "import torch; torch.manual_seed(0); x = torch.randn(64, 64); torch.save(x @ x, 'product.pt')"
    call("amd_avx512.sh", "python", "-c", product)
    x = (torch.manual_seed(0), torch.randn(64, 64))[1]
    torch.testing.assert_close(torch.load("product.pt", weights_only=True), x @ x)
    assert library.stat().st_mtime_ns == built
    call("amd_avx512.sh", "false", status=1)


def test_amd_avx512_without_a_compiler(folder, monkeypatch):
    monkeypatch.setitem(ENVIRONMENT, "XDG_CACHE_HOME", str(folder / "cache"))
    tools = folder / "tools"
    tools.mkdir()
    for name in ("bash", "env", "mkdir"):
        (tools / name).symlink_to(subprocess.run(["which", name], capture_output=True, text=True).stdout.strip())
    said = call("amd_avx512.sh", "true", status=2, env=ENVIRONMENT | {"PATH": str(tools)})
    assert said.startswith(
        "error: benchmark/amd_avx512.sh: needs a C compiler (cc, gcc or clang; Debian: gcc); without"
    )
