"""d3g_from_obs.py, and where they are the same bco_baseline.py: updates, data sets, runs, interruption, errors."""

import csv
import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
import tyro
from numpy_net import Net
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_d3g_continuous import modules, scaled_tanh, scaled_tanh_backward

import bco_baseline
import d3g_continuous
import d3g_from_obs
import td3_baseline

ROOT = Path(__file__).parent.parent
SCRIPTS = {"d3g_from_obs": d3g_from_obs, "bco_baseline": bco_baseline}
OBS, BATCH = 3, 7
LOW, HIGH = np.array([-1.0, -0.5]), np.array([2.0, 0.25])


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


# ------------------------------------------------------------------------------------------------------- updates


def expected_update(nets, batch, update, gamma, tau, beta, learning_rate, policy_frequency, **_):
    """The offline phase on `nets`, gradients by hand; returns the target y and the losses."""
    s, r, s2, d = batch
    n = len(s)
    # y = r + gamma (1 - d) min_i Q'_i(s', c), c = s' + f(s', Q'_1(s', s' + tau'(s')))
    q = nets["critic_target.0"].forward(s2, s2 + nets["proposal_target"].forward(s2))
    c = s2 + nets["forward_dynamics"].forward(s2, q)
    y = r + gamma * (1 - d) * np.minimum(*(nets[f"critic_target.{i}"].forward(s2, c) for i in (0, 1)))
    losses = {"critic_loss": 0.0}
    for name in ("critic.0", "critic.1"):
        q = nets[name].forward(s, s2)
        if name == "critic.0":
            losses["qf1_values"] = q.mean()
        losses["critic_loss"] += ((q - y) ** 2).mean()
        nets[name].adam(nets[name].backward(2 * (q - y) / n)[0], learning_rate)
    # f(s, Q'_1(s, s')) fits s' - s
    error = nets["forward_dynamics"].forward(s, nets["critic_target.0"].forward(s, s2)) - (s2 - s)
    losses["forward_dynamics_loss"] = (error**2).mean()
    nets["forward_dynamics"].adam(nets["forward_dynamics"].backward(2 * error / error.size)[0], learning_rate)
    if update % policy_frequency == 0:
        p = s + nets["proposal"].forward(s)
        c = s + nets["forward_dynamics"].forward(s, nets["critic.0"].forward(s, p))
        q = nets["critic.0"].forward(s, c)
        losses["proposal_loss"] = -q.mean() + beta * ((c - p) ** 2).mean()
        d_c = nets["critic.0"].backward(-np.ones_like(q) / n)[1][:, OBS:] + beta * 2 * (c - p) / p.size
        d_q = nets["forward_dynamics"].backward(d_c)[1][:, OBS:]
        nets["critic.0"].forward(s, p)
        d_p = nets["critic.0"].backward(d_q)[1][:, OBS:] - beta * 2 * (c - p) / p.size
        nets["proposal"].adam(nets["proposal"].backward(d_p)[0], learning_rate)
        for name in ("critic.0", "critic.1", "proposal"):
            target = nets[name.replace("critic", "critic_target").replace("proposal", "proposal_target")]
            pairs = zip(nets[name].parameters, target.parameters, strict=True)
            target.parameters = [tau * x + (1 - tau) * t for x, t in pairs]
    return y, losses


def assert_nets_equal(agent, nets):
    for name, module in modules(agent).items():
        for parameter, expected in zip(module.parameters(), nets[name].parameters, strict=True):
            np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-9, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("policy_frequency", [1, 2, 3])
