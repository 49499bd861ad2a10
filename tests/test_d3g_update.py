"""One D3G update against a computation of its own: NumPy, float64, gradients and Adam by hand from the equations."""

import numpy as np
import pytest
import torch

import d3g_continuous
from d3g_continuous import D3G, Args

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


class Net:
    """A ReLU network as a list of (W [out, in], b [out]), its backward pass, and its Adam state."""

    def __init__(self, module):
        self.parameters = [p.detach().numpy().copy() for p in module.parameters()]
        self.m = [np.zeros_like(p) for p in self.parameters]
        self.v = [np.zeros_like(p) for p in self.parameters]
        self.t = 0

    def forward(self, *inputs):
        self.activations = [np.concatenate(inputs, 1)]
        for i in range(0, len(self.parameters), 2):
            z = self.activations[-1] @ self.parameters[i].T + self.parameters[i + 1]
            self.activations.append(np.maximum(z, 0) if i + 2 < len(self.parameters) else z)
        return self.activations[-1]

    def backward(self, grad):
        """From dL/d(output) of the last forward pass: dL/d(parameters) and dL/d(input)."""
        grads = []
        for i in range(len(self.parameters) - 2, -1, -2):
            x = self.activations[i // 2]
            grads = [grad.T @ x, grad.sum(0), *grads]
            grad = grad @ self.parameters[i]
            if i:
                grad = grad * (x > 0)
        return grads, grad

    def adam(self, grads, lr):
        self.t += 1
        for i, g in enumerate(grads):
            self.m[i] = 0.9 * self.m[i] + 0.1 * g
            self.v[i] = 0.999 * self.v[i] + 0.001 * g**2
            m_hat, v_hat = self.m[i] / (1 - 0.9**self.t), self.v[i] / (1 - 0.999**self.t)
            self.parameters[i] -= lr * m_hat / (np.sqrt(v_hat) + 1e-8)


def scaled_tanh(z):
    return np.tanh(z) * (HIGH - LOW) / 2 + (HIGH + LOW) / 2


def expected_update(nets, batch, update, cycle, gamma, tau, beta, learning_rate, policy_frequency, **_):
    """Section 2 of the specification, steps 1 to 5, on `nets`; returns the target y and the losses."""
    s, a, r, s2, d = batch
    n = len(s)
    # 1. y = r + gamma (1 - d) min_i Q'_i(s', c)
    p = s2 + nets["proposal_target"].forward(s2)
    if cycle:
        c = s2 + nets["forward_dynamics"].forward(s2, scaled_tanh(nets["inverse_dynamics"].forward(s2, p)))
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
    error = scaled_tanh(z) - a
    losses["inverse_dynamics_loss"] = (error**2).mean()
    grad = 2 * error / error.size * (HIGH - LOW) / 2 * (1 - np.tanh(z) ** 2)
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
            c = s + nets["forward_dynamics"].forward(s, scaled_tanh(z))
        else:
            c = p
        q = nets["critic.0"].forward(s, c)
        losses["proposal_loss"] = -q.mean()
        d_c = nets["critic.0"].backward(-np.ones_like(q) / n)[1][:, OBS:]
        if cycle:
            losses["proposal_loss"] += beta * ((c - p) ** 2).mean()
            d_c = d_c + beta * 2 * (c - p) / p.size
            d_a = nets["forward_dynamics"].backward(d_c)[1][:, OBS:]
            d_z = d_a * (HIGH - LOW) / 2 * (1 - np.tanh(z) ** 2)
            d_p = nets["inverse_dynamics"].backward(d_z)[1][:, OBS:] - beta * 2 * (c - p) / p.size
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
    agent = D3G(OBS, LOW, HIGH, Args(**ARGS | changes))
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
