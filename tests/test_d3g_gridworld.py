"""d3g_gridworld.py: the grid, the update with discrete actions, the panels' data, its runs and Figure 6."""

import csv
import fcntl
import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
import tyro
from gymnasium.utils.env_checker import check_env
from numpy_net import Net
from test_d3g_continuous import expected_update, modules
from test_runs import Clock

import d3g_gridworld
from d3g_gridworld import D3G, Args, GridWorld, neighbour_distance

ROOT = Path(__file__).parent.parent
UP, DOWN, LEFT, RIGHT = range(4)


# ------------------------------------------------------------------------------------------------------- the grid


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_gymnasiums_own_checker(scale):
    check_env(GridWorld(scale), skip_render_check=True)


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_walls_and_goal(scale):
    env = GridWorld(scale)
    observation, _ = env.reset()
    np.testing.assert_array_equal(observation, [0, 0])
    assert observation.dtype == np.float32
    walk = [(UP, 0, 0), (LEFT, 0, 0), (RIGHT, 0, 1), (DOWN, 1, 1), (LEFT, 1, 0), (LEFT, 1, 0), (UP, 0, 0)]
    walk += [(DOWN, k, 0) for k in range(1, 11)] + [(DOWN, 10, 0)]
    walk += [(RIGHT, 10, k) for k in range(1, 10)]
    for action, row, column in walk:
        observation, *rest = env.step(action)
        np.testing.assert_allclose(observation, np.array([row, column]) * scale, rtol=1e-6)
        assert rest == [-1.0, False, False, {}]
    observation, *rest = env.step(RIGHT)
    np.testing.assert_allclose(observation, [10 * scale, 10 * scale], rtol=1e-6)
    assert rest == [1.0, True, False, {}]


def test_neighbour_distance_by_hand():
    start = np.zeros(2)  # N = {(0, 0), (1, 0), (0, 1)}
    assert neighbour_distance(start, np.array([1.0, 0.0])) == 0
    assert neighbour_distance(start, np.array([0.25, 0.75])) == 0.5
    assert neighbour_distance(start, np.array([-1.0, -2.0])) == 3
    assert neighbour_distance(start, np.array([1.0, 1.0])) == 1
    assert neighbour_distance(start, np.array([3.0, 1.0])) == 3
    middle = np.array([5.0, 5.0])  # the cell itself is no neighbour of it
    assert neighbour_distance(middle, middle) == 1
    assert neighbour_distance(middle, np.array([5.0, 6.5])) == 0.5
    corner = np.array([10.0, 10.0])
    assert neighbour_distance(corner, np.array([10.0, 10.5])) == 0.5


# ----------------------------------------------------------------------------------------------------- the update


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def softmax_backward(z, grad):
    p = softmax(z)
    return p * (grad - (p * grad).sum(1, keepdims=True))


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("policy_frequency", [1, 2])
@pytest.mark.parametrize("variant", ["d3g", "d3g_no_cycle"])
def test_update_equals_hand_derived(variant, policy_frequency, float64):
    """Six updates: losses and all parameters as from NumPy, where I ends in a softmax and actions are one-hot."""
    changed = {"gamma": 0.9, "tau": 0.05, "beta": 0.7, "learning_rate": 1e-3, "policy_frequency": policy_frequency}
    torch.manual_seed(2)
    agent = D3G(2, 4, hidden_sizes=(5, 4), cycle=variant == "d3g", **changed)
    with torch.no_grad():
        for parameter in agent.targets:
            parameter += 0.3 * torch.randn_like(parameter)
    nets = {name: Net(module) for name, module in modules(agent).items()}
    assert ("forward_dynamics" in nets) == (variant == "d3g")
    rng = np.random.default_rng(5)
    for update in range(1, 7):
        s = rng.normal(size=(7, 2))
        a = np.eye(4)[rng.integers(4, size=7)]
        batch = s, a, rng.normal(size=(7, 1)), s + 0.3 * rng.normal(size=s.shape), np.eye(7)[:, 1:2]
        agent.update(tuple(torch.tensor(x) for x in batch))
        how = {"cycle": variant == "d3g", "action": softmax, "backward": softmax_backward}
        _, losses = expected_update(nets, batch, update, **changed, **how)
        for name, loss in losses.items():
            assert agent.losses[name].item() == pytest.approx(loss, rel=1e-10), f"{name} at update {update}"
        for name, module in modules(agent).items():
            for parameter, expected in zip(module.parameters(), nets[name].parameters, strict=True):
                np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-9, atol=1e-11, err_msg=name)


