"""What holds for a run of every script: its folder, its interruption, its repetition and its errors."""

import contextlib
import csv
import fcntl
import importlib
import inspect
import json
import os
import pickle
import pty
import resource
import shutil
import signal
import subprocess
import sys
import termios
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import custom_envs
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

SMOKE = {
    # env_id: script, observations, actions, further arguments
    "InvertedPendulum-v4": ("d3g_continuous", 4, 1, {"cycle": False}),
    "HalfCheetah-v4": ("d3g_continuous", 17, 6, {"hidden_sizes": (32, 16)}),
    "Humanoid-v4": ("d3g_continuous", 376, 17, {}),
    "InvertedDoublePendulum-v4": ("td3_baseline", 11, 1, {"algorithm": "td3", "hidden_sizes": (32, 16)}),
    "Reacher-v5": ("td3_baseline", 10, 2, {"algorithm": "ddpg"}),
}


def options(args):
    """Arguments as one types them."""
    typed = []
    for name, value in args.items():
        name = name.replace("_", "-")
        if isinstance(value, bool):
            typed.append(f"--{name}" if value else f"--no-{name}")
        elif isinstance(value, tuple):
            typed += [f"--{name}", *map(str, value)]
        else:
            typed += [f"--{name}", str(value)]
    return typed


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """Short runs on real tasks, two at a time: {env_id: (arguments, standard output, standard error)}."""
    root = tmp_path_factory.mktemp("smoke")
    short = {"total_timesteps": 400, "learning_starts": 200, "eval_frequency": 200}
    short |= {"eval_episodes": 2, "batch_size": 32}

    def run(env_id):
        script, _, _, more = SMOKE[env_id]
        out, err = root / f"{env_id}.out", root / f"{env_id}.err"
        args = short | {"env_id": env_id, "run_dir": str(root / env_id)} | more
        process = start(*options(args), script=script, stdout=open(out, "w"), stderr=open(err, "w"))
        assert process.wait(120) == 0, err.read_text()
        return SCRIPTS[script].Args(**args), out.read_text(), err.read_text()

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(SMOKE, pool.map(run, SMOKE), strict=True))


def test_args_json_without_git_or_the_name_of_the_processor(tmp_path, monkeypatch):
    """One may be missing without the other."""
    args = d3g_continuous.Args()
    whole = d3g_continuous.describe(args, tmp_path)
    assert None not in (whole["git_commit"], whole["processor"])
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        assert d3g_continuous.describe(args, tmp_path) == whole | {"git_commit": None}
    with monkeypatch.context() as patch:
        read, nameless = Path.read_text, "processor\t: 0\nBogoMIPS\t: 50.00\n"
        patch.setattr(Path, "read_text", lambda path, **how: nameless if "proc" in path.parts else read(path, **how))
        assert d3g_continuous.describe(args, tmp_path) == whole | {"processor": None}


def test_args_json_names_the_gpu_that_is_used(tmp_path, monkeypatch):
    assert d3g_continuous.describe(d3g_continuous.Args(), tmp_path)["gpu"] is None  # the tests hide it
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    assert d3g_continuous.describe(d3g_continuous.Args(), tmp_path)["gpu"] == "NVIDIA H200"
    assert d3g_continuous.describe(d3g_continuous.Args(cuda=False), tmp_path)["gpu"] is None


