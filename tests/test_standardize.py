"""D3G+ (`--standardize`, offline also `--scale-states`, `--clamp-values` and `--aim-halfway`).

Its updates and its acting against NumPy in float64, its units, and what a run keeps of them."""

import custom_envs
import numpy as np
import pytest
import torch
from numpy_net import Net

import d3g_continuous
import d3g_from_obs

OBS, ACT, BATCH = 3, 2, 7
LOW, HIGH = np.array([-1.0, -0.5]), np.array([2.0, 0.25])
SIGMA = np.array([0.02, 3.0, 0.4])
SCALE = 0.3
HOW = {"hidden_sizes": (5, 4), "gamma": 0.9, "tau": 0.05, "beta": 0.7, "learning_rate": 1e-3}


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make_agent(script, policy_frequency=2, **more):
    """An agent with sigma, whose targets differ from the online networks; and its networks in NumPy."""
    torch.manual_seed(2)
    agent = script.D3G(OBS, LOW, HIGH, **HOW, policy_frequency=policy_frequency, standardize=True, **more)
    agent.sigma.copy_(torch.tensor(SIGMA))
    if more.get("scale_states"):
        agent.state_scale.fill_(SCALE)
    with torch.no_grad():
        for parameter in agent.targets:
            parameter += 0.3 * torch.randn_like(parameter)
    nets = {}
    for name, network in agent.named_children():
        if "critic" in name:
            nets[f"{name}.0"] = Net(network[0])
            nets[f"{name}.1"] = Net(network[1])
        else:
            nets[name] = Net(network)
    return agent, nets


def batches(count):
    """Batches s, a, r, s', terminated, whose differences are of the size of sigma."""
    rng = np.random.default_rng(5)
    for _ in range(count):
        s = rng.normal(size=(BATCH, OBS))
        a = rng.uniform(LOW, HIGH, (BATCH, ACT))
        s_next = s + SIGMA * rng.normal(size=s.shape)
        yield s, a, rng.normal(size=(BATCH, 1)), s_next, np.array([[0.0, 1, 0, 0, 1, 0, 0]]).T


def scaled_tanh(z):
    return np.tanh(z) * (HIGH - LOW) / 2 + (HIGH + LOW) / 2


def scaled_tanh_backward(z, grad):
    """From dL/d(action): dL/dz."""
    return grad * (HIGH - LOW) / 2 * (1 - np.tanh(z) ** 2)


def fit(net, inputs, target):
    """One Adam step of a network on the mean squared error to `target`; return the error."""
    error = net.forward(*inputs) - target
    grads, _ = net.backward(2 * error / error.size)
    net.adam(grads, HOW["learning_rate"])
    return (error**2).mean()


def move_targets(nets):
    for name in ("critic.0", "critic.1", "proposal"):
        target = nets[name.replace("critic", "critic_target").replace("proposal", "proposal_target")]
        pairs = zip(nets[name].parameters, target.parameters, strict=True)
        target.parameters = [HOW["tau"] * x + (1 - HOW["tau"]) * t for x, t in pairs]


