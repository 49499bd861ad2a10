"""What holds for a run of every script: its folder, its interruption, its repetition and its errors."""

import csv
import json
import os
import pickle
import pty
import signal
import subprocess
import sys
import termios
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import custom_envs
import imageio
import numpy as np
import pytest
import torch
import tyro
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import d3g_continuous
import td3_baseline

ROOT = Path(__file__).parent.parent
SCRIPTS = {"d3g_continuous": d3g_continuous, "td3_baseline": td3_baseline}
NETWORKS = {  # of each script, without the target networks
    "d3g_continuous": ["critic", "proposal", "inverse_dynamics", "forward_dynamics"],
    "td3_baseline": ["critic", "actor"],
}
ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL")}


def start(*args, script="d3g_continuous", **kwargs):
    """Start the real script as a process of its own."""
    kwargs = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": ENVIRONMENT} | kwargs
    return subprocess.Popen([sys.executable, ROOT / f"{script}.py", *map(str, args)], **kwargs)


def finish(process, status=0):
    """Wait for a process, check its exit status, return what it printed."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == status, f"status {process.returncode}\n{out}\n{err}"
    return out, err


def evaluations(run_dir):
    """The rows of evaluations.csv without their seconds, numbers as written."""
    with open(run_dir / "evaluations.csv") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["step", "return_mean", "return_std", "length_mean", "seconds"]
    return [row[:4] for row in rows[1:]]


def scalars(run_dir):
    """TensorBoard's view of a run: {tag: [(step, value)]}, purged of what a resumed run did again."""
    events = EventAccumulator(str(run_dir), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def weights(run_dir):
    model = torch.load(run_dir / "model.pt", weights_only=True)
    return {
        f"{n}.{k}": v for n, part in model.items() if isinstance(part, dict) and n != "args" for k, v in part.items()
    }


def assert_same_run(run_dir, reference):
    assert evaluations(run_dir) == evaluations(reference)
    ours, theirs = weights(run_dir), weights(reference)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name
    assert sorted(p.name for p in run_dir.iterdir() if "events" not in p.name) == [
        "args.json",
        "evaluations.csv",
        "model.pt",
    ]


# ---------------------------------------------------------------------------------------------------- smoke runs

HUMANOID = {"total_timesteps": 3000, "learning_starts": 2800, "eval_frequency": 1500}
SMOKE = {
    # env_id: script, observations, actions, further arguments
    "InvertedPendulum-v4": ("d3g_continuous", 4, 1, {"cycle": False}),
    "HalfCheetah-v4": ("d3g_continuous", 17, 6, {}),
    "Walker2d-v4": ("d3g_continuous", 17, 6, {}),
    "Reacher-v4": ("d3g_continuous", 11, 2, {}),
    "Hopper-v5": ("d3g_continuous", 11, 3, {}),
    "Humanoid-v4": ("d3g_continuous", 376, 17, HUMANOID),
    "InvertedDoublePendulum-v4": ("td3_baseline", 11, 1, {"algorithm": "td3"}),
    "Reacher-v5": ("td3_baseline", 10, 2, {"algorithm": "ddpg"}),
}


def options(args):
    """Arguments as one types them."""
    typed = []
    for name, value in args.items():
        name = name.replace("_", "-")
        typed += [f"--{name}" if value else f"--no-{name}"] if isinstance(value, bool) else [f"--{name}", str(value)]
    return typed


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """Short runs on real tasks, two at a time: {env_id: (arguments, standard output, standard error, peak bytes)}."""
    root = tmp_path_factory.mktemp("smoke")
    short = {"total_timesteps": 400, "learning_starts": 200, "eval_frequency": 200}
    short |= {"eval_episodes": 2, "batch_size": 32}

    def run(env_id):
        script, _, _, more = SMOKE[env_id]
        out, err = root / f"{env_id}.out", root / f"{env_id}.err"
        args = short | {"env_id": env_id, "run_dir": str(root / env_id)} | more
        process = start(*options(args), script=script, stdout=open(out, "w"), stderr=open(err, "w"))
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0, err.read_text()
        return SCRIPTS[script].Args(**args), out.read_text(), err.read_text(), usage.ru_maxrss * 1024

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(SMOKE, pool.map(run, SMOKE), strict=True))