def test_offline_update_equals_hand_derived(policy_frequency, float64, monkeypatch):
    """Six updates: target, losses, all parameters; the inverse dynamics is left alone, and no action enters."""
    how = {"gamma": 0.9, "tau": 0.05, "beta": 0.7, "learning_rate": 1e-3, "policy_frequency": policy_frequency}
    torch.manual_seed(2)
    agent = d3g_from_obs.D3G(OBS, LOW, HIGH, d3g_from_obs.Args(hidden_sizes=(5, 4), **how))
    with torch.no_grad():
        for parameter in agent.targets:
            parameter += 0.3 * torch.randn_like(parameter)
    nets = {name: Net(module) for name, module in modules(agent).items()}
    mse_loss, regression_targets = torch.nn.functional.mse_loss, []

    def recording_mse_loss(x, target):
        regression_targets.append(target.detach().numpy().copy())
        return mse_loss(x, target)

    monkeypatch.setattr(torch.nn.functional, "mse_loss", recording_mse_loss)
    rng = np.random.default_rng(5)
    for update in range(1, 7):
        s = rng.normal(size=(BATCH, OBS))
        batch = s, rng.normal(size=(BATCH, 1)), s + 0.3 * rng.normal(size=s.shape), np.eye(BATCH)[:, 1:2]
        before = {name: value.clone() for name, value in agent.state_dict().items()}
        regression_targets.clear()
        agent.update(tuple(torch.tensor(x) for x in batch))
        y, losses = expected_update(nets, batch, update, **how)
        np.testing.assert_allclose(regression_targets[0], y, rtol=1e-10, atol=1e-12)
        for name, loss in losses.items():
            assert agent.losses[name].item() == pytest.approx(loss, rel=1e-9), f"{name} at update {update}"
        assert_nets_equal(agent, nets)
        moved = {name.split(".")[0] for name, value in agent.state_dict().items() if not value.equal(before[name])}
        delayed = {"proposal", "proposal_target", "critic_target"} if update % policy_frequency == 0 else set()
        assert moved == {"critic", "forward_dynamics"} | delayed


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_inverse_dynamics_update_equals_hand_derived(script, float64):
    torch.manual_seed(3)
    args = script.Args(hidden_sizes=(5, 4), learning_rate=1e-3)
    agent = (script.D3G if script is d3g_from_obs else script.BCO)(OBS, LOW, HIGH, args)
    nets = {name: Net(module) for name, module in modules(agent).items()}
    rng = np.random.default_rng(6)
    for _ in range(5):
        s, s2 = rng.normal(size=(2, BATCH, OBS))
        a = rng.uniform(LOW, HIGH, (BATCH, 2))
        agent.update_inverse_dynamics(tuple(torch.tensor(x) for x in (s, a, s2)))
        z = nets["inverse_dynamics"].forward(s, s2)
        error = scaled_tanh(z) - a
        assert agent.losses["inverse_dynamics_loss"].item() == pytest.approx((error**2).mean(), rel=1e-10)
        grad = scaled_tanh_backward(z, 2 * error / error.size)
        nets["inverse_dynamics"].adam(nets["inverse_dynamics"].backward(grad)[0], 1e-3)
        assert_nets_equal(agent, nets)


def test_cloning_update_equals_hand_derived(float64):
    """pi(s) fits I(s, s'); I, the rewards and the terminations have no part in it."""
    torch.manual_seed(4)
    agent = bco_baseline.BCO(OBS, LOW, HIGH, bco_baseline.Args(hidden_sizes=(5, 4), learning_rate=1e-3))
    nets = {name: Net(module) for name, module in modules(agent).items()}
    rng = np.random.default_rng(6)
    for _ in range(5):
        s, s2 = rng.normal(size=(2, BATCH, OBS))
        batch = s, np.full((BATCH, 1), np.nan), s2, np.full((BATCH, 1), np.nan)
        agent.update_policy(tuple(torch.tensor(x) for x in batch))
        z = nets["policy"].forward(s)
        error = scaled_tanh(z) - scaled_tanh(nets["inverse_dynamics"].forward(s, s2))
        assert agent.losses["policy_loss"].item() == pytest.approx((error**2).mean(), rel=1e-10)
        grads, _ = nets["policy"].backward(scaled_tanh_backward(z, 2 * error / error.size))
        nets["policy"].adam(grads, 1e-3)
        assert_nets_equal(agent, nets)


def test_acting_and_imagining(float64):
    torch.manual_seed(5)
    agent = d3g_from_obs.D3G(OBS, LOW, HIGH, d3g_from_obs.Args(hidden_sizes=(5, 4)))
    with torch.no_grad():
        for parameter in agent.targets:
            parameter += 0.3 * torch.randn_like(parameter)
    nets = {name: Net(module) for name, module in modules(agent).items()}
    s = np.array([[0.3, -1.2, 0.8]])
    p = s + nets["proposal"].forward(s)
    np.testing.assert_allclose(agent.act(s[0]), scaled_tanh(nets["inverse_dynamics"].forward(s, p))[0])
    q = nets["critic_target.0"].forward(s, p)
    np.testing.assert_allclose(agent.imagine(torch.tensor(s)), s + nets["forward_dynamics"].forward(s, q))

    clone = bco_baseline.BCO(OBS, LOW, HIGH, bco_baseline.Args(hidden_sizes=(5, 4)))
    expected = scaled_tanh(Net(clone.policy).forward(s))[0]
    np.testing.assert_allclose(clone.act(s[0]), expected)
    np.testing.assert_array_equal(clone.act(s[0], np.array([9.0, -9.0])), [HIGH[0], LOW[1]])