def expected_update(nets, batch, delayed):
    """Section 7 online: Q(s, delta), I(s, delta), f(s, a) -> delta, tau(s) -> delta; returns y and the losses."""
    s, a, r, s_next, d = batch
    delta = (s_next - s) / SIGMA
    p = nets["proposal_target"].forward(s_next)
    c = nets["forward_dynamics"].forward(s_next, scaled_tanh(nets["inverse_dynamics"].forward(s_next, p)))
    q_next = np.minimum(*(nets[f"critic_target.{i}"].forward(s_next, c) for i in (0, 1)))
    y = r + HOW["gamma"] * (1 - d) * q_next
    losses = {"critic_loss": sum(fit(nets[f"critic.{i}"], (s, delta), y) for i in (0, 1))}
    z = nets["inverse_dynamics"].forward(s, delta)
    error = scaled_tanh(z) - a
    losses["inverse_dynamics_loss"] = (error**2).mean()
    grads, _ = nets["inverse_dynamics"].backward(scaled_tanh_backward(z, 2 * error / error.size))
    nets["inverse_dynamics"].adam(grads, HOW["learning_rate"])
    losses["forward_dynamics_loss"] = fit(nets["forward_dynamics"], (s, a), delta)
    if delayed:
        p = nets["proposal"].forward(s)
        z = nets["inverse_dynamics"].forward(s, p)
        c = nets["forward_dynamics"].forward(s, scaled_tanh(z))
        q = nets["critic.0"].forward(s, c)
        losses["proposal_loss"] = -q.mean() + HOW["beta"] * ((c - p) ** 2).mean()
        pull = HOW["beta"] * 2 * (c - p) / p.size
        d_c = nets["critic.0"].backward(-np.ones_like(q) / BATCH)[1][:, OBS:] + pull
        d_a = nets["forward_dynamics"].backward(d_c)[1][:, OBS:]
        d_p = nets["inverse_dynamics"].backward(scaled_tanh_backward(z, d_a))[1][:, OBS:] - pull
        nets["proposal"].adam(nets["proposal"].backward(d_p)[0], HOW["learning_rate"])
        move_targets(nets)
    return y, losses


def expected_offline_update(nets, batch, delayed, scale_states=False, clamp_values=False):
    """Section 7 offline: f takes q = Q(s, p), p a difference in units of sigma; returns y and the losses.

    With scale_states every network takes s / scale in place of s, the differences being as they are. With clamp_values
    the q that f takes, in y and for the proposal, and the q in y are kept within the values of the batch; the proposal
    gets no gradient through a q that this changes."""
    s, _, r, s_next, d = batch
    delta = (s_next - s) / SIGMA
    if scale_states:
        s, s_next = s / SCALE, s_next / SCALE
    values = nets["critic_target.0"].forward(s, delta)
    limits = (values.min(), values.max()) if clamp_values else (-np.inf, np.inf)
    q = nets["critic_target.0"].forward(s_next, nets["proposal_target"].forward(s_next))
    c = nets["forward_dynamics"].forward(s_next, q.clip(*limits))
    q_next = np.minimum(*(nets[f"critic_target.{i}"].forward(s_next, c) for i in (0, 1)))
    y = r + HOW["gamma"] * (1 - d) * q_next.clip(*limits)
    losses = {"critic_loss": sum(fit(nets[f"critic.{i}"], (s, delta), y) for i in (0, 1))}
    losses["forward_dynamics_loss"] = fit(nets["forward_dynamics"], (s, values), delta)
    if delayed:
        p = nets["proposal"].forward(s)
        q = nets["critic.0"].forward(s, p)
        inside = (q >= limits[0]) & (q <= limits[1])
        c = nets["forward_dynamics"].forward(s, q.clip(*limits))
        q = nets["critic.0"].forward(s, c)
        losses["proposal_loss"] = -q.mean() + HOW["beta"] * ((c - p) ** 2).mean()
        pull = HOW["beta"] * 2 * (c - p) / p.size
        d_c = nets["critic.0"].backward(-np.ones_like(q) / BATCH)[1][:, OBS:] + pull
        d_q = nets["forward_dynamics"].backward(d_c)[1][:, OBS:] * inside
        nets["critic.0"].forward(s, p)
        d_p = nets["critic.0"].backward(d_q)[1][:, OBS:] - pull
        nets["proposal"].adam(nets["proposal"].backward(d_p)[0], HOW["learning_rate"])
        move_targets(nets)
    return y, losses


def assert_equal_networks(agent, nets):
    for name, net in nets.items():
        for parameter, expected in zip(agent.get_submodule(name).parameters(), net.parameters, strict=True):
            np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-9, atol=1e-11, err_msg=name)


