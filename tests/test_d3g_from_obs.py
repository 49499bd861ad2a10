"""d3g_from_obs.py, and where they are the same bco_baseline.py: updates, data sets, runs, interruption, errors."""

import csv
import hashlib
import json
import os
import pickle
import resource
import shutil
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
from custom_envs import ReusesItsArray, Walk
from numpy_net import Net
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_d3g_continuous import modules, scaled_tanh, scaled_tanh_backward

import bco_baseline
import d3g_continuous
import d3g_from_obs
import td3_baseline

ROOT = Path(__file__).parent.parent
SCRIPTS = {"d3g_from_obs": d3g_from_obs, "bco_baseline": bco_baseline}
AGENTS = {d3g_from_obs: d3g_from_obs.D3G, bco_baseline: bco_baseline.BCO}
OBS, BATCH = 3, 7
LOW, HIGH = np.array([-1.0, -0.5]), np.array([2.0, 0.25])
NO_ACTIONS = np.zeros((BATCH, 0))
NAN_COLUMN = np.full((BATCH, 1), np.nan)
NAN, INF = float("nan"), float("inf")


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


# ------------------------------------------------------------------------------------------------------- updates


def expected_update(nets, batch, update, gamma, tau, beta, learning_rate, policy_frequency, **_):
    """The offline phase on `nets`, gradients by hand; returns the target y and the losses."""
    s, _, r, s2, d = batch
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
    agent = d3g_from_obs.D3G(OBS, LOW, HIGH, hidden_sizes=(5, 4), **how)
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
        r = rng.normal(size=(BATCH, 1))
        s2 = s + 0.3 * rng.normal(size=s.shape)
        batch = s, NO_ACTIONS, r, s2, np.eye(BATCH)[:, 1:2]
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
    """I(s, s') fits a; the rewards and the terminations have no part in it."""
    torch.manual_seed(3)
    agent = AGENTS[script](OBS, LOW, HIGH, hidden_sizes=(5, 4), learning_rate=1e-3)
    nets = {name: Net(module) for name, module in modules(agent).items()}
    rng = np.random.default_rng(6)
    for _ in range(5):
        s, s2 = rng.normal(size=(2, BATCH, OBS))
        a = rng.uniform(LOW, HIGH, (BATCH, 2))
        agent.update_inverse_dynamics(tuple(torch.tensor(x) for x in (s, a, NAN_COLUMN, s2, NAN_COLUMN)))
        z = nets["inverse_dynamics"].forward(s, s2)
        error = scaled_tanh(z) - a
        assert agent.losses["inverse_dynamics_loss"].item() == pytest.approx((error**2).mean(), rel=1e-10)
        grad = scaled_tanh_backward(z, 2 * error / error.size)
        nets["inverse_dynamics"].adam(nets["inverse_dynamics"].backward(grad)[0], 1e-3)
        assert_nets_equal(agent, nets)


def test_cloning_update_equals_hand_derived(float64):
    """pi(s) fits I(s, s'); I, the rewards and the terminations have no part in it."""
    torch.manual_seed(4)
    agent = bco_baseline.BCO(OBS, LOW, HIGH, hidden_sizes=(5, 4), learning_rate=1e-3)
    nets = {name: Net(module) for name, module in modules(agent).items()}
    rng = np.random.default_rng(6)
    for _ in range(5):
        s, s2 = rng.normal(size=(2, BATCH, OBS))
        batch = s, NO_ACTIONS, NAN_COLUMN, s2, NAN_COLUMN
        agent.update_policy(tuple(torch.tensor(x) for x in batch))
        z = nets["policy"].forward(s)
        error = scaled_tanh(z) - scaled_tanh(nets["inverse_dynamics"].forward(s, s2))
        assert agent.losses["policy_loss"].item() == pytest.approx((error**2).mean(), rel=1e-10)
        grads, _ = nets["policy"].backward(scaled_tanh_backward(z, 2 * error / error.size))
        nets["policy"].adam(grads, 1e-3)
        assert_nets_equal(agent, nets)


def test_acting_and_imagining(float64):
    torch.manual_seed(5)
    agent = d3g_from_obs.D3G(OBS, LOW, HIGH, hidden_sizes=(5, 4))
    with torch.no_grad():
        for parameter in agent.targets:
            parameter += 0.3 * torch.randn_like(parameter)
    nets = {name: Net(module) for name, module in modules(agent).items()}
    s = np.array([[0.3, -1.2, 0.8], [0.0, 0.5, -0.1]])
    p = s + nets["proposal"].forward(s)
    np.testing.assert_allclose(agent.act(s[0]), scaled_tanh(nets["inverse_dynamics"].forward(s, p))[0])
    np.testing.assert_array_equal(agent.act(s[0], np.array([9.0, -9.0])), [HIGH[0], LOW[1]])
    plan = agent.imagine(torch.tensor(s), steps=3)
    assert plan.shape == (3, 2, OBS)
    for imagined in plan:
        q = nets["critic_target.0"].forward(s, s + nets["proposal"].forward(s))
        s = s + nets["forward_dynamics"].forward(s, q)
        np.testing.assert_allclose(imagined, s)

    clone = bco_baseline.BCO(OBS, LOW, HIGH, hidden_sizes=(5, 4))
    expected = scaled_tanh(Net(clone.policy).forward(s))[0]
    np.testing.assert_allclose(clone.act(s[0]), expected)
    np.testing.assert_array_equal(clone.act(s[0], np.array([9.0, -9.0])), [HIGH[0], LOW[1]])


def test_steps_inside_by_hand():
    """The second component may leave its range by 1% of the width; the third is constant in the data: no limit."""
    low = np.array([-1.0, 0.0, 5.0])
    high = np.array([1.0, 10.0, 5.0])
    plan = np.array([[0.0, 5.0, 5.0]] * 6)[:, None].repeat(4, axis=1)  # four plans of six steps, all inside
    plan[2:4, 1, 1] = [10.09, -0.09]  # within the margin
    plan[:, 1, 2] = range(6)
    plan[3, 2, 1] = 10.11  # outside for one step
    plan[:, 3] = [0, 5, -100]
    plan[0, 3, 0] = -1.03
    assert d3g_from_obs.steps_inside(plan, low, high).tolist() == [6, 6, 3, 0]


# --------------------------------------------------------------------------------------------------------- helpers

WALK = {"env_id": "short/Walk-v0", "hidden_sizes": (8, 8), "batch_size": 8, "eval_episodes": 2}
WALK |= {"rounds": 3, "steps_per_round": 30, "inverse_updates": 5}
WALK_PARTICULAR = {
    d3g_from_obs: {"offline_updates": 20, "eval_frequency": 10, "checkpoint_frequency": 10, "dataset_size": 100},
    bco_baseline: {"policy_updates": 5},
}


def walk(script, **changes):
    """Train for a moment on Walk in this process; return the run's folder."""
    usual = WALK | WALK_PARTICULAR[script]
    if changes.get("dataset") is not None:
        usual.pop("dataset_size", None)  # that of data to collect
    return script.train(script.Args(**usual | changes))


def collect(file, **changes):
    """Collect a data set in this process, of a random policy on Walk unless `changes` say otherwise."""
    how = {"env_id": "short/Walk-v0", "dataset_size": 100, "collect": str(file)}
    return d3g_from_obs.train(d3g_from_obs.Args(**how | changes))


