"""d3g_continuous.py: its update against NumPy in float64, gradients and Adam by hand from the equations; its replay."""

import custom_envs
import numpy as np
import pytest
import torch
from numpy_net import Net

import d3g_continuous
from d3g_continuous import D3G, Args, ReplayBuffer, make_agent, train

OBS, ACT, BATCH, HIDDEN = 3, 2, 7, (5, 4)
LOW, HIGH = np.array([-1.0, -0.5]), np.array([2.0, 0.25])
ARGS = {
    "hidden_sizes": HIDDEN,
    "gamma": 0.9,
    "tau": 0.05,
    "beta": 0.7,
    "learning_rate": 1e-3,
    "policy_frequency": 2,
}


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def scaled_tanh(z):
    return np.tanh(z) * (HIGH - LOW) / 2 + (HIGH + LOW) / 2


def scaled_tanh_backward(z, grad):
    """From dL/d(action): dL/dz."""
    return grad * (HIGH - LOW) / 2 * (1 - np.tanh(z) ** 2)


def expected_update(
    nets,
    batch,
    update,
    cycle,
    gamma,
    tau,
    beta,
    learning_rate,
    policy_frequency,
    action=scaled_tanh,
    backward=scaled_tanh_backward,
    **_,
):
    """Algorithm 1 on `nets`, in the order in which the authors ran it; returns the target y and the losses.

    `action` is what the inverse dynamics ends in, `backward` its gradient.
    """
    s, a, r, s2, d = batch
    n, obs_dim = s.shape
    # 1. y = r + gamma (1 - d) min_i Q'_i(s', c)
    p = s2 + nets["proposal_target"].forward(s2)
    if cycle:
        c = s2 + nets["forward_dynamics"].forward(s2, action(nets["inverse_dynamics"].forward(s2, p)))
    else:
        c = p
    q1_next, q2_next = nets["critic_target.0"].forward(s2, c), nets["critic_target.1"].forward(s2, c)
    y = r + gamma * (1 - d) * np.minimum(q1_next, q2_next)
    # 2. critics
    losses = {"critic_loss": 0.0}
    for name in ("critic.0", "critic.1"):
        q = nets[name].forward(s, s2)
        if name == "critic.0":
            losses["qf1_values"] = q.mean()
        losses["critic_loss"] += ((q - y) ** 2).mean()
        nets[name].adam(nets[name].backward(2 * (q - y) / n)[0], learning_rate)
    # 3. inverse dynamics
    z = nets["inverse_dynamics"].forward(s, s2)
    error = action(z) - a
    losses["inverse_dynamics_loss"] = (error**2).mean()
    grad = backward(z, 2 * error / error.size)
    nets["inverse_dynamics"].adam(nets["inverse_dynamics"].backward(grad)[0], learning_rate)
    # 4. forward dynamics
    if cycle:
        error = nets["forward_dynamics"].forward(s, a) - (s2 - s)
        losses["forward_dynamics_loss"] = (error**2).mean()
        grads, _ = nets["forward_dynamics"].backward(2 * error / error.size)
        nets["forward_dynamics"].adam(grads, learning_rate)
    # 5. proposal, then targets
    if update % policy_frequency == 0:
        p = s + nets["proposal"].forward(s)
        if cycle:
            z = nets["inverse_dynamics"].forward(s, p)
            c = s + nets["forward_dynamics"].forward(s, action(z))
        else:
            c = p
        q = nets["critic.0"].forward(s, c)
        losses["proposal_loss"] = -q.mean()
        d_c = nets["critic.0"].backward(-np.ones_like(q) / n)[1][:, obs_dim:]
        if cycle:
            losses["proposal_loss"] += beta * ((c - p) ** 2).mean()
            d_c = d_c + beta * 2 * (c - p) / p.size
            d_a = nets["forward_dynamics"].backward(d_c)[1][:, obs_dim:]
            d_z = backward(z, d_a)
            d_p = nets["inverse_dynamics"].backward(d_z)[1][:, obs_dim:] - beta * 2 * (c - p) / p.size
        else:
            d_p = d_c
        nets["proposal"].adam(nets["proposal"].backward(d_p)[0], learning_rate)
        for name in ("critic.0", "critic.1", "proposal"):
            target = nets[name.replace("critic", "critic_target").replace("proposal", "proposal_target")]
            target.parameters = [
                tau * x + (1 - tau) * t for x, t in zip(nets[name].parameters, target.parameters, strict=True)
            ]
    return y, losses