def test_acts_on_the_most_probable_action(float64):
    torch.manual_seed(4)
    agent = D3G(2, 4, hidden_sizes=(5, 4))
    nets = {name: Net(module) for name, module in modules(agent).items()}
    chosen = set()
    for s in np.random.default_rng(0).normal(size=(40, 1, 2)) * 5:
        p = s + nets["proposal"].forward(s)
        probabilities = softmax(nets["inverse_dynamics"].forward(s, p))[0]
        np.testing.assert_allclose(agent.inverse_dynamics(*map(torch.tensor, (s, p))).detach()[0], probabilities)
        assert agent.act(s[0]) == probabilities.argmax()
        chosen.add(agent.act(s[0]))
        proposed, value = agent.propose(s / 0.5, scale=0.5)
        np.testing.assert_allclose(proposed, p / 0.5)
        np.testing.assert_allclose(value, nets["critic.0"].forward(s, p)[:, 0])
    assert len(chosen) > 1


def test_the_agent_alone_has_the_papers_networks():
    names = ["critic", "proposal", "inverse_dynamics", "forward_dynamics", "critic_target", "proposal_target"]
    agent = D3G(2, 4)
    assert [name for name, _ in agent.named_children()] == names
    assert [tuple(p.shape) for p in agent.forward_dynamics.parameters() if p.ndim == 2] == [
        (256, 6),
        (256, 256),
        (2, 256),
    ]
    names.remove("forward_dynamics")
    assert [name for name, _ in D3G(2, 4, cycle=False).named_children()] == names


# ------------------------------------------------------------------------------------------------------- runs

SMALL = {"hidden_sizes": (8, 8), "batch_size": 16, "total_timesteps": 1200, "learning_starts": 600}
SMALL |= {"eval_frequency": 400, "num_seeds": 2}
TYPED = ["--hidden-sizes", "8", "8", "--batch-size", "16", "--total-timesteps", "1200", "--learning-starts", "600"]
TYPED += ["--eval-frequency", "400"]