@pytest.mark.parametrize(
    ("script", "expected", "more"),
    [
        (d3g_continuous, expected_update, {}),
        (d3g_from_obs, expected_offline_update, {}),
        (d3g_from_obs, expected_offline_update, {"scale_states": True}),
        (d3g_from_obs, expected_offline_update, {"clamp_values": True}),
        (d3g_from_obs, expected_offline_update, {"scale_states": True, "clamp_values": True}),
    ],
    ids=["online", "offline", "scale", "clamp", "scale-clamp"],
)
@pytest.mark.parametrize("policy_frequency", [1, 2])
def test_update_equals_hand_derived(script, expected, more, policy_frequency, float64, monkeypatch):
    """Six updates: the target, every loss and every parameter; sigma stays as it is."""
    agent, nets = make_agent(script, policy_frequency, **more)
    mse_loss = torch.nn.functional.mse_loss
    regression_targets = []

    def recording_mse_loss(x, target):
        regression_targets.append(target.detach().numpy().copy())
        return mse_loss(x, target)

    monkeypatch.setattr(torch.nn.functional, "mse_loss", recording_mse_loss)
    for update, batch in enumerate(batches(6), 1):
        regression_targets.clear()
        agent.update(tuple(torch.tensor(x) for x in batch))
        y, losses = expected(nets, batch, delayed=update % policy_frequency == 0, **more)
        np.testing.assert_allclose(regression_targets[0], y, rtol=1e-10, atol=1e-12)
        for name, loss in losses.items():
            assert agent.losses[name].item() == pytest.approx(loss, rel=1e-9), f"{name} at update {update}"
        assert_equal_networks(agent, nets)
        np.testing.assert_array_equal(agent.sigma.numpy(), SIGMA)


@pytest.mark.parametrize("scale_states", [False, True])
def test_inverse_dynamics_of_the_online_rounds(scale_states, float64):
    """I(s, delta) fits a, with the data's sigma, and I(s / scale, delta) where states are scaled."""
    agent, nets = make_agent(d3g_from_obs, scale_states=scale_states)
    for batch in batches(4):
        s, a, _, s_next, _ = batch
        agent.update_inverse_dynamics(tuple(torch.tensor(x) for x in batch))
        told = s / SCALE if scale_states else s
        z = nets["inverse_dynamics"].forward(told, (s_next - s) / SIGMA)
        error = scaled_tanh(z) - a
        assert agent.losses["inverse_dynamics_loss"].item() == pytest.approx((error**2).mean(), rel=1e-10)
        grads, _ = nets["inverse_dynamics"].backward(scaled_tanh_backward(z, 2 * error / error.size))
        nets["inverse_dynamics"].adam(grads, HOW["learning_rate"])
        assert_equal_networks(agent, nets)


@pytest.mark.parametrize(
    ("script", "more"),
    [
        (d3g_continuous, {}),
        (d3g_from_obs, {}),
        (d3g_from_obs, {"scale_states": True}),
        (d3g_from_obs, {"clamp_values": True}),
        (d3g_from_obs, {"aim_halfway": True}),
        (d3g_from_obs, {"scale_states": True, "clamp_values": True, "aim_halfway": True}),
    ],
)
def test_acting_and_imagining(script, more, float64):
    """a = I(s, tau(s)); an imagined state is s + sigma f(s, Q_1'(s, tau(s))); scaled states are told as such, and f is
    asked only for values of the latest batch where they are clamped. With aim_halfway a = I(s, x),
    where x is the mean of tau(s) and the difference to the first imagined state."""
    agent, nets = make_agent(script, **more)
    proposal = nets["proposal"]
    limits = (-np.inf, np.inf)
    if "clamp_values" in more:
        agent.value_low.fill_(0.05)
        agent.value_high.fill_(0.1)
        limits = (0.05, 0.1)

    def told(s):
        return s / SCALE if "scale_states" in more else s

    s = np.array([[0.3, -1.2, 0.8]])
    p = proposal.forward(told(s))
    if "aim_halfway" in more:
        q = nets["critic_target.0"].forward(told(s), p).clip(*limits)
        p = (p + nets["forward_dynamics"].forward(told(s), q)) / 2
    action = scaled_tanh(nets["inverse_dynamics"].forward(told(s), p))[0]
    np.testing.assert_allclose(agent.act(s[0]), action, rtol=1e-12)
    if script is d3g_from_obs:
        plan = agent.imagine(torch.tensor(s), steps=3).numpy()
        for k in range(3):
            q = nets["critic_target.0"].forward(told(s), proposal.forward(told(s))).clip(*limits)
            s = s + SIGMA * nets["forward_dynamics"].forward(told(s), q)
            np.testing.assert_allclose(plan[k], s, rtol=1e-10)