def stopped(capsys, status, function, *args, **kwargs):
    """Standard output and the one line on standard error with which `function` exits."""
    with pytest.raises(SystemExit) as stop:
        function(*args, **kwargs)
    assert stop.value.code == status
    out, err = capsys.readouterr()
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return out, err


def refused(capsys, script=d3g_from_obs, **args):
    """The one line with which these arguments are refused before anything is done, or else a moment's training."""
    out, err = stopped(capsys, 2, walk, script, **args)
    assert out == ""
    return err


def contents(folder):
    """Everything in a folder and below: the bytes of the files."""
    return {p.relative_to(folder): p.read_bytes() if p.is_file() else None for p in Path(folder).rglob("*")}


def files(folder):
    """The files in a folder and below."""
    return {str(path) for path, held in contents(folder).items() if held is not None}


def arrays(file):
    with np.load(file, allow_pickle=False) as data:
        return dict(data)


def digest(file):
    """The SHA-256 of a data set's transitions: of each, s, r, s' and terminated as float32."""
    data = arrays(file)
    names = ("observations", "rewards", "next_observations", "terminations")
    rows = [np.concatenate([np.atleast_1d(data[name][k]) for name in names]) for k in range(len(data["rewards"]))]
    return hashlib.sha256(np.array(rows, dtype="<f4").tobytes()).hexdigest()


def assert_same_arrays(file, other):
    ours, theirs = arrays(file), arrays(other)
    assert ours.keys() == theirs.keys()
    for name, x in ours.items():
        np.testing.assert_array_equal(x, theirs[name], strict=True)


class Payload:
    """What a malicious file would hold: unpickling it as code would create a file."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (open, (str(self.file), "w"))


class Late(Walk):
    """Walk, in which one step, or one reset, out of all since `begin` gives a value that is not finite."""

    @staticmethod
    def begin(what, at, value):
        Late.what, Late.at, Late.value = what, at, value
        Late.counts = {"reset": 0, "step": 0}

    def spoils(self, where):
        self.counts[where] += 1
        return self.counts[where] == self.at and where == ("reset" if self.what == "reset" else "step")

    def reset(self, seed=None, options=None):
        observation, info = super().reset(seed=seed)
        if self.spoils("reset"):
            observation[1] = self.value
        return observation, info

    def step(self, action):
        observation, reward, *rest = super().step(action)
        if self.spoils("step"):
            if self.what == "reward":
                reward = self.value
            else:
                observation[1] = self.value
        return observation, reward, *rest


gym.register("Late-v0", Late, max_episode_steps=20)
for env in (ReusesItsArray, Walk):  # short, since a collection ends with 1,000 episodes
    gym.register(f"short/{env.__name__}-v0", env, max_episode_steps=5)


# ----------------------------------------------------------------------------------------------- collecting data


@pytest.fixture(scope="module")
def demonstrator(tmp_path_factory):
    """The model of a finished TD3 run on Walk, whose observations tell its actions: s' = s + 0.1 a."""
    run_dir = tmp_path_factory.mktemp("demonstrator") / "td3"
    how = {"total_timesteps": 300, "learning_starts": 100, "hidden_sizes": (8, 8), "batch_size": 16}
    args = td3_baseline.Args(env_id="short/Walk-v0", eval_frequency=300, run_dir=str(run_dir), **how)
    return td3_baseline.train(args) / "model.pt"


def test_a_random_data_set(tmp_path, capsys):
    file = tmp_path / "data" / "random.npz"
    how = {"env_id": "InvertedPendulum-v4", "dataset_size": 400}
    assert collect(file, **how) == file
    assert capsys.readouterr().out == f"collecting {file}\n"
    assert files(tmp_path) == {"data/random.npz", "data/random.json"}
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
    assert about.pop("mean_return") == pytest.approx(400 / episodes)
    assert 7 < about.pop("score") < 14, "the highest of 100 means over 10 episodes"
    demonstrator = {"demonstrator": None, "demonstrator_sha256": None}
    assert about == how | demonstrator | {"randomness": 1.0, "dataset_seed": 0}

    collect(tmp_path / "again.npz", **how)
    assert (tmp_path / "again.npz").read_bytes() == file.read_bytes()
    assert (tmp_path / "again.json").read_bytes() == file.with_suffix(".json").read_bytes()
    collect(tmp_path / "other.npz", **how, dataset_seed=1)
    assert not np.array_equal(arrays(tmp_path / "other.npz")["observations"], s)


@pytest.mark.parametrize("p", [0.0, 0.25])
def test_a_demonstrator_acts_randomly_with_probability_p(p, demonstrator, tmp_path):
    file = collect(tmp_path / "data.npz", randomness=p, demonstrator=str(demonstrator), dataset_size=4000)
    about = json.loads(file.with_suffix(".json").read_text())
    assert about["demonstrator_sha256"] == hashlib.sha256(demonstrator.read_bytes()).hexdigest()
    assert (about["demonstrator"], about["randomness"]) == (str(demonstrator), p)
    data = arrays(file)
    s, s_next = data["observations"].astype(np.float64), data["next_observations"]
    model = torch.load(demonstrator, weights_only=True)
    low, high = (np.array(model[x]) for x in ("action_low", "action_high"))
    agent = td3_baseline.make_agent(td3_baseline.Args(**model["args"]), 2, low, high)
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


def test_a_demonstrators_actions_do_not_depend_on_who_multiplies(tmp_path):
    """They equal those of NumPy's float64 matrix products to the last bit of float32; in float32 they would not."""
    env = d3g_from_obs.make_env("InvertedPendulum-v4")
    torch.manual_seed(1)
    actor = d3g_from_obs.Actor(4, env.action_space.low, env.action_space.high, (256, 256))
    args = {"env_id": "InvertedPendulum-v4", "hidden_sizes": (256, 256)}
    torch.save({"args": args, "actor": actor.state_dict()}, tmp_path / "model.pt")
    how = d3g_from_obs.Args(env_id="InvertedPendulum-v4", randomness=0, demonstrator=str(tmp_path / "model.pt"))
    policy = d3g_from_obs.NoisyDemonstrator(how, env, np.random.default_rng(0))
    s = np.random.default_rng(0).normal(size=(1000, 4))
    actions = np.stack([policy.act(row) for row in s])
    assert actions.dtype == np.float32
    expected = 3 * np.tanh(Net(actor.double()).forward(s))
    np.testing.assert_array_equal(actions, expected.astype(np.float32))
    in_float32 = actor.float()(torch.as_tensor(s, dtype=torch.float32)).detach().numpy()
    assert (in_float32 != actions).mean() > 0.5


def test_the_published_expert_makes_the_same_data_on_every_machine(tmp_path, capsys):
    """Also on one without AVX-512. For table1.sh its run is complete."""
    expert = shutil.copytree(ROOT / "benchmark/results/experts/InvertedPendulum-v4", tmp_path / "expert")
    how = {"env_id": "InvertedPendulum-v4", "total_timesteps": 100_000, "run_dir": str(expert), "resume": True}
    td3_baseline.train(td3_baseline.Args(**how))
    assert capsys.readouterr().out.startswith(f"{expert} is complete\n")

    how = {"env_id": "InvertedPendulum-v4", "demonstrator": str(expert / "model.pt"), "dataset_size": 2000}
    file = collect(tmp_path / "data.npz", randomness=0.5, **how)
    assert hashlib.sha256(arrays(file)["observations"].tobytes()).hexdigest().startswith("cd6dcfaca5a1")
    about = json.loads(file.with_suffix(".json").read_text())
    assert (about["mean_return"], about["score"]) == (2000 / 139, 29.7)