def start(*args):
    command = [sys.executable, ROOT / "d3g_gridworld.py", *TYPED, *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process, status=0):
    out, err = process.communicate(timeout=120)
    assert process.returncode == status, f"status {process.returncode}\n{out}\n{err}"
    return out, err


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Both variants on two seeds, by one command, as a process: (root folder, standard output)."""
    folder = tmp_path_factory.mktemp("gridworld") / "root"
    out, err = finish(start("--num-seeds", 2, "--run-dir", folder))
    assert err == ""
    return folder, out


def rows(file):
    with open(file) as f:
        return list(csv.reader(f))


def same(run_dir, reference):
    """Equal but for the seconds: evaluations, panels, weights."""
    for name in ("values.csv", "distances.csv", "path.csv"):
        assert (run_dir / name).read_bytes() == (reference / name).read_bytes(), name
    ours, theirs = rows(run_dir / "evaluations.csv"), rows(reference / "evaluations.csv")
    assert [row[:4] for row in ours] == [row[:4] for row in theirs]
    ours, theirs = (torch.load(x / "model.pt", weights_only=True) for x in (run_dir, reference))
    assert ours.keys() == theirs.keys()
    for name, network in theirs.items():
        if name not in ("args", "obs_dim", "action_dim"):
            for key, value in network.items():
                assert torch.equal(ours[name][key], value), f"{name}.{key}"
    assert not (run_dir / "checkpoint.pt").exists()


@pytest.mark.parametrize("variant", ["d3g", "d3g_no_cycle"])
@pytest.mark.parametrize("seed", [1, 2])
def test_run_folder_field_by_field(variant, seed, root):
    folder, out = root
    run_dir = folder / variant / f"seed{seed}"
    info = json.loads((run_dir / "args.json").read_text())
    expected = Args(**SMALL | {"variants": (variant,), "seed": seed, "num_seeds": 1, "run_dir": str(folder)})
    assert info["args"] == json.loads(json.dumps(d3g_gridworld.asdict(expected)))
    assert info["versions"].keys() == {"torch", "gymnasium", "mujoco", "numpy", "python"}

    evaluations = rows(run_dir / "evaluations.csv")
    assert evaluations[0] == ["step", "return_mean", "return_std", "length_mean", "seconds"]
    steps = [str(step) for step in range(0, 1201, 400)]
    assert [row[0] for row in evaluations[1:]] == steps
    for row in evaluations[1:]:
        assert (float(row[1]), float(row[3])) == (-500, 500) or float(row[1]) == 2 - float(row[3])
        assert row[2] == "0.0"

    model = torch.load(run_dir / "model.pt", weights_only=True)
    agent = D3G(2, 4, hidden_sizes=model["args"]["hidden_sizes"], cycle=variant == "d3g")
    for name, network in agent.named_children():
        network.load_state_dict(model[name])
    assert ("forward_dynamics" in model) == (variant == "d3g")
    assert (model["obs_dim"], model["action_dim"], model["args"]) == (2, 4, info["args"])

    header, *table = rows(run_dir / "values.csv")
    assert header == ["row", "column", "value", "proposal_row", "proposal_column"]
    table = np.array(table, dtype=float)
    np.testing.assert_array_equal(table[:, :2], [(row, column) for row in range(11) for column in range(11)])
    s = torch.tensor(table[:, :2], dtype=torch.float32)
    p = s + agent.proposal(s)
    np.testing.assert_allclose(table[:, 3:], p.detach(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(table[:, 2], agent.critic[0](s, p).detach()[:, 0], rtol=1e-5, atol=1e-6)

    header, *path = rows(run_dir / "path.csv")
    assert header == ["k", "row", "column"]
    path = np.array(path, dtype=float)
    np.testing.assert_array_equal(path[:, 0], np.arange(51))
    np.testing.assert_array_equal(path[0], [0, 0, 0])
    s = torch.tensor(path[:-1, 1:], dtype=torch.float32)
    np.testing.assert_allclose(path[1:, 1:], (s + agent.proposal(s)).detach(), rtol=1e-4, atol=1e-5)

    header, *distances = rows(run_dir / "distances.csv")
    assert header == ["step", "distance"]
    assert [float(step) for step, _ in distances] == [float(step) for step in steps]
    assert float(distances[-1][1]) == pytest.approx(neighbour_distance(np.zeros(2), path[1, 1:]), rel=1e-5)

    names = {"args.json", "evaluations.csv", "values.csv", "distances.csv", "path.csv", "model.pt"}
    assert {p.name for p in run_dir.iterdir() if "events" not in p.name} == names
    lines = out.splitlines()
    first = lines.index(f"device: cpu, CPU threads: 1, run folder: {run_dir}") + 1
    for line, row in zip(lines[first : first + len(steps)], evaluations[1:], strict=True):
        assert line.startswith(f"step {row[0]}: return {float(row[1]):.1f} +- 0.0, ")
    assert len(lines) == 4 * (1 + len(steps)) + 1
    assert lines[-1] == f"run folder: {folder}; draw it: python benchmark/figure6.py {folder}"


def test_one_command_per_run_gives_the_same_runs(root, tmp_path):
    """What benchmark/figure6.sh does: a run each into one root folder, which the whole command then finds complete."""
    printed = subprocess.run([ROOT / "benchmark" / "figure6.sh", "--epsilon", "0.2"], capture_output=True, text=True)
    lines = printed.stdout.splitlines()
    assert len(lines) == 10
    assert lines[0] == (
        "python d3g_gridworld.py --variants d3g --seed 1 --num-seeds 1 --run-dir runs/figure6 --resume --epsilon 0.2"
    )
    processes = [
        start("--variants", variant, "--seed", 2, "--num-seeds", 1, "--run-dir", tmp_path / "root", "--resume")
        for variant in ("d3g", "d3g_no_cycle")
    ]
    for process in processes:
        finish(process)
    for variant in ("d3g", "d3g_no_cycle"):
        same(tmp_path / "root" / variant / "seed2", root[0] / variant / "seed2")
        assert not (tmp_path / "root" / variant / "seed1").exists()
    out, _ = finish(start("--seed", 2, "--num-seeds", 1, "--run-dir", tmp_path / "root", "--resume"))
    assert out.splitlines()[:2] == [f"{tmp_path / 'root' / v / 'seed2'} is complete" for v in ("d3g", "d3g_no_cycle")]


def wait_for_row(file, row, process):
    while process.poll() is None:
        if file.exists() and file.read_text().count("\n") > row:
            return
        time.sleep(0.001)
    pytest.fail(f"the run ended before row {row}: {process.communicate()}")


def interrupt_and_resume(signum, status, reference, root):
    """Interrupt the second of two runs, resume, and compare both with those of an uninterrupted command."""
    args = ["--variants", "d3g", "--num-seeds", 2, "--run-dir", root, "--checkpoint-frequency", 200]
    process = start(*args)
    wait_for_row(root / "d3g" / "seed2" / "evaluations.csv", 3, process)
    process.send_signal(signum)
    out, _ = finish(process, status)
    if status > 0:
        said = out.splitlines()[-1]
        assert said.startswith("stopped at step ")
        assert said.endswith(f"; --resume --run-dir {root} continues")
    assert (root / "d3g" / "seed1" / "model.pt").exists()
    assert (root / "d3g" / "seed2" / "checkpoint.pt").exists()
    assert not (root / "d3g" / "seed2" / "model.pt").exists()
    finish(start(*args, "--resume"))
    for seed in (1, 2):
        same(root / "d3g" / f"seed{seed}", reference / "d3g" / f"seed{seed}")


def test_interrupted_runs_end_as_if_never_interrupted(root, tmp_path):
    cases = [(signal.SIGKILL, -9), (signal.SIGTERM, 143)]
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(interrupt_and_resume, *case, root[0], tmp_path / str(case[1])) for case in cases]
        for future in futures:
            future.result()


def test_replay_of_the_grid(tmp_path, monkeypatch, capsys):
    """One-hot actions that lead where they lead; terminated at the goal only, not where the clock ran out."""
    replays = []
    real_save = d3g_gridworld.save

    def save(contents, file):
        if isinstance(contents, dict) and "replay" in contents:
            replays.append(contents["replay"].clone().numpy())
        real_save(contents, file)

    monkeypatch.setattr(d3g_gridworld, "save", save)
    how = {"total_timesteps": 6000, "learning_starts": 6000, "eval_frequency": 10_000, "checkpoint_frequency": 1}
    d3g_gridworld.train(Args(**SMALL | how | {"variants": ("d3g",), "num_seeds": 1, "run_dir": str(tmp_path / "run")}))
    rows, ends = replays[-1], [len(replay) for replay in replays]
    assert rows.shape[1] == 2 + 4 + 1 + 2 + 1
    s, a, r, s2, terminated = rows[:, :2], rows[:, 2:6], rows[:, 6], rows[:, 7:9], rows[:, 9]
    np.testing.assert_array_equal(np.sort(a, 1), np.tile([0, 0, 0, 1], (len(rows), 1)))
    np.testing.assert_array_equal(s2, np.clip(s + d3g_gridworld.MOVES[a.argmax(1)], 0, 10))
    np.testing.assert_array_equal(terminated, (s2 == 10).all(1))
    np.testing.assert_array_equal(r, np.where(terminated, 1, -1))
    lengths = np.diff([0, *ends])
    assert lengths.max() == 500, "none was cut"
    cut = [end - 1 for end, length in zip(ends, lengths, strict=True) if length == 500 and not terminated[end - 1]]
    assert len(cut) >= 3
    assert terminated.sum() == len(ends) - len(cut) >= 1
    starts = [0, *ends[:-1]]
    np.testing.assert_array_equal(s[starts], 0)
    inner = np.setdiff1d(np.arange(1, len(rows)), starts)
    np.testing.assert_array_equal(s[inner], s2[inner - 1])


# ------------------------------------------------------------------------------------------------------- errors


def refused(capsys, status=2, **args):
    with pytest.raises(SystemExit) as stop:
        d3g_gridworld.train(Args(**args))
    assert stop.value.code == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


NAN, INF = float("nan"), float("inf")
AT_LEAST_1 = ["num_seeds", "num_threads", "total_timesteps", "eval_frequency", "checkpoint_frequency"]


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [("variants", value, "d3g, d3g_no_cycle or both") for value in ((), ("d3g", "d3g"), ("td3",))]
    + [(name, 0, "at least 1") for name in [*AT_LEAST_1, "batch_size", "policy_frequency"]]
    + [("total_timesteps", 10**19, "at most 10**12")]
    + [("seed", -1, "from 0 to 2**32 - 1"), ("hidden_sizes", (0,), "one width or more, each from 1 to 10,000")]
    + [("hidden_sizes", (10**9, 10**9), "one width or more, each from 1 to 10,000")]
    + [(name, value, "positive and finite") for name in ("learning_rate", "coordinate_scale") for value in (0.0, NAN)]
    + [("beta", INF, "at least 0 and finite"), ("learning_starts", -1, "at least 0")]
    + [(name, value, "from 0 to 1") for name in ("gamma", "epsilon") for value in (-0.1, 1.1, NAN)]
    + [("tau", 0.0, "above 0 and at most 1"), ("resume", True, "used with --run-dir")]
    + [("run_dir", "", "the name of a folder")],
)
def test_values_out_of_range(name, value, allowed, capsys):
    assert refused(capsys, **{name: value}) == f"error: --{name.replace('_', '-')} {value}: must be {allowed}\n"


def test_folders_in_use_are_refused_before_anything_is_written(root, tmp_path, capsys):
    folder = tmp_path / "root"
    held = folder / "d3g" / "seed2"
    held.mkdir(parents=True)
    (held / "args.json").write_text((root[0] / "d3g" / "seed2" / "args.json").read_text())
    args = SMALL | {"run_dir": str(folder)}
    assert refused(capsys, **args) == (
        f"error: --run-dir {held}: must not hold a run, unless with --resume, but has args.json\n"
    )
    differs = f"error: --gamma 0.5: must be 0.99 to resume {held}\n"
    assert refused(capsys, **args | {"resume": True, "gamma": 0.5}) == differs
    (held / "args.json").write_text("{")
    assert refused(capsys, **args | {"resume": True}).startswith(
        f"error: --run-dir {held}: must be a new folder or hold "
    )
    assert [p.name for p in folder.rglob("*") if p.is_file()] == ["args.json"]


def test_a_folder_that_is_locked(tmp_path, capsys):
    """That of one run of four; nothing is left of the others."""
    folder = tmp_path / "root"
    locked = folder / "d3g" / "seed2"
    locked.mkdir(parents=True)
    with open(locked / "args.json", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        error = refused(capsys, **SMALL, run_dir=str(folder), resume=True)
    assert error == f"error: --run-dir {locked}: must not be in use, but another process has locked it\n"
    left = [folder / "d3g", locked, locked / "args.json"]
    assert sorted(folder.rglob("*")) == left


def test_more_than_the_memory(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for where in ({"run_dir": str(tmp_path / "root")}, {}):
        error = refused(capsys, status=1, total_timesteps=10**12, **where)
        assert error.startswith("error: not enough memory for these arguments: Unable to allocate ")
        assert list(tmp_path.rglob("*")) == []


def test_roots_of_the_same_second_are_two(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(d3g_gridworld, "time", Clock())
    args = Args(**SMALL | {"variants": ("d3g",), "num_seeds": 1, "total_timesteps": 5, "exp_name": "my/own:name"})
    assert d3g_gridworld.train(args) == Path("runs", "gridworld__my_own_name__1__1000")
    assert d3g_gridworld.train(args) == Path("runs", "gridworld__my_own_name__1__1001")
    assert len(list((tmp_path / "runs").glob("*/d3g/seed1/model.pt"))) == 2


def test_a_foreign_checkpoint(root, tmp_path, capsys):
    run_dir = tmp_path / "root" / "d3g" / "seed1"
    run_dir.mkdir(parents=True)
    (run_dir / "args.json").write_text((root[0] / "d3g" / "seed1" / "args.json").read_text())
    (run_dir / "checkpoint.pt").write_text("not a checkpoint")
    args = SMALL | {"run_dir": str(tmp_path / "root"), "resume": True}
    error = refused(capsys, **args)
    assert error.startswith(f"error: --resume True: {run_dir / 'checkpoint.pt'} must be this run's checkpoint: ")


def test_bad_input_as_a_process(tmp_path):
    out, err = finish(start("--variants", "d4g", "--run-dir", tmp_path / "run"), 2)
    assert (out, err) == ("", "error: --variants ('d4g',): must be d3g, d3g_no_cycle or both\n")
    assert list(tmp_path.iterdir()) == []


def test_help_describes_every_argument(capsys):
    with pytest.raises(SystemExit):
        tyro.cli(Args, args=["--help"])
    text = " ".join(capsys.readouterr().out.replace("\u2502", " ").split())
    for name in d3g_gridworld.asdict(Args()):
        assert f"--{name.replace('_', '-')}" in text


# ------------------------------------------------------------------------------------------------------- Figure 6


def draw(*args):
    command = [sys.executable, ROOT / "benchmark" / "figure6.py", *args]
    return subprocess.run(command, capture_output=True, text=True)


def test_figure6(root, tmp_path):
    child = draw(root[0], "--output", tmp_path / "figure6.png")
    assert (child.returncode, child.stderr) == (0, "")
    *lines, last, table, distances = child.stdout.splitlines()
    assert last == f"figure: {tmp_path / 'figure6.png'}"
    assert table == f"table: {tmp_path / 'figure6.csv'}"
    assert distances == f"table: {tmp_path / 'figure6_distances.csv'}"
    assert len(lines) == 6
    header, *numbers = rows(tmp_path / "figure6.csv")
    assert header == "variant,seed,value_at_start,overestimation,distance,steps_to_goal,return".split(",")
    means = []
    for variant in ("d3g", "d3g_no_cycle"):
        tables = [
            np.loadtxt(root[0] / variant / f"seed{k}" / "distances.csv", delimiter=",", skiprows=1) for k in (1, 2)
        ]
        means.append(np.mean([table[:, 1] for table in tables]))  # fewer than 10 measurements: of all
    assert lines.pop(2).startswith(f"D3G: mean distance over the last tenth of training {means[0]:.3g} [")
    assert lines.pop(4).startswith(f"D3G\u207b: mean distance over the last tenth of training {means[1]:.3g} [")
    which = [(v, k) for v in ("d3g", "d3g_no_cycle") for k in (1, 2)]
    for line, found, (variant, seed) in zip(lines, numbers, which, strict=True):
        run_dir = root[0] / variant / f"seed{seed}"
        values = np.loadtxt(run_dir / "values.csv", delimiter=",", skiprows=1)
        optimum = []
        for row, column in values[:-1, :2]:  # backwards from the goal
            value = 1.0
            for _ in range(int(19 - row - column)):
                value = -1 + 0.99 * value
            optimum.append(value)
        assert line.startswith(f"{run_dir}: value at the start {values[0, 2]:.4g} (optimum -16.56), ")
        assert f"next to the goal {values[119, 2]:.4g} (1.00), " in line
        assert f"overestimation {np.mean(values[:-1, 2] - optimum):.4g}, " in line
        greedy = float(rows(run_dir / "evaluations.csv")[-1][1])
        assert line.endswith(f", greedy return {greedy:.0f}")
        assert found[:3] == [variant, str(seed), str(values[0, 2])]
        assert float(found[3]) == pytest.approx(np.mean(values[:-1, 2] - optimum))
        assert f", distance {float(found[4]):.3g}, " in line
        assert (f" at the goal after {found[5]}, " if found[5] else " misses the goal, ") in line
        assert float(found[6]) == greedy
    header, *found = rows(tmp_path / "figure6_distances.csv")
    assert header == ["variant", "seed", "step", "distance"]
    expected = []
    for variant, seed in which:
        table = np.loadtxt(root[0] / variant / f"seed{seed}" / "distances.csv", delimiter=",", skiprows=1)
        expected += [[variant, str(seed), str(int(step)), str(distance)] for step, distance in table]
    assert found == expected
    picture = imageio.imread(tmp_path / "figure6.png")
    assert picture.shape[1] >= 1400
    assert picture[..., :3].std() > 10


def test_steps_to_goal():
    sys.path.insert(0, str(ROOT / "benchmark"))
    import figure6

    path = np.array([(k, min(0.9 * k, 10.2), 10.0) for k in range(15)])
    assert figure6.steps_to_goal(path) == 11  # 9.9
    assert figure6.steps_to_goal(path[:11]) is None


def test_a_path_that_leaves_the_range_of_numbers(tmp_path):
    """As D3G- goes where it has diverged: a million cells, then a million times more with every step."""
    sys.path.insert(0, str(ROOT / "benchmark"))
    import figure6

    path = np.column_stack((np.arange(51), *2 * [np.full(51, np.nan)]))
    path[:8, 1:] = 1e6 ** np.arange(8)[:, None] - 1
    path[8, 1:] = np.inf, 1e48
    file = tmp_path / "path.csv"
    d3g_gridworld.write_table(file, "k,row,column", *path.T)
    np.testing.assert_array_equal(figure6.read_path(file), path[:8])
    assert figure6.steps_to_goal(figure6.read_path(file)) is None
    path[20, 1:] = 0  # back again
    d3g_gridworld.write_table(file, "k,row,column", *path.T)
    with pytest.raises(ValueError, match="path.csv: must have finite numbers, of 1e.100 at most, up to its end or"):
        figure6.read_path(file)


def test_figure6_without_complete_runs(root, tmp_path):
    child = draw(tmp_path)
    assert child.returncode == 2
    assert child.stderr == f"error: {tmp_path}: must hold complete runs of d3g_gridworld.py in d3g/, has none\n"
    assert list(tmp_path.iterdir()) == []