def test_the_papers_agent_has_no_sigma(float64):
    """By default nothing of D3G+ is in the agent: not in what is saved, and s' is seen as it is."""
    for script in (d3g_continuous, d3g_from_obs):
        agent = script.D3G(OBS, LOW, HIGH, **HOW)
        assert not {"sigma", "state_scale", "value_low", "value_high"} & agent.state_dict().keys()
        s, _, _, s_next, _ = (torch.tensor(x) for x in next(batches(1)))
        assert agent.encode(s, s_next) is s_next
        if script is d3g_from_obs:
            assert agent.scale(s) is s


# ---------------------------------------------------------------------------------------------------------- units


def test_units_are_the_deviation_of_the_differences():
    """Not of s'; a constant component, or one that hardly varies, gets 1; float32 states far from 0 keep digits."""
    rng = np.random.default_rng(0)
    s = rng.normal(size=(5000, 4)).astype(np.float32) * np.float32([1, 100, 1, 1])
    difference = rng.normal(size=(5000, 4)) * [0.01, 2.0, 0.0, 1e-8] + [0.5, 0.0, 0.25, 0.0]
    s_next = (s + difference).astype(np.float32)
    s[:, 2:] = 0
    s_next[:, 2:] = difference[:, 2:]
    agent = d3g_continuous.D3G(4, LOW, HIGH, hidden_sizes=(4,), standardize=True)
    agent.set_units(s, s_next)
    assert agent.sigma.tolist() == pytest.approx([0.01, 2.0, 1.0, 1.0], rel=0.05)
    assert agent.sigma[2:].tolist() == [1.0, 1.0]
    expected = np.std(s_next.astype(np.float64) - s.astype(np.float64), axis=0)
    np.testing.assert_allclose(agent.sigma[:2].numpy(), expected[:2], rtol=1e-6)


def test_the_scale_is_the_root_mean_square_of_all_components():
    """Of states that are all 0 it is 1, so that nothing is divided by 0."""
    agent = d3g_from_obs.D3G(2, LOW, HIGH, hidden_sizes=(4,), standardize=True, scale_states=True)
    agent.set_state_scale(np.float32([[3, 0], [-1, 2], [1, 1]]))
    assert agent.state_scale.item() == pytest.approx(np.sqrt(16 / 6), rel=1e-7)
    agent.set_state_scale(np.zeros((5, 2), np.float32))
    assert agent.state_scale.item() == 1.0


WALK = {
    "total_timesteps": 100,
    "learning_starts": 20,
    "eval_frequency": 50,
    "eval_episodes": 1,
    "hidden_sizes": (8, 8),
    "batch_size": 4,
    "checkpoint_frequency": 30,
    "standardize": True,
}


def walk(run_dir, env_id="custom_envs:Walk-v0", **changes):
    return d3g_continuous.train(d3g_continuous.Args(env_id=env_id, run_dir=str(run_dir), **{**WALK, **changes}))