def test_time_limits_are_no_terminations(tmp_path):
    """Reacher's episodes are cut, here after 10 steps; the data shows it only by not continuing."""
    gym.register("short/Reacher-v4", gym.spec("Reacher-v4").entry_point, max_episode_steps=10)
    file = collect(tmp_path / "data.npz", env_id="short/Reacher-v4", dataset_size=40)
    data = arrays(file)
    assert not data["terminations"].any()
    breaks = np.flatnonzero((data["observations"][1:] != data["next_observations"][:-1]).any(1)) + 1
    np.testing.assert_array_equal(breaks, [10, 20, 30])
    about = json.loads(file.with_suffix(".json").read_text())
    assert about["mean_return"] == pytest.approx(data["rewards"].sum() / 4, rel=1e-5)
    assert -9.5 < about["score"] < -7.5


def test_tasks_that_reuse_their_array(tmp_path):
    file = collect(tmp_path / "data.npz", env_id="short/ReusesItsArray-v0")
    assert_same_arrays(file, collect(tmp_path / "walk.npz"))


@pytest.fixture(scope="module")
def collected(demonstrator, tmp_path_factory):
    """A data set and the arguments that collected it."""
    file = tmp_path_factory.mktemp("collected") / "half.npz"
    how = {"demonstrator": str(demonstrator), "randomness": 0.5, "dataset_seed": 3}
    return collect(file, **how), how


def test_the_same_collection_again_changes_nothing(collected, demonstrator, tmp_path, capsys):
    """Also with the same demonstrator in another place."""
    file, how = collected
    moved = shutil.copy(demonstrator, tmp_path / "moved.pt")
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in file.parent.iterdir()}
    for given in (demonstrator, moved):
        assert collect(file, **how | {"demonstrator": str(given)}) == file
        assert capsys.readouterr().out == f"{file} is there\n"
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in file.parent.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "value", "was"),
    [
        ("env_id", "InvertedPendulum-v4", "short/Walk-v0"),
        ("randomness", 0.25, "0.5"),
        ("dataset_size", 99, "100"),
        ("dataset_seed", 4, "3"),
        ("demonstrator", "other.pt", ""),
    ],
)
def test_another_collection_into_the_same_file(
    name, value, was, collected, demonstrator, tmp_path, monkeypatch, capsys
):
    file, how = collected
    monkeypatch.chdir(tmp_path)
    if name == "demonstrator":
        model = torch.load(demonstrator, weights_only=True)
        model["actor"]["layers.0.bias"] += 1
        torch.save(model, "other.pt")
        was = hashlib.sha256(demonstrator.read_bytes()).hexdigest()
    before = contents(file.parent)
    out, err = stopped(capsys, 2, collect, file, **how | {name: value})
    assert out == ""
    assert err.startswith(f"error: --{name.replace('_', '-')} {value}: must be ")
    assert f" {was}, with which {file} was collected" in err
    assert contents(file.parent) == before


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", '{"env_id": "short/Walk-v0"}'])
def test_collecting_where_a_file_has_no_json_that_describes_it(text, collected, tmp_path, capsys):
    file = Path(shutil.copy(collected[0], tmp_path))
    if text is not None:
        file.with_suffix(".json").write_text(text)
    before = contents(tmp_path)
    out, err = stopped(capsys, 2, collect, file, **collected[1])
    assert out == ""
    assert err.startswith(f"error: {file}: must have the JSON file beside it that says how it was collected: ")
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({"collect": "a.npz", "dataset": "b.npz"}, "--collect a.npz: must be used without --dataset"),
        ({"collect": "a.npz", "seed": 2}, "--seed 2: must be used without --collect, which has --dataset-seed"),
        ({"collect": "a.npz", "run_dir": "a"}, "--run-dir a: must be used without --collect"),
        ({"demonstrator": "model.pt"}, "--demonstrator model.pt: must be used with --collect"),
        (
            {"demonstrator": "model.pt", "collect": "a.npz"},
            "--demonstrator model.pt: must be used with --randomness below 1",
        ),
        ({"randomness": 0.5, "collect": "a.npz"}, "--demonstrator None: must be given for --randomness below 1"),
        ({"randomness": 0.5}, "--randomness 0.5: must be used with --collect"),
        ({"randomness": 0.5, "dataset": "b.npz"}, "--randomness 0.5: must be used with --collect"),
        ({"dataset": "b.npz", "dataset_size": 100}, "--dataset-size 100: must be used without --dataset"),
        ({"dataset": "b.npz", "dataset_seed": 1}, "--dataset-seed 1: must be used without --dataset"),
        ({"collect": "data"}, "--collect data: must be a file whose name ends in .npz"),
        ({"collect": "data.npy"}, "--collect data.npy: must be a file whose name ends in .npz"),
        ({"collect": "data.npz/"}, "--collect data.npz/: must be a file whose name ends in .npz"),
        ({"collect": "data.npz", "dataset_size": 0}, "--dataset-size 0: must be at least 1"),
    ],
)
def test_arguments_of_a_collection(args, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert refused(capsys, env_id="none", **args) == f"error: {says}\n"
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    "what",
    ["missing", "pickle", "of another task", "of another size", "a D3G model", "NaN weights", "NaN bounds"],
)
def test_bad_demonstrators(what, demonstrator, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "model.pt"
    env_id = "short/Walk-v0"
    model = torch.load(demonstrator, weights_only=True)
    if what == "pickle":
        file.write_bytes(pickle.dumps(Payload(tmp_path / "created")))
    elif what == "of another task":
        env_id, file = "InvertedPendulum-v4", demonstrator
    elif what == "of another size":
        model["args"]["hidden_sizes"] = [8, 9]
        torch.save(model, file)
    elif what == "a D3G model":
        torch.save({"args": {"env_id": env_id, "hidden_sizes": [8]}, "critic": {}}, file)
    elif what.startswith("NaN"):
        model["actor"]["layers.1.bias" if what == "NaN weights" else "action_scale"][1] = NAN
        torch.save(model, file)
    before = contents(tmp_path)
    how = {"demonstrator": str(file), "randomness": 0.5, "collect": "data/data.npz", "dataset_size": 9}
    error = refused(capsys, env_id=env_id, **how)
    assert error.startswith(f"error: --demonstrator {file}: must be model.pt of a TD3 run on {env_id}: ")
    assert contents(tmp_path) == before


# ---------------------------------------------------------------------------------------- collections that fail


@pytest.fixture
def mount():
    """A function that mounts a small file system in memory over a folder, where this process may do so."""
    mounted = []

    def mount_over(folder, options):
        folder.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
            pytest.skip("mounts no file system here")
        mounted.append(folder.resolve())

    yield mount_over
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def file_size_limit():
    """A function that limits how large this process may make a file, as a full disk would; without a size, no more.

    The limit is to be lifted before the test ends: pytest's own output may be a file.
    """
    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size=before):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

    yield limit
    limit()


