"""td3_baseline.py: the updates of TD3, DDPG and what lies between against NumPy, gradients and Adam by hand."""

import json

import numpy as np
import pytest
import torch
from numpy_net import Net

import td3_baseline
from td3_baseline import TD3, Actor, Args, make_agent, train

OBS, ACT, BATCH, HIDDEN = 3, 2, 9, (5, 4)
LOW, HIGH = np.array([-1.0, -0.5]), np.array([2.0, 0.25])
SCALE, BIAS = (HIGH - LOW) / 2, (HIGH + LOW) / 2
ARGS = {"hidden_sizes": HIDDEN, "gamma": 0.9, "tau": 0.05, "learning_rate": 1e-3}


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def modules(agent):
    """The agent's networks by name, the critics one by one."""
    found = {}
    for name, network in agent.named_children():
        found |= {f"{name}.{i}": critic for i, critic in enumerate(network)} if "critic" in name else {name: network}
    return found


def scaled_tanh(z):
    return np.tanh(z) * SCALE + BIAS


def expected_update(nets, batch, noise, update, args):
    """Section 4.2 of the paper on `nets`, with standard normal `noise`; returns y, the losses, which Q' were least."""
    s, a, r, s2, d = batch
    n, critics = len(s), [f"critic.{i}" for i in range(args.num_critics)]
    smoothing = np.clip(args.policy_noise * noise, -args.noise_clip, args.noise_clip) * SCALE
    a2 = np.clip(scaled_tanh(nets["actor_target"].forward(s2)) + smoothing, LOW, HIGH)
    q2 = np.array([nets[name.replace("critic", "critic_target")].forward(s2, a2) for name in critics])
    y = r + args.gamma * (1 - d) * q2.min(0)
    losses = {"critic_loss": 0.0}
    for name in critics:
        q = nets[name].forward(s, a)
        if name == "critic.0":
            losses["qf1_values"] = q.mean()
        losses["critic_loss"] += ((q - y) ** 2).mean()
        nets[name].adam(nets[name].backward(2 * (q - y) / n)[0], args.learning_rate)
    if update % args.policy_frequency == 0:
        z = nets["actor"].forward(s)
        q = nets["critic.0"].forward(s, scaled_tanh(z))
        losses["actor_loss"] = -q.mean()
        d_a = nets["critic.0"].backward(-np.ones_like(q) / n)[1][:, OBS:]
        nets["actor"].adam(nets["actor"].backward(d_a * SCALE * (1 - np.tanh(z) ** 2))[0], args.learning_rate)
        for name in [*critics, "actor"]:
            target = nets[name.replace("critic", "critic_target").replace("actor", "actor_target")]
            pairs = zip(nets[name].parameters, target.parameters, strict=True)
            target.parameters = [args.tau * x + (1 - args.tau) * t for x, t in pairs]
    return y, losses, set(q2.argmin(0).ravel())


def batches(count):
    rng = np.random.default_rng(5)
    for _ in range(count):
        s, s2 = rng.normal(size=(2, BATCH, OBS))
        d = np.array([[0, 1, 0, 0, 1, 0, 0, 0, 0]]).T.astype(float)
        yield s, rng.uniform(LOW, HIGH, (BATCH, ACT)), rng.normal(size=(BATCH, 1)), s2, d


def distinct_agent(args):
    """An agent whose target networks differ from the online ones, so that mistaking one for the other shows."""
    torch.manual_seed(9)
    agent = make_agent(args, OBS, LOW, HIGH)
    with torch.no_grad():
        for parameter in [*agent.critic_target.parameters(), *agent.actor_target.parameters()]:
            parameter += 0.5 * torch.randn_like(parameter)
    return agent


@pytest.mark.parametrize(
    "changes",
    [
        {"algorithm": "td3"},
        {"algorithm": "ddpg"},
        {"algorithm": "td3", "policy_frequency": 3, "policy_noise": 0.7, "noise_clip": 0.4},
        {"algorithm": "td3", "num_critics": 1},
        {"algorithm": "td3", "policy_noise": 0.0},
        {"algorithm": "ddpg", "num_critics": 3, "policy_noise": 0.9},
    ],
    ids=["td3", "ddpg", "slow-and-noisy", "one-critic", "no-smoothing", "three-critics"],
)
def test_update_equals_hand_derived(changes, monkeypatch, float64):
    args = Args(**ARGS | changes)
    agent = distinct_agent(args)
    nets = {name: Net(module) for name, module in modules(agent).items()}
    assert len(nets) == 2 * args.num_critics + 2
    mse_loss, regression_targets, each_was_least = torch.nn.functional.mse_loss, [], set()

    def recording_mse_loss(x, target):
        regression_targets.append(target.detach().numpy().copy())
        return mse_loss(x, target)

    monkeypatch.setattr(td3_baseline.F, "mse_loss", recording_mse_loss)
    for update, batch in enumerate(batches(6), start=1):
        before = {name: value.clone() for name, value in agent.state_dict().items()}
        regression_targets.clear()
        torch.manual_seed(update)
        agent.update(tuple(torch.tensor(x) for x in batch))
        torch.manual_seed(update)
        noise = torch.randn(BATCH, ACT).numpy()
        y, losses, least = expected_update(nets, batch, noise, update, args)
        each_was_least |= least

        assert len(regression_targets) == args.num_critics
        for target in regression_targets:
            np.testing.assert_allclose(target, y, rtol=1e-10, atol=1e-12)
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
        delayed = {"actor", "actor_target", "critic_target"} if update % args.policy_frequency == 0 else set()
        assert moved == {"critic"} | delayed
    assert len(each_was_least) > 1 or args.num_critics == 1, "the same critic's target was always the least"