@pytest.mark.parametrize("env_id", SMOKE)
def test_run_folder_field_by_field(env_id, smoke):
    script, obs_dim, action_dim, _ = SMOKE[env_id]
    args, out, err, _ = smoke[env_id]
    run_dir = Path(args.run_dir)
    networks = [name for name in NETWORKS[script] if name != "forward_dynamics" or args.cycle]

    info = json.loads((run_dir / "args.json").read_text())
    assert list(info) == ["args", "versions", "git_commit"]
    assert info["args"] == vars(args) | {"hidden_sizes": list(args.hidden_sizes)}
    packages = {name: version(name) for name in ("torch", "gymnasium", "mujoco", "numpy")}
    assert info["versions"] == packages | {"python": sys.version.split()[0]}
    head = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    assert (info["git_commit"] or "").removesuffix("-dirty") == head

    with open(run_dir / "evaluations.csv") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(0, args.total_timesteps + 1, args.eval_frequency))
    assert list(rows[0]) == ["step", "return_mean", "return_std", "length_mean", "seconds"]
    env = d3g_continuous.make_env(env_id)
    for row in rows:
        assert np.isfinite(float(row["return_mean"]))
        assert float(row["return_std"]) >= 0
        assert 1 <= float(row["length_mean"]) <= env.spec.max_episode_steps
    seconds = [float(row["seconds"]) for row in rows]
    assert seconds == sorted(seconds)
    if env_id in ("HalfCheetah-v4", "Reacher-v4", "Reacher-v5"):
        assert {float(row["length_mean"]) for row in rows} == {env.spec.max_episode_steps}
    if env_id == "InvertedPendulum-v4":  # reward 1 a step
        assert all(row["return_mean"] == row["length_mean"] for row in rows)

    tags = scalars(run_dir)
    losses = {"losses/qf1_values", *(f"losses/{name}_loss" for name in networks)}
    episodic = {"charts/episodic_return", "charts/episodic_length"}
    if env_id == "HalfCheetah-v4":  # no episode ends within 400 steps
        episodic = set()
    assert set(tags) == {"eval/return_mean", "charts/SPS"} | losses | episodic
    for name in losses:
        assert [step for step, _ in tags[name]] == [args.learning_starts + 100, args.learning_starts + 200]
        assert np.isfinite([value for _, value in tags[name]]).all()
    assert tags["eval/return_mean"] == [
        (int(row["step"]), pytest.approx(float(row["return_mean"]), rel=1e-6)) for row in rows
    ]
    if episodic:
        steps, lengths = np.array(tags["charts/episodic_length"]).T
        np.testing.assert_array_equal(np.cumsum(lengths), steps)

    model = torch.load(run_dir / "model.pt", weights_only=True)
    targets = ["critic_target", f"{networks[1]}_target"]
    assert list(model) == [*networks, *targets, "args", "obs_dim", "action_dim", "action_low", "action_high"]
    assert model["args"] == info["args"]
    assert (model["obs_dim"], model["action_dim"]) == (obs_dim, action_dim)
    assert model["action_low"] == env.action_space.low.tolist()
    assert model["action_high"] == env.action_space.high.tolist()
    assert model[networks[1]]["layers.0.weight"].shape == (args.hidden_sizes[0], obs_dim)

    assert {p.name for p in run_dir.iterdir() if "events" not in p.name} == {"args.json", "evaluations.csv", "model.pt"}
    lines = out.splitlines()
    assert lines[0] == f"device: cpu, CPU threads: 1, run folder: {run_dir}"
    assert len(lines) == 1 + len(rows) + 1
    for line, row in zip(lines[1:-1], rows, strict=True):
        start_of_line = f"step {row['step']}/{args.total_timesteps}: return {float(row['return_mean']):.1f} +- "
        assert line.startswith(start_of_line)
    assert lines[-1] == f"run folder: {run_dir}; draw it: python benchmark/figure7.py {run_dir}"
    assert "Deprecat" not in err
    assert "Traceback" not in err