@pytest.mark.parametrize("default", [False, True], ids=["--collect", "default"])
@pytest.mark.parametrize("how", ["a file in the way", "read-only", "full", "no large files"])
def test_a_collection_sees_at_once_that_it_cannot_write(
    how, default, mount, file_size_limit, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    folder = Path("datasets")
    if how == "a file in the way":
        folder.write_text("in the way")
    elif how == "read-only":
        mount(folder, "ro")
    elif how == "full":
        mount(folder, "size=64k")
    else:
        folder.mkdir()
        file_size_limit(50_000)
    before = contents(tmp_path)
    Walk.actions.clear()
    file = folder / "short_Walk-v0__random.npz"
    args = {"dataset_size": 4000} | ({} if default else {"collect": str(file)})
    try:
        error = refused(capsys, **args)
    finally:
        file_size_limit()
    assert error.startswith(f"error: {file}: must be a file that can be written, of 84000 bytes: ")
    assert Walk.actions == [], "it collected first"
    assert contents(tmp_path) == before


@pytest.mark.parametrize("size", [10**12, 10**18, 10**30])
@pytest.mark.parametrize("default", [False, True], ids=["--collect", "default"])
def test_more_data_than_any_disk_holds(size, default, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    args = {"dataset_size": size} | ({} if default else {"collect": "data.npz"})
    error = refused(capsys, **args)
    assert str(size) in error or f"of {21 * size} bytes" in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["full", "no file of 500 bytes", "no file of 100 bytes"])
def test_a_disk_that_becomes_full_while_collecting(how, mount, file_size_limit, tmp_path, monkeypatch, capsys):
    """Files of 500 bytes are enough for the JSON beside the data, files of 100 bytes are not."""
    folder = tmp_path / "datasets"
    if how == "full":
        mount(folder, "size=64k")
    evaluate = d3g_from_obs.evaluate

    def evaluate_on_a_full_disk(*args):
        if how != "full":
            file_size_limit(int(how.split()[3]))
        elif not (folder / "filler").exists():
            with pytest.raises(OSError, match="No space left"):
                (folder / "filler").write_bytes(bytes(100_000))
        return evaluate(*args)

    monkeypatch.setattr(d3g_from_obs, "evaluate", evaluate_on_a_full_disk)
    try:
        out, err = stopped(capsys, 1, collect, folder / "data.npz")
    finally:
        file_size_limit()
    assert out == f"collecting {folder / 'data.npz'}\n"
    assert "cannot be written: [Errno " in err
    assert files(folder) - {"filler"} == set()


@pytest.mark.parametrize("default", [False, True], ids=["--collect", "default"])
@pytest.mark.parametrize(
    ("what", "at", "value"),
    [
        ("reward", 30, NAN),
        ("reward", 30, INF),
        ("observation", 30, NAN),
        ("observation", 30, -INF),
        ("reset", 2, NAN),
        ("reset", 2, INF),
    ],
)
def test_a_collection_stops_at_what_is_not_finite(what, at, value, default, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Late.begin(what, at, value)
    args = {} if default else {"collect": "datasets/Late-v0__random.npz"}
    out, err = stopped(capsys, 1, walk, d3g_from_obs, env_id="Late-v0", **args)
    assert out == "collecting datasets/Late-v0__random.npz\n"
    name = "reward" if what == "reward" else "observation"
    step = 20 if what == "reset" else 29
    assert err == f"error: {name} is NaN or infinite at step {step}; an earlier checkpoint, if any, stays\n"
    assert Late.counts["step"] == (20 if what == "reset" else 30), "it went on"
    assert list(tmp_path.iterdir()) == [], "it left a folder"


@pytest.mark.parametrize(
    ("what", "at", "value"),
    [
        ("reward", 120, NAN),
        ("reward", 350, NAN),
        ("reward", 350, INF),
        ("reward", 30, 1e39),
        ("observation", 30, -1e39),
    ],
)
def test_a_collection_does_not_keep_what_is_not_finite(what, at, value, tmp_path, capsys):
    """In an evaluation of its policy, after 100 steps of collecting; or beyond the range of float32."""
    Late.begin(what, at, value)
    out, err = stopped(capsys, 1, collect, tmp_path / "data.npz", env_id="Late-v0")
    assert "NaN or infinite" in err
    assert files(tmp_path) == set()


# ------------------------------------------------------------------------------------------ learning from a file


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


def test_mean_return_by_hand(tmp_path, capsys):
    """Episodes end where the next row does not continue, after 2 rows, and where one terminates, after 3."""
    file = write(tmp_path / "data.npz", actions=np.zeros((5, 1)))
    info = {}
    data = d3g_from_obs.load_dataset(file, "short/Walk-v0", 2, info)
    assert info == {"data": {"sha256": digest(file), "mean_return": pytest.approx((3 + 3 + 5) / 3), "about": None}}
    assert capsys.readouterr().out == f"data: {file}, 5 transitions, mean return 3.67\n"
    assert data.rows.dtype == np.float32
    np.testing.assert_array_equal(data.rows[2], [106, 107, 3, 108, 109, 1])
    s, a, r, s_next, terminated = data.sample(50, np.random.default_rng(0), torch.device("cpu"))
    assert [tuple(x.shape) for x in (s, a, r, s_next, terminated)] == [(50, 2), (50, 0), (50, 1), (50, 2), (50, 1)]
    assert {tuple(row) for row in torch.cat((s, r, s_next, terminated), 1).tolist()} == set(map(tuple, data.rows))


WRONG_TYPES = [
    np.array(["1"] * 5),
    np.array([b"1"] * 5),
    np.full(5, 1j),
    np.array(["2020-01-01"] * 5, "datetime64[D]"),
    np.ones(5, "timedelta64[s]"),
    np.zeros(5, [("reward", np.float32)]),
    np.zeros(5, "V4"),
]
TOO_LARGE = "must be finite numbers of 32 bits, has NaN, infinite or larger ones"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"rewards": None}, "rewards is not a file in the archive"),
        ({"terminations": None}, "terminations is not a file in the archive"),
        ({"observations": np.zeros((5, 3))}, "observations must have the shape (5, 2), one row or more, has (5, 3)"),
        ({"next_observations": np.zeros(5)}, "next_observations must have the shape (5, 2), one row or more, has (5,)"),
        ({"rewards": np.zeros((5, 1))}, "rewards must have the shape (5,), one row or more, has (5, 1)"),
        ({"rewards": np.zeros(4)}, "observations must have the shape (4, 2), one row or more, has (5, 2)"),
        ({"rewards": np.zeros(())}, "TypeError"),
        ({"terminations": np.zeros((5, 1))}, "terminations must have the shape (5,), one row or more, has (5, 1)"),
        (
            {name: np.zeros((0, 2)) for name in ("observations", "next_observations")}
            | {name: np.zeros(0) for name in ("rewards", "terminations")},
            "observations must have the shape (0, 2), one row or more, has (0, 2)",
        ),
        ({"rewards": np.full(5, np.nan)}, f"rewards {TOO_LARGE}"),
        ({"next_observations": np.full((5, 2), np.inf)}, f"next_observations {TOO_LARGE}"),
        ({"observations": np.full((5, 2), -1e39)}, f"observations {TOO_LARGE}"),
        ({"terminations": np.full(5, 0.5)}, "terminations must be 0 or 1"),
        ({"terminations": np.full(5, -1)}, "terminations must be 0 or 1"),
        ({"terminations": np.full(5, np.nan)}, f"terminations {TOO_LARGE}"),
        ({"rewards": np.array([{}] * 5)}, "Object arrays cannot be loaded when allow_pickle=False"),
    ]
    + [({"rewards": x}, f"rewards must be numbers, has the type {x.dtype}") for x in WRONG_TYPES]
    + [({"terminations": np.array(["0"] * 5)}, "terminations must be numbers, has the type <U1")],
)
def test_bad_data_sets(changed, says, tmp_path, capsys):
    file = write(tmp_path / "data.npz", **changed)
    info = {}
    out, err = stopped(capsys, 2, d3g_from_obs.load_dataset, file, "short/Walk-v0", 2, info)
    must = "must be a data set of short/Walk-v0, with observations of 2 components ("
    assert err.startswith(f"error: --dataset {file}: {must}")
    assert f"python d3g_from_obs.py --env-id short/Walk-v0 --collect {file} makes one): " in err
    assert says in err
    assert (out, info) == ("", {})


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
@pytest.mark.parametrize("what", ["missing", "text", "pickle", "other size", "npy", "folder", "truncated"])
def test_files_that_are_no_data_sets(script, what, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "data.npz"
    if what == "text":
        file.write_text("observations")
    elif what == "pickle":
        file.write_bytes(pickle.dumps(Payload(tmp_path / "created")))
    elif what == "other size":
        write(file)
    elif what == "npy":
        file = tmp_path / "data.npy"
        np.save(file, np.zeros((5, 10)))
    elif what == "folder":
        file.mkdir()
    elif what == "truncated":
        write(file)
        file.write_bytes(file.read_bytes()[:-100])
    before = contents(tmp_path)
    error = refused(capsys, script, env_id="InvertedPendulum-v4", dataset=str(file), run_dir="run")
    must = "must be a data set of InvertedPendulum-v4, with observations of 4 components ("
    assert error.startswith(f"error: --dataset {file}: {must}")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_data_of_another_task(script, tmp_path, capsys):
    """Observations of as many components do not make it the same task; without the JSON file nobody knows."""
    file = write(tmp_path / "data.npz")
    file.with_suffix(".json").write_text('{"env_id": "Other-v0"}')
    before = contents(tmp_path)
    args = {"dataset": str(file), "run_dir": str(tmp_path / "run")}
    error = refused(capsys, script, **args)
    assert error.startswith(f"error: --dataset {file}: must be a data set of short/Walk-v0, with observations of 2 ")
    assert error.endswith("ValueError('it was collected on Other-v0')\n")
    assert contents(tmp_path) == before
    file.with_suffix(".json").unlink()
    walk(script, **args)
    assert (tmp_path / "run" / "model.pt").exists()


@pytest.mark.parametrize("what", ["text", "no text", "NaN", "folder"])
def test_a_broken_json_beside_the_data(what, tmp_path, capsys):
    """NaN is no JSON, and it differs from itself: a run with it in its args.json could not be resumed."""
    file = write(tmp_path / "data.npz")
    beside = file.with_suffix(".json")
    if what == "folder":
        beside.mkdir()
    else:
        beside.write_bytes({"text": b"not JSON", "no text": b"\xff", "NaN": b'{"score": NaN}'}[what])
    before = contents(tmp_path)
    error = refused(capsys, dataset=str(file), run_dir=str(tmp_path / "run"))
    assert str(file) in error or str(beside) in error
    assert contents(tmp_path) == before


def test_default_data_are_collected_once_and_found_by_both_scripts(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = Path("datasets", "short_Walk-v0__random.npz")
    error = refused(capsys, bco_baseline)
    must = "must be a data set of short/Walk-v0, with observations of 2 components ("
    assert error.startswith(f"error: --dataset {file}: {must}")
    assert f"python d3g_from_obs.py --env-id short/Walk-v0 --collect {file} makes one): FileNotFoundError" in error
    assert contents(tmp_path) == {}

    first = walk(d3g_from_obs)
    assert capsys.readouterr().out.startswith(f"collecting {file}\ndata: {file}, 100 transitions, mean return ")
    assert files("datasets") == {file.name, file.with_suffix(".json").name}
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in Path("datasets").iterdir()}
    second = walk(d3g_from_obs, run_dir="second")
    assert capsys.readouterr().out.startswith(f"{file} is there\ndata: {file}, 100 transitions, mean return ")
    same(first, second)
    walk(bco_baseline, run_dir="bco")
    assert capsys.readouterr().out.startswith(f"data: {file}, 100 transitions, mean return ")
    data = [json.loads(Path(run_dir, "args.json").read_text())["data"] for run_dir in (first, second, "bco")]
    about = json.loads(file.with_suffix(".json").read_text())
    assert data == [{"sha256": digest(file), "mean_return": about["mean_return"], "about": about}] * 3
    assert about["env_id"] == "short/Walk-v0"

    error = refused(capsys, run_dir="third", dataset_size=99)
    assert error == f"error: --dataset-size 99: must be 100, with which {file} was collected\n"
    assert not Path("third").exists()
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in Path("datasets").iterdir()} == before
    assert_same_arrays(file, collect("other.npz"))