# ------------------------------------------------------------------------------------------------------ data sets


def data_args(**changed):
    return d3g_from_obs.Args(**{"env_id": "custom_envs:Walk-v0", "dataset_size": 400, "collect_only": True} | changed)


@pytest.fixture(scope="module")
def demonstrator(tmp_path_factory):
    """The folder of a finished TD3 run on Walk, whose observations tell its actions: s' = s + 0.1 a."""
    run_dir = tmp_path_factory.mktemp("demonstrator") / "td3"
    how = {"total_timesteps": 300, "learning_starts": 100, "hidden_sizes": (8, 8), "batch_size": 16}
    args = td3_baseline.Args(env_id="custom_envs:Walk-v0", eval_frequency=300, run_dir=str(run_dir), **how)
    return td3_baseline.train(args)


def arrays(file):
    with np.load(file, allow_pickle=False) as data:
        return dict(data)


def test_a_random_data_set(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    d3g_from_obs.train(data_args(env_id="InvertedPendulum-v4"))
    file = tmp_path / "datasets" / "InvertedPendulum-v4__random1.0__400__0.npz"
    assert {p.name for p in tmp_path.rglob("*")} == {"datasets", file.with_suffix(".json").name, file.name}
    data = arrays(file)
    shapes = {"observations": (400, 4), "next_observations": (400, 4), "rewards": (400,), "terminations": (400,)}
    assert {name: x.shape for name, x in data.items()} == shapes
    s, s_next, ends = data["observations"], data["next_observations"], data["terminations"]
    np.testing.assert_array_equal(data["rewards"], 1)
    np.testing.assert_array_equal(ends, abs(s_next[:, 1]) > 0.2)
    assert 20 < ends.sum() < 100
    np.testing.assert_array_equal((s[1:] == s_next[:-1]).all(1), ~ends[:-1])
    about = json.loads(file.with_suffix(".json").read_text())
    episodes = ends[:-1].sum() + 1
    assert about["mean_return"] == pytest.approx(400 / episodes)
    assert 7 < about["score"] < 14, "the highest of 100 means over 10 episodes"
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == f"data: datasets/{file.name}, 400 transitions, mean return {400 / episodes:.2f}"

    before = file.stat().st_mtime_ns
    bco_baseline.train(
        bco_baseline.Args(
            **{k: v for k, v in vars(data_args(env_id="InvertedPendulum-v4")).items() if k in vars(bco_baseline.Args())}
        )
    )
    assert file.stat().st_mtime_ns == before, "found, by the other script too"
    assert len(capsys.readouterr().out.splitlines()) == 1
    file.unlink()
    d3g_from_obs.train(data_args(env_id="InvertedPendulum-v4"))
    for name, x in arrays(file).items():
        np.testing.assert_array_equal(x, data[name])
    d3g_from_obs.train(data_args(env_id="InvertedPendulum-v4", dataset_seed=1))
    other = arrays(tmp_path / "datasets" / "InvertedPendulum-v4__random1.0__400__1.npz")
    assert not np.array_equal(other["observations"], data["observations"])


@pytest.mark.parametrize("p", [0.0, 0.25])
def test_a_demonstrator_acts_randomly_with_probability_p(p, demonstrator, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = demonstrator / "model.pt"
    d3g_from_obs.train(data_args(randomness=p, demonstrator=str(file), dataset_size=4000))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    data = arrays(tmp_path / "datasets" / f"custom_envs:Walk-v0__random{p}__4000__0__{digest}.npz")
    s, s_next = data["observations"].astype(np.float64), data["next_observations"]
    model = torch.load(file, weights_only=True)
    agent = td3_baseline.TD3(
        2, *(np.array(model[x]) for x in ("action_low", "action_high")), td3_baseline.Args(**model["args"])
    )
    agent.actor.load_state_dict(model["actor"])
    demonstrated = agent.actor(torch.tensor(s, dtype=torch.float32)).detach().numpy()
    actions = (s_next - s) / 0.1
    same = (abs(actions - demonstrated) < 1e-4).all(1)
    assert 1 - same.mean() == pytest.approx(p, abs=0.02)
    if p:
        random = actions[~same]
        assert random.min(0) == pytest.approx([-1, 0.5], abs=0.02)
        assert random.max(0) == pytest.approx([2, 0.75], abs=0.02)
        assert random.mean(0) == pytest.approx([0.5, 0.625], abs=0.1)


def test_time_limits_are_no_terminations(tmp_path, monkeypatch):
    """Reacher's episodes are cut after 50 steps; the data shows it only by not continuing."""
    monkeypatch.chdir(tmp_path)
    d3g_from_obs.train(data_args(env_id="Reacher-v4", dataset_size=200))
    (file,) = (tmp_path / "datasets").glob("*.npz")
    data = arrays(file)
    assert not data["terminations"].any()
    breaks = np.flatnonzero((data["observations"][1:] != data["next_observations"][:-1]).any(1)) + 1
    np.testing.assert_array_equal(breaks, [50, 100, 150])
    about = json.loads(file.with_suffix(".json").read_text())
    assert about["mean_return"] == pytest.approx(data["rewards"].sum() / 4, rel=1e-5)
    assert -42 < about["score"] < -36


def write(file, **changed):
    """A data set of 5 transitions with 2 observations: three episodes of returns 3, 3 and 5."""
    s = np.arange(12.0).reshape(6, 2)
    s[3:] += 100  # row 3 does not continue row 2
    data = {
        "observations": s[[0, 1, 3, 4, 5]],
        "next_observations": np.stack([s[1], s[2], s[4], s[5], s[5] + 1]),
        "rewards": np.array([1.0, 2, 3, 4, 1]),
        "terminations": np.array([False, False, True, False, False]),
    }
    data |= changed
    np.savez(file, **{name: x for name, x in data.items() if x is not None})
    return file


def test_mean_return_by_hand(tmp_path):
    """Episodes end where the next row does not continue, after 2 rows, and where one terminates, after 3."""
    rows, mean = d3g_from_obs.load_dataset(write(tmp_path / "data.npz", actions=np.zeros((5, 1))), 2)
    assert mean == pytest.approx((3 + 3 + 5) / 3)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows[2], [106, 107, 3, 108, 109, 1])


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"rewards": None}, "rewards is not a file in the archive"),
        ({"observations": np.zeros((5, 3))}, "have shapes [(5, 3), (5,), (5, 2), (5,)]"),
        ({"rewards": np.zeros((5, 1))}, "have shapes [(5, 2), (5, 1), (5, 2), (5,)]"),
        ({"rewards": np.full(5, np.nan)}, "5 values not finite"),
        ({"next_observations": np.full((5, 2), np.inf)}, "10 values not finite"),
        ({"terminations": np.full(5, 0.5)}, "0 values not finite; terminations: 0, 1"),
        ({"rewards": np.zeros(4)}, "ValueError"),
        ({"observations": np.zeros((0, 2)), "rewards": np.zeros(0)}, "ValueError"),
        ({"rewards": np.array([{}] * 5)}, "Object arrays cannot be loaded when allow_pickle=False"),
        ({"rewards": np.array(["a"] * 5)}, "could not convert string to float"),
    ],
)
def test_bad_data_sets(changed, says, tmp_path, capsys):
    file = write(tmp_path / "data.npz", **changed)
    with pytest.raises(SystemExit) as stop:
        d3g_from_obs.load_dataset(file, 2)
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: --dataset {file}: must be a data set as the README says, with 2 observations: ")
    assert says in err
    assert err.count("\n") == 1


