"""benchmark/watch.py plays the policies of real runs; benchmark/figure8.py loads those of d3g_from_obs.py."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmark"))
import figure8  # noqa: E402
import watch  # noqa: E402

import bco_baseline  # noqa: E402
import d3g_continuous  # noqa: E402
import d3g_from_obs  # noqa: E402
import d3g_gridworld  # noqa: E402
import td3_baseline  # noqa: E402

WHAT = "d3g_continuous.py, td3_baseline.py, d3g_from_obs.py or bco_baseline.py"
TASK_ID = "InvertedDoublePendulum-v4"  # it soon falls, and no two returns are equal
TASK = {"env_id": TASK_ID, "hidden_sizes": (8, 8), "batch_size": 16, "eval_episodes": 3, "seed": 4}
ONLINE = {"total_timesteps": 300, "eval_frequency": 100, "learning_starts": 100, "checkpoint_frequency": 100, **TASK}
ROUNDS = {"rounds": 2, "steps_per_round": 50, "inverse_updates": 20, **TASK}
PLUS = ("standardize", "scale_states", "clamp_values", "aim_halfway")
RUNS = {  # by name: the script, its arguments, and its agent
    "d3g": (d3g_continuous, ONLINE, "D3G"),
    "d3g_no_cycle": (d3g_continuous, {"cycle": False, **ONLINE}, "D3G"),
    "d3g_plus": (d3g_continuous, {"standardize": True, **ONLINE}, "D3G"),
    "td3": (td3_baseline, {"exp_name": "a name of one's own", **ONLINE}, "TD3"),
    "ddpg": (td3_baseline, {"algorithm": "ddpg", **ONLINE}, "TD3"),
    "d3g_from_obs": (d3g_from_obs, {"offline_updates": 50, **ROUNDS}, "D3G"),
    "d3g_from_obs_plus": (
        d3g_from_obs,
        {"offline_updates": 50, **dict.fromkeys(PLUS, True), **ROUNDS},
        "D3G",
    ),
    "bco": (bco_baseline, {"policy_updates": 20, **ROUNDS}, "BCO"),
}
ENVIRONMENT = {name: x for name, x in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL")}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of a complete run of each kind, and in NAME_unfinished what a kill at its end would leave of it."""
    folder = tmp_path_factory.mktemp("runs")
    data = str(folder / "data.npz")
    d3g_from_obs.train(d3g_from_obs.Args(env_id=TASK_ID, collect=data, dataset_size=300))
    for name, (script, how, _) in RUNS.items():
        finish = script.Run.finish

        def copy_and_finish(run, dimensions, name=name, finish=finish):
            shutil.copytree(run.folder, folder / f"{name}_unfinished")
            finish(run, dimensions)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(script.Run, "finish", copy_and_finish)
            if "rounds" in how:
                how = {"dataset": data, **how}
            script.train(script.Args(run_dir=str(folder / name), **how))
    return folder


@pytest.fixture(autouse=True)
def renderer(monkeypatch):
    """What watch.py puts into the environment of this process is taken back."""
    monkeypatch.setenv("MUJOCO_GL", os.environ.get("MUJOCO_GL", "egl"))


def contents(folder):
    """Every file below a folder, with its bytes and the time at which it was written."""
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def last_evaluation(run_dir):
    """The last row of evaluations.csv as watch.py prints it."""
    with open(run_dir / "evaluations.csv") as file:
        row = list(csv.DictReader(file))[-1]
    return f"mean: return {float(row['return_mean']):.2f}, length {float(row['length_mean']):.1f}"


def load(run_dir, name):
    """A run's agent and task, made with its arguments."""
    script, how, agent_class = RUNS[name]
    env = script.make_env(TASK_ID)
    hyperparameters = {key: how[key] for key in ("hidden_sizes", "cycle", *PLUS) if key in how}
    if name == "ddpg":
        hyperparameters = {"hidden_sizes": (8, 8), "num_critics": 1}
    agent = getattr(script, agent_class)(11, env.action_space.low, env.action_space.high, **hyperparameters)
    if (run_dir / "checkpoint.pt").exists():
        agent.load_state_dict(torch.load(run_dir / "checkpoint.pt")["agent"])
    else:
        model = torch.load(run_dir / "model.pt")
        for network_name, network in agent.named_children():
            network.load_state_dict(model[network_name])
        for units, tensor in agent.named_buffers(recurse=False):
            tensor.copy_(model[units])
    return agent, env