# ------------------------------------------------------------------------------------- runs that this process makes


def date_events_back(run_dir):
    """TensorBoard reads files in the order of their names, which hold the second, and then a count with 10 before 9."""
    (file,) = run_dir.glob("events.out.tfevents.*")
    file.rename(file.with_name("events.out.tfevents.0.first"))


@pytest.fixture(params=SCRIPTS)
def interrupted(request, tmp_path, monkeypatch, capsys):
    """A run as a kill leaves it, at the start of its last round: (script, folder, data, arguments)."""
    script = SCRIPTS[request.param]
    data = write(tmp_path / "data.npz")
    args = {"run_dir": str(tmp_path / "run"), "dataset": str(data)}
    save = script.save

    def killed(contents, file):
        save(contents, file)
        if file.name == "checkpoint.pt" and contents["progress"]["step"] == 60:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(script, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            walk(script, **args)
    capsys.readouterr()
    date_events_back(tmp_path / "run")
    return script, tmp_path / "run", data, args | {"resume": True}


def test_other_data_on_resume(interrupted, capsys):
    script, run_dir, data, args = interrupted
    begun_with = digest(data)
    write(data, rewards=np.array([1.0, 2, 3, 4, 2]))
    before = contents(run_dir)
    out, err = stopped(capsys, 2, walk, script, **args)
    must = f"must be the data that the run began with, whose transitions have the SHA-256 {begun_with}"
    assert (out, err) == ("", f"error: --dataset {data}: {must}, not {digest(data)}\n")
    data.unlink()
    assert stopped(capsys, 2, walk, script, **args)[1].startswith(
        f"error: --dataset {data}: must be a data set of short/Walk-v0, "
    )
    assert contents(run_dir) == before


def test_the_same_data_written_again_on_resume(interrupted, tmp_path):
    script, run_dir, data, args = interrupted
    before = json.loads((run_dir / "args.json").read_text())
    content = arrays(data)
    data.unlink()
    np.savez_compressed(data, **dict(reversed(content.items())))  # the same transitions in another file
    data.with_suffix(".json").write_text('{"score": 1}')  # what it says is not what the run depends on
    same(walk(script, **args), walk(script, dataset=str(data), run_dir=str(tmp_path / "whole")))
    assert json.loads((run_dir / "args.json").read_text()) == before
    data.unlink()
    assert walk(script, **args) == run_dir, "a complete run needs no data"


def test_default_data_that_are_gone_on_resume(tmp_path, monkeypatch, capsys):
    """They are collected again, and are the same."""
    monkeypatch.chdir(tmp_path)
    steps_inside, calls = d3g_from_obs.steps_inside, []

    def killed_the_second_time(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return steps_inside(*args)

    with monkeypatch.context() as patch:
        patch.setattr(d3g_from_obs, "steps_inside", killed_the_second_time)
        with pytest.raises(KeyboardInterrupt):
            walk(d3g_from_obs, run_dir="run")
    assert Path("run", "checkpoint.pt").exists()
    date_events_back(Path("run"))
    shutil.rmtree("datasets")
    same(walk(d3g_from_obs, run_dir="run", resume=True), walk(d3g_from_obs))


def test_evaluations_csv_is_whole_though_someone_deletes_it(interrupted, tmp_path, monkeypatch):
    """Before a resume, and in the last round."""
    script, run_dir, data, args = interrupted
    (run_dir / "evaluations.csv").unlink()
    whole = walk(script, dataset=str(data), run_dir=str(tmp_path / "whole"))
    agent = AGENTS[script]
    update = agent.update_inverse_dynamics
    with monkeypatch.context() as patch:
        seen = []

        def delete_first(self, batch):
            seen.append(len(rows(run_dir)) if not seen else None)
            (run_dir / "evaluations.csv").unlink(missing_ok=True)
            update(self, batch)

        patch.setattr(agent, "update_inverse_dynamics", delete_first)
        walk(script, **args)
    assert seen == [1 + 3, None, None, None, None], "it resumed in the last round"
    same(run_dir, whole)


@pytest.mark.parametrize("what", ["text", "of another run", "without a key", "with a replay of one row"])
def test_corrupt_or_foreign_checkpoints(what, interrupted, capsys):
    script, run_dir, data, args = interrupted
    file = run_dir / "checkpoint.pt"
    checkpoint = torch.load(file, weights_only=True)
    if what == "text":
        file.write_text("not a checkpoint")
    else:
        if what == "of another run":
            checkpoint["info"]["git_commit"] = "other"
        elif what == "without a key":
            del checkpoint["numpy_rng"]
        else:
            checkpoint["replay"] = checkpoint["replay"][:1]
        torch.save(checkpoint, file)
    before = contents(run_dir)
    out, err = stopped(capsys, 2, walk, script, **args)
    assert out == f"data: {data}, 5 transitions, mean return 3.67\n"
    assert err.startswith(f"error: --resume True: {file} must be this run's checkpoint: ")
    assert contents(run_dir) == before


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
@pytest.mark.parametrize(
    ("what", "where", "name", "step"),
    [
        ("reward", "evaluation", "the return of an evaluation", 0),
        ("reward", "round", "reward", 47),
        ("observation", "round", "observation", 47),
        ("reset", "round", "observation", 20),
    ],
)
@pytest.mark.parametrize("value", [NAN, -INF])
def test_acting_stops_at_what_is_not_finite(value, what, where, name, step, script, tmp_path, capsys):
    """Each of two evaluations has two episodes of 20 steps; a round has 30 steps, so that step 47 is in the second.

    The error has the step as TensorBoard counts it, in which offline updates come first.
    """
    imagined = 2 if script is d3g_from_obs else 0  # plans start where the evaluations do
    at = imagined + 2 + 2 if what == "reset" else 33 if where == "evaluation" else 2 * 40 + 47
    Late.begin(what, at, value)
    data = write(tmp_path / "data.npz")
    args = {"env_id": "Late-v0", "dataset": str(data), "run_dir": str(tmp_path / "run")}
    out, err = stopped(capsys, 1, walk, script, **args)
    step += WALK_PARTICULAR[script].get("offline_updates", 0)
    assert err == f"error: {name} is NaN or infinite at step {step}; an earlier checkpoint, if any, stays\n"
    assert Late.counts["reset" if what == "reset" else "step"] in (at, 40), "it went on"
    written = files(tmp_path / "run")
    assert {name for name in written if "events" not in name} - {"checkpoint.pt"} == {"args.json", "evaluations.csv"}
    assert ("checkpoint.pt" in written) == (where == "round" or script is d3g_from_obs)


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_run_in_double_precision(script, float64, tmp_path):
    """As with torch's default dtype, which whoever copies a script may set."""
    run_dir = walk(script, dataset=str(write(tmp_path / "data.npz")), run_dir=str(tmp_path / "run"))
    model = torch.load(run_dir / "model.pt", weights_only=True)
    weights = [tensor for network in model.values() if isinstance(network, dict) for tensor in network.values()]
    assert {x.dtype for x in weights if isinstance(x, torch.Tensor)} == {torch.float64}


def test_a_plan_counts_until_it_first_leaves_the_data(tmp_path, monkeypatch, capsys):
    """Three imagined steps inside, one outside by a component alone, then inside again."""
    calls = []

    def imagine(_agent, s, steps):
        calls.append((s.shape, steps))
        plan = torch.full((steps, *s.shape), 3.0)
        plan[3, :, 1] = 200.0
        return plan

    monkeypatch.setattr(d3g_from_obs.D3G, "imagine", imagine)
    run_dir = walk(d3g_from_obs, dataset=str(write(tmp_path / "data.npz")), run_dir=str(tmp_path / "run"))
    assert scalars(run_dir)["plan/steps_inside_data"] == [(10, 3.0), (20, 3.0)]
    assert calls == [((2, 2), 200)] * 2
    assert "update 10: plans stay in the data for [3, 3] steps" in capsys.readouterr().out.splitlines()


def test_plans_start_where_evaluations_do_in_a_task_that_reuses_its_array(tmp_path, monkeypatch):
    calls = []

    def imagine(_agent, s, steps):
        calls.append(s)
        return torch.zeros((steps, *s.shape))

    monkeypatch.setattr(d3g_from_obs.D3G, "imagine", imagine)
    data = str(write(tmp_path / "data.npz"))
    for env_id in ("short/ReusesItsArray-v0", "short/Walk-v0"):
        walk(d3g_from_obs, env_id=env_id, dataset=data, run_dir=str(tmp_path / env_id))
    assert len(calls) == 4
    assert torch.equal(calls[0], calls[2])
    assert not torch.equal(calls[0][0], calls[0][1])


def test_the_offline_phase_stops_at_the_update_whose_loss_is_not_finite(tmp_path, monkeypatch, capsys):
    """Losses are looked at every 100 updates; that of 130 and later ones is NaN."""

    class Broken(d3g_from_obs.D3G):
        def update(self, batch):
            super().update(batch)
            if self.updates >= 130:
                self.losses["critic_loss"] *= NAN

    monkeypatch.setattr(d3g_from_obs, "D3G", Broken)
    args = {"dataset": str(write(tmp_path / "data.npz")), "run_dir": str(tmp_path / "run"), "offline_updates": 300}
    _, err = stopped(capsys, 1, walk, d3g_from_obs, **args)
    assert err == "error: critic_loss is NaN or infinite at step 200; an earlier checkpoint, if any, stays\n"


# ------------------------------------------------------------------------------------------- runs as real processes

SMALL = ["--env-id", "InvertedPendulum-v4", "--hidden-sizes", "16", "16", "--batch-size", "32", "--rounds", "4"]
SMALL += ["--steps-per-round", "60", "--inverse-updates", "40", "--eval-episodes", "2"]
PARTICULAR = {
    "d3g_from_obs": ["--offline-updates", "400", "--eval-frequency", "100", "--checkpoint-frequency", "100"],
    "bco_baseline": ["--policy-updates", "150"],
}
ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL")}


def start(script, *args, **kwargs):
    kwargs = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": ENVIRONMENT} | kwargs
    return subprocess.Popen([sys.executable, ROOT / f"{script}.py", *map(str, args)], **kwargs)


def finish(process, status=0):
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
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


BACKGROUND = {}


def in_background(*cases):
    """Register a function of (*case, dataset, reference, tmp_path) that plays with real processes, for its cases."""

    def register(function):
        for case in cases or [()]:
            BACKGROUND["-".join([function.__name__, *map(str, case)])] = (function, case)

    return register


@pytest.fixture(scope="module")
def outcomes(dataset, reference, tmp_path_factory):
    """The outcomes of all registered functions, two at a time: mostly they wait for processes to start."""
    folders = {name: tmp_path_factory.mktemp("background") for name in BACKGROUND}
    with ThreadPoolExecutor(2) as pool:
        yield {
            name: pool.submit(function, *case, dataset, reference, folders[name])
            for name, (function, case) in BACKGROUND.items()
        }


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


def agent_of(script, run_dir):
    """The agent of a complete run, made again from its model.pt."""
    model = torch.load(run_dir / "model.pt", weights_only=True)
    low, high = (np.array(model[x], np.float32) for x in ("action_low", "action_high"))
    how = {name: model["args"][name] for name in ("learning_rate", "hidden_sizes")}
    if script == "d3g_from_obs":
        how |= {name: model["args"][name] for name in ("gamma", "tau", "policy_frequency", "beta", "standardize")}
    agent = AGENTS[SCRIPTS[script]](model["obs_dim"], low, high, **how)
    for name, network in agent.named_children():
        network.load_state_dict(model[name])
    return agent


@pytest.mark.parametrize("script", SCRIPTS)
def test_run_folder_field_by_field(script, dataset, reference):
    run_dir, out = reference[script]
    info = json.loads((run_dir / "args.json").read_text())
    assert list(info) == ["args", "versions", "git_commit", "processor", "cpu_capability", "gpu", "ld_preload", "data"]
    typed = {"env_id": "InvertedPendulum-v4", "rounds": 4, "dataset": str(dataset), "hidden_sizes": [16, 16], "seed": 1}
    assert typed.items() <= info["args"].items()
    assert info["args"].keys() == vars(SCRIPTS[script].Args()).keys()
    assert info["versions"].keys() == {"torch", "gymnasium", "mujoco", "numpy", "python"}
    ends = arrays(dataset)["terminations"]
    mean_return = pytest.approx(len(ends) / ends.sum())
    assert info["data"] == {"sha256": digest(dataset), "mean_return": mean_return, "about": None}, "data of one's own"
    table = rows(run_dir)
    assert table[0] == ["step", "return_mean", "return_std", "length_mean", "seconds"]
    assert [row[0] for row in table[1:]] == ["0", "60", "120", "180"], "after the last round there is no evaluation"
    assert all(row[1] == row[3] for row in table[1:]), "reward 1 a step"
    seconds = [float(row[4]) for row in table[1:]]
    assert seconds == sorted(seconds)

    model = torch.load(run_dir / "model.pt", weights_only=True)
    agent = agent_of(script, run_dir)
    assert list(model)[len(list(agent.named_children())) :] == [
        "args",
        "obs_dim",
        "action_dim",
        "action_low",
        "action_high",
    ]
    assert model["args"] == info["args"]
    assert (model["obs_dim"], model["action_dim"], model["action_low"], model["action_high"]) == (4, 1, [-3], [3])

    tags = scalars(run_dir)
    offline = 400 if script == "d3g_from_obs" else 0  # one axis: offline updates, then online steps after them
    assert [step for step, _ in tags["eval/return_mean"]] == [offline + k for k in (0, 60, 120, 180)]
    assert [step for step, _ in tags["losses/inverse_dynamics_loss"]] == [offline + k for k in (60, 120, 180, 240)]
    ends, lengths = np.array(tags["charts/episodic_length"]).T
    assert offline < ends[0] <= offline + 60
    assert lengths[0] == ends[0] - offline
    assert ends[-1] <= offline + 240
    if script == "d3g_from_obs":
        for tag in ("critic_loss", "forward_dynamics_loss", "proposal_loss", "qf1_values"):
            assert [step for step, _ in tags[f"losses/{tag}"]] == list(range(100, 401, 100))
        steps, plans = np.array(tags["plan/steps_inside_data"]).T
        assert steps.tolist() == list(range(100, 401, 100))
        assert (plans >= 0).all()
        assert (plans <= 200).all()
        assert len(set(plans)) > 1
    else:
        assert [step for step, _ in tags["losses/policy_loss"]] == [60, 120, 180, 240]
    lines = out.splitlines()
    assert lines[0] == f"data: {dataset}, {len(arrays(dataset)['rewards'])} transitions, mean return " + (
        f"{info['data']['mean_return']:.2f}"
    )
    assert lines[1] == f"device: cpu, CPU threads: 1, run folder: {run_dir}"
    drawn = f"; draw it: python benchmark/figure8.py {run_dir}" if script == "d3g_from_obs" else ""
    assert lines[-1] == f"run folder: {run_dir}{drawn}"
    for row, line in zip(table[1:], lines[-5:-1], strict=True):
        said, seconds = line.removesuffix(" s").rsplit(", ", 1)
        assert said == f"step {row[0]}: return {float(row[1]):.1f} +- {float(row[2]):.1f}"
        assert float(seconds) == pytest.approx(float(row[4]), abs=0.51)  # rounded once, and not twice as in the file


def test_the_last_plan_that_was_logged(dataset, reference):
    """How many imagined steps stay inside the data's range, from the final networks, in plain NumPy."""
    run_dir, _ = reference["d3g_from_obs"]
    nets = {name: Net(module) for name, module in modules(agent_of("d3g_from_obs", run_dir)).items()}
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


def wait_for(condition, process):
    while process.poll() is None:
        if condition():
            return
        time.sleep(0.001)
    pytest.fail(f"the run ended too soon: {process.communicate()}")


@in_background(
    ("d3g_from_obs", "offline", signal.SIGTERM),
    ("d3g_from_obs", "online", signal.SIGKILL),
    ("bco_baseline", "online", signal.SIGKILL),
)
def interrupted_runs_end_as_if_never_interrupted(script, when, signum, dataset, reference, tmp_path):
    run_dir = tmp_path / "run"
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
        assert (checkpoint["updates"] < 400) == (when == "offline")
    if signum != signal.SIGKILL:
        where = f"step {checkpoint['progress']['step']} after {checkpoint['updates']} updates"
        assert out.splitlines()[-1] == f"stopped at {where}; --resume --run-dir {run_dir} continues"
    assert not (run_dir / "model.pt").exists()
    finish(start(script, *args, "--resume"))
    same(run_dir, reference[script][0])


WAITS = """
import time
from pathlib import Path
import gymnasium as gym
from custom_envs import Walk

class Waits(Walk):
    '''Walk, of which one step takes until there is a file `go` in the working directory.'''

    count = 0

    def step(self, action):
        Waits.count += 1
        if Waits.count == 30:
            Path("waiting").touch()
            while not Path("go").exists():
                time.sleep(0.01)
        return super().step(action)

gym.register("Waits-v0", Waits, max_episode_steps=5)
"""


@in_background(("--collect",), ("default",))
def a_collection_that_is_terminated_and_made_again(how, _dataset, _reference, tmp_path):
    """By default it is part of a run, whose folder is locked from the beginning, and not left where it is new."""
    (tmp_path / "waits.py").write_text(WAITS)
    path = f"{ROOT / 'tests'}:{tmp_path}:{ENVIRONMENT['PYTHONPATH']}"
    kwargs = {"cwd": tmp_path, "env": ENVIRONMENT | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}}
    file = tmp_path / "datasets" / "waits_Waits-v0__random.npz"
    args = ["--env-id", "waits:Waits-v0", "--dataset-size", 100]
    if how == "--collect":
        args += ["--collect", file]
    else:
        args += ["--run-dir", "runs/ours", "--hidden-sizes", 8, "--offline-updates", 1, "--rounds", 1]
        args += ["--steps-per-round", 10, "--inverse-updates", 1, "--eval-episodes", 1]
    process = start("d3g_from_obs", *args, **kwargs)
    try:
        wait_for((tmp_path / "waiting").exists, process)
        if how == "default":
            out, err = finish(start("d3g_from_obs", *args, **kwargs), 2)
            locked = "error: --run-dir runs/ours: must not be in use, but another process has locked it\n"
            assert (out, err) == ("", locked)
            assert (tmp_path / "runs" / "ours" / "args.json").exists(), "its lock is gone"
        process.terminate()
    finally:
        (tmp_path / "go").touch()  # so that no process waits, whatever has failed
    out, err = finish(process, 143)
    shown = file if how == "--collect" else file.relative_to(tmp_path)
    assert out == f"collecting {shown}\nstopped; the collection begins again next time\n"
    assert "Traceback" not in err
    assert files(tmp_path) == {"waits.py", "waiting", "go"}
    assert not (tmp_path / "runs").exists()

    out, _ = finish(start("d3g_from_obs", *args, **kwargs))
    assert out.startswith(f"collecting {shown}\n")
    assert files(file.parent) == {file.name, file.with_suffix(".json").name}
    assert_same_arrays(file, collect(tmp_path / "uninterrupted.npz"))
    assert (tmp_path / "runs" / "ours" / "model.pt").exists() == (how == "default")


@in_background(*((script, given) for script in SCRIPTS for given in ("nowhere.npz", None) if given or "bco" in script))
def without_data(script, given, _dataset, _reference, tmp_path):
    """A mistyped name never starts a collection; bco_baseline.py never collects."""
    process = start(script, *(["--dataset", given] if given else []), cwd=tmp_path)
    out, err = finish(process, 2)
    assert out == ""
    file = given or "datasets/InvertedPendulum-v4__random.npz"
    must = "must be a data set of InvertedPendulum-v4, with observations of 4 components"
    made_by = f"python d3g_from_obs.py --env-id InvertedPendulum-v4 --collect {file} makes one"
    assert err == (f"error: --dataset {file}: {must} ({made_by}): FileNotFoundError(2, 'No such file or directory')\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", BACKGROUND)
def test_with_real_processes(name, outcomes):
    outcomes[name].result(timeout=300)


# ------------------------------------------------------------------------------------------------------- errors

COUNTS = ["num_threads", "rounds", "steps_per_round", "inverse_updates", "eval_episodes", "batch_size"]
D3G_COUNTS = ["dataset_size", "offline_updates", "checkpoint_frequency", "eval_frequency", "policy_frequency"]


@pytest.mark.parametrize(
    ("script", "name", "value", "allowed"),
    [(script, name, value, "at least 1") for script in SCRIPTS for name in COUNTS for value in (0, -1)]
    + [("d3g_from_obs", name, 0, "at least 1") for name in D3G_COUNTS]
    + [("bco_baseline", "policy_updates", 0, "at least 1")]
    + [(script, "seed", x, "from 0 to 2**32 - 1") for script in SCRIPTS for x in (-1, 2**32)]
    + [("d3g_from_obs", "dataset_seed", x, "from 0 to 2**32 - 1") for x in (-1, 2**32)]
    + [("d3g_from_obs", name, x, "from 0 to 1") for name in ("randomness", "gamma") for x in (-0.1, 1.1, NAN)]
    + [("d3g_from_obs", "beta", x, "at least 0 and finite") for x in (-0.1, NAN, INF)]
    + [("d3g_from_obs", "scale_states", True, "used with --standardize")]
    + [("d3g_from_obs", "tau", x, "above 0 and at most 1") for x in (0.0, 1.1, NAN)]
    + [(script, "learning_rate", x, "positive and finite") for script in SCRIPTS for x in (0.0, -1.0, NAN, INF)]
    + [(script, "exploration_noise", x, "at least 0 and finite") for script in SCRIPTS for x in (-0.0, -0.1, NAN, INF)]
    + [
        (script, "hidden_sizes", x, "one width or more, each from 1 to 10,000")
        for script in SCRIPTS
        for x in ((), (8, 0), (10_001,))
    ]
    + [(script, "run_dir", "", "the name of a folder") for script in SCRIPTS]
    + [("bco_baseline", "dataset", "", "the name of a file")]
    + [(script, "resume", True, "used with --run-dir") for script in SCRIPTS],
)
def test_values_out_of_range(script, name, value, allowed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    expected = f"error: --{name.replace('_', '-')} {value}: must be {allowed}\n"
    assert refused(capsys, SCRIPTS[script], env_id="none", **{name: value}) == expected
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_more_steps_than_memory_holds(script, tmp_path, capsys):
    """One line, whether the arguments are refused, or allowed and too much for this machine."""
    Late.begin("reward", 1, NAN)  # a task that would end the run, if there were memory
    args = {"env_id": "Late-v0", "dataset": str(write(tmp_path / "data.npz")), "run_dir": str(tmp_path / "run")}
    before = contents(tmp_path)
    _, err = stopped(capsys, 1, walk, script, **args, **{"rounds": 300, "steps_per_round": 2**31})
    assert err.startswith("error: not enough memory for these arguments: Unable to allocate ")
    for steps in (1000, 2**31):
        error = refused(capsys, script, **args, **{"rounds": 2**31, "steps_per_round": steps})
        assert error == "error: --rounds 2147483648: must be such that there are at most 10**12 steps\n"
    assert contents(tmp_path) == before


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_unsuitable_tasks(script, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert "Did you mean: `Walker2d`?" in refused(capsys, script, env_id="Walker3d-v4")
    assert "must have flat observations" in refused(capsys, script, env_id="CartPole-v1")
    if script is d3g_from_obs:
        assert "must have flat observations" in refused(capsys, script, env_id="CartPole-v1", collect="data.npz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_help_describes_every_argument(script, capsys):
    with pytest.raises(SystemExit):
        tyro.cli(script.Args, args=["--help"])
    text = " ".join(capsys.readouterr().out.replace("\u2502", " ").split())
    for name in vars(script.Args()):
        assert f"--{name.replace('_', '-')}" in text