class Payload:
    """What a malicious file would hold: unpickling it as code would create a file."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (open, (str(self.file), "w"))


def refused(capsys, script=d3g_from_obs, **args):
    with pytest.raises(SystemExit) as stop:
        script.train(script.Args(**args))
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
@pytest.mark.parametrize("what", ["missing", "text", "pickle", "other size"])
def test_files_that_are_no_data_sets(script, what, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "data.npz"
    if what == "text":
        file.write_text("observations")
    elif what == "pickle":
        file.write_bytes(pickle.dumps(Payload(tmp_path / "created")))
    elif what == "other size":
        write(file)
    before = sorted(p.name for p in tmp_path.iterdir())
    error = refused(capsys, script, env_id="InvertedPendulum-v4", dataset=str(file), run_dir="run")
    assert error.startswith(f"error: --dataset {file}: must be a data set as the README says, with 4 observations: ")
    assert sorted(p.name for p in tmp_path.iterdir()) == before


@pytest.mark.parametrize("what", ["none", "missing", "pickle", "of another task", "a D3G model"])
def test_bad_demonstrators(what, demonstrator, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "model.pt"
    env_id = "custom_envs:Walk-v0"
    if what == "pickle":
        file.write_bytes(pickle.dumps(Payload(tmp_path / "created")))
    elif what == "of another task":
        env_id, file = "InvertedPendulum-v4", demonstrator / "model.pt"
    elif what == "a D3G model":
        torch.save({"args": {"env_id": env_id, "hidden_sizes": [8]}, "critic": {}}, file)
    given = None if what == "none" else str(file)
    error = refused(capsys, env_id=env_id, demonstrator=given, randomness=0.5)
    assert error.startswith(f"error: --demonstrator {given}: must be model.pt of a TD3 run on {env_id}: ")
    assert not (tmp_path / "datasets").exists()
    assert not (tmp_path / "created").exists()


# --------------------------------------------------------------------------------------------------------- runs

SMALL = ["--env-id", "InvertedPendulum-v4", "--hidden-sizes", "16", "16", "--batch-size", "32", "--rounds", "4"]
SMALL += ["--steps-per-round", "60", "--inverse-updates", "40", "--eval-episodes", "2"]
PARTICULAR = {
    "d3g_from_obs": ["--offline-updates", "900", "--eval-frequency", "100", "--checkpoint-frequency", "200"],
    "bco_baseline": ["--policy-updates", "150"],
}
ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL")}


def start(script, *args, **kwargs):
    kwargs = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": ENVIRONMENT} | kwargs
    return subprocess.Popen([sys.executable, ROOT / f"{script}.py", *map(str, args)], **kwargs)


def finish(process, status=0):
    out, err = process.communicate(timeout=120)
    assert process.returncode == status, f"status {process.returncode}\n{out}\n{err}"
    return out, err


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A data set of one's own: 2,000 random transitions of InvertedPendulum-v4, with actions that nobody reads."""
    env = gym.make("InvertedPendulum-v4")
    rng, rows = np.random.default_rng(0), []
    while len(rows) < 2000:
        s, done = env.reset(seed=len(rows))[0], False
        while not done:
            action = rng.uniform(env.action_space.low, env.action_space.high).astype(np.float32)
            s_next, r, done, _, _ = env.step(action)
            rows.append((s, action, r, s_next, done))
            s = s_next
    names = ("observations", "actions", "rewards", "next_observations", "terminations")
    file = tmp_path_factory.mktemp("data") / "own.npz"
    np.savez(file, **{name: np.array(x) for name, x in zip(names, zip(*rows, strict=True), strict=True)})
    return file