def test_humanoid_replay_costs_memory_only_as_it_fills(smoke):
    """1,000,000 rows of Humanoid-v4 would be 3.1 GB; 3,000 steps must not need them."""
    assert smoke["Humanoid-v4"][3] < 1.5e9


def test_a_new_run_gets_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = d3g_continuous.Args(env_id="InvertedPendulum-v4", total_timesteps=10, seed=7, eval_episodes=1)
    run_dir = d3g_continuous.train(args)
    assert list((tmp_path / "runs").iterdir()) == [tmp_path / run_dir]
    assert run_dir.name.rsplit("__", 1)[0] == "InvertedPendulum-v4__d3g_continuous__7"
    assert abs(int(run_dir.name.rsplit("__", 1)[1]) - time.time()) < 60
    assert (run_dir / "model.pt").exists()


# -------------------------------------------------------------------------------------- repetition, interruption

SMALL = ["--env-id", "InvertedPendulum-v4", "--hidden-sizes", "32", "32", "--batch-size", "64"]
SMALL += ["--total-timesteps", "1200", "--learning-starts", "500", "--eval-frequency", "150", "--eval-episodes", "2"]


BACKGROUND = {}


def in_background(*cases):
    """Register a function of (*case, reference, tmp_path) that plays with real processes, for each of its cases."""

    def register(function):
        for case in cases or [()]:
            BACKGROUND["-".join([function.__name__, *map(str, case)])] = (function, case)

    return register