def evaluated(run_dir, name, seed, episodes):
    """What the evaluations of a run of that seed give for its policy, as watch.py prints it, and their lengths."""
    agent, env = load(run_dir, name)
    seeds = np.random.SeedSequence((seed, 2)).generate_state(episodes).tolist()
    returns, lengths = RUNS[name][0].evaluate(agent, env, seeds)
    lines = []
    for k in range(episodes):
        lines.append(f"episode {k + 1}: return {returns[k]:.2f}, length {lengths[k]:.0f}")
    lines.append(f"mean: return {returns.mean():.2f}, length {lengths.mean():.1f}")
    return lines, lengths


def read_gif(file):
    """The frames of a GIF [n, height, width, 3], and how long all of them last in milliseconds."""
    frames = imageio.imread(file, index=None)
    return frames, sum(imageio.immeta(file, index=k)["duration"] for k in range(len(frames)))


@pytest.mark.parametrize("name", RUNS)
def test_plays_the_final_policy_from_the_start_states_of_its_evaluations(name, runs, tmp_path, capsys):
    before = contents(runs / name)
    watch.main(watch.Args(runs / name, tmp_path / "x.gif", episodes=3))
    said = capsys.readouterr().out.splitlines()
    lines, lengths = evaluated(runs / name, name, seed=4, episodes=3)
    title = f"{runs / name / 'model.pt'}: {RUNS[name][2]} on {TASK_ID}"
    assert said == [title, *lines, f"GIF: {tmp_path / 'x.gif'}"]
    if "total_timesteps" in RUNS[name][1]:  # in the rounds of the others, updates come after the evaluation
        assert said[-2] == last_evaluation(runs / name)
    frames, duration = read_gif(tmp_path / "x.gif")
    assert frames.shape[1:] == (240, 240, 3)
    assert duration == 50 * (3 + lengths.sum())  # a frame of every start state and of every step of 0.05 seconds
    assert contents(runs / name) == before


@pytest.mark.parametrize("name", RUNS)
def test_plays_the_checkpoint_of_a_run_that_is_not_complete(name, runs, tmp_path, capsys):
    run_dir = runs / f"{name}_unfinished"
    before = contents(run_dir)
    assert not (run_dir / "model.pt").exists()
    watch.main(watch.Args(run_dir, tmp_path / "x.gif", episodes=3))
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{run_dir / 'checkpoint.pt'}: {RUNS[name][2]} on {TASK_ID}"
    assert said[1:-1] == evaluated(run_dir, name, seed=4, episodes=3)[0]
    if "rounds" in RUNS[name][1]:  # the checkpoint of a round follows its evaluation
        assert said[-2] == last_evaluation(run_dir)
    assert contents(run_dir) == before


def test_one_episode_by_default_and_of_another_seed_on_request(runs, tmp_path, capsys):
    for name, seed, of in (("a", None, 4), ("b", 4, 4), ("c", 77, 77)):
        watch.main(watch.Args(runs / "d3g", tmp_path / f"{name}.gif", seed=seed))
        assert capsys.readouterr().out.splitlines()[1:-1] == evaluated(runs / "d3g", "d3g", of, episodes=1)[0]
    assert evaluated(runs / "d3g", "d3g", 4, 1)[0] != evaluated(runs / "d3g", "d3g", 77, 1)[0]
    a, b, c = ((tmp_path / f"{name}.gif").read_bytes() for name in "abc")
    assert a == b != c


