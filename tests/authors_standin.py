"""Stand-ins for the authors' classes, as benchmark/lockstep.py calls them: names and interface theirs, the code ours.

A test copies this file to every name under which lockstep.py looks for one of the classes.
"""

import copy

import torch
import torch.nn.functional as F
from torch import nn


def network(*sizes):
    layers = []
    for n, m in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(n, m), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Learner:
    """Adam for some networks, slow copies of others."""

    def learn(self, rate, **networks):
        self.adam = {}
        for name, module in networks.items():
            setattr(self, name, module)
            self.adam[name] = torch.optim.Adam(module.parameters(), lr=rate)
        self.count = 0

    def follow(self, *names):
        self.slow = names
        for name in names:
            setattr(self, f"{name}_target", copy.deepcopy(getattr(self, name)))

    def descend(self, name, loss):
        self.adam[name].zero_grad()
        loss.backward()
        self.adam[name].step()

    def move(self):
        for name in self.slow:
            fast = getattr(self, name).parameters()
            for p, q in zip(getattr(self, f"{name}_target").parameters(), fast, strict=True):
                p.data = 0.995 * p.data + 0.005 * q.data

    def bounded(self, network, *inputs):
        return self.bound * torch.tanh(network(torch.cat(inputs, 1)))


def values(critics, *inputs):
    return [critic(torch.cat(inputs, 1)) for critic in critics]


class Twins(Learner):
    """What both versions of D3G share."""

    def regress(self, s, s_next, r, alive):
        with torch.no_grad():
            aim = s_next + self.model_target(s_next)
            reached = s_next + self.difference(s_next, aim, self.critic_target)
            y = r + 0.99 * alive * torch.minimum(*values(self.critic_target, s_next, reached))
        self.descend("critic", sum(F.mse_loss(q, y) for q in values(self.critic, s, s_next)))

    def propose(self, s):
        aim = s + self.model(s)
        reached = s + self.difference(s, aim, self.critic)
        self.descend("model", F.mse_loss(reached, aim) - values(self.critic, s, reached)[0].mean())
        self.move()

    def fit_actor(self, s, a, s_next):
        self.descend("actor", F.mse_loss(self.bounded(self.actor, s, s_next), a))

    def fit_forward(self, s, given, s_next):
        self.descend("forward_model", F.mse_loss(self.forward_model(torch.cat([s, given], 1)), s_next - s))


class ActingD3G(Twins):
    def difference(self, s, aim, critics):
        return self.forward_model(torch.cat([s, self.bounded(self.actor, s, aim)], 1))

    def train(self, buffer, batch_size):
        s, a, s_next, r, alive = buffer.sample(batch_size)
        self.count += 1
        self.regress(s, s_next, r, alive)
        self.fit_actor(s, a, s_next)
        self.fit_forward(s, a, s_next)
        if self.count % 2 == 0:
            self.propose(s)


class WatchingD3G(Twins):
    def difference(self, s, aim, critics):
        return self.forward_model(torch.cat([s, values(critics, s, aim)[0]], 1))

    def select_goal(self, s):
        s = torch.FloatTensor(s.reshape(1, -1))
        with torch.no_grad():
            return (s + self.difference(s, s + self.model(s), self.critic_target)).numpy().flatten()

    def train_actor(self, buffer):
        s, a, s_next, _, _ = buffer.sample(self.batch_size)
        self.fit_actor(s, a, s_next)

    def train(self, buffer):
        s, _, s_next, _, r, _, alive = buffer.sample(self.batch_size)
        self.count += 1
        self.regress(s, s_next, r, alive)
        with torch.no_grad():
            given = values(self.critic_target, s, s_next)[0]
        self.fit_forward(s, given, s_next)
        if self.count % 2 == 0:
            self.propose(s)


def D3G(n, m, bound, summary_name=None, batch_size=None):  # noqa: N802
    """The class of D3G.py, or with `summary_name` that of ObservationalD3G.py."""
    agent = ActingD3G() if summary_name is None else WatchingD3G()
    agent.bound = bound
    agent.batch_size = batch_size
    agent.learn(
        3e-4,
        critic=nn.ModuleList(network(2 * n, 256, 256, 1) for _ in range(2)),
        model=network(n, 256, 256, n),
        actor=network(2 * n, 256, 256, m),
        forward_model=network(n + (m if summary_name is None else 1), 256, 256, n),
    )
    agent.follow("critic", "model")
    return agent


class TD3(Learner):
    def __init__(self, n, m, bound, policy_noise, noise_clip):
        self.bound = bound
        self.noise = (policy_noise, noise_clip)
        critic = nn.ModuleList(network(n + m, 256, 256, 1) for _ in range(2))
        self.learn(3e-4, critic=critic, actor=network(n, 256, 256, m))
        self.follow("critic", "actor")

    def train(self, buffer, batch_size):
        s, a, s_next, r, alive = buffer.sample(batch_size)
        self.count += 1
        with torch.no_grad():
            noise = (torch.randn_like(a) * self.noise[0]).clip(-self.noise[1], self.noise[1])
            a_next = (self.bounded(self.actor_target, s_next) + noise).clip(-self.bound, self.bound)
            y = r + 0.99 * alive * torch.minimum(*values(self.critic_target, s_next, a_next))
        self.descend("critic", sum(F.mse_loss(q, y) for q in values(self.critic, s, a)))
        if self.count % 2 == 0:
            self.descend("actor", -values(self.critic, s, self.bounded(self.actor, s))[0].mean())
            self.move()


class DDPG(Learner):
    def __init__(self, n, m, bound):
        self.bound = bound
        self.learn(1e-3, critic=network(n + m, 400, 300, 1), actor=network(n, 400, 300, m))
        self.follow("critic", "actor")

    def train(self, buffer, batch_size):
        s, a, s_next, r, alive = buffer.sample(batch_size)
        with torch.no_grad():
            a_next = self.bounded(self.actor_target, s_next)
            y = r + 0.99 * alive * self.critic_target(torch.cat([s_next, a_next], 1))
        self.descend("critic", F.mse_loss(self.critic(torch.cat([s, a], 1)), y))
        self.descend("actor", -self.critic(torch.cat([s, self.bounded(self.actor, s)], 1)).mean())
        self.move()


class BCO(Learner):
    def __init__(self, n, m, bound, batch_size):
        self.bound = bound
        self.batch_size = batch_size
        self.learn(3e-4, actor=network(2 * n, 256, 256, m), bc=network(n, 256, 256, m))

    def train_actor(self, buffer):
        s, a, s_next, _, _ = buffer.sample(self.batch_size)
        self.descend("actor", F.mse_loss(self.bounded(self.actor, s, s_next), a))

    def train_bc(self, buffer):
        s, s_next = buffer.sample(self.batch_size)
        with torch.no_grad():
            a = self.bounded(self.actor, s, s_next)
        self.descend("bc", F.mse_loss(self.bounded(self.bc, s), a))