@pytest.fixture(scope="module")
def outcomes(reference, tmp_path_factory):
    """The outcomes of all registered functions, which run two at a time: mostly they wait for processes to start."""
    folders = {name: tmp_path_factory.mktemp("background") for name in BACKGROUND}
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(f, *case, reference, folders[name]) for name, (f, case) in BACKGROUND.items()}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Of each script, a run that nothing interrupts and that never writes a checkpoint: {script: run folder}."""
    run_dirs = {script: tmp_path_factory.mktemp("reference") / script for script in SCRIPTS}
    processes = [start(*SMALL, "--run-dir", run_dir, script=script) for script, run_dir in run_dirs.items()]
    for process in processes:
        finish(process)
    return run_dirs


def checkpointed(run_dir):
    return [*SMALL, "--run-dir", run_dir, "--checkpoint-frequency", 110]


def wait_for_row(run_dir, row, process):
    """Wait until evaluations.csv holds its `row`-th evaluation."""
    while process.poll() is None:
        file = run_dir / "evaluations.csv"
        if file.exists() and file.read_text().count("\n") > row:
            return
        time.sleep(0.001)
    pytest.fail(f"the run ended before row {row}: {process.communicate()}")


@in_background(("d3g_continuous", 1), ("d3g_continuous", 6), ("td3_baseline", 6))
def sigkill_then_resume_is_as_if_never_killed(script, row, reference, tmp_path):
    run_dir = tmp_path / "run"
    args = checkpointed(run_dir) if row > 1 else [*SMALL, "--run-dir", run_dir]  # at row 1, before any checkpoint
    process = start(*args, script=script)
    wait_for_row(run_dir, row, process)
    process.kill()
    finish(process, -signal.SIGKILL)
    assert (run_dir / "checkpoint.pt").exists() == (row > 1)
    finish(start(*args, "--resume", script=script))
    assert_same_run(run_dir, reference[script])
    ours, uninterrupted = scalars(run_dir), scalars(reference[script])
    assert ours.keys() == uninterrupted.keys()
    for tag in ours.keys() - {"charts/SPS"}:
        assert ours[tag] == uninterrupted[tag], tag
    seconds = [float(line.split(",")[4]) for line in (run_dir / "evaluations.csv").read_text().splitlines()[1:]]
    assert seconds == sorted(seconds), "time does not go on where the checkpoint left it"


HALF_WRITTEN = """
import io, os, signal, sys
import torch, tyro
import d3g_continuous as script
real_save, count = torch.save, 0
def save(contents, file):
    global count
    count += "optimizers" in contents
    if count == 3 and sys.argv[1] == "checkpoint" or "obs_dim" in contents and sys.argv[1] == "model":
        whole = io.BytesIO()
        real_save(contents, whole)
        with open(file, "wb") as f:
            f.write(whole.getvalue()[: len(whole.getvalue()) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    real_save(contents, file)
torch.save = save
script.train(tyro.cli(script.Args, args=sys.argv[2:]))
"""


@in_background(("checkpoint",), ("model",))
def sigkill_in_the_middle_of_a_write(what, reference, tmp_path):
    run_dir = tmp_path / "run"
    args = [what, *map(str, checkpointed(run_dir))]
    child = subprocess.run([sys.executable, "-c", HALF_WRITTEN, *args], cwd=ROOT, capture_output=True, text=True)
    assert child.returncode == -signal.SIGKILL, child.stderr
    before = torch.load(run_dir / "checkpoint.pt", weights_only=True)
    steps = len(before["evaluations"]) - 1
    assert before["step"] // 150 == steps
    assert (run_dir / "partial.tmp").exists()
    assert not (run_dir / "model.pt").exists()
    finish(start(*checkpointed(run_dir), "--resume"))
    assert_same_run(run_dir, reference["d3g_continuous"])


@in_background((signal.SIGTERM, 143), (signal.SIGINT, 130))
def signal_checkpoints_and_resumes(signum, status, reference, tmp_path):
    run_dir = tmp_path / "run"
    args = [*SMALL, "--run-dir", run_dir]  # no checkpoint is due: this one is the signal's
    process = start(*args)
    wait_for_row(run_dir, 3, process)
    process.send_signal(signum)
    out, err = finish(process, status)
    assert "will stop with a checkpoint" in err
    assert "Traceback" not in err
    checkpoint = torch.load(run_dir / "checkpoint.pt", weights_only=True)
    assert out.splitlines()[-1] == f"stopped at step {checkpoint['step']}; --resume --run-dir {run_dir} continues"
    assert not (run_dir / "model.pt").exists()
    finish(start(*args, "--resume"))
    assert_same_run(run_dir, reference["d3g_continuous"])


@in_background()
def a_second_signal_stops_at_once(_reference, tmp_path):
    """HalfCheetah-v4's episodes have 1000 steps, here with large batches: minutes."""
    run_dir = tmp_path / "run"
    process = start("--run-dir", run_dir, "--learning-starts", 1, "--eval-episodes", 1, "--batch-size", 4096)
    wait_for_row(run_dir, 1, process)
    process.terminate()
    while "will stop with a checkpoint" not in process.stderr.readline():
        assert process.poll() is None
    process.terminate()
    began = time.time()
    finish(process, 143)
    assert time.time() - began < 5
    assert not (run_dir / "checkpoint.pt").exists()


@in_background()
def resume_of_a_complete_run_changes_nothing(reference, _tmp_path):
    reference = reference["d3g_continuous"]
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in reference.iterdir()}
    out, _ = finish(start(*SMALL, "--run-dir", reference, "--resume"))
    assert out == f"{reference} is complete\n"
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in reference.iterdir()} == before


WALK = {
    "env_id": "custom_envs:Walk-v0",
    "total_timesteps": 100,
    "learning_starts": 20,
    "eval_frequency": 50,
    "eval_episodes": 1,
    "hidden_sizes": (8, 8),
    "batch_size": 4,
    "checkpoint_frequency": 30,
}