def test_gif_shows_all_episodes_at_25_frames_a_second(tmp_path, capsys):
    """Of Reacher, with 50 steps of 0.02 seconds an episode, every second step is drawn."""
    how = {**ONLINE, "env_id": "Reacher-v4", "total_timesteps": 60, "learning_starts": 50, "eval_frequency": 60}
    d3g_continuous.train(d3g_continuous.Args(run_dir=str(tmp_path / "run"), **how))
    output = tmp_path / "x.gif"
    output.write_bytes(b"an older file")
    watch.main(watch.Args(tmp_path / "run", output, episodes=2))
    assert capsys.readouterr().out.count("length 50\n") == 2
    frames, duration = read_gif(output)
    assert duration == 2 * 26 * 40
    assert len(frames) == 2 * 26
    for k in range(1, len(frames)):
        assert (frames[k] != frames[k - 1]).any(), "nothing moves"
    with watch.make_env(tmp_path, "Reacher-v4", "rgb_array") as env:
        starts = []
        for seed in np.random.SeedSequence((4, 2)).generate_state(2).tolist():
            env.reset(seed=seed)
            starts.append(env.render()[::2, ::2].astype(int))
    shown = [frames[0].astype(int), frames[26].astype(int)]
    for episode, other in ((0, 1), (1, 0)):
        differs = [(abs(shown[episode] - start) > 50).sum() for start in (starts[episode], starts[other])]
        assert differs[0] < 0.2 * differs[1], "an episode starts with another picture"  # colours are a palette's
    assert not list(tmp_path.glob("*.tmp"))


def test_steps_end_an_episode_early(runs, tmp_path, capsys):
    """The return is that of the steps played; an episode that is over before stays as it is."""
    how = watch.Args(runs / "d3g", tmp_path / "x.gif", episodes=2)
    lengths = []
    for steps in (None, 3, 10_000):
        how.steps = steps
        watch.main(how)
        lengths.append([line.rsplit(" ", 1)[1] for line in capsys.readouterr().out.splitlines()[1:3]])
    assert int(lengths[0][0]) > 3 < int(lengths[0][1])
    assert lengths[1] == ["3", "3"]
    assert lengths[2] == lengths[0]


def test_camera_follows_a_robot_that_runs_away():
    with watch.make_env(Path("run"), "HalfCheetah-v4", "rgb_array") as env:
        for x in (0.0, 20.0):
            env.reset(seed=0)
            qpos = env.unwrapped.data.qpos.copy()
            qpos[0] = x
            env.unwrapped.set_state(qpos, env.unwrapped.data.qvel)
            red, _, blue = env.render().astype(int).transpose(2, 0, 1)
            orange = red > blue + 40  # the robot; all else is black, white, grey or greenish
            assert orange.sum() > 4000


def test_window_closes_and_keeps_time(monkeypatch, capsys):
    """Without a GIF a step takes at least as long as the task says; the window may be closed at any time."""

    class Agent:
        def act(self, _observation):
            return np.zeros(1, np.float32)

    def step(_action):
        raise watch.WindowClosed

    with watch.make_env(Path("run"), TASK_ID, "rgb_array") as env:
        started = time.perf_counter()
        _, length = watch.play(Agent(), env, seed=0, steps=None, fps=100)
        assert time.perf_counter() - started >= length / 100
        monkeypatch.setattr(env, "step", step)
        monkeypatch.setattr(watch, "watch_for_closing", lambda: None)
        watch.play_in_window(Agent(), env, [0, 1], steps=None, fps=25)
    assert capsys.readouterr().out == "window closed\n"


def test_escape_and_closing_the_window_are_told_from_other_keys(monkeypatch):
    """As GLFW calls what is registered with it; Gymnasium's keys go on working."""
    registered = {}
    others = []

    def set_key_callback(_window, on_key):
        registered["key"] = on_key
        return lambda *key: others.append(key)

    monkeypatch.setattr(watch.glfw, "get_current_context", lambda: "a window")
    monkeypatch.setattr(watch.glfw, "set_key_callback", set_key_callback)
    monkeypatch.setattr(watch.glfw, "set_window_close_callback", lambda _window, f: registered.update(close=f))
    watch.watch_for_closing()
    registered["key"]("a window", watch.glfw.KEY_SPACE, 1, 2, 3)
    assert others == [("a window", watch.glfw.KEY_SPACE, 1, 2, 3)]
    with pytest.raises(watch.WindowClosed):
        registered["key"]("a window", watch.glfw.KEY_ESCAPE, 1, 2, 3)
    with pytest.raises(watch.WindowClosed):
        registered["close"]("a window")
    assert len(others) == 1