def modules(agent):
    """The agent's networks by name, the twin critics one by one."""
    found = {}
    for name, network in agent.named_children():
        found |= {f"{name}.{i}": critic for i, critic in enumerate(network)} if "critic" in name else {name: network}
    return found


def batches(count):
    rng = np.random.default_rng(5)
    for _ in range(count):
        s = rng.normal(size=(BATCH, OBS))
        a = rng.uniform(LOW, HIGH, (BATCH, ACT))
        s2 = s + 0.3 * rng.normal(size=(BATCH, OBS))
        yield s, a, rng.normal(size=(BATCH, 1)), s2, np.array([[0, 1, 0, 0, 1, 0, 0]]).T.astype(float)


def distinct_agent(**changes):
    """An agent whose target networks differ from the online ones, so that mistaking one for the other shows."""
    torch.manual_seed(2)
    agent = make_agent(Args(**ARGS | changes), OBS, LOW, HIGH)
    with torch.no_grad():
        for parameter in [*agent.critic_target.parameters(), *agent.proposal_target.parameters()]:
            parameter += 0.3 * torch.randn_like(parameter)
    return agent


@pytest.mark.parametrize("policy_frequency", [1, 2, 3])
@pytest.mark.parametrize("cycle", [True, False], ids=["D3G", "D3G-"])
def test_update_equals_hand_derived(cycle, policy_frequency, monkeypatch):
    agent = distinct_agent(cycle=cycle, policy_frequency=policy_frequency)
    assert ("forward_dynamics" in modules(agent)) == cycle
    nets = {name: Net(module) for name, module in modules(agent).items()}
    mse_loss, regression_targets = torch.nn.functional.mse_loss, []

    def recording_mse_loss(x, target):
        regression_targets.append(target.detach().numpy().copy())
        return mse_loss(x, target)

    monkeypatch.setattr(d3g_continuous.F, "mse_loss", recording_mse_loss)
    for update, batch in enumerate(batches(6), start=1):
        before = {name: value.clone() for name, value in agent.state_dict().items()}
        regression_targets.clear()
        agent.update(tuple(torch.tensor(x) for x in batch))
        arguments = ARGS | {"cycle": cycle, "policy_frequency": policy_frequency}
        y, losses = expected_update(nets, batch, update, **arguments)

        np.testing.assert_allclose(regression_targets[0], y, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(regression_targets[1], y, rtol=1e-10, atol=1e-12)
        for name, loss in losses.items():
            assert agent.losses[name].item() == pytest.approx(loss, rel=1e-10), f"{name} at update {update}"
        for name, module in modules(agent).items():
            for i, parameter in enumerate(module.parameters()):
                np.testing.assert_allclose(
                    parameter.detach().numpy(),
                    nets[name].parameters[i],
                    rtol=1e-9,
                    atol=1e-11,
                    err_msg=f"{name}, parameter {i}, update {update}",
                )
        moved = {name.split(".")[0] for name, value in agent.state_dict().items() if not value.equal(before[name])}
        always = {"critic", "inverse_dynamics"} | ({"forward_dynamics"} if cycle else set())
        delayed = {"proposal", "proposal_target", "critic_target"} if update % policy_frequency == 0 else set()
        assert moved == always | delayed


def test_gradients_only_for_what_is_stepped():
    """The proposal's loss leads through the critic, I and f; it must leave no gradient on them."""
    agent = distinct_agent(policy_frequency=1)
    gradients = {}
    for name, optimizer in agent.optimizers.items():

        def record(_optimizer, _args, _kwargs, name=name):
            gradients[name] = {k for k, p in agent.named_parameters() if p.grad is not None}
            gradients[name + " values"] = {k: p.grad.clone() for k, p in agent.named_parameters() if p.grad is not None}

        optimizer.register_step_pre_hook(record)
    agent.update(tuple(torch.tensor(x) for x in next(batches(1))))
    for name, before in (("inverse_dynamics", "critic"), ("forward_dynamics", "critic"), ("proposal", "critic")):
        for key, value in gradients[f"{before} values"].items():
            assert key.startswith(before)
            torch.testing.assert_close(gradients[f"{name} values"][key], value, rtol=0, atol=0)
    assert not any("target" in key for key in gradients["proposal"])


def test_act_is_inverse_dynamics_of_the_proposal():
    agent = distinct_agent()
    nets = {name: Net(module) for name, module in modules(agent).items()}
    s = np.array([[0.3, -1.2, 0.8]])
    expected = scaled_tanh(nets["inverse_dynamics"].forward(s, s + nets["proposal"].forward(s)))[0]
    np.testing.assert_allclose(agent.act(s[0]), expected, rtol=1e-12)
    np.testing.assert_array_equal(agent.act(s[0], np.array([9.0, -9.0])), [HIGH[0], LOW[1]])
    np.testing.assert_allclose(agent.act(s[0], np.array([0.01, 0.02])), expected + [0.01, 0.02], rtol=1e-12)


def test_networks_start_as_torch_makes_them_and_targets_as_copies():
    torch.manual_seed(3)
    agent = D3G(OBS, LOW, HIGH, **ARGS)
    torch.manual_seed(3)
    for sizes in [(2 * OBS, *HIDDEN, 1)] * 2 + [
        (OBS, *HIDDEN, OBS),
        (2 * OBS, *HIDDEN, ACT),
        (OBS + ACT, *HIDDEN, OBS),
    ]:
        for n, m in zip(sizes[:-1], sizes[1:], strict=True):
            torch.nn.Linear(n, m)
    after = torch.rand(1)
    torch.manual_seed(3)
    D3G(OBS, LOW, HIGH, **ARGS)
    assert torch.rand(1).equal(after), "the initialisation draws something else than nn.Linear's own"
    for target, online in ((agent.critic_target, agent.critic), (agent.proposal_target, agent.proposal)):
        for x, y in zip(target.parameters(), online.parameters(), strict=True):
            assert x.equal(y)
            assert x.data_ptr() != y.data_ptr()


def test_default_shapes_of_halfcheetah():
    agent = D3G(17, -np.ones(6), np.ones(6))
    shapes = {name: [tuple(p.shape) for p in m.parameters() if p.ndim == 2] for name, m in modules(agent).items()}
    critic, proposal = [(256, 34), (256, 256), (1, 256)], [(256, 17), (256, 256), (17, 256)]
    assert shapes == {
        "critic.0": critic,
        "critic.1": critic,
        "proposal": proposal,
        "inverse_dynamics": [(256, 34), (256, 256), (6, 256)],
        "forward_dynamics": [(256, 23), (256, 256), (17, 256)],
        "critic_target.0": critic,
        "critic_target.1": critic,
        "proposal_target": proposal,
    }


def test_defaults_are_the_papers():
    """And where the paper is silent, its authors' settings."""
    args = Args()
    assert (args.env_id, args.total_timesteps, args.eval_frequency, args.eval_episodes) == (
        "HalfCheetah-v4",
        1_000_000,
        5_000,
        10,
    )
    assert (args.learning_rate, args.hidden_sizes, args.batch_size) == (3e-4, (256, 256), 256)
    assert (args.gamma, args.tau, args.beta, args.policy_frequency) == (0.99, 0.005, 1.0, 2)
    assert (args.learning_starts, args.exploration_noise, args.buffer_size) == (10_000, 0.1, 1_000_000)
    assert args.cycle
    assert not args.standardize


def row(k):
    """A transition whose every number tells that it is the k-th."""
    return [k, k + 0.25], [k + 0.5], k + 0.75, [k + 1, k + 1.25], k % 2 == 1


def test_buffer_stores_and_overwrites_the_oldest():
    buffer = ReplayBuffer(4, 2, 1)
    for k in range(6):
        buffer.add(*row(k))
    expected = {tuple(np.concatenate([s, a, [r], s2, [d]])) for s, a, r, s2, d in map(row, range(2, 6))}
    assert {tuple(x) for x in buffer.rows.astype(np.float64)} == expected
    assert buffer.rows.dtype == np.float32
    s, a, r, s2, d = buffer.sample(50, np.random.default_rng(0), torch.device("cpu"))
    assert [tuple(x.shape) for x in (s, a, r, s2, d)] == [(50, 2), (50, 1), (50, 1), (50, 2), (50, 1)]
    assert s.dtype == torch.get_default_dtype() == torch.float64
    sampled = {tuple(x) for x in torch.cat([s, a, r, s2, d], 1).tolist()}
    assert sampled == expected


def test_buffer_samples_uniformly_what_it_holds():
    buffer = ReplayBuffer(1000, 2, 1)
    for k in range(20):
        buffer.add(*row(k))
    s, *_ = buffer.sample(100_000, np.random.default_rng(1), torch.device("cpu"))
    counts = np.bincount(s[:, 0].long().numpy(), minlength=20)
    assert len(counts) == 20, "rows that were never filled were drawn"
    assert np.abs(counts - 5000).max() < 5 * np.sqrt(5000 * 0.95)
    first = s[:256, 0].long().numpy()
    assert len(set(first)) == 20
    assert (first[1:] == first[:-1]).any(), "drawn without replacement"


@pytest.fixture
def kept_buffer(monkeypatch):
    """train() as it is, but for a replay buffer that the test can look into afterwards."""
    torch.set_default_dtype(torch.float32)
    kept = []

    class Kept(ReplayBuffer):
        def __init__(self, *args):
            super().__init__(*args)
            kept.append(self)

    monkeypatch.setattr(d3g_continuous, "ReplayBuffer", Kept)
    return kept


TINY = {"hidden_sizes": (16, 16), "batch_size": 8, "eval_frequency": 1000, "eval_episodes": 1}


def test_a_time_limit_is_not_a_termination(kept_buffer, tmp_path):
    """Reacher-v4 is cut at 50 steps and never terminates; the last s' of an episode is its own last observation."""
    args = Args(env_id="Reacher-v4", total_timesteps=175, learning_starts=160, run_dir=str(tmp_path / "run"), **TINY)
    train(args)
    rows = kept_buffer[0].rows[: kept_buffer[0].added]
    assert rows.shape == (175, 11 + 2 + 1 + 11 + 1)
    s, s_next, terminated = rows[:, :11], rows[:, 14:25], rows[:, 25]
    assert not terminated.any()
    follows = (s_next[:-1] == s[1:]).all(1)
    assert np.flatnonzero(~follows).tolist() == [49, 99, 149]
    assert np.abs(s_next - s).max(1).min() > 0, "a stored transition that goes nowhere"


def test_a_termination_is_stored_as_one(kept_buffer, tmp_path):
    """InvertedPendulum-v4 terminates where the pole leans by more than 0.2 rad."""
    args = Args(env_id="InvertedPendulum-v4", total_timesteps=200, run_dir=str(tmp_path / "run"), **TINY)
    train(args)
    rows = kept_buffer[0].rows[: kept_buffer[0].added]
    s, s_next, terminated = rows[:, :4], rows[:, 6:10], rows[:, 10]
    follows = (s_next[:-1] == s[1:]).all(1)
    assert 10 < terminated.sum() < 60
    np.testing.assert_array_equal(terminated[:-1] == 1, ~follows)
    np.testing.assert_array_equal(terminated == 1, np.abs(s_next[:, 1]) > 0.2)


def test_actions_reach_and_respect_asymmetric_bounds(kept_buffer, tmp_path):
    custom_envs.Walk.actions.clear()
    args = Args(
        env_id="custom_envs:Walk-v0",
        total_timesteps=600,
        learning_starts=400,
        exploration_noise=1.5,
        run_dir=str(tmp_path / "run"),
        **TINY,
    )
    train(args)
    evaluated = 20
    actions = np.array(custom_envs.Walk.actions)[evaluated:]
    assert actions.shape == (600, 2)
    low, high = custom_envs.Walk.action_space.low, custom_envs.Walk.action_space.high
    random, policy = actions[:400], actions[400:]
    # uniform over the whole range of each dimension: mean and standard deviation within 5 standard errors
    assert np.abs(random.mean(0) - (low + high) / 2).max() < 5 * (high - low).max() / np.sqrt(12 * 400)
    np.testing.assert_allclose(random.std(0), (high - low) / np.sqrt(12), rtol=0.1)
    assert ((random > low) & (random < high)).all()
    for bound in (low, high):
        clipped = (policy == bound).mean(0)
        assert ((clipped > 0.05) & (clipped < 0.6)).all()
    np.testing.assert_array_equal(kept_buffer[0].rows[:600, 2:4], actions.astype(np.float32))


def test_a_task_may_reuse_its_observation_array(kept_buffer, tmp_path):
    common = {"total_timesteps": 60, "learning_starts": 30}
    train(Args(env_id="custom_envs:ReusesItsArray-v0", run_dir=str(tmp_path / "1"), **common, **TINY))
    train(Args(env_id="custom_envs:Walk-v0", run_dir=str(tmp_path / "2"), **common, **TINY))
    np.testing.assert_array_equal(kept_buffer[0].rows, kept_buffer[1].rows)


def test_updates_and_exploration_start_after_the_random_steps(monkeypatch, tmp_path):
    """One update per step; noise of standard deviation 0.1 times half the width of the bounds, per dimension."""
    torch.set_default_dtype(torch.float32)
    sizes, noises = [], []

    class Counted(D3G):
        def update(self, batch):
            sizes.append(len(batch[0]))
            super().update(batch)

        def act(self, observation, noise=0.0):
            noises.append(noise)
            return super().act(observation, noise)

    monkeypatch.setattr(d3g_continuous, "D3G", Counted)
    args = Args(
        env_id="custom_envs:Walk-v0", total_timesteps=430, learning_starts=30, run_dir=str(tmp_path / "run"), **TINY
    )
    train(args)
    assert sizes == [8] * 400
    assert noises[:20] == [0.0] * 20, "the evaluation at step 0"
    np.testing.assert_allclose(np.std(noises[20:], axis=0), [0.15, 0.0125], rtol=0.2)
    assert np.shape(noises[20:]) == (400, 2)


def test_a_loss_that_becomes_nan_stops_the_run(monkeypatch, tmp_path, capsys):
    """Where losses are next logged, which is every 100 updates."""
    torch.set_default_dtype(torch.float32)

    class Broken(D3G):
        def update(self, batch):
            super().update(batch)
            if self.updates >= 130:
                self.losses["inverse_dynamics_loss"] *= float("nan")

    monkeypatch.setattr(d3g_continuous, "D3G", Broken)
    args = Args(
        env_id="custom_envs:Walk-v0", total_timesteps=5000, learning_starts=50, run_dir=str(tmp_path / "run"), **TINY
    )
    with pytest.raises(SystemExit) as stop:
        train(args)
    assert stop.value.code == 1
    assert capsys.readouterr().err == (
        "error: inverse_dynamics_loss is NaN or infinite at step 250; an earlier checkpoint, if any, stays\n"
    )
    assert sorted(p.name.split(".")[0] for p in (tmp_path / "run").iterdir()) == ["args", "evaluations", "events"]


def test_a_parameter_that_becomes_infinite_stops_the_run(monkeypatch, tmp_path, capsys):
    torch.set_default_dtype(torch.float32)

    class Broken(D3G):
        def update(self, batch):
            super().update(batch)
            if self.updates == 70:
                with torch.no_grad():
                    self.inverse_dynamics.layers[1].weight[3, 4] = float("inf")

    monkeypatch.setattr(d3g_continuous, "D3G", Broken)
    args = Args(
        env_id="custom_envs:Walk-v0",
        total_timesteps=500,
        learning_starts=10,
        checkpoint_frequency=35,
        run_dir=str(tmp_path / "run"),
        **TINY,
    )
    with pytest.raises(SystemExit) as stop:
        train(args)
    assert stop.value.code == 1
    assert capsys.readouterr().err == (
        "error: inverse_dynamics.layers.1.weight is NaN or infinite at step 80; an earlier checkpoint, if any, stays\n"
    )
    checkpoint = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert checkpoint["progress"]["step"] == 40