@pytest.fixture
def interrupted(tmp_path, monkeypatch, capsys):
    """A run's folder as a kill leaves it, 20 steps before the end, with its arguments."""
    args, save = WALK | {"run_dir": str(tmp_path / "run")}, d3g_continuous.save

    def killed(contents, file):
        save(contents, file)
        if contents["step"] == 80:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(d3g_continuous, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            d3g_continuous.train(d3g_continuous.Args(**args))
    assert (tmp_path / "run" / "checkpoint.pt").exists()
    capsys.readouterr()
    return tmp_path / "run", args


def walk(run_dir, **changes):
    """Train on Walk-v0 in this process."""
    return d3g_continuous.train(d3g_continuous.Args(**WALK | {"run_dir": str(run_dir)} | changes))


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_same_seed_same_numbers_with_and_without_checkpoints(script, tmp_path):
    first = script.train(script.Args(**WALK | {"run_dir": str(tmp_path / "first"), "checkpoint_frequency": 1000}))
    assert_same_run(script.train(script.Args(**WALK | {"run_dir": str(tmp_path / "second")})), first)


def test_another_seed_other_numbers(tmp_path):
    ours, theirs = walk(tmp_path / "1"), walk(tmp_path / "2", seed=2)
    assert all(a[1] != b[1] for a, b in zip(evaluations(ours), evaluations(theirs), strict=True))
    a, b = weights(ours), weights(theirs)
    assert not any(torch.equal(a[name], b[name]) for name in a if name.endswith("weight"))


def test_evaluation_episodes_are_the_same_every_time_and_none_of_the_training_ones(tmp_path):
    custom_envs.Walk.seeds.clear()
    walk(tmp_path / "run", eval_episodes=3)
    seeds = custom_envs.Walk.seeds
    assert len(seeds) == 3 * 3 + 5  # evaluations at steps 0, 50 and 100; training episodes of 20 steps
    assert seeds[:3] == seeds[-3:] == seeds[6:9]
    training = seeds[3:6] + seeds[9:11]
    assert len({*seeds[:3], *training}) == 8


def test_resume_may_change_what_does_not_change_results(interrupted, tmp_path):
    run_dir, args = interrupted
    was = json.loads((run_dir / "args.json").read_text())
    run_dir.rename(tmp_path / "moved")
    walk(tmp_path / "moved", resume=True, cuda=False, checkpoint_frequency=7)
    assert_same_run(tmp_path / "moved", walk(tmp_path / "reference"))
    assert json.loads((tmp_path / "moved" / "args.json").read_text()) == was
    assert (was["args"]["run_dir"], was["args"]["checkpoint_frequency"]) == (args["run_dir"], 30)


@pytest.mark.parametrize("checkpoint_frequency", [100, 90])
def test_tensorboard_shows_nothing_twice_after_a_resume(checkpoint_frequency, tmp_path, monkeypatch):
    """Killed at step 400, after losses of step 320 were written but not checkpointed: step 300 is where it resumes.

    An evaluation at step 300 and the checkpoint of that step must go together.
    """
    changes = {"total_timesteps": 450, "eval_frequency": 100, "checkpoint_frequency": checkpoint_frequency}
    evaluate, calls = d3g_continuous.evaluate, []

    def killed(*args):
        calls.append(args)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return evaluate(*args)

    with monkeypatch.context() as patch:
        patch.setattr(d3g_continuous, "evaluate", killed)
        with pytest.raises(KeyboardInterrupt):
            walk(tmp_path / "run", **changes)
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == 300
    assert [step for step, _ in scalars(tmp_path / "run")["losses/critic_loss"]] == [120, 220, 320]
    ours = scalars(walk(tmp_path / "run", resume=True, **changes))
    whole = scalars(walk(tmp_path / "whole", **changes))
    assert [step for step, _ in ours["losses/critic_loss"]] == [120, 220, 320, 420]
    assert [step for step, _ in ours["eval/return_mean"]] == [0, 100, 200, 300, 400]
    assert {tag: ours[tag] for tag in ours if tag != "charts/SPS"} == {
        tag: whole[tag] for tag in whole if tag != "charts/SPS"
    }
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_resume_where_there_is_nothing_starts_afresh(tmp_path):
    assert_same_run(walk(tmp_path / "resumed", resume=True), walk(tmp_path / "started"))


# ------------------------------------------------------------------------------------------------ what one sees


@in_background()
def video_draws_the_first_evaluation_episode_and_changes_nothing(reference, tmp_path):
    run_dir = tmp_path / "run"
    finish(start(*SMALL, "--run-dir", run_dir, "--capture-video"))
    assert evaluations(run_dir) == evaluations(reference["d3g_continuous"])
    for step, _, _, length_mean in evaluations(run_dir):
        frames = imageio.mimread(run_dir / f"episode_{step}.gif")
        assert frames[0].shape[:2] == (240, 240)
        assert np.std(frames[0]) > 10, "an empty picture"
        assert 3 <= len(frames) < 2 * float(length_mean)
        assert any((frame != frames[0]).any() for frame in frames[1:]), "nothing moves"


@in_background()
def progress_bar_on_a_terminal(_reference, tmp_path):
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (25, 120))
    process = start(*SMALL, "--run-dir", tmp_path / "run", stdout=slave)
    os.close(slave)
    shown = b""
    while True:
        try:
            shown += os.read(master, 4096)
        except OSError:  # the other end has closed
            break
    finish(process)
    shown = shown.decode()
    assert "device: cpu" in shown.split("\n")[0]
    assert "1200/1200" in shown
    assert "it/s" in shown
    assert f"return {float(evaluations(tmp_path / 'run')[-1][1]):.1f} +- " in shown
    assert "step 150/1200" not in shown, "plain lines on a terminal"