def test_a_run_that_becomes_complete_while_its_folder_is_read(runs, tmp_path, monkeypatch):
    model = (runs / "d3g" / "model.pt").read_bytes()
    torch_load = torch.load

    def load_late(file, **how):
        if file.name == "checkpoint.pt":
            (tmp_path / "model.pt").write_bytes(model)
        return torch_load(file, **how)

    monkeypatch.setattr(torch, "load", load_late)
    name, args, _ = watch.read_run(tmp_path)
    assert (name, args["env_id"]) == ("model.pt", TASK_ID)


# ---------------------------------------------------------------------------------------------------------- refusals


def put_changed(run_dir, runs, change):
    """Put the model of the run of D3G into a folder, changed."""
    model = torch.load(runs / "d3g" / "model.pt")
    change(model)
    torch.save(model, run_dir / "model.pt")


def put_with(**arguments):
    return lambda run_dir, runs: put_changed(run_dir, runs, lambda model: model["args"].update(arguments))


def put_without(argument):
    return lambda run_dir, runs: put_changed(run_dir, runs, lambda model: model["args"].pop(argument))


def put_without_network(name):
    return lambda run_dir, runs: put_changed(run_dir, runs, lambda model: model.pop(name))


def put_nan(run_dir, runs):
    put_changed(run_dir, runs, lambda model: model["proposal"]["layers.1.bias"][3].fill_(torch.nan))


def put_nothing(_run_dir, _runs):
    pass


def put_tabular(run_dir, _runs):
    (run_dir / "args.json").write_text('{"args": {"experiment": "figure4a"}, "versions": {}}')
    (run_dir / "results.csv").write_text("episode,algorithm,setting,seed,return\n")


def put_gridworld(run_dir, _runs):
    how = {"num_seeds": 1, "total_timesteps": 20, "eval_frequency": 20, "hidden_sizes": (4,), "variants": ("d3g",)}
    d3g_gridworld.train(d3g_gridworld.Args(run_dir=str(run_dir / "root"), **how))
    os.replace(run_dir / "root" / "d3g" / "seed1" / "model.pt", run_dir / "model.pt")