@pytest.mark.parametrize("noise_clip", [0.1, 2.0])
def test_smoothing_is_clipped_and_stays_within_the_bounds(noise_clip, float64):
    """Large noise: a' is at most noise_clip x scale from pi'(s'), and never outside the asymmetric bounds."""
    agent = distinct_agent(Args(**ARGS, policy_noise=5.0, noise_clip=noise_clip))
    seen = []
    agent.critic_target[0].register_forward_hook(lambda _module, inputs, _output: seen.append(inputs))
    agent.update(tuple(torch.tensor(x) for x in next(batches(1))))
    ((s, a),) = seen
    with torch.no_grad():
        shift = ((a - agent.actor_target(s)).numpy() / SCALE).ravel()
    if noise_clip == 0.1:
        assert np.abs(shift).max() == pytest.approx(0.1, rel=1e-9)
        assert np.isclose(np.abs(shift), 0.1).mean() > 0.8
    else:
        at_bounds = np.isclose(a.numpy(), LOW) | np.isclose(a.numpy(), HIGH)
        assert at_bounds.mean() > 0.3
        assert np.isclose(a.numpy(), LOW).any(0).all()
        assert np.isclose(a.numpy(), HIGH).any(0).all()
        assert ((a.numpy() > LOW - 1e-12) & (a.numpy() < HIGH + 1e-12)).all()


def test_gradients_only_for_what_is_stepped(float64):
    """The actor's loss leads through the critic and must leave no gradient on it."""
    agent = distinct_agent(Args(**ARGS, policy_frequency=1))
    gradients = {}
    for name, optimizer in agent.optimizers.items():

        def record(_optimizer, _args, _kwargs, name=name):
            gradients[name] = {k: p.grad.clone() for k, p in agent.named_parameters() if p.grad is not None}

        optimizer.register_step_pre_hook(record)
    agent.update(tuple(torch.tensor(x) for x in next(batches(1))))
    assert all(key.startswith("critic.") for key in gradients["critic"])
    for key, value in gradients["critic"].items():
        torch.testing.assert_close(gradients["actor"][key], value, rtol=0, atol=0)


TD3_DEFAULTS = {
    "num_critics": 2,
    "policy_noise": 0.2,
    "policy_frequency": 2,
    "learning_rate": 3e-4,
    "hidden_sizes": (256, 256),
}
DDPG_DEFAULTS = {
    "num_critics": 1,
    "policy_noise": 0.0,
    "policy_frequency": 1,
    "learning_rate": 1e-3,
    "hidden_sizes": (400, 300),
}


@pytest.mark.parametrize(("algorithm", "defaults"), [("td3", TD3_DEFAULTS), ("ddpg", DDPG_DEFAULTS)])
def test_defaults_are_what_the_algorithm_implies(algorithm, defaults):
    """Each can be given by itself, and only that one changes."""
    args = vars(Args(algorithm=algorithm))
    assert {name: args[name] for name in defaults} == defaults
    common = {"noise_clip": 0.5, "gamma": 0.99, "tau": 0.005, "batch_size": 256, "buffer_size": 1_000_000}
    common |= {"learning_starts": 10_000, "exploration_noise": 0.1, "eval_frequency": 5_000, "eval_episodes": 10}
    assert {name: args[name] for name in common} == common
    other = DDPG_DEFAULTS if algorithm == "td3" else TD3_DEFAULTS
    for name, value in other.items():
        assert vars(Args(algorithm=algorithm, **{name: value})) == args | {name: value}


@pytest.mark.parametrize("algorithm", ["td3", "ddpg"])
def test_the_saved_actor_acts_as_the_agent_did(algorithm, tmp_path, monkeypatch):
    kept = []

    class Kept(TD3):
        def __init__(self, *args, **hyperparameters):
            super().__init__(*args, **hyperparameters)
            kept.append(self)

    monkeypatch.setattr(td3_baseline, "TD3", Kept)
    run_dir = tmp_path / "run"
    args = Args(
        algorithm=algorithm,
        env_id="custom_envs:Walk-v0",
        total_timesteps=80,
        learning_starts=40,
        batch_size=16,
        eval_episodes=1,
        run_dir=str(run_dir),
    )
    train(args)
    model = torch.load(run_dir / "model.pt", weights_only=True)
    stored = json.loads((run_dir / "args.json").read_text())["args"]
    assert model["args"] == stored
    expected = TD3_DEFAULTS if algorithm == "td3" else DDPG_DEFAULTS
    assert {name: stored[name] for name in expected} == expected | {"hidden_sizes": list(expected["hidden_sizes"])}
    actor = Actor(model["obs_dim"], model["action_low"], model["action_high"], model["args"]["hidden_sizes"])
    actor.load_state_dict(model["actor"])
    for observation in np.random.default_rng(0).normal(size=(20, 2)):
        with torch.no_grad():
            action = actor(torch.as_tensor(observation, dtype=torch.float32).unsqueeze(0))[0].numpy()
        np.testing.assert_array_equal(action.astype(np.float64), kept[0].act(observation))
    low, high = np.array(model["action_low"]), np.array(model["action_high"])
    agent = make_agent(Args(**stored), model["obs_dim"], low, high)
    assert [list(network.state_dict()) for _, network in agent.named_children()] == [
        list(model[name]) for name in ("critic", "actor", "critic_target", "actor_target")
    ]