# ---------------------------------------------------------------------------------------------------- bad input


def refused(capsys, script=d3g_continuous, **args):
    """The one line with which Args or train() refuse these arguments, in this process."""
    with pytest.raises(SystemExit) as stop:
        script.train(script.Args(**args))
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


NAN, INF = float("nan"), float("inf")
AT_LEAST_1 = ["num_threads", "total_timesteps", "eval_frequency", "eval_episodes", "checkpoint_frequency"]
AT_LEAST_1 += ["buffer_size", "batch_size", "policy_frequency"]


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [(name, 0, "at least 1") for name in AT_LEAST_1]
    + [("seed", -1, "from 0 to 2**32 - 1"), ("seed", 2**32, "from 0 to 2**32 - 1")]
    + [("learning_starts", -1, "at least 0")]
    + [("hidden_sizes", value, "one width or more, each at least 1") for value in ((), (256, 0))]
    + [("learning_rate", value, "positive and finite") for value in (0.0, -1e-3, NAN, INF)]
    + [(name, value, "at least 0 and finite") for name in ("exploration_noise", "beta") for value in (-0.1, NAN, INF)]
    + [("gamma", value, "from 0 to 1") for value in (-0.1, 1.1, NAN)]
    + [("tau", value, "above 0 and at most 1") for value in (0.0, 1.1, NAN)],
)
def test_values_out_of_range(name, value, allowed, capsys):
    assert refused(capsys, **{name: value}) == f"error: --{name.replace('_', '-')} {value}: must be {allowed}\n"


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [("num_critics", 0, "at least 1"), ("policy_frequency", 0, "at least 1")]
    + [("learning_rate", 0.0, "positive and finite")]
    + [(name, value, "at least 0 and finite") for name in ("policy_noise", "noise_clip") for value in (-0.1, NAN, INF)]
    + [("hidden_sizes", (), "one width or more, each at least 1"), ("gamma", NAN, "from 0 to 1")],
)
def test_values_out_of_range_of_td3(name, value, allowed, capsys):
    expected = f"error: --{name.replace('_', '-')} {value}: must be {allowed}\n"
    assert refused(capsys, td3_baseline, **{name: value}) == expected


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_resume_needs_a_folder(script, capsys):
    assert refused(capsys, script, resume=True) == "error: --resume True: must be used with --run-dir\n"