@pytest.mark.parametrize("env_id", SMOKE)
def test_run_folder_field_by_field(env_id, smoke):
    script, obs_dim, action_dim, _ = SMOKE[env_id]
    args, out, err = smoke[env_id]
    run_dir = Path(args.run_dir)
    networks = [name for name in NETWORKS[script] if name != "forward_dynamics" or args.cycle]

    info = json.loads((run_dir / "args.json").read_text())
    assert list(info) == ["args", "versions", "git_commit", "processor", "cpu_capability", "gpu", "ld_preload"]
    assert info["args"] == vars(args) | {"hidden_sizes": list(args.hidden_sizes)}
    packages = {name: version(name) for name in ("torch", "gymnasium", "mujoco", "numpy")}
    assert info["versions"] == packages | {"python": sys.version.split()[0]}
    head = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    assert (info["git_commit"] or "").removesuffix("-dirty") == head
    assert info["processor"] in Path("/proc/cpuinfo").read_text()
    assert info["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    assert info["gpu"] is None
    assert info["ld_preload"] == ENVIRONMENT.get("LD_PRELOAD")

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
    if env_id in ("HalfCheetah-v4", "Reacher-v5"):
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
        mean, std, duration = (float(row[name]) for name in ("return_mean", "return_std", "seconds"))
        said, seconds_said = line.rsplit(", ", 1)
        assert said == f"step {row['step']}: return {mean:.1f} +- {std:.1f}"
        assert float(seconds_said.removesuffix(" s")) == pytest.approx(duration, abs=0.51)
    assert lines[-1] == f"run folder: {run_dir}; draw it: python benchmark/figure7.py {run_dir}"
    assert "Deprecat" not in err
    assert "Traceback" not in err


def test_replay_costs_memory_only_as_it_fills():
    """1,000,000 rows of Humanoid-v4 are 3.1 GB; the first of them must not need the others."""

    def resident_bytes():
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    before = resident_bytes()
    replay = d3g_continuous.ReplayBuffer(1_000_000, 376, 17)
    for _ in range(100):
        replay.add(np.ones(376), np.ones(17), 1.0, np.ones(376), False)
    assert replay.rows.nbytes > 3e9
    assert resident_bytes() - before < 1e8


def test_a_new_run_gets_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = d3g_continuous.Args(env_id="custom_envs:tests/Walk-v0", total_timesteps=10, seed=7, eval_episodes=1)
    run_dir = d3g_continuous.train(args)
    assert list((tmp_path / "runs").iterdir()) == [tmp_path / run_dir]
    assert run_dir.name.rsplit("__", 1)[0] == "custom_envs_tests_Walk-v0__d3g_continuous__7"
    assert abs(int(run_dir.name.rsplit("__", 1)[1]) - time.time()) < 60
    assert (run_dir / "model.pt").exists()
    assert json.loads((run_dir / "args.json").read_text())["args"]["run_dir"] == str(run_dir)


class Clock:
    """In place of a script's `time`: it stands still but for sleeping."""

    perf_counter = staticmethod(time.perf_counter)

    def __init__(self):
        self.now = 1000.0

    def time(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_runs_of_the_same_second_get_folders_of_their_own(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(script, "time", Clock())
    args = script.Args(env_id="custom_envs:Walk-v0", total_timesteps=5, eval_episodes=1)
    name = f"custom_envs_Walk-v0__{script.__name__}__1"
    assert script.train(args) == Path("runs", f"{name}__1000")
    assert script.train(args) == Path("runs", f"{name}__1001")
    assert len(list((tmp_path / "runs").glob("*/model.pt"))) == 2
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(script.new_folder, ["a/b:c"] * 4))
    assert len(set(folders)) == 4
    assert all(folder.is_dir() and folder.name.startswith("a_b_c__100") for folder in folders)


def test_versions_are_those_of_what_is_imported(tmp_path, monkeypatch):
    """An older package that lies further back on the path is not taken for it; nor is what is preloaded left out."""
    expected = {name: version(name) for name in ("torch", "gymnasium", "mujoco", "numpy")}
    for name in expected:
        behind = tmp_path / f"{name}-0.1.dist-info"
        behind.mkdir()
        (behind / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setenv("LD_PRELOAD", "libnothing.so")
    info = d3g_continuous.describe(d3g_continuous.Args(), tmp_path)
    assert info["versions"] == expected | {"python": sys.version.split()[0]}
    for name in expected:
        assert expected[name].split("+")[0] == importlib.import_module(name).__version__.split("+")[0]
    assert info["ld_preload"] == "libnothing.so"
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert version("numpy") == "0.1", "this test could not fail"


AGENTS = {  # of each script its agent, and what it is made for
    "d3g_continuous": ("D3G", (3, -np.ones(2, np.float32), np.ones(2, np.float32))),
    "td3_baseline": ("TD3", (3, -np.ones(2, np.float32), np.ones(2, np.float32))),
    "d3g_from_obs": ("D3G", (3, -np.ones(2, np.float32), np.ones(2, np.float32))),
    "bco_baseline": ("BCO", (3, -np.ones(2, np.float32), np.ones(2, np.float32))),
    "d3g_gridworld": ("D3G", (3, 4)),
}


@pytest.mark.parametrize("script", AGENTS)
def test_an_agent_alone_has_the_defaults_of_the_arguments(script):
    """It takes hyperparameters by name only, and acts and learns as it is."""
    module = importlib.import_module(script)
    name, made_for = AGENTS[script]
    parameters = list(inspect.signature(getattr(module, name)).parameters.values())
    by_name = parameters[len(made_for) :]
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in by_name)
    defaults = {parameter.name: parameter.default for parameter in by_name}
    args = vars(module.Args())
    if script == "d3g_gridworld":
        assert defaults.pop("cycle") is True
    assert defaults == {name: args[name] for name in defaults}
    assert {"learning_rate", "hidden_sizes"} <= defaults.keys()

    torch.manual_seed(0)
    agent = getattr(module, name)(*made_for)
    action = agent.act(np.zeros(3, np.float32))
    if script == "d3g_gridworld":
        assert action in range(4)
    else:
        assert action.dtype == np.float32
        assert (abs(action) < 1).all()
    before = {key: value.clone() for key, value in agent.state_dict().items()}
    actions = 4 if script == "d3g_gridworld" else 2
    batch = tuple(torch.rand(8, width) for width in (3, actions, 1, 3, 1))
    updates = [getattr(agent, update) for update in ("update", "update_inverse_dynamics") if hasattr(agent, update)]
    for update in updates:
        update(batch)
    assert any(not value.equal(before[key]) for key, value in agent.state_dict().items())
    assert all(torch.isfinite(loss) for loss in agent.losses.values())


# -------------------------------------------------------------------------------------- repetition, interruption

SMALL = ["--env-id", "InvertedPendulum-v4", "--hidden-sizes", "32", "32", "--batch-size", "64"]
SMALL += ["--total-timesteps", "900", "--learning-starts", "500", "--eval-frequency", "150", "--eval-episodes", "2"]


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


@in_background(*((script,) for script in SCRIPTS))
def sigkill_then_resume_is_as_if_never_killed(script, reference, tmp_path):
    run_dir = tmp_path / "run"
    args = checkpointed(run_dir)
    process = start(*args, script=script)
    wait_for_row(run_dir, 6, process)
    process.kill()  # and the lock on the folder goes with it
    finish(process, -signal.SIGKILL)
    assert (run_dir / "checkpoint.pt").exists()
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
    assert before["progress"]["step"] // 150 == steps
    assert len(list(run_dir.glob("*.partial"))) == 1
    assert not (run_dir / "model.pt").exists()
    finish(start(*checkpointed(run_dir), "--resume"))
    assert_same_run(run_dir, reference["d3g_continuous"])


@in_background()
def ctrl_c_checkpoints_and_resumes(reference, tmp_path):
    """SIGTERM, which does the same, is what benchmark/'s runners send in their tests."""
    run_dir = tmp_path / "run"
    args = [*SMALL, "--run-dir", run_dir]  # no checkpoint is due: this one is the signal's
    process = start(*args)
    wait_for_row(run_dir, 3, process)
    process.send_signal(signal.SIGINT)
    out, err = finish(process, 130)
    assert "will stop with its next checkpoint" in err
    assert "Traceback" not in err
    checkpoint = torch.load(run_dir / "checkpoint.pt", weights_only=True)
    where = f"step {checkpoint['progress']['step']} after {checkpoint['updates']} updates"
    assert out.splitlines()[-1] == f"stopped at {where}; --resume --run-dir {run_dir} continues"
    assert not (run_dir / "model.pt").exists()
    finish(start(*args, "--resume"))
    assert_same_run(run_dir, reference["d3g_continuous"])


@in_background()
def a_second_signal_stops_at_once(_reference, tmp_path):
    """HalfCheetah-v4's episodes have 1000 steps, here with large batches: minutes."""
    run_dir = tmp_path / "run"
    process = start("--run-dir", run_dir, "--learning-starts", 1, "--eval-episodes", 1, "--batch-size", 4096)
    wait_for_row(run_dir, 1, process)
    time.sleep(1)  # until the first episode has begun
    process.terminate()
    while "will stop with its next checkpoint" not in process.stderr.readline():
        assert process.poll() is None
    process.terminate()
    began = time.time()
    finish(process, -signal.SIGTERM)  # a shell sees 143
    assert time.time() - began < 5
    assert not (run_dir / "checkpoint.pt").exists()


@in_background()
def one_command_twice_at_once(reference, tmp_path):
    """One trains; the other is refused, and so is another run, as long as the first one lives."""
    run_dir = tmp_path / "run"
    args = [*SMALL, "--run-dir", run_dir, "--resume"]
    outs = [tmp_path / "first.out", tmp_path / "second.out"]
    processes = [start(*args, stdout=open(out, "w")) for out in outs]
    while not any("device: " in out.read_text() for out in outs):
        assert any(process.poll() is None for process in processes)
        time.sleep(0.001)
    one, other = processes if "device: " in outs[0].read_text() else reversed(processes)
    one.send_signal(signal.SIGSTOP)  # so that it cannot end before the others have tried
    expected = f"error: --run-dir {run_dir}: must not be in use, but another process has locked it\n"
    assert finish(other, 2)[1] == expected
    before = contents(run_dir)
    assert finish(start(*SMALL, "--run-dir", run_dir, "--seed", 2), 2) == ("", expected)
    assert contents(run_dir) == before
    one.send_signal(signal.SIGCONT)
    finish(one)
    assert_same_run(run_dir, reference["d3g_continuous"])


def limited(*args, kilobytes):
    """Start the real script so that no file of its can be larger."""
    script = ["bash", "-c", f'ulimit -f {kilobytes}; exec "$@"', "-", sys.executable, ROOT / "d3g_continuous.py"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*script, *map(str, args)], text=True, env=ENVIRONMENT, **pipes)


@contextlib.contextmanager
def small_disk(folder, kilobytes, largest_file):
    """Mount a disk of that size there; yield how to start the script and how to make room.

    Where one cannot mount, no file of the script's can become larger than the largest, until there is room.
    """
    folder.mkdir()
    options_of_mount = ["-t", "tmpfs", "-o", f"size={kilobytes}k"]
    mounted = subprocess.run(["mount", *options_of_mount, "tmpfs", folder], capture_output=True).returncode == 0
    if not mounted:
        yield lambda *args: limited(*args, kilobytes=largest_file), lambda: None
        return
    try:
        yield start, lambda: subprocess.run(["mount", "-o", "remount,size=10m", folder], check=True)
    finally:
        subprocess.run(["umount", folder], check=True)


@in_background()
def a_full_disk(reference, tmp_path):
    """The first checkpoint has 72 KB, those after it have more. What was whole stays whole, and a resume goes on."""
    with small_disk(tmp_path / "disk", kilobytes=100, largest_file=76) as (start_on_disk, make_room):
        run_dir = tmp_path / "disk" / "run"
        out, err = finish(start_on_disk(*checkpointed(run_dir)), 1)
        assert err.startswith(f"error: {run_dir / 'checkpoint.pt'} cannot be written: ")
        assert err.count("\n") == 1
        assert "Traceback" not in out
        assert json.loads((run_dir / "args.json").read_text())["args"]["run_dir"] == str(run_dir)
        rows = evaluations(run_dir)
        assert rows == evaluations(reference["d3g_continuous"])[: len(rows)]
        assert len(rows) == 2
        assert torch.load(run_dir / "checkpoint.pt", weights_only=True)["progress"]["step"] < 150
        assert list(run_dir.glob("*.partial")) == []
        make_room()
        finish(start(*checkpointed(run_dir), "--resume"))
        assert_same_run(run_dir, reference["d3g_continuous"])


@in_background()
def a_disk_too_full_for_tensorboard(reference, tmp_path):
    """TensorBoard writes from a thread of its own, which must not say on standard error what the script does."""
    run_dir = tmp_path / "run"
    args = [*SMALL, "--run-dir", run_dir]  # no checkpoint is due
    out, err = finish(limited(*args, kilobytes=2), 1)
    assert err.startswith(f"error: {run_dir} cannot be written: ")
    assert err.count("\n") == 1
    assert "Traceback" not in out
    rows = evaluations(run_dir)
    assert rows == evaluations(reference["d3g_continuous"])[: len(rows)]
    assert len(rows) >= 1
    assert not (run_dir / "checkpoint.pt").exists()
    finish(start(*args, "--resume"))  # and so from the beginning, over the rows that are there
    assert_same_run(run_dir, reference["d3g_continuous"])


@in_background()
def a_read_only_folder_of_a_run_to_resume(_reference, tmp_path):
    run_dir = tmp_path / "run"
    process = start(*checkpointed(run_dir))
    wait_for_row(run_dir, 3, process)
    process.kill()
    finish(process, -signal.SIGKILL)
    with read_only(run_dir):
        out, err = finish(start(*checkpointed(run_dir), "--resume"), 2)
    assert err.startswith(f"error: --run-dir {run_dir}: must be a folder that can be written: ")
    assert err.count("\n") == 1
    assert out == ""


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


@pytest.fixture(scope="module")
def killed_run(tmp_path_factory):
    """A run's folder as a kill leaves it, 20 steps before the end."""
    run_dir = tmp_path_factory.mktemp("killed") / "run"
    save = d3g_continuous.save

    def killed(contents, file):
        save(contents, file)
        if "progress" in contents and contents["progress"]["step"] == 80:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(d3g_continuous, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            d3g_continuous.train(d3g_continuous.Args(**WALK, run_dir=str(run_dir)))
    assert (run_dir / "checkpoint.pt").exists()
    return run_dir


@pytest.fixture
def interrupted(killed_run, tmp_path):
    """A copy of that folder, with the run's arguments."""
    shutil.copytree(killed_run, tmp_path / "run")
    return tmp_path / "run", WALK | {"run_dir": str(tmp_path / "run")}


def walk(run_dir, script=d3g_continuous, **changes):
    """Train on Walk-v0 in this process."""
    return script.train(script.Args(**WALK | {"run_dir": str(run_dir)} | changes))


@pytest.fixture(scope="module")
def whole_walk(tmp_path_factory):
    """The folder of the same run, that nothing interrupted."""
    return walk(tmp_path_factory.mktemp("whole") / "run")


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


def test_resume_may_change_what_does_not_change_results(interrupted, killed_run, tmp_path, whole_walk):
    run_dir, _ = interrupted
    was = json.loads((run_dir / "args.json").read_text())
    run_dir.rename(tmp_path / "moved")
    walk(tmp_path / "moved", resume=True, cuda=False, checkpoint_frequency=7)
    assert_same_run(tmp_path / "moved", whole_walk)
    assert json.loads((tmp_path / "moved" / "args.json").read_text()) == was
    assert (was["args"]["run_dir"], was["args"]["checkpoint_frequency"]) == (str(killed_run), 30)


def stopped_by_a_signal(script, monkeypatch, **args):
    """Train in this process as if SIGTERM had come already: it stops where it next pauses."""
    with monkeypatch.context() as patch:
        patch.setattr(script, "received_signals", [signal.SIGTERM])
        with pytest.raises(SystemExit) as stop:
            script.train(script.Args(**args))
    assert stop.value.code == 143


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_stopped_before_the_first_step(script, tmp_path, monkeypatch):
    """The evaluation at step 0 is not made again, and TensorBoard keeps it."""
    args = WALK | {"run_dir": str(tmp_path / "run")}
    stopped_by_a_signal(script, monkeypatch, **args)
    assert [row[0] for row in evaluations(tmp_path / "run")] == ["0"]
    before = scalars(tmp_path / "run")["eval/return_mean"]
    walk(tmp_path / "run", script, resume=True)
    assert_same_run(tmp_path / "run", walk(tmp_path / "whole", script))
    ours = scalars(tmp_path / "run")
    whole = scalars(tmp_path / "whole")
    assert ours["eval/return_mean"][:1] == before
    assert {tag: ours[tag] for tag in ours if tag != "charts/SPS"} == {
        tag: whole[tag] for tag in whole if tag != "charts/SPS"
    }


def test_a_stop_names_the_folder_as_given(interrupted, tmp_path, monkeypatch, capsys):
    """Not the one that it had before it was moved."""
    run_dir, args = interrupted
    run_dir.rename(tmp_path / "moved")
    stopped_by_a_signal(d3g_continuous, monkeypatch, **args | {"run_dir": str(tmp_path / "moved"), "resume": True})
    where = "stopped at step 80 after 60 updates"
    assert capsys.readouterr().out.splitlines()[-1] == f"{where}; --resume --run-dir {tmp_path / 'moved'} continues"


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
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["progress"]["step"] == 300
    assert [step for step, _ in scalars(tmp_path / "run")["losses/critic_loss"]] == [120, 220, 320]
    ours = scalars(walk(tmp_path / "run", resume=True, **changes))
    whole = scalars(walk(tmp_path / "whole", **changes))
    assert [step for step, _ in ours["losses/critic_loss"]] == [120, 220, 320, 420]
    assert [step for step, _ in ours["eval/return_mean"]] == [0, 100, 200, 300, 400]
    assert {tag: ours[tag] for tag in ours if tag != "charts/SPS"} == {
        tag: whole[tag] for tag in whole if tag != "charts/SPS"
    }
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_resume_where_there_is_nothing_starts_afresh(tmp_path, whole_walk):
    assert_same_run(walk(tmp_path / "resumed", resume=True), whole_walk)


@pytest.mark.parametrize("when", ["while it goes on", "before it is resumed"])
def test_evaluations_that_were_deleted_come_back(when, interrupted, whole_walk, monkeypatch):
    run_dir, args = interrupted
    evaluate = d3g_continuous.evaluate

    def deleting(*args):
        (run_dir / "evaluations.csv").unlink()
        return evaluate(*args)

    if when == "while it goes on":
        monkeypatch.setattr(d3g_continuous, "evaluate", deleting)
    else:
        (run_dir / "evaluations.csv").unlink()
    d3g_continuous.train(d3g_continuous.Args(**args, resume=True))
    assert_same_run(run_dir, whole_walk)


# ----------------------------------------------------------------------- a complete run, or what looks like one


@pytest.mark.parametrize("left", [0, 1000])
def test_a_damaged_model_beside_a_good_checkpoint(left, interrupted, whole_walk):
    """As where the power failed before all of the model was on the disk: it goes on from the checkpoint."""
    run_dir, args = interrupted
    (run_dir / "model.pt").write_bytes((whole_walk / "model.pt").read_bytes()[:left])
    before = contents(run_dir)

    def killed(*_):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(d3g_continuous.Run, "start", killed)
        with pytest.raises(KeyboardInterrupt):
            d3g_continuous.train(d3g_continuous.Args(**args, resume=True))
    assert contents(run_dir) == before
    d3g_continuous.train(d3g_continuous.Args(**args, resume=True))
    assert_same_run(run_dir, whole_walk)


@pytest.mark.parametrize("left", [0, 1000])
def test_a_damaged_model_without_a_checkpoint(left, tmp_path, whole_walk, capsys):
    shutil.copytree(whole_walk, tmp_path / "run")
    (tmp_path / "run" / "model.pt").write_bytes((whole_walk / "model.pt").read_bytes()[:left])
    before = contents(tmp_path / "run")
    error = refused(capsys, **WALK, run_dir=str(tmp_path / "run"), resume=True)
    assert error.startswith(f"error: --run-dir {tmp_path / 'run'}: must have a model.pt that can be loaded, or none: ")
    assert contents(tmp_path / "run") == before


def test_the_checkpoint_goes_when_the_model_can_be_loaded(interrupted, whole_walk, monkeypatch, capsys):
    run_dir, args = interrupted
    unlink = Path.unlink
    deleted = []

    def watched(file, **how):
        if file.name == "checkpoint.pt":
            deleted.append(torch.load(run_dir / "model.pt", weights_only=True).keys())
        unlink(file, **how)

    monkeypatch.setattr(Path, "unlink", watched)
    checkpoint = (run_dir / "checkpoint.pt").read_bytes()
    d3g_continuous.train(d3g_continuous.Args(**args, resume=True))
    assert len(deleted) == 1
    (run_dir / "checkpoint.pt").write_bytes(checkpoint)  # as where a kill came between the two
    d3g_continuous.train(d3g_continuous.Args(**args, resume=True))
    assert len(deleted) == 2
    assert_same_run(run_dir, whole_walk)
    assert capsys.readouterr().out.splitlines()[-1] == f"{run_dir} is complete"


@contextlib.contextmanager
def read_only(folder):
    """Make a folder read-only, for root by mounting it so."""
    if os.geteuid() > 0:
        folder.chmod(0o555)
        try:
            yield
        finally:
            folder.chmod(0o755)
        return
    mounted = subprocess.run(["mount", "--bind", "-o", "ro", folder, folder], capture_output=True)
    if mounted.returncode > 0:
        pytest.skip("nothing stops root from writing to a folder, and it cannot mount one read-only here")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_complete_run_in_a_read_only_folder(tmp_path, whole_walk, capsys):
    shutil.copytree(whole_walk, tmp_path / "run")
    with read_only(tmp_path / "run"):
        walk(tmp_path / "run", resume=True)
        assert capsys.readouterr().out == f"{tmp_path / 'run'} is complete\n"
        error = refused(capsys, **WALK, run_dir=str(tmp_path / "run"))
    assert error.startswith(f"error: --run-dir {tmp_path / 'run'}: must not hold a run, unless with --resume, but has ")


# ----------------------------------------------------------------------------------------------- not a number


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
@pytest.mark.parametrize(
    ("env_id", "eval_frequency", "says"),
    [
        ("NaNReward-v0", 1000, "reward is NaN or infinite at step 45"),
        ("NaNObservation-v0", 1000, "observation is NaN or infinite at step 45"),
        ("NaNReset-v0", 1000, "observation is NaN or infinite at step 40"),
        ("NaNReward-v0", 22, "the return of an evaluation is NaN or infinite at step 44"),
    ],
)
def test_a_task_that_gives_nan_stops_the_run_at_that_step(script, env_id, eval_frequency, says, tmp_path, capsys):
    run_dir = tmp_path / "run"
    with pytest.raises(SystemExit) as stop:
        walk(run_dir, script, env_id=f"custom_envs:{env_id}", eval_frequency=eval_frequency)
    assert stop.value.code == 1
    assert capsys.readouterr().err == f"error: {says}; an earlier checkpoint, if any, stays\n"
    checkpoint = torch.load(run_dir / "checkpoint.pt", weights_only=True)
    assert checkpoint["progress"]["step"] == 40
    assert not (run_dir / "model.pt").exists()


# ------------------------------------------------------------------------------------------------ what one sees


@in_background()
def progress_bar_on_a_terminal(_reference, tmp_path):
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (25, 120))
    process = start(*SMALL, "--total-timesteps", 600, "--run-dir", tmp_path / "run", stdout=slave)
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
    assert "600/600" in shown
    assert "it/s" in shown
    assert f"return {float(evaluations(tmp_path / 'run')[-1][1]):.1f} +- " in shown
    assert shown.count("\n") == 3, "plain lines on a terminal"  # the first line, the bar and the last line end in one


# ---------------------------------------------------------------------------------------------------- bad input


def refused(capsys, script=d3g_continuous, status=2, **args):
    """The one line with which Args or train() refuse these arguments, in this process."""
    capsys.readouterr()
    with warnings.catch_warnings(record=True) as shown, pytest.raises(SystemExit) as stop:
        script.train(script.Args(**args))
    assert stop.value.code == status
    assert [str(w.message) for w in shown if w.category is not DeprecationWarning] == [], "more lines on standard error"
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
    + [("learning_starts", -1, "at least 0"), ("buffer_size", 10**19, "at most 10**12")]
    + [("hidden_sizes", value, "one width or more, each from 1 to 10,000") for value in ((), (256, 0), (10**9, 10**9))]
    + [("learning_rate", value, "positive and finite") for value in (0.0, -1e-3, NAN, INF)]
    + [(name, value, "at least 0 and finite") for name in ("exploration_noise", "beta") for value in (-0.1, NAN, INF)]
    + [("exploration_noise", -0.0, "at least 0 and finite")]
    + [("gamma", value, "from 0 to 1") for value in (-0.1, 1.1, NAN)]
    + [("tau", value, "above 0 and at most 1") for value in (0.0, 1.1, NAN)],
)
def test_values_out_of_range(name, value, allowed, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused(capsys, **{name: value}) == f"error: --{name.replace('_', '-')} {value}: must be {allowed}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [("num_critics", 0, "at least 1"), ("policy_frequency", 0, "at least 1"), ("buffer_size", 10**19, "at most 10**12")]
    + [("learning_rate", 0.0, "positive and finite")]
    + [(name, value, "at least 0 and finite") for name in ("policy_noise", "noise_clip") for value in (-0.1, NAN, INF)]
    + [("hidden_sizes", value, "one width or more, each from 1 to 10,000") for value in ((), (10_001,))]
    + [("gamma", NAN, "from 0 to 1"), ("exploration_noise", -0.0, "at least 0 and finite")],
)
def test_values_out_of_range_of_td3(name, value, allowed, capsys):
    expected = f"error: --{name.replace('_', '-')} {value}: must be {allowed}\n"
    assert refused(capsys, td3_baseline, **{name: value}) == expected


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_more_than_the_memory(script, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    much = {"total_timesteps": 10**12, "buffer_size": 10**12}
    for where in ({"run_dir": str(tmp_path / "run")}, {}):
        error = refused(capsys, script, status=1, **much, **where)
        assert error.startswith("error: not enough memory for these arguments: Unable to allocate ")
        assert [p for p in tmp_path.iterdir() if p.name != "MUJOCO_LOG.TXT"] == []


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_resume_needs_a_folder(script, capsys):
    assert refused(capsys, script, resume=True) == "error: --resume True: must be used with --run-dir\n"
    empty = refused(capsys, script, resume=True, run_dir="")  # an unset variable of a shell
    assert empty == "error: --run-dir : must be the name of a folder\n"


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


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_folder_that_is_locked(script, tmp_path, capsys):
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    with open(run_dir / "args.json", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for resume in (False, True):
            error = refused(capsys, script, **WALK, run_dir=str(run_dir), resume=resume)
            assert error == f"error: --run-dir {run_dir}: must not be in use, but another process has locked it\n"
            assert contents(run_dir) == {"args.json": b""}
    assert (walk(run_dir, script) / "model.pt").exists(), "what is left of a run killed before its start is in the way"


def test_a_folder_that_another_process_makes_at_the_same_time(tmp_path, monkeypatch):
    """Whoever locks it trains."""
    mkdir = Path.mkdir

    def late(folder, *args, **how):
        mkdir(folder, parents=True, exist_ok=True)
        mkdir(folder, *args, **how)

    monkeypatch.setattr(Path, "mkdir", late)
    assert (walk(tmp_path / "run") / "model.pt").exists()


def test_a_lock_on_a_file_that_is_gone(tmp_path, monkeypatch, capsys):
    """Another run that failed before its start deleted args.json after it was opened here: a third one may be there."""
    run_dir = tmp_path / "run"
    flock = fcntl.flock

    def late(file, operation):
        (run_dir / "args.json").unlink()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    error = refused(capsys, **WALK, run_dir=str(run_dir))
    assert error == f"error: --run-dir {run_dir}: must not be in use, but another process has locked it\n"


@pytest.mark.parametrize(
    ("name", "value", "was"),
    [
        ("seed", 2, 1),
        ("gamma", 0.9, 0.99),
        ("cycle", False, True),
        ("standardize", True, False),
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


def test_of_arguments_that_differ_the_first_is_named(interrupted, capsys):
    """In the order of Args, whatever the order in which they were given or are in args.json; all of them count."""
    run_dir, args = interrupted
    info = json.loads((run_dir / "args.json").read_text())
    free = d3g_continuous.MAY_DIFFER_ON_RESUME
    names = [name for name in vars(d3g_continuous.Args()) if name not in free]
    assert len(names) == len(info["args"]) - 4
    given = vars(d3g_continuous.Args(**args)) | {"hidden_sizes": [8, 8]}
    for k, name in enumerate(names):
        others = {name: "another" for name in reversed(names[k:])}
        (run_dir / "args.json").write_text(json.dumps(info | {"args": info["args"] | others}))
        before = contents(run_dir)
        expected = f"error: --{name.replace('_', '-')} {given[name]}: must be another to resume {run_dir}\n"
        assert refused(capsys, **args, resume=True) == expected
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


def refused_checkpoint(capsys, run_dir, args):
    """Check that a run's damaged checkpoint is refused, with one line that says what it must be, and nothing done."""
    before = contents(run_dir)
    error = refused(capsys, **args, resume=True)
    assert error.startswith(f"error: --resume True: {run_dir / 'checkpoint.pt'} must be this run's checkpoint: ")
    assert contents(run_dir) == before
    assert not (run_dir.parent / "created").exists()


@pytest.mark.parametrize("what", ["truncated", "empty", "text", "code", "not a dictionary"])
def test_a_file_that_is_no_checkpoint(what, interrupted, capsys):
    run_dir, args = interrupted
    file = run_dir / "checkpoint.pt"
    if what == "truncated":
        file.write_bytes(file.read_bytes()[:-1000])
    elif what == "empty":
        file.write_bytes(b"")
    elif what == "text":
        file.write_text("not a checkpoint")
    elif what == "code":
        file.write_bytes(pickle.dumps(Payload(run_dir.parent / "created")))
    elif what == "not a dictionary":
        torch.save([1, 2], file)
    refused_checkpoint(capsys, run_dir, args)


@pytest.fixture
def checkpoint(interrupted):
    """What the checkpoint of `interrupted` holds."""
    return torch.load(interrupted[0] / "checkpoint.pt", weights_only=True)


KEYS = ["info", "progress", "seconds", "evaluations", "logged", "agent", "updates", "optimizers", "replay", "added"]
KEYS += ["numpy_rng", "torch_rng"]


def test_what_a_checkpoint_holds(checkpoint):
    assert list(checkpoint) == KEYS
    assert checkpoint["progress"] == {"step": 80, "episode": 4}


@pytest.mark.parametrize("key", KEYS)
def test_a_checkpoint_that_lacks_something(key, checkpoint, interrupted, capsys):
    del checkpoint[key]
    torch.save(checkpoint, interrupted[0] / "checkpoint.pt")
    refused_checkpoint(capsys, *interrupted)


WRONG = ["1", None, [1], 1.5, True, {"a": 1}, torch.ones(1)]


@pytest.mark.parametrize("value", WRONG, ids=str)
@pytest.mark.parametrize("key", KEYS)
def test_a_checkpoint_with_something_of_another_type(key, value, checkpoint, interrupted, capsys):
    if type(value) is type(checkpoint[key]) is float:
        value = "1.5"
    checkpoint[key] = value
    torch.save(checkpoint, interrupted[0] / "checkpoint.pt")
    refused_checkpoint(capsys, *interrupted)


def optimizer(checkpoint):
    return checkpoint["optimizers"]["proposal"]


FOREIGN = {
    "of another run": lambda c: c["info"]["args"].update(seed=2),
    "of other versions": lambda c: c["info"]["versions"].update(torch="0.1"),
    "of another network": lambda c: c["agent"].update({"proposal.layers.0.weight": torch.zeros(9, 2)}),
    "without a layer": lambda c: c["agent"].pop("proposal.layers.0.weight"),
    "without a counter": lambda c: c["progress"].pop("episode"),
    "with a counter of another type": lambda c: c["progress"].update(episode=4.0),
    "a replay of one row": lambda c: c.update(replay=c["replay"][:1]),
    "a replay of other columns": lambda c: c.update(replay=c["replay"][:, 1:]),
    "a replay of another dtype": lambda c: c.update(replay=c["replay"].double()),
    "without an optimiser": lambda c: c["optimizers"].pop("proposal"),
    "an optimiser without the state of a layer": lambda c: optimizer(c)["state"].pop(3),
    "first moments of another shape": lambda c: optimizer(c)["state"][0].update(exp_avg=torch.zeros(1)),
    "second moments of another shape": lambda c: optimizer(c)["state"][0].update(exp_avg_sq=torch.zeros(1)),
    "a count of another shape": lambda c: optimizer(c)["state"][0].update(step=torch.zeros(2)),
    "without first moments": lambda c: optimizer(c)["state"][0].pop("exp_avg"),
    "without a count": lambda c: optimizer(c)["state"][0].pop("step"),
    "without a learning rate": lambda c: optimizer(c)["param_groups"][0].pop("lr"),
    "another learning rate": lambda c: optimizer(c)["param_groups"][0].update(lr=1.5),
    "a learning rate of another type": lambda c: optimizer(c)["param_groups"][0].update(lr="1"),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_damaged_or_foreign_checkpoint(what, checkpoint, interrupted, capsys):
    FOREIGN[what](checkpoint)
    torch.save(checkpoint, interrupted[0] / "checkpoint.pt")
    refused_checkpoint(capsys, *interrupted)


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_disk_too_full_for_anything(script, tmp_path, capsys):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        error = refused(capsys, script, **WALK, run_dir=str(tmp_path / "run"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error.startswith(f"error: --run-dir {tmp_path / 'run'}: must be a folder that can be written: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", '{"args": {"seed": 1}}', '{"args": null}'])
def test_resume_without_its_args_json(text, interrupted, capsys):
    run_dir, args = interrupted
    (run_dir / "args.json").unlink()
    if text is not None:
        (run_dir / "args.json").write_text(text)
    before = contents(run_dir)
    error = refused(capsys, **args | {"resume": True})
    assert error.startswith(
        f"error: --run-dir {run_dir}: must be a new folder or hold the args.json of the run to resume: "
    )
    assert contents(run_dir) == before


@pytest.mark.parametrize("left", ["checkpoint.pt", "model.pt", "evaluations.csv"])
def test_a_run_without_its_arguments_is_not_written_over(left, interrupted, whole_walk, capsys):
    """An empty args.json is what a kill leaves before a run has started; here there is more."""
    run_dir, args = interrupted
    shutil.copy(whole_walk / "model.pt", run_dir)
    for file in run_dir.iterdir():
        if file.name != left:
            file.unlink()
    (run_dir / "args.json").touch()
    before = contents(run_dir)
    for resume in (False, True):
        assert refused(capsys, **args, resume=resume).startswith(f"error: --run-dir {run_dir}: must ")
        assert contents(run_dir) == before


def test_a_run_folder_that_cannot_be(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    error = refused(capsys, env_id="custom_envs:Walk-v0", run_dir=str(tmp_path / "file"))
    assert error.startswith(f"error: --run-dir {tmp_path / 'file'}: must be a new folder ")
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