@pytest.fixture
def seen(monkeypatch):
    """All that set_units is called with: [(s, s')]."""
    calls = []
    set_units = d3g_continuous.D3G.set_units

    def recording(agent, s, s_next):
        calls.append((s.copy(), s_next.copy()))
        set_units(agent, s, s_next)

    monkeypatch.setattr(d3g_continuous.D3G, "set_units", recording)
    return calls


def test_units_are_fixed_once_over_what_is_stored_when_updates_begin(seen, tmp_path):
    run_dir = walk(tmp_path / "run")
    ((s, s_next),) = seen
    assert s.shape == s_next.shape == (20, 2), "the random steps, before the agent first acts"
    model = torch.load(run_dir / "model.pt", weights_only=True)
    expected = np.std(s_next.astype(np.float64) - s.astype(np.float64), axis=0)
    np.testing.assert_allclose(model["sigma"].numpy(), expected, rtol=1e-6)
    # Walk moves by 0.1 times the action, which is uniform from -1 to 2 and from 0.5 to 0.75
    assert model["sigma"].tolist() == pytest.approx([0.3 / np.sqrt(12), 0.025 / np.sqrt(12)], rel=0.3)


class RescaledWalk(custom_envs.Walk):
    """Walk, whose observations are multiplied by powers of two, so that float32 rounds them alike."""

    scale = np.array([0.0625, 256.0])

    def reset(self, seed=None, options=None):
        observation, info = super().reset(seed=seed)
        return observation * self.scale, info

    def step(self, action):
        observation, *rest = super().step(action)
        return observation * self.scale, *rest


custom_envs.gym.register("RescaledWalk-v0", RescaledWalk, max_episode_steps=20)


def test_rescaling_the_observations_leaves_the_differences_as_they_are(seen, tmp_path):
    walk(tmp_path / "plain")
    walk(tmp_path / "rescaled", env_id="RescaledWalk-v0")
    plain, rescaled = list(seen)
    assert not np.array_equal(plain[0], rescaled[0])
    encoded = []
    for s, s_next in (plain, rescaled):
        agent = d3g_continuous.D3G(2, LOW, HIGH, hidden_sizes=(4,), standardize=True)
        agent.set_units(s, s_next)
        encoded.append(agent.encode(torch.tensor(s), torch.tensor(s_next)))
    assert encoded[0].std(0).tolist() == pytest.approx([1.0, 1.0], rel=0.05)
    assert torch.equal(encoded[0], encoded[1])


@pytest.mark.parametrize("step", [0, 40, 80])
def test_resume_in_the_middle(step, tmp_path, monkeypatch):
    """Stopped before the first update or after it, a run goes on with the same sigma and ends as if never stopped."""
    whole = walk(tmp_path / "whole")
    save = d3g_continuous.save

    def killed(contents, file):
        save(contents, file)
        if isinstance(contents, dict) and contents.get("progress", {}).get("step") == step:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(d3g_continuous, "save", killed)
        if step == 0:
            patch.setattr(d3g_continuous, "received_signals", [15])
        with pytest.raises(KeyboardInterrupt):
            walk(tmp_path / "run")
    walk(tmp_path / "run", resume=True)
    ours = torch.load(tmp_path / "run" / "model.pt", weights_only=True)
    theirs = torch.load(whole / "model.pt", weights_only=True)
    assert torch.equal(ours["sigma"], theirs["sigma"])
    for name in ("critic", "proposal", "inverse_dynamics", "forward_dynamics", "critic_target", "proposal_target"):
        for key, value in ours[name].items():
            assert torch.equal(value, theirs[name][key]), f"{name}.{key}"
    rows = [(folder / "evaluations.csv").read_text().splitlines() for folder in (tmp_path / "run", whole)]
    assert [row.rsplit(",", 1)[0] for row in rows[0]] == [row.rsplit(",", 1)[0] for row in rows[1]]