@pytest.mark.parametrize(
    ("env_id", "says"),
    [
        ("Walker3d-v4", "Did you mean: `Walker2d`?"),
        ("HalfCheetah-v9", "versioned environments: [ `v2`, `v3`, `v4`, `v5` ]"),
        ("HalfCheetah-v2", "moved to the gymnasium-robotics project"),
        ("no_such_module:Task-v0", "No module named 'no_such_module'"),
        ("a:b:c", "ValueError: too many values to unpack"),
        ("custom_envs:Broken-v0", "KeyError: 'nothing'"),
        ("not an id", "Malformed environment ID"),
        ("CartPole-v1", "must have flat observations and flat, bounded, real actions, has Box("),
        ("CartPole-v1", "Discrete(2)"),
        ("custom_envs:ImageObservations-v0", "(4, 4), uint8"),
        ("custom_envs:DictObservations-v0", "Dict('position'"),
        ("custom_envs:UnboundedActions-v0", "Box(-inf, inf, (2,), float64)"),
    ],
)
def test_unsuitable_tasks(env_id, says, capsys, tmp_path):
    error = refused(capsys, env_id=env_id, run_dir=str(tmp_path / "run"))
    assert error.startswith(f"error: --env-id {env_id}: must ")
    assert says in error
    assert not (tmp_path / "run").exists()


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_a_folder_in_use(interrupted, capsys):
    run_dir, args = interrupted
    before = contents(run_dir)
    held = "args.json, evaluations.csv, checkpoint.pt"
    expected = f"error: --run-dir {run_dir}: must not hold a run, unless with --resume, but has {held}\n"
    assert refused(capsys, **args) == expected
    assert contents(run_dir) == before


@pytest.mark.parametrize(
    ("name", "value", "was"),
    [
        ("seed", 2, 1),
        ("gamma", 0.9, 0.99),
        ("cycle", False, True),
        ("hidden_sizes", (8, 9), [8, 8]),
        ("total_timesteps", 200, 100),
        ("env_id", "Hopper-v4", "custom_envs:Walk-v0"),
        ("num_threads", 2, 1),
    ],
)
def test_arguments_that_differ_on_resume(name, value, was, interrupted, capsys):
    run_dir, args = interrupted
    before = contents(run_dir)
    given = list(value) if isinstance(value, tuple) else value
    expected = f"error: --{name.replace('_', '-')} {given}: must be {was} to resume {run_dir}\n"
    assert refused(capsys, **args | {name: value, "resume": True}) == expected
    assert contents(run_dir) == before


def test_a_run_of_another_script(interrupted, capsys):
    """TD3 does not take over D3G's folder, nor, where the arguments are its own, D3G's checkpoint."""
    run_dir, args = interrupted
    args = {name: value for name, value in args.items() if name != "hidden_sizes"}
    error = refused(capsys, td3_baseline, **args | {"resume": True})
    assert "error: --" in error
    td3 = td3_baseline.train(td3_baseline.Args(**args | {"run_dir": str(run_dir.parent / "td3")}))
    capsys.readouterr()
    (td3 / "model.pt").unlink()
    checkpoint = torch.load(run_dir / "checkpoint.pt", weights_only=True)
    checkpoint["info"] = json.loads((td3 / "args.json").read_text())
    torch.save(checkpoint, td3 / "checkpoint.pt")
    error = refused(capsys, td3_baseline, **args | {"run_dir": str(td3), "resume": True})
    assert error.startswith(f"error: --resume True: {td3 / 'checkpoint.pt'} must be this run's checkpoint: ")
    assert 'Missing key(s) in state_dict: "actor.' in error