@pytest.fixture(scope="module")
def reference(dataset, tmp_path_factory):
    """Of each script, a run that nothing interrupts: {script: (run folder, standard output)}."""
    root = tmp_path_factory.mktemp("reference")
    started = {
        script: start(script, *SMALL, *PARTICULAR[script], "--dataset", dataset, "--run-dir", root / script)
        for script in SCRIPTS
    }
    finished = {script: finish(process) for script, process in started.items()}
    assert [err for _, err in finished.values()] == ["", ""]
    return {script: (root / script, out) for script, (out, _) in finished.items()}


def rows(run_dir):
    with open(run_dir / "evaluations.csv") as file:
        return list(csv.reader(file))


def scalars(run_dir):
    events = EventAccumulator(str(run_dir), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def networks(run_dir):
    model = torch.load(run_dir / "model.pt", weights_only=True)
    return {f"{n}.{k}": v for n, x in model.items() if isinstance(x, dict) and n != "args" for k, v in x.items()}


def same(run_dir, other):
    """Equal but for the seconds: evaluations, weights, and all that TensorBoard shows but steps per second."""
    assert [row[:4] for row in rows(run_dir)] == [row[:4] for row in rows(other)]
    ours, theirs = networks(run_dir), networks(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name
    ours, theirs = scalars(run_dir), scalars(other)
    assert ours.keys() == theirs.keys()
    for tag in ours.keys() - {"charts/SPS"}:
        assert ours[tag] == theirs[tag], tag
    names = {p.name for p in run_dir.iterdir() if "events" not in p.name}
    assert names == {"args.json", "evaluations.csv", "model.pt"}


@pytest.mark.parametrize("script", SCRIPTS)
def test_run_folder_field_by_field(script, dataset, reference):
    run_dir, out = reference[script]
    info = json.loads((run_dir / "args.json").read_text())
    assert list(info) == ["args", "versions", "git_commit"]
    typed = {"env_id": "InvertedPendulum-v4", "rounds": 4, "dataset": str(dataset), "hidden_sizes": [16, 16], "seed": 1}
    assert typed.items() <= info["args"].items()
    assert info["args"].keys() == vars(SCRIPTS[script].Args()).keys()
    assert info["versions"].keys() == {"torch", "gymnasium", "mujoco", "numpy", "python"}
    table = rows(run_dir)
    assert table[0] == ["step", "return_mean", "return_std", "length_mean", "seconds"]
    assert [row[0] for row in table[1:]] == ["0", "60", "120", "180"], "after the last round there is no evaluation"
    assert all(row[1] == row[3] for row in table[1:]), "reward 1 a step"
    seconds = [float(row[4]) for row in table[1:]]
    assert seconds == sorted(seconds)

    model = torch.load(run_dir / "model.pt", weights_only=True)
    agent = (d3g_from_obs.D3G if script == "d3g_from_obs" else bco_baseline.BCO)(
        model["obs_dim"],
        np.array(model["action_low"], np.float32),
        np.array(model["action_high"], np.float32),
        SCRIPTS[script].Args(**model["args"]),
    )
    for name, network in agent.named_children():
        network.load_state_dict(model[name])
    assert list(model)[len(list(agent.named_children())) :] == [
        "args",
        "obs_dim",
        "action_dim",
        "action_low",
        "action_high",
    ]
    assert (model["obs_dim"], model["action_dim"], model["action_low"], model["action_high"]) == (4, 1, [-3], [3])

    tags = scalars(run_dir)
    offline = 900 if script == "d3g_from_obs" else 0  # one axis: offline updates, then online steps after them
    assert [step for step, _ in tags["eval/return_mean"]] == [offline + k for k in (0, 60, 120, 180)]
    assert [step for step, _ in tags["losses/inverse_dynamics_loss"]] == [offline + k for k in (60, 120, 180, 240)]
    ends, lengths = np.array(tags["charts/episodic_length"]).T
    assert offline < ends[0] <= offline + 60
    assert lengths[0] == ends[0] - offline
    assert ends[-1] <= offline + 240
    if script == "d3g_from_obs":
        for tag in ("critic_loss", "forward_dynamics_loss", "proposal_loss", "qf1_values"):
            assert [step for step, _ in tags[f"losses/{tag}"]] == list(range(100, 901, 100))
        steps, plans = np.array(tags["plan/steps_inside_data"]).T
        assert steps.tolist() == list(range(100, 901, 100))
        assert (plans >= 0).all()
        assert (plans <= 200).all()
        assert len(set(plans)) > 1
    else:
        assert [step for step, _ in tags["losses/policy_loss"]] == [60, 120, 180, 240]
    lines = out.splitlines()
    assert lines[0].startswith(f"data: {dataset}, 20")
    assert lines[1] == f"device: cpu, CPU threads: 1, run folder: {run_dir}"
    drawn = f"; draw it: python benchmark/figure8.py {run_dir}" if script == "d3g_from_obs" else ""
    assert lines[-1] == f"run folder: {run_dir}{drawn}"
    for row, line in zip(table[1:], lines[-5:-1], strict=True):
        assert line == f"step {row[0]}/240: return {float(row[1]):.1f} +- {float(row[2]):.1f}"


def test_the_last_plan_that_was_logged(dataset, reference):
    """How many imagined steps stay inside the data's range, from the final networks, in plain NumPy."""
    run_dir, _ = reference["d3g_from_obs"]
    model = torch.load(run_dir / "model.pt", weights_only=True)
    low, high = (np.array(model[x], np.float32) for x in ("action_low", "action_high"))
    agent = d3g_from_obs.D3G(4, low, high, d3g_from_obs.Args(**model["args"]))
    for name, network in agent.named_children():
        network.load_state_dict(model[name])
    nets = {name: Net(module) for name, module in modules(agent).items()}
    s_data = arrays(dataset)["observations"].astype(np.float32)
    env = d3g_continuous.make_env("InvertedPendulum-v4")
    counts = []
    for seed in np.random.SeedSequence((1, 2)).generate_state(2).tolist():
        s, count, inside = env.reset(seed=seed)[0][None].astype(np.float32), 0, True
        for _ in range(200):
            q = nets["critic_target.0"].forward(s, s + nets["proposal"].forward(s))
            s = s + nets["forward_dynamics"].forward(s, q)
            margin = 0.01 * (s_data.max(0) - s_data.min(0))
            inside = inside and bool(((s >= s_data.min(0) - margin) & (s <= s_data.max(0) + margin)).all())
            count += inside
        counts.append(count)
    assert scalars(run_dir)["plan/steps_inside_data"][-1][1] == pytest.approx(np.mean(counts), abs=1)


def test_a_plan_counts_until_it_first_leaves_the_data(dataset, tmp_path, monkeypatch, capsys):
    """Three imagined steps inside, one outside by a component alone, then inside again."""
    calls = []

    def imagine(_agent, s):
        calls.append(s)
        p = torch.zeros_like(s)
        p[:, 1] = 0.3 if len(calls) == 4 else 0.0
        return p

    monkeypatch.setattr(d3g_from_obs.D3G, "imagine", imagine)
    how = {"offline_updates": 10, "eval_frequency": 10, "rounds": 1, "steps_per_round": 5, "inverse_updates": 1}
    how |= {"hidden_sizes": (8,), "batch_size": 8, "eval_episodes": 2, "dataset": str(dataset)}
    d3g_from_obs.train(d3g_from_obs.Args(run_dir=str(tmp_path / "run"), **how))
    assert scalars(tmp_path / "run")["plan/steps_inside_data"] == [(10, 3.0)]
    assert len(calls) == 200
    assert "update 10/10: plans stay in the data for [3, 3]" in capsys.readouterr().out.splitlines()


def wait_for(condition, process):
    while process.poll() is None:
        if condition():
            return
        time.sleep(0.001)
    pytest.fail(f"the run ended too soon: {process.communicate()}")


def interrupt_and_resume(script, when, signum, dataset, reference, root):
    run_dir = root / "run"
    args = [*SMALL, *PARTICULAR[script], "--dataset", dataset, "--run-dir", run_dir]
    process = start(script, *args)
    if when == "offline":
        wait_for((run_dir / "checkpoint.pt").exists, process)
    else:
        file = run_dir / "evaluations.csv"
        wait_for(lambda: file.exists() and file.read_text().count("\n") > 2, process)
    process.send_signal(signum)
    out, err = finish(process, -signum if signum == signal.SIGKILL else 128 + signum)
    assert "Traceback" not in err
    checkpoint = torch.load(run_dir / "checkpoint.pt", weights_only=True)
    if script == "d3g_from_obs":
        assert (checkpoint["updates"] < 900) == (when == "offline")
    if signum != signal.SIGKILL:
        counts = (
            f"{checkpoint['updates']} updates, {checkpoint['step']}" if "updates" in checkpoint else checkpoint["step"]
        )
        assert out.splitlines()[-1] == f"stopped after {counts} steps; --resume --run-dir {run_dir} continues"
    assert not (run_dir / "model.pt").exists()
    finish(start(script, *args, "--resume"))
    same(run_dir, reference[script][0])


def test_interrupted_runs_end_as_if_never_interrupted(dataset, reference, tmp_path):
    cases = [
        ("d3g_from_obs", "offline", signal.SIGKILL),
        ("d3g_from_obs", "offline", signal.SIGTERM),
        ("d3g_from_obs", "online", signal.SIGKILL),
        ("d3g_from_obs", "online", signal.SIGINT),
        ("bco_baseline", "online", signal.SIGKILL),
        ("bco_baseline", "online", signal.SIGTERM),
    ]
    with ThreadPoolExecutor(2) as pool:
        futures = []
        for k, case in enumerate(cases):
            (tmp_path / str(k)).mkdir()
            futures.append(pool.submit(interrupt_and_resume, *case, dataset, reference, tmp_path / str(k)))
        for future in futures:
            future.result()


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_complete_run_is_left_alone(script, dataset, reference, capsys):
    run_dir, _ = reference[script]
    before = {p.name: p.read_bytes() for p in run_dir.iterdir()}
    args = json.loads((run_dir / "args.json").read_text())["args"]
    module = SCRIPTS[script]
    module.train(module.Args(**args | {"hidden_sizes": (16, 16), "resume": True}))
    assert capsys.readouterr().out == f"{run_dir} is complete\n"
    error = refused(capsys, module, **args | {"hidden_sizes": (16, 16)})
    held = "args.json, evaluations.csv, model.pt"
    assert error == f"error: --run-dir {run_dir}: must not hold a run, unless with --resume, but has {held}\n"
    error = refused(capsys, module, **args | {"hidden_sizes": (16, 16), "resume": True, "rounds": 5})
    assert error == f"error: --rounds 5: must be 4 to resume {run_dir}\n"
    assert {p.name: p.read_bytes() for p in run_dir.iterdir()} == before


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("what", ["text", "of another run"])
def test_corrupt_or_foreign_checkpoints(script, what, dataset, reference, tmp_path, capsys):
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    info = json.loads((reference[script][0] / "args.json").read_text())
    (run_dir / "args.json").write_text(json.dumps(info))
    if what == "text":
        (run_dir / "checkpoint.pt").write_text("not a checkpoint")
    else:
        torch.save({"info": info | {"git_commit": "other"}}, run_dir / "checkpoint.pt")
    before = {p.name: p.read_bytes() for p in run_dir.iterdir()}
    args = info["args"] | {"hidden_sizes": (16, 16), "resume": True, "run_dir": str(run_dir)}
    with pytest.raises(SystemExit) as stop:
        SCRIPTS[script].train(SCRIPTS[script].Args(**args))
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: --run-dir {run_dir}: must be a folder to write to and, to resume, have this run's ")
    assert err.count("\n") == 1
    assert {p.name: p.read_bytes() for p in run_dir.iterdir()} == before


# ------------------------------------------------------------------------------------------------------- errors

NAN, INF = float("nan"), float("inf")
COUNTS = ["num_threads", "dataset_size", "rounds", "steps_per_round", "inverse_updates", "eval_episodes", "batch_size"]


@pytest.mark.parametrize(
    ("script", "name", "value", "allowed"),
    [(script, name, 0, "at least 1") for script in SCRIPTS for name in COUNTS]
    + [("d3g_from_obs", x, 0, "at least 1") for x in ("offline_updates", "checkpoint_frequency", "eval_frequency")]
    + [("d3g_from_obs", "policy_frequency", 0, "at least 1"), ("bco_baseline", "policy_updates", 0, "at least 1")]
    + [("d3g_from_obs", x, -1, "from 0 to 2**32 - 1") for x in ("seed", "dataset_seed")]
    + [(script, "randomness", x, "from 0 to 1") for script in SCRIPTS for x in (-0.1, 1.1, NAN)]
    + [("d3g_from_obs", "gamma", NAN, "from 0 to 1"), ("d3g_from_obs", "beta", INF, "at least 0 and finite")]
    + [("d3g_from_obs", "tau", 0.0, "above 0 and at most 1")]
    + [(script, "learning_rate", x, "above 0 and at most 1") for script in SCRIPTS for x in (0.0, NAN)]
    + [(script, "exploration_noise", NAN, "at least 0 and finite") for script in SCRIPTS]
    + [(script, "hidden_sizes", (), "one width or more, each at least 1") for script in SCRIPTS]
    + [(script, "resume", True, "used with --run-dir") for script in SCRIPTS],
)
def test_values_out_of_range(script, name, value, allowed, capsys):
    expected = f"error: --{name.replace('_', '-')} {value}: must be {allowed}\n"
    assert refused(capsys, SCRIPTS[script], **{name: value}) == expected


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_unsuitable_tasks(script, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert "Did you mean: `Walker2d`?" in refused(capsys, script, env_id="Walker3d-v4")
    assert "must have flat observations" in refused(capsys, script, env_id="CartPole-v1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_bad_input_as_a_process(script, tmp_path):
    process = start(script, "--dataset", "nowhere.npz", cwd=tmp_path)
    out, err = finish(process, 2)
    assert out == ""
    assert err == (
        "error: --dataset nowhere.npz: must be a data set as the README says, with 4 observations: "
        "FileNotFoundError(2, 'No such file or directory')\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_help_describes_every_argument(script, capsys):
    with pytest.raises(SystemExit):
        tyro.cli(script.Args, args=["--help"])
    text = " ".join(capsys.readouterr().out.replace("\u2502", " ").split())
    for name in vars(script.Args()):
        assert f"--{name.replace('_', '-')}" in text