def put_half(run_dir, runs):
    model = (runs / "d3g" / "model.pt").read_bytes()
    (run_dir / "model.pt").write_bytes(model[: len(model) // 2])


def put_code(run_dir, _runs):
    torch.save({"args": {}, "code": Path}, run_dir / "model.pt")


def put_empty_checkpoint(run_dir, _runs):
    (run_dir / "checkpoint.pt").write_bytes(b"")


def put_foreign_checkpoint(run_dir, _runs):
    torch.save({"step": 1}, run_dir / "checkpoint.pt")


NEITHER = "it has neither a model.pt nor a checkpoint.pt"


@pytest.mark.parametrize(
    ("put", "reason"),
    [
        (put_nothing, NEITHER),
        (put_tabular, NEITHER),
        (put_gridworld, "its model.pt is not of one: ValueError: its arguments name no task of Gymnasium"),
        (put_half, "its model.pt cannot be loaded: ..."),
        (put_code, "its model.pt cannot be loaded: UnpicklingError: ..."),
        (put_empty_checkpoint, "its checkpoint.pt cannot be loaded: EOFError: ..."),
        (put_foreign_checkpoint, "its checkpoint.pt is not of one: KeyError: 'info'"),
        (put_without("seed"), "its model.pt is not of one: KeyError: 'seed'"),
        (put_with(seed=-1), "its model.pt is not of one: ValueError: its seed is -1"),
        (put_with(env_id="Reacher-v4"), "its model.pt is not of one: RuntimeError: Error(s) in loading state_dict..."),
        (put_without_network("critic"), "its model.pt is not of one: RuntimeError: Error(s) in loading state_dict..."),
        (put_without_network("proposal"), "its model.pt is not of one: ValueError: none of them has the networks..."),
        (put_nan, "its model.pt is not of one: ValueError: proposal.layers.1.bias is NaN or infinite"),
    ],
)
def test_refuses_what_is_not_a_run(put, reason, runs, tmp_path, capsys):
    """A reason that ends with ... goes on in words of PyTorch's."""
    put(tmp_path, runs)
    capsys.readouterr()
    before = contents(tmp_path)
    with pytest.raises(SystemExit) as stop:
        watch.main(watch.Args(tmp_path, tmp_path / "x.gif"))
    said = capsys.readouterr()
    assert stop.value.code == 2
    says = f"error: RUN_DIR {tmp_path}: must be the folder of a run of {WHAT}, but {reason}\n"
    if reason.endswith("..."):
        assert said.err.startswith(says.removesuffix("...\n").rstrip())
    else:
        assert said.err == says
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert contents(tmp_path) == before


def test_refuses_a_folder_that_does_not_exist(tmp_path, capsys):
    nothing = tmp_path / "nothing"
    file = Path(__file__)
    for run_dir, reason in [
        (nothing, NEITHER),
        (file, f"its model.pt cannot be loaded: NotADirectoryError: [Errno 20] Not a directory: '{file / 'model.pt'}'"),
    ]:
        with pytest.raises(SystemExit) as stop:
            watch.main(watch.Args(run_dir, tmp_path / "x.gif"))
        assert stop.value.code == 2
        says = f"error: RUN_DIR {run_dir}: must be the folder of a run of {WHAT}, but {reason}\n"
        assert capsys.readouterr().err == says
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("env_id", "error"),
    [
        ("custom_envs:Walk-v0", "TypeError: Walk"),  # it cannot be drawn
        ("InvertedTriplePendulum-v4", "NameNotFound: Environment `InvertedTriplePendulum` doesn't exist. "),
    ],
)
def test_refuses_a_task_that_cannot_be_drawn(env_id, error, runs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # puts it back after the test
    put_with(env_id=env_id)(tmp_path, runs)
    with pytest.raises(SystemExit) as stop:
        watch.main(watch.Args(tmp_path, tmp_path / "x.gif"))
    said = capsys.readouterr().err
    assert stop.value.code == 2
    must = f"must be of a task that can be drawn here, {env_id} cannot (MUJOCO_GL={os.environ['MUJOCO_GL']}): {error}"
    assert said.startswith(f"error: RUN_DIR {tmp_path}: {must}")
    assert said.count("\n") == 1
    assert not (tmp_path / "x.gif").exists()


def test_arguments(runs, tmp_path, capsys):
    gif = tmp_path / "x.gif"
    must = "must be the name of a .gif file, in a folder that exists"
    for arguments, says in [
        ({"output": gif, "episodes": 0}, "--episodes 0: must be at least 1"),
        ({"output": gif, "steps": 0}, "--steps 0: must be at least 1"),
        ({"output": gif, "seed": -1}, "--seed -1: must be from 0 to 2**32 - 1"),
        ({"output": gif, "seed": 2**32}, f"--seed {2**32}: must be from 0 to 2**32 - 1"),
        ({"output": tmp_path / "x.png"}, f"--output {tmp_path / 'x.png'}: {must}"),
        ({"output": tmp_path / "nowhere" / "x.gif"}, f"--output {tmp_path / 'nowhere' / 'x.gif'}: {must}"),
    ]:
        with pytest.raises(SystemExit) as stop:
            watch.main(watch.Args(runs / "d3g", **arguments))
        assert stop.value.code == 2
        assert capsys.readouterr().err == f"error: {says}\n"
    assert list(tmp_path.iterdir()) == []


def test_a_gif_that_cannot_be_written(tmp_path, monkeypatch, capsys):
    def full(_partial, _output):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(SystemExit) as stop:
        watch.write_gif(b"GIF", tmp_path / "x.gif")
    assert stop.value.code == 2
    must = "must be a file that can be written: [Errno 28] No space left on device"
    assert capsys.readouterr().err == f"error: --output {tmp_path / 'x.gif'}: {must}\n"
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------------------- real processes

TO_GIF = ["--output", "x.gif"]
NO_DISPLAY = (
    "error: --output: must be given where there is no display to open a window on, such as --output episode.gif"
)
PROCESSES = {  # by name: what to add to the environment, the arguments after RUN_DIR, how its only line ends or goes on
    "no display": ({}, [], None),
    "a display that is none": ({"DISPLAY": ":7777"}, [], None),
    "no X": ({"MUJOCO_GL": "glfw"}, TO_GIF, "(MUJOCO_GL=glfw): FatalError: an OpenGL platform library has not"),
    "no EGL": (
        {"__EGL_VENDOR_LIBRARY_FILENAMES": "/nowhere.json"},
        TO_GIF,
        "(MUJOCO_GL=egl): ImportError: Cannot initialize a EGL device display.",
    ),
}


@pytest.fixture(scope="module")
def processes(runs, tmp_path_factory):
    """All of PROCESSES, started together, and the folder that they run in."""
    folder = tmp_path_factory.mktemp("processes")
    started = {}
    for name, (environment, arguments, _) in PROCESSES.items():
        command = [sys.executable, ROOT / "benchmark" / "watch.py", runs / "d3g", *arguments]
        environment = ENVIRONMENT | environment
        started[name] = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    return started, folder


@pytest.mark.parametrize("name", PROCESSES)
def test_one_line_where_nothing_can_be_drawn(name, runs, processes):
    started, folder = processes
    _, said = started[name].communicate(timeout=120)
    reason = PROCESSES[name][2]
    if reason is None:
        assert said == NO_DISPLAY + "\n"
    else:
        must = f"must be of a task that can be drawn here, {TASK_ID} cannot {reason}"
        assert said.startswith(f"error: RUN_DIR {runs / 'd3g'}: {must}")
        assert said.count("\n") == 1
    assert started[name].returncode == 2
    assert {file.name for file in folder.iterdir()} <= {"MUJOCO_LOG.TXT"}


def test_watching_leaves_a_run_alone_that_is_still_going(tmp_path, capsys):
    run_dir = tmp_path / "run"
    command = [sys.executable, ROOT / "d3g_continuous.py", "--run-dir", run_dir, "--env-id", TASK_ID]
    command += ["--hidden-sizes", "8", "8", "--learning-starts", "100", "--checkpoint-frequency", "200"]
    training = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    try:
        while not (run_dir / "checkpoint.pt").exists():
            assert training.poll() is None
            time.sleep(0.05)
        training.send_signal(signal.SIGSTOP)  # so that it changes nothing itself, but keeps its lock
        before = contents(run_dir)
        watch.main(watch.Args(run_dir, tmp_path / "x.gif", episodes=2))
        assert contents(run_dir) == before
        title = f"{run_dir / 'checkpoint.pt'}: D3G on {TASK_ID}\n"
        assert capsys.readouterr().out.startswith(f"{title}episode 1: ")
        training.send_signal(signal.SIGCONT)
        training.send_signal(signal.SIGTERM)
        assert training.wait(timeout=60) == 128 + signal.SIGTERM  # it goes on to its next checkpoint
    finally:
        training.kill()
        training.wait()


# ---------------------------------------------------------------------------------------------------------- Figure 8


@pytest.mark.parametrize("name", ["d3g_from_obs", "d3g_from_obs_plus"])
def test_figure8_loads_the_agent_of_a_run(name, runs):
    agent, env_id = figure8.load(runs / name)
    expected, _ = load(runs / name, name)
    assert env_id == TASK_ID
    assert agent.state_dict().keys() == expected.state_dict().keys()
    for parameter, tensor in agent.state_dict().items():
        torch.testing.assert_close(tensor, expected.state_dict()[parameter], rtol=0, atol=0)
    start = np.linspace(-0.1, 0.1, 11, dtype=np.float32)
    plan = figure8.imagine(agent, start)
    assert plan.shape == (201, 11)
    s = torch.from_numpy(start).unsqueeze(0)
    np.testing.assert_allclose(plan[1:], expected.imagine(s, steps=200)[:, 0], rtol=1e-4, atol=1e-6)


def test_figure8_refuses_a_run_of_d3g_continuous(runs, capsys):
    """Even where its networks have the same shapes, as those of a task with one action."""
    with pytest.raises(SystemExit) as stop:
        figure8.load(runs / "d3g")
    assert stop.value.code == 2
    must = "must be the folder of a complete run of d3g_from_obs.py"
    assert capsys.readouterr().err == f"error: {runs / 'd3g'}: {must}: ValueError('it is a run of another script')\n"