class Payload:
    """What a malicious checkpoint would hold: unpickling it as code would create a file."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (open, (str(self.file), "w"))


def damage(what, run_dir):
    file = run_dir / "checkpoint.pt"
    checkpoint = torch.load(file, weights_only=True)
    if what == "truncated":
        file.write_bytes(file.read_bytes()[:-1000])
    elif what == "empty":
        file.write_bytes(b"")
    elif what == "text":
        file.write_text("not a checkpoint")
    elif what == "code":
        file.write_bytes(pickle.dumps(Payload(run_dir.parent / "created")))
    elif what == "of another run":
        checkpoint["info"]["args"]["seed"] = 2
        torch.save(checkpoint, file)
    elif what == "of another network":
        checkpoint["agent"]["proposal.layers.0.weight"] = torch.zeros(9, 2)
        torch.save(checkpoint, file)
    elif what == "without its replay":
        del checkpoint["replay"]
        torch.save(checkpoint, file)
    elif what == "not a dictionary":
        torch.save([1, 2], file)


@pytest.mark.parametrize(
    "what",
    ["truncated", "empty", "text", "code", "of another run", "of another network", "without its replay"]
    + ["not a dictionary"],
)
def test_corrupt_or_foreign_checkpoint(what, interrupted, capsys):
    run_dir, args = interrupted
    damage(what, run_dir)
    before = contents(run_dir)
    error = refused(capsys, **args | {"resume": True})
    assert error.startswith(f"error: --resume True: {run_dir / 'checkpoint.pt'} must be this run's checkpoint: ")
    assert contents(run_dir) == before
    assert not (run_dir.parent / "created").exists()


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", '{"args": {"seed": 1}}', '{"args": null}'])
def test_resume_without_its_args_json(text, interrupted, capsys):
    run_dir, args = interrupted
    (run_dir / "args.json").unlink()
    if text:
        (run_dir / "args.json").write_text(text)
    error = refused(capsys, **args | {"resume": True})
    assert error.startswith(
        f"error: --run-dir {run_dir}: must be a new folder or hold the args.json of the run to resume: "
    )


def test_a_run_folder_that_cannot_be(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    error = refused(capsys, env_id="custom_envs:Walk-v0", run_dir=str(tmp_path / "file"))
    assert error.startswith(f"error: --run-dir {tmp_path / 'file'}: must be a folder that can be written: ")
    assert (tmp_path / "file").read_text() == "in the way"
    name = "long" * 100
    error = refused(capsys, env_id="custom_envs:Walk-v0", run_dir=str(tmp_path / name))
    assert error.startswith(f"error: --run-dir {tmp_path / name}: must be a new folder ")


@in_background(*((script,) for script in SCRIPTS))
def bad_input_as_a_process(script, _reference, tmp_path):
    out, err = finish(start("--env-id", "Walker3d-v4", script=script, cwd=tmp_path), 2)
    assert out == ""
    assert err.splitlines() == [
        "error: --env-id Walker3d-v4: must be a task that Gymnasium can make: "
        "NameNotFound: Environment `Walker3d` doesn't exist. Did you mean: `Walker2d`?"
    ]
    assert list(tmp_path.iterdir()) == []


@in_background(
    ("InvertedPendulum-v4", "glfw", "FatalError: an OpenGL platform library has not been loaded"),
    ("custom_envs:Walk-v0", "egl", "TypeError: Walk"),  # it cannot draw
)
def no_renderer_is_an_error_before_training(env_id, gl, says, _reference, tmp_path):
    environment = ENVIRONMENT | {"MUJOCO_GL": gl, "PYTHONPATH": str(ROOT / "tests")}
    _, err = finish(start("--env-id", env_id, "--run-dir", tmp_path / "run", "--capture-video", env=environment), 2)
    assert err.startswith(f"error: --capture-video True: must be False where {env_id} cannot be drawn (MUJOCO_GL={gl})")
    assert says in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_help_describes_every_argument(script, capsys):
    with pytest.raises(SystemExit):
        tyro.cli(script.Args, args=["--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for name in vars(script.Args()):
        assert f"--{name.replace('_', '-')}" in text
    assert "discount factor" in text


@in_background()
def importing_has_no_effect(_reference, tmp_path):
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import signal; import {', '.join(SCRIPTS)}; "
    code += "print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, 'MUJOCO_GL' in __import__('os').environ)"
    child = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert (child.stdout, child.stderr) == ("True False\n", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", BACKGROUND)
def test_with_real_processes(name, outcomes):
    outcomes[name].result(timeout=300)