@pytest.fixture
def offline(tmp_path):
    """Trains d3g_from_obs.py with all of D3G+ on data of two components, the second constant."""
    rng = np.random.default_rng(1)
    s = rng.normal(size=(300, 2))
    s[:, 1] = 0.25
    s_next = s + rng.normal(size=s.shape) * [0.5, 0.01]
    names = ("observations", "next_observations", "rewards", "terminations")
    data = tmp_path / "data.npz"
    np.savez(data, **dict(zip(names, (s, s_next, np.zeros(300), np.zeros(300)), strict=True)))
    plus = {"standardize": True, "scale_states": True, "clamp_values": True, "aim_halfway": True}
    small = {"rounds": 2, "steps_per_round": 10, "inverse_updates": 3, "eval_episodes": 1}
    small |= {"hidden_sizes": (8, 8), "batch_size": 4, "offline_updates": 8, "checkpoint_frequency": 3}

    def train(name, resume=False):
        how = {"env_id": "custom_envs:Walk-v0", "dataset": str(data), "run_dir": str(tmp_path / name)}
        d3g_from_obs.train(d3g_from_obs.Args(**how, **plus, **small, resume=resume))
        return torch.load(tmp_path / name / "model.pt", weights_only=True)

    return train, s, s_next


def test_the_data_sets_sigma_serves_both_phases(offline):
    """d3g_from_obs.py: sigma is that of all the data, from the first update to model.pt, and so is the scale of s."""
    train, s, s_next = offline
    model = train("run")
    expected = np.std(s_next.astype(np.float32).astype(np.float64) - s.astype(np.float32), axis=0)
    np.testing.assert_allclose(model["sigma"].numpy(), expected, rtol=1e-6)
    assert model["state_scale"].item() == pytest.approx(np.sqrt(((s[:, 0] ** 2).mean() + 0.25**2) / 2), rel=1e-6)


@pytest.mark.parametrize("updates", [3, 8])
def test_resume_offline_and_online(updates, offline, tmp_path, monkeypatch):
    """Stopped at a checkpoint of either phase, a run ends with the same networks and the same range of values."""
    train, _, _ = offline
    whole = train("whole")
    save = d3g_from_obs.save

    def killed(contents, file):
        save(contents, file)
        if isinstance(contents, dict) and contents.get("updates") == updates:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(d3g_from_obs, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            train("run")
    checkpoint = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert checkpoint["updates"] == updates
    model = train("run", resume=True)
    networks = [name for name, value in whole.items() if isinstance(value, dict) and name != "args"]
    assert whole["value_low"] == model["value_low"] < model["value_high"] == whole["value_high"]
    for name in networks:
        for key, value in whole[name].items():
            assert torch.equal(value, model[name][key]), f"{name}.{key}"


@pytest.mark.parametrize(("name", "value"), [("learning_starts", 0), ("learning_starts", 1), ("buffer_size", 1)])
def test_too_few_transitions_for_a_deviation(name, value, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        walk(tmp_path / "run", **{name: value})
    assert stop.value.code == 2
    error = f"error: --{name.replace('_', '-')} {value}: must be at least 2 with --standardize\n"
    assert capsys.readouterr().err == error
    assert not (tmp_path / "run").exists()


def test_a_single_transition_offline(offline, tmp_path, capsys):
    train, _, _ = offline
    file = tmp_path / "data.npz"
    with np.load(file) as data:
        one = {name: x[:1] for name, x in data.items()}
    np.savez(file, **one)
    with pytest.raises(SystemExit) as stop:
        train("run")
    assert stop.value.code == 2
    error = f"error: --dataset {file}: must have at least 2 transitions with --standardize\n"
    assert capsys.readouterr().err == error
    assert not (tmp_path / "run").exists()


def test_scaled_states_need_differences():
    """The class alone, as its arguments are checked with those of a run."""
    bound = np.ones(1, np.float32)
    with pytest.raises(ValueError, match="^scale_states needs standardize$"):
        d3g_from_obs.D3G(2, -bound, bound, scale_states=True)
