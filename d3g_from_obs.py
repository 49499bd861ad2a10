# /// script
# requires-python = ">=3.11,<3.15"
# dependencies = [
#     "gymnasium[mujoco]==1.4.0",
#     "mujoco==4.0.0",
#     "numpy==2.4.6",
#     "tensorboard==2.21.0",
#     "torch==2.13.0",
#     "tqdm==4.70.1",
#     "tyro==1.0.17",
# ]
# ///
"""D3G from observations without actions: Table 1 and Figure 8 of Edwards et al., ICML 2020.

    python d3g_from_obs.py --env-id InvertedPendulum-v4

It learns from a data set of transitions (s, r, s', terminated). Then it acts, and from there on trains the inverse
dynamics only. By default the data are those of a random policy; `--collect` makes others, `--dataset` learns from them:

    python d3g_from_obs.py --demonstrator runs/expert/model.pt --randomness 0.5 --collect half.npz
    python d3g_from_obs.py --dataset half.npz

D3G+ is ours and has four options, `--standardize --scale-states --clamp-values --aim-halfway`:

    --standardize    in place of s' the networks see s' - s, in units of its standard deviation over the data
    --scale-states   in place of s they see s divided by its root mean square over the data
    --clamp-values   the value q for which the forward dynamics gives a next state, and the value of the next state in
                     the target, are kept within the values of the batch's transitions
    --aim-halfway    it acts towards halfway between the proposal and the next state that the forward dynamics gives
                     for the proposal's value
"""

import copy
import fcntl
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn, TextIO

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
import tyro
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm


@dataclass
class Args:
    """Learn from a data set of observations, then act in rounds that train only the inverse dynamics."""

    # Experiment
    exp_name: str = "d3g_from_obs"  # the name of this experiment, part of the default run folder
    seed: int = 1  # seed of the networks, the exploration, the batches and the episodes, not of the data set
    torch_deterministic: bool = True  # on a GPU, use only kernels that repeat bit by bit (a CPU run always does)
    cuda: bool = True  # use a GPU if there is one
    num_threads: int = 1  # CPU threads; 1 is best for seeds side by side, raise it for a single run
    run_dir: str | None = None  # the run's folder; by default runs/{env_id}__{exp_name}__{seed}__{unix time}
    resume: bool = False  # continue the run in --run-dir from its checkpoint, or start it if there is none
    checkpoint_frequency: int = 50_000  # offline updates between checkpoints; online there is one in every round

    # Environment, data and budget
    env_id: str = "InvertedPendulum-v4"  # the Gymnasium task, Id-v0 or module:Id-v0
    dataset: str | None = None  # the FILE.npz to learn from; by default random data, in datasets/ or collected there
    collect: str | None = None  # collect a data set into this FILE.npz, as the next four arguments say, and stop
    demonstrator: str | None = None  # the model.pt of a run of td3_baseline.py that acts where --randomness is below 1
    randomness: float = 1.0  # probability with which a uniformly random action replaces the demonstrator's
    dataset_size: int = 1_000_000  # transitions to collect
    dataset_seed: int = 0  # seed of the collection
    offline_updates: int = 1_000_000  # updates on the data set, before any acting
    rounds: int = 100  # online rounds: an evaluation, steps in the task, updates of the inverse dynamics
    steps_per_round: int = 1_000  # environment steps per round
    inverse_updates: int = 10_000  # updates of the inverse dynamics per round, on the steps of all rounds so far
    eval_frequency: int = 1_000  # offline updates between evaluations of the imagined plan
    eval_episodes: int = 10  # noise-free episodes, and imagined plans, per evaluation; always the same start states

    # Algorithm
    learning_rate: float = 3e-4  # learning rate of every Adam optimiser
    hidden_sizes: tuple[int, ...] = (256, 256)  # widths of the hidden layers of every network
    batch_size: int = 256  # transitions per update
    gamma: float = 0.99  # discount factor
    tau: float = 0.005  # step of the target networks towards the online ones (the paper's eta)
    policy_frequency: int = 2  # the paper's d: the proposal and the target networks change at every d-th update
    exploration_noise: float = 0.1  # standard deviation of the exploration noise, in units of the action scale
    beta: float = 1.0  # weight of the distance between a proposal and its cycle (Eq. 12)
    standardize: bool = False  # D3G+ (ours), 1 of 4: give the networks s' - s over its standard deviation, not s'
    scale_states: bool = False  # D3G+, 2 of 4: give them s divided by its root mean square; needs --standardize
    clamp_values: bool = False  # D3G+, 3 of 4: keep values of proposals within those of the batch's transitions
    aim_halfway: bool = False  # D3G+, 4 of 4: act towards halfway between the proposal and the plan's next state


# Copied from d3g_continuous.MLP
class MLP(nn.Module):
    """Multilayer perceptron with ReLUs, over its inputs side by side: [batch, n_1], ... -> [batch, sizes[-1]]."""

    def __init__(self, *sizes: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(n, m) for n, m in zip(sizes[:-1], sizes[1:], strict=True))

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        *hidden, output = self.layers
        x = torch.cat(inputs, 1)
        for layer in hidden:
            x = torch.relu_(layer(x))
        return output(x)


# Copied from d3g_continuous.InverseDynamics
class InverseDynamics(MLP):
    """I_omega (Eq. 10): s, s' [batch, obs_dim] -> action [batch, action_dim], a tanh scaled to the action bounds."""

    def __init__(self, obs_dim: int, action_low: np.ndarray, action_high: np.ndarray, hidden_sizes: tuple[int, ...]):
        super().__init__(2 * obs_dim, *hidden_sizes, len(action_low))
        low = torch.as_tensor(action_low, dtype=torch.get_default_dtype())
        high = torch.as_tensor(action_high, dtype=torch.get_default_dtype())
        self.register_buffer("action_scale", (high - low) / 2)
        self.register_buffer("action_bias", (high + low) / 2)

    def forward(self, s: torch.Tensor, s_next: torch.Tensor) -> torch.Tensor:
        return torch.tanh(super().forward(s, s_next)) * self.action_scale + self.action_bias


# Copied from td3_baseline.Actor
class Actor(MLP):
    """pi_psi: s [batch, obs_dim] -> action [batch, action_dim], a tanh scaled to the action bounds."""

    def __init__(self, obs_dim: int, action_low: np.ndarray, action_high: np.ndarray, hidden_sizes: tuple[int, ...]):
        super().__init__(obs_dim, *hidden_sizes, len(action_low))
        low = torch.as_tensor(action_low, dtype=torch.get_default_dtype())
        high = torch.as_tensor(action_high, dtype=torch.get_default_dtype())
        self.register_buffer("action_scale", (high - low) / 2)
        self.register_buffer("action_bias", (high + low) / 2)

    def forward(self, s: torch.Tensor) -> torch.Tensor:
        return torch.tanh(super().forward(s)) * self.action_scale + self.action_bias


# Copied from d3g_continuous.ReplayBuffer
class ReplayBuffer:
    """The last `capacity` transitions as float32 rows (s, a, r, s', terminated); memory is used only as it fills."""

    def __init__(self, capacity: int, obs_dim: int, action_dim: int):
        self.widths = (obs_dim, action_dim, 1, obs_dim, 1)
        self.rows = np.zeros((capacity, sum(self.widths)), np.float32)
        self.added = 0

    def add(self, s: np.ndarray, a: np.ndarray, r: float, s_next: np.ndarray, terminated: bool) -> None:
        """Store a transition of s, s' [obs_dim] and a [action_dim] over the oldest one.

        `terminated` is false where only a time limit ended the episode.
        """
        self.rows[self.added % len(self.rows)] = np.concatenate((s, a, [r], s_next, [terminated]))
        self.added += 1

    def sample(self, batch_size: int, rng: np.random.Generator, device: torch.device) -> tuple[torch.Tensor, ...]:
        """Draw (s, a, r, s', terminated), each [batch, width], uniformly with replacement, in torch's default dtype."""
        rows = self.rows[rng.integers(min(self.added, len(self.rows)), size=batch_size)]
        return torch.as_tensor(rows, dtype=torch.get_default_dtype(), device=device).split(self.widths, dim=1)


class D3G(nn.Module):
    """The agent of Algorithm 1, imitation branch, and of the online rounds: networks, optimisers, updates, acting.

    critic            Q_theta1, Q_theta2   s, s' [batch, obs_dim] -> [batch, 1], each
    proposal          tau_psi              s -> [batch, obs_dim], such that s + tau(s) is the proposed next state
    forward_dynamics  f_phi                s, q [batch, 1] -> [batch, obs_dim], such that s + f(s, q) is where a
                                           transition of value q leads from s
    inverse_dynamics  I_omega              s, s' -> [batch, action_dim], learned online

    D3G+, ours and not the paper's, has four options. The first two change the networks' inputs:

                                                                  without    with the option
    scale(s), for a state s                    (`scale_states`)   s          s / state_scale, one number
    encode(s, s'), for the next state s'       (`standardize`)    s'         (s' - s) / sigma [obs_dim]
    encode_difference(s, d), for s + d         (`standardize`)    s + d      d, a difference in units of sigma

    A difference d is what tau or f gives. `set_units` and `set_state_scale` fix sigma and state_scale before the first
    update. `scale_states` needs `standardize`, since s / state_scale + d would not be in the units of s'. With
    `clamp_values` the q that the cycle gives to f and the next state's value in the target (Eq. 13) are clamped to
    [`value_low`, `value_high`], the lowest and the highest Q_1'(s, s') of the batch. A proposal whose q is outside has
    no gradient through q; only its distance from the cycle moves it.

    With `aim_halfway` it acts towards (p + C(s, p)) / 2 in place of p. Nothing that is learned offline depends on it.

    `action_low` and `action_high` are the bounds [action_dim]; the hyperparameters are explained in `Args`.
    """

    def __init__(
        self,
        obs_dim: int,
        action_low: np.ndarray,
        action_high: np.ndarray,
        *,
        learning_rate: float = 3e-4,
        hidden_sizes: tuple[int, ...] = (256, 256),
        gamma: float = 0.99,
        tau: float = 0.005,
        policy_frequency: int = 2,
        beta: float = 1.0,
        standardize: bool = False,
        scale_states: bool = False,
        clamp_values: bool = False,
        aim_halfway: bool = False,
    ):
        super().__init__()
        if scale_states and not standardize:
            raise ValueError("scale_states needs standardize")
        self.action_low = action_low
        self.action_high = action_high
        self.gamma = gamma
        self.tau = tau
        self.policy_frequency = policy_frequency
        self.beta = beta
        self.standardize = standardize
        self.scale_states = scale_states
        self.clamp_values = clamp_values
        self.aim_halfway = aim_halfway
        if standardize:
            self.register_buffer("sigma", torch.ones(obs_dim))
        if scale_states:
            self.register_buffer("state_scale", torch.ones(()))
        if clamp_values:
            self.register_buffer("value_low", torch.tensor(-torch.inf))
            self.register_buffer("value_high", torch.tensor(torch.inf))

        self.critic = nn.ModuleList(MLP(2 * obs_dim, *hidden_sizes, 1) for _ in range(2))
        self.proposal = MLP(obs_dim, *hidden_sizes, obs_dim)
        self.inverse_dynamics = InverseDynamics(obs_dim, action_low, action_high, hidden_sizes)
        self.forward_dynamics = MLP(obs_dim + 1, *hidden_sizes, obs_dim)
        self.optimizers = {}  # one for each network above; the targets below are not trained
        for name, network in self.named_children():
            self.optimizers[name] = torch.optim.Adam(network.parameters(), learning_rate, fused=True)

        self.critic_target = copy.deepcopy(self.critic).requires_grad_(False)
        self.proposal_target = copy.deepcopy(self.proposal).requires_grad_(False)
        self.online = [*self.critic.parameters(), *self.proposal.parameters()]
        self.targets = [*self.critic_target.parameters(), *self.proposal_target.parameters()]
        self.updates = 0
        self.losses = {}

    # Copied from d3g_continuous.D3G.set_units
    def set_units(self, s: np.ndarray, s_next: np.ndarray) -> None:
        """Fix sigma, the standard deviation of s' - s over transitions [n, obs_dim]; 1 where it is below 1e-6."""
        deviation = np.std(s_next.astype(np.float64) - s, axis=0)
        deviation[deviation < 1e-6] = 1.0
        self.sigma.copy_(torch.as_tensor(deviation))

    def set_state_scale(self, s: np.ndarray) -> None:
        """Fix the root mean square of all components of states [n, obs_dim], one number; 1 if it is below 1e-6."""
        scale = np.sqrt(np.mean(np.square(s, dtype=np.float64)))
        self.state_scale.fill_(1.0 if scale < 1e-6 else scale)

    def scale(self, s: torch.Tensor) -> torch.Tensor:
        """The networks' input for a state s: s itself, or with `scale_states` s / state_scale. All [batch, obs_dim]."""
        return s / self.state_scale if self.scale_states else s

    # Copied from d3g_continuous.D3G.encode
    def encode(self, s: torch.Tensor, s_next: torch.Tensor) -> torch.Tensor:
        """The networks' input for the next state s': s' itself, or (s' - s) / sigma. All [batch, obs_dim]."""
        return (s_next - s) / self.sigma if self.standardize else s_next

    def decode(self, s: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The state that the input `x` stands for: the inverse of `encode`. All [batch, obs_dim]."""
        return s + self.sigma * x if self.standardize else x

    # Copied from d3g_continuous.D3G.encode_difference
    def encode_difference(self, s: torch.Tensor, difference: torch.Tensor) -> torch.Tensor:
        """The networks' input for s + a difference that tau or f gave: that sum, or the difference itself.

        All [batch, obs_dim].
        """
        return difference if self.standardize else s + difference

    def clamp(self, q: torch.Tensor) -> torch.Tensor:
        """q itself, or with `clamp_values` the nearest value from value_low to value_high. Both [batch, 1]."""
        return q.clamp(self.value_low, self.value_high) if self.clamp_values else q

    def cycle(self, s: torch.Tensor, p: torch.Tensor, critic: nn.ModuleList) -> torch.Tensor:
        """C(s, p) of Algorithm 2, imitation: q = Q_1(s, p) by `critic`, clamped, then s + f(s, q): [batch, obs_dim].

        s [batch, obs_dim] is as `scale` gives it, p [batch, obs_dim] as `encode_difference` does.
        """
        q = self.clamp(critic[0](s, p))
        return self.encode_difference(s, self.forward_dynamics(s, q))

    def update(self, batch: tuple[torch.Tensor, ...]) -> None:
        """Learn from a batch s, a (empty), r, s', terminated, each [batch, width]; leave the losses in `self.losses`.

        |...|^2 is the mean of squares over batch and components, as in the authors' code; the paper prints norms.
        The order of the steps is theirs, too: the paper's Algorithm 1 has proposal and targets before the forward
        dynamics. The comments are those of D3G; in D3G+ x, p and c are differences in units of sigma, so that p is
        tau(s) and c is f(s, Q_1(s, p)).
        """
        s, _, r, s_next, terminated = batch
        x = self.encode(s, s_next)  # the networks' input for s' as the next state
        s = self.scale(s)  # their inputs for s and s' as states from which a transition starts
        s_next = self.scale(s_next)
        self.updates += 1

        # Q_1'(s, s'), from which f learns (Eq. 14); in D3G+ `clamp` keeps values within its range over the batch
        q_data = self.critic_target[0](s, x)
        if self.clamp_values:
            self.value_low.copy_(q_data.min())
            self.value_high.copy_(q_data.max())

        # Eq. 13, target, its cycle with the target critic's q as in the authors' code (Algorithm 2 prints Q_theta):
        # y = r + gamma (1 - terminated) min_i Q_i'(s', C(s', s' + tau'(s')))
        with torch.no_grad():
            c = self.cycle(s_next, self.encode_difference(s_next, self.proposal_target(s_next)), self.critic_target)
            q1, q2 = (critic(s_next, c) for critic in self.critic_target)
            y = r + self.gamma * (1 - terminated) * self.clamp(torch.min(q1, q2))

        # Eq. 6, critics: minimise sum_i |y - Q_i(s, s')|^2
        q1, q2 = (critic(s, x) for critic in self.critic)
        self.minimise("critic", F.mse_loss(q1, y) + F.mse_loss(q2, y))
        self.losses["qf1_values"] = q1.detach().mean()

        # Eq. 14, forward dynamics: minimise |s + f(s, Q_1'(s, s')) - s'|^2
        self.minimise("forward_dynamics", F.mse_loss(self.encode_difference(s, self.forward_dynamics(s, q_data)), x))

        if self.updates % self.policy_frequency == 0:
            # Eq. 12, proposal p = s + tau(s): minimise -Q_1(s, C(s, p)) + beta |p - C(s, p)|^2. The gradient reaches
            # tau through p and, in C(s, p) = s + f(s, q), through q = Q_1(s, p).
            p = self.encode_difference(s, self.proposal(s))
            c = self.cycle(s, p, self.critic)
            self.minimise("proposal", -self.critic[0](s, c).mean() + self.beta * F.mse_loss(c, p))

            # Algorithm 1, lines 22-24, targets (eta is self.tau): theta' <- eta theta + (1 - eta) theta', psi' likewise
            with torch.no_grad():
                for target, online in zip(self.targets, self.online, strict=True):
                    target.lerp_(online, self.tau)

    def update_inverse_dynamics(self, batch: tuple[torch.Tensor, ...]) -> None:
        """Eq. 10 on a batch s, a, r, s', terminated from acting: minimise |I(s, s') - a|^2."""
        s, a, _, s_next, _ = batch
        x = self.encode(s, s_next)
        self.minimise("inverse_dynamics", F.mse_loss(self.inverse_dynamics(self.scale(s), x), a))

    # Copied from d3g_continuous.D3G.minimise
    def minimise(self, name: str, loss: torch.Tensor) -> None:
        """One Adam step of network `name` on `loss`; no other network gets gradients, wherever `loss` leads."""
        optimizer = self.optimizers[name]
        parameters = optimizer.param_groups[0]["params"]
        gradients = torch.autograd.grad(loss, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        self.losses[f"{name}_loss"] = loss.detach()

    def aim(self, s: torch.Tensor) -> torch.Tensor:
        """What to act towards from s: p = s + tau(s), or with `aim_halfway` (p + C(s, p)) / 2. Both [batch, obs_dim].

        s is as `scale` gives it, the result as `encode_difference` does: `decode` makes a state of it. The q of C is
        the target critic's, as in `imagine`; with `clamp_values` it is clamped to those of the last batch.
        """
        p = self.encode_difference(s, self.proposal(s))
        if self.aim_halfway:
            return (p + self.cycle(s, p, self.critic_target)) / 2
        return p

    @torch.inference_mode()
    def act(self, observation: np.ndarray, noise: np.ndarray | float = 0.0) -> np.ndarray:
        """Eq. 9: I(s, s + tau(s)) + noise, or with `aim_halfway` what `aim` gives in place of s + tau(s).

        For one observation [obs_dim], clipped to the action bounds [action_dim].
        """
        bias = self.inverse_dynamics.action_bias  # has the dtype and the device of the networks
        s = self.scale(torch.as_tensor(observation, dtype=bias.dtype, device=bias.device).unsqueeze(0))
        action = self.inverse_dynamics(s, self.aim(s)).squeeze(0).cpu().numpy()
        return np.clip(action + noise, self.action_low, self.action_high).astype(self.action_low.dtype)

    @torch.inference_mode()
    def imagine(self, s: torch.Tensor, steps: int) -> torch.Tensor:
        """The plan from s [n, obs_dim], by s <- C(s, s + tau(s)): the states after it [steps, n, obs_dim].

        The q of C is the target critic's.
        """
        plan = []
        for _ in range(steps):
            scaled = self.scale(s)
            p = self.encode_difference(scaled, self.proposal(scaled))
            c = self.cycle(scaled, p, self.critic_target)
            s = self.decode(s, c)
            plan.append(s)
        return torch.stack(plan)


# Copied from d3g_continuous.evaluate
def evaluate(agent, env: gym.Env, seeds: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Act with `agent.act`, an episode per seed; return the undiscounted returns and the lengths, each [episodes]."""
    returns = np.zeros(len(seeds))
    lengths = np.zeros(len(seeds))
    for k, seed in enumerate(seeds):
        observation, _ = env.reset(seed=seed)
        done = False
        while not done:
            observation, reward, terminated, truncated, _ = env.step(agent.act(observation))
            returns[k] += reward
            lengths[k] += 1
            done = terminated or truncated
    return returns, lengths


def steps_inside(plan: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """How many steps imagined states [steps, n, obs_dim] stay within `low` and `high` [obs_dim]: [n].

    They may leave this range by 1% of its width; a component that is constant in it does not count.
    """
    middle = (low + high) / 2
    inside = abs(plan - middle) <= 0.51 * (high - low)
    constant = low == high
    all_inside = (inside | constant).all(axis=2)
    so_far_inside = np.cumprod(all_inside, axis=0)
    return so_far_inside.sum(axis=0)


def train(args: Args) -> Path:
    """Train D3G as `args` say and return the run's folder; with `collect`, only collect data and return their file.

    On the same CPU, equal `args` and data give equal numbers.
    """
    check_args(args)
    env = make_env(args.env_id)
    eval_env = make_env(args.env_id)
    obs_dim = env.observation_space.shape[0]
    low = env.action_space.low
    high = env.action_space.high
    if args.collect is not None:
        return collect(args, Path(args.collect), env)

    with open_run(args, args.run_dir or new_folder(f"{args.env_id}__{args.exp_name}__{args.seed}")) as run:
        if run.is_complete():
            return run.folder
        if args.dataset is not None:
            file = Path(args.dataset)
        else:
            file = collect(args, Path("datasets", f"{re.sub('[/:]', '_', args.env_id)}__random.npz"), env)
        data = load_dataset(file, args.env_id, obs_dim, run.info)
        if args.standardize and len(data.rows) < 2:
            fail(f"--dataset {file}: must have at least 2 transitions with --standardize")
        device = prepare_torch(args)
        rng = np.random.default_rng(args.seed)
        # The start states of evaluations, apart from those of training (episode_seed)
        eval_seeds = np.random.SeedSequence((args.seed, 2)).generate_state(args.eval_episodes).tolist()
        agent = D3G(
            obs_dim,
            low,
            high,
            learning_rate=args.learning_rate,
            hidden_sizes=args.hidden_sizes,
            gamma=args.gamma,
            tau=args.tau,
            policy_frequency=args.policy_frequency,
            beta=args.beta,
            standardize=args.standardize,
            scale_states=args.scale_states,
            clamp_values=args.clamp_values,
            aim_halfway=args.aim_halfway,
        ).to(device)
        observations = data.rows[:, :obs_dim]  # of the columns s, r, s', terminated; there is no a
        if args.standardize:
            agent.set_units(s=observations, s_next=data.rows[:, -1 - obs_dim : -1])
        if args.scale_states:
            agent.set_state_scale(observations)
        total_steps = args.rounds * args.steps_per_round
        replay = ReplayBuffer(total_steps, obs_dim, len(low))
        progress = run.start(agent, replay, rng, {"step": 0, "episode": 0})
        step = progress["step"]
        episode = progress["episode"]
        total = args.offline_updates + total_steps
        done_before = agent.updates + step
        run.bar = tqdm(total=total, initial=done_before, file=sys.stdout, disable=not sys.stdout.isatty())
        run.offset = agent.updates  # TensorBoard's axis: offline updates, then online steps after them

        # Offline: learn Q, tau and f from the data
        starts = [np.copy(eval_env.reset(seed=seed)[0]) for seed in eval_seeds]  # some tasks reuse their array
        starts = torch.as_tensor(np.stack(starts), dtype=torch.get_default_dtype(), device=device)
        data_low = observations.min(axis=0)
        data_high = observations.max(axis=0)
        while agent.updates < args.offline_updates:
            agent.update(data.sample(args.batch_size, rng, device))
            run.bar.update()
            run.offset = agent.updates
            if agent.updates % 100 == 0:
                run.log_losses(step)
            if agent.updates % args.eval_frequency == 0:
                plan = agent.imagine(starts, steps=200).cpu().numpy()
                inside = steps_inside(plan, data_low, data_high)
                run.log({"plan/steps_inside_data": inside.mean()}, step)
                run.say(f"update {agent.updates}: plans stay in the data for {inside.tolist()} steps")
            run.pause(agent.updates % args.checkpoint_frequency == 0, {"step": step, "episode": episode})

        # Online: act in rounds, and learn I alone. Every round begins with its evaluation, so that the I which the
        # last round leaves is not evaluated. A run that resumed at the start of a round has that evaluation already
        while step < total_steps:
            if step == len(run.evaluations) * args.steps_per_round:
                check_finite(agent.state_dict(), step + run.offset)
                seconds = run.seconds()
                returns, lengths = evaluate(agent, eval_env, eval_seeds)
                run.add_evaluation(step, returns, lengths, seconds)
            run.pause(True, {"step": step, "episode": episode})

            done = True
            for _ in range(args.steps_per_round):
                if done:
                    observation, _ = env.reset(seed=episode_seed(args.seed, episode))
                    observation = np.copy(observation)  # some tasks reuse their array
                    check_finite({"observation": observation}, step + run.offset)
                    episode += 1
                    episode_return = 0.0
                    episode_length = 0
                noise = rng.normal(0, args.exploration_noise, len(low)) * (high - low) / 2
                action = agent.act(observation, noise)
                next_observation, reward, terminated, truncated, _ = env.step(action)
                replay.add(observation, action, reward, next_observation, terminated)
                observation = np.copy(next_observation)
                done = terminated or truncated
                step += 1
                episode_return += reward
                episode_length += 1
                run.bar.update()
                check_finite({"observation": observation, "reward": reward}, step + run.offset)
                if done:
                    run.log_episode(episode_return, episode_length, step)
            for _ in range(args.inverse_updates):
                agent.update_inverse_dynamics(replay.sample(args.batch_size, rng, device))
            check_finite(agent.losses, step + run.offset)
            # Not run.log_losses: the other losses are still those of the offline phase
            run.log({"losses/inverse_dynamics_loss": agent.losses["inverse_dynamics_loss"]}, step)

        check_finite(agent.state_dict(), step + run.offset)
        run.finish(
            {"obs_dim": obs_dim, "action_dim": len(low), "action_low": low.tolist(), "action_high": high.tolist()}
        )
    print(f"run folder: {run.folder}; draw it: python benchmark/figure8.py {run.folder}")
    return run.folder


class NoisyDemonstrator:
    """The policy behind a data set: a demonstrator's action, or with probability p a uniformly random one."""

    def __init__(self, args: Args, env: gym.Env, rng: np.random.Generator):
        self.randomness = args.randomness
        self.low = env.action_space.low
        self.high = env.action_space.high
        self.rng = rng
        if args.randomness < 1:
            self.actor = load_demonstrator(args, env).double()

    @torch.inference_mode()
    def act(self, observation: np.ndarray) -> np.ndarray:
        """An action [action_dim] for one observation [obs_dim].

        The demonstrator computes in float64, where processors differ in the last bits. Rounded to float32, the type of
        a MuJoCo task's actions, the results are nearly always equal, so that the same demonstrator makes the same data
        on every processor, except for rare actions and what follows from them in their episodes.
        """
        if self.rng.random() < self.randomness:
            a = self.rng.uniform(self.low, self.high)
        else:
            a = self.actor(torch.as_tensor(observation, dtype=torch.float64).unsqueeze(0)).squeeze(0).numpy()
        return a.astype(self.low.dtype)


def collect(args: Args, file: Path, env: gym.Env) -> Path:
    """Collect a data set of transitions (s, r, s', terminated) into `file`, unless it is there; return `file`.

    The JSON file beside it says how it was made, its mean return, and its policy's score in Table 1, which is the
    highest of 100 evaluations of 10 episodes.
    """
    how = describe_collection(args)
    if is_collected(file, how):
        return file
    torch.set_num_threads(args.num_threads)
    obs_dim = env.observation_space.shape[0]
    rng = np.random.default_rng(args.dataset_seed)
    policy = NoisyDemonstrator(args, env, rng)
    bytes_per_row = 4 * (2 * obs_dim + 1) + 1  # s, s' and r in float32, terminated in a byte
    with reserve(file, size=args.dataset_size * bytes_per_row):
        print(f"collecting {file}", flush=True)
        data = ReplayBuffer(args.dataset_size, obs_dim, 0)
        bar = tqdm(total=args.dataset_size, file=sys.stdout, disable=not sys.stdout.isatty())
        while data.added < args.dataset_size:
            observation, _ = env.reset(seed=int(rng.integers(2**31)))
            check_finite({"observation": observation}, data.added)
            done = False
            while not done:
                s = np.copy(observation)  # some tasks reuse their array
                observation, reward, terminated, truncated, _ = env.step(policy.act(s))
                check_finite({"observation": observation, "reward": reward}, data.added)
                done = terminated or truncated
                if data.added < args.dataset_size:  # the last episode is played to its end
                    data.add(s, [], reward, observation, terminated)
                    bar.update()
            stop_collecting_on_a_signal()
        bar.close()
        check_finite({"a value of the data in 32 bits": data.rows}, data.added)

        seeds = rng.integers(2**31, size=10).tolist()  # the same start states every time, as in a run's evaluations
        score = -np.inf
        for _ in tqdm(range(100), desc="score", file=sys.stdout, disable=not sys.stdout.isatty()):
            returns, _ = evaluate(policy, env, seeds)
            check_finite({"the return of an evaluation": returns}, data.added)
            score = max(score, returns.mean())
            stop_collecting_on_a_signal()
        save_dataset(data, {**how, "mean_return": mean_return(data), "score": float(score)}, file)
    return file


# ------------------------- The experiment ends here. What follows keeps a run: checks, its folder, resuming, signals.

RUN_FILES = ("args.json", "evaluations.csv", "checkpoint.pt", "model.pt")
MAY_DIFFER_ON_RESUME = ("run_dir", "resume", "checkpoint_frequency", "cuda")
received_signals: list[int] = []  # SIGTERM or Ctrl-C, acted on at the next pause
# The folders that this process made: if a run fails before its start, those that are empty are deleted again
made_folders: list[Path] = []


def check_args(args: Args) -> None:
    """Fail, naming the argument, where a value is out of range."""

    def check(name: str, valid: bool, allowed: str) -> None:
        if not valid:
            fail(f"--{name.replace('_', '-')} {getattr(args, name)}: must be {allowed}")

    check("seed", 0 <= args.seed < 2**32, "from 0 to 2**32 - 1")
    check("dataset_seed", 0 <= args.dataset_seed < 2**32, "from 0 to 2**32 - 1")
    check("collect", args.collect is None or args.dataset is None, "used without --dataset")
    check("collect", args.collect is None or args.collect.endswith(".npz"), "a file whose name ends in .npz")
    check("seed", args.collect is None or args.seed == Args.seed, "used without --collect, which has --dataset-seed")
    check("run_dir", args.collect is None or args.run_dir is None, "used without --collect")
    check("randomness", 0 <= args.randomness <= 1, "from 0 to 1")
    check("randomness", args.randomness == 1 or args.collect is not None, "used with --collect")
    check("demonstrator", args.demonstrator is None or args.collect is not None, "used with --collect")
    check("demonstrator", args.demonstrator is None or args.randomness < 1, "used with --randomness below 1")
    check("demonstrator", args.demonstrator is not None or args.randomness == 1, "given for --randomness below 1")
    for name in ("dataset_size", "dataset_seed"):
        of_no_use = args.dataset is not None and getattr(args, name) != getattr(Args, name)
        check(name, not of_no_use, "used without --dataset")
    for name in ("num_threads", "checkpoint_frequency", "dataset_size", "offline_updates", "rounds"):
        check(name, getattr(args, name) >= 1, "at least 1")
    for name in ("steps_per_round", "inverse_updates", "eval_frequency", "eval_episodes"):
        check(name, getattr(args, name) >= 1, "at least 1")
    for name in ("batch_size", "policy_frequency"):
        check(name, getattr(args, name) >= 1, "at least 1")
    check("dataset_size", args.dataset_size <= 10**12, "at most 10**12")
    check("num_threads", args.num_threads <= 1024, "at most 1024")
    for name in ("eval_episodes", "batch_size"):
        check(name, getattr(args, name) <= 10**6, "at most 1,000,000")
    check("rounds", args.rounds * args.steps_per_round <= 10**12, "such that there are at most 10**12 steps")
    widths_fit = len(args.hidden_sizes) >= 1 and all(1 <= width <= 10_000 for width in args.hidden_sizes)
    check("hidden_sizes", widths_fit, "one width or more, each from 1 to 10,000")
    check("learning_rate", 0 < args.learning_rate < np.inf, "positive and finite")
    # NumPy draws no noise of scale -0.0
    noise_fits = 0 <= args.exploration_noise < np.inf and not np.signbit(args.exploration_noise)
    check("exploration_noise", noise_fits, "at least 0 and finite")
    check("beta", 0 <= args.beta < np.inf, "at least 0 and finite")
    check("scale_states", args.standardize or not args.scale_states, "used with --standardize")
    check("gamma", 0 <= args.gamma <= 1, "from 0 to 1")
    check("tau", 0 < args.tau <= 1, "above 0 and at most 1")
    check("run_dir", args.run_dir != "", "the name of a folder")
    check("resume", not args.resume or args.run_dir is not None, "used with --run-dir")


# Copied from d3g_continuous.fail
def fail(message: str, status: int = 2) -> NoReturn:
    """Print one line on standard error and exit: with 2 for bad input, with 1 for a run that went wrong."""
    one_line = " ".join(message.split())
    print(f"error: {one_line}", file=sys.stderr)
    sys.exit(status)


# Copied from d3g_continuous.check_finite
def check_finite(values: dict[str, torch.Tensor | np.ndarray | float], step: int) -> None:
    """Stop the run, with status 1, at a value that is NaN or infinite."""
    for name, value in values.items():
        finite = torch.isfinite(value) if isinstance(value, torch.Tensor) else np.isfinite(value)
        if not finite.all():
            fail(f"{name} is NaN or infinite at step {step}; an earlier checkpoint, if any, stays", status=1)


# Copied from d3g_continuous.make_env
def make_env(env_id: str) -> gym.Env:
    """Make a Gymnasium task; fail unless its observations are flat and its actions flat, real and bounded."""
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # the paper's tasks are not the newest
        try:
            env = gym.make(env_id)
        except Exception as error:  # the task's own code may raise anything
            fail(f"--env-id {env_id}: must be a task that Gymnasium can make: {type(error).__name__}: {error}")
    observations = env.observation_space
    actions = env.action_space
    flat = all(isinstance(space, gym.spaces.Box) and len(space.shape) == 1 for space in (observations, actions))
    if not (flat and actions.dtype.kind == "f" and actions.is_bounded() and (actions.low < actions.high).all()):
        fail(
            f"--env-id {env_id}: must have flat observations and flat, bounded, real actions, "
            f"has {observations} and {actions}"
        )
    return env


# Copied from d3g_continuous.episode_seed
def episode_seed(seed: int, episode: int) -> int:
    """The seed of a run's training episode, apart from those of its evaluations."""
    return int(np.random.SeedSequence((seed, 1, episode)).generate_state(1)[0])


# Copied from d3g_continuous.prepare_torch
def prepare_torch(args: Args) -> torch.device:
    """Seed torch, set its threads and whether a GPU must repeat bit by bit; return the device to compute on."""
    device = torch.device("cuda" if args.cuda and torch.cuda.is_available() else "cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it a GPU's matrix products may not repeat
    if device.type == "cuda":
        torch.use_deterministic_algorithms(args.torch_deterministic)
    torch.set_num_threads(args.num_threads)
    torch.manual_seed(args.seed)
    return device


# Copied from d3g_continuous.make_folder
def make_folder(folder: Path, exist_ok: bool = False) -> None:
    """Make a folder and those above it, and remember which of them did not exist."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=exist_ok)
    made_folders.extend(missing)


# Copied from d3g_continuous.new_folder
def new_folder(name: str) -> Path:
    """Make a folder in runs/ that did not exist, named after the experiment and the time in seconds."""
    while True:
        folder = Path("runs", f"{re.sub('[/:]', '_', name)}__{int(time.time())}")
        try:
            make_folder(folder)
            return folder
        except FileExistsError:
            time.sleep(0.1)  # another run started in the same second
        except OSError as error:
            fail(f"--run-dir {folder}: must be a folder that can be written: {error}")


# Copied from d3g_continuous.describe
def describe(args: Args, folder: Path) -> dict:
    """What args.json holds: the arguments, and what else the bits of the results depend on."""
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(args).items()}
    given["run_dir"] = args.run_dir or str(folder)
    versions = {name: version(name) for name in ("torch", "gymnasium", "mujoco", "numpy")}
    versions["python"] = sys.version.split()[0]
    commit = None
    try:
        git = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        done = subprocess.run(git, cwd=Path(__file__).parent, capture_output=True, text=True)
        commit = done.stdout.strip() or None
    except OSError:
        pass  # git is not installed; the commit is for information only
    processor = None
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"model name\s*: (.*)", cpuinfo.read_text())
        processor = found[1] if found else None  # some processors have no such line
    return {
        "args": given,
        "versions": versions,
        "git_commit": commit,
        "processor": processor,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if args.cuda and torch.cuda.is_available() else None,
        "ld_preload": os.environ.get("LD_PRELOAD"),  # such a library may decide which kernels are used
    }


# Copied from d3g_continuous.save
def save(contents: dict | str, file: Path) -> None:
    """Write to a temporary file that then replaces `file`: a kill leaves the old one or the new one, whole."""
    partial = file.with_name(f"{file.name}.partial")
    try:
        if isinstance(contents, str):
            partial.write_text(contents)
        else:
            torch.save(contents, partial)
        os.replace(partial, file)
    except (OSError, RuntimeError) as error:  # the latter is what torch.save raises where a disk is full
        partial.unlink(missing_ok=True)
        fail(f"{file} cannot be written: {error}; what was there before stays, --resume goes on from it", status=1)


# Copied from d3g_continuous.open_run
@contextmanager
def open_run(args: Args, folder: Path | str) -> Iterator["Run"]:
    """Lock the folder until the run ends or fails; fail if it is in use, or holds a run that `args` do not resume."""
    folder = Path(folder)
    try:
        make_folder(folder, exist_ok=True)
        mode = "a+"  # makes an empty args.json where there is none
        if any((folder / name).exists() for name in RUN_FILES):  # a run is there: its args.json must be, too
            mode = "r+" if os.access(folder, os.W_OK) else "r"  # a complete run may lie on a read-only disk
        args_file = open(folder / "args.json", mode)
    except OSError as error:
        fail(f"--run-dir {folder}: must be a new folder or hold the args.json of the run to resume: {error}")
    with args_file:
        try:
            fcntl.flock(args_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fail(f"--run-dir {folder}: must not be in use, but another process has locked it")
        if os.fstat(args_file.fileno()).st_nlink == 0:  # deleted meanwhile, by a run that failed before it started
            fail(f"--run-dir {folder}: must not be in use, but another process has locked it")
        run = Run(args_file, folder, describe(args, folder))
        run.check_resume(args.resume)
        try:
            yield run
        except MemoryError as error:
            fail(f"not enough memory for these arguments: {error}", status=1)
        finally:
            run.close()


# Copied from d3g_continuous.Run
class Run:
    """A run's folder: its arguments, evaluations, TensorBoard, checkpoint and model."""

    def __init__(self, args_file: TextIO, folder: Path, info: dict):
        self.args_file = args_file
        self.folder = folder
        self.info = info  # what args.json holds
        self.run_dir = info["args"]["run_dir"]  # as this command gave it; a resumed run's args.json may have another
        self.is_new = False  # whether args.json is still to be written
        self.evaluations = []  # the rows of evaluations.csv
        self.writer = None
        self.logged = -1  # the last step that TensorBoard has
        self.offset = 0  # added to steps on TensorBoard's axis: d3g_from_obs.py's offline updates
        self.bar = None  # the progress bar, which the training loop makes
        self.started = 0.0  # when training would have started, had nothing interrupted it

    def check_resume(self, resume: bool) -> None:
        """Fail if the folder holds a run, unless it is to be resumed with the arguments of its args.json."""
        given = self.info["args"]
        try:
            self.args_file.seek(0)
            text = self.args_file.read()
            held = [name for name in RUN_FILES if (self.folder / name).exists()]
            self.is_new = text == "" and held == ["args.json"]
            if self.is_new:
                return
            if not resume:
                fail(f"--run-dir {self.folder}: must not hold a run, unless with --resume, but has {', '.join(held)}")
            self.info = json.loads(text)
            for name in given:
                was = self.info["args"][name]
                if name not in MAY_DIFFER_ON_RESUME and given[name] != was:
                    fail(f"--{name.replace('_', '-')} {given[name]}: must be {was} to resume {self.folder}")
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            fail(f"--run-dir {self.folder}: must be a new folder or hold the args.json of the run to resume: {error!r}")

    def close(self) -> None:
        """Leave nothing behind of a run that failed before it started."""
        if self.writer:
            try:
                self.writer.close()
            except OSError:
                pass  # the disk is full, which has been said
        if self.is_new:
            (self.folder / "args.json").unlink()
            for folder in (self.folder, *self.folder.parents):
                if folder in made_folders and not any(folder.iterdir()):
                    folder.rmdir()

    def is_complete(self) -> bool:
        """Whether the run has ended, so that its model can be loaded; a checkpoint beside it is deleted then."""
        checkpoint = self.folder / "checkpoint.pt"
        try:
            torch.load(self.folder / "model.pt", map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return False
        except Exception as error:  # a damaged file may raise anything
            if checkpoint.exists():
                return False
            fail(f"--run-dir {self.folder}: must have a model.pt that can be loaded, or none: {error!r}")
        try:
            checkpoint.unlink(missing_ok=True)
        except OSError:
            pass  # the folder is read-only
        print(f"{self.folder} is complete")
        return True

    def start(self, agent: nn.Module, replay: ReplayBuffer, rng: np.random.Generator, progress: dict) -> dict:
        """Restore the checkpoint, if there is one, and begin to write the folder's files.

        Return the progress: the checkpoint's, or else the given one.
        """
        self.agent = agent
        self.replay = replay
        self.rng = rng
        seconds = 0.0
        if (self.folder / "checkpoint.pt").exists():
            progress, seconds = self.load_checkpoint(progress)
        try:
            if self.is_new:
                (self.folder / "args.json").write_text(json.dumps(self.info, indent=2) + "\n")  # in place: it is locked
                self.is_new = False
            threading.excepthook = on_thread_error
            self.writer = SummaryWriter(self.folder, purge_step=self.logged + 1)
        except OSError as error:
            fail(f"--run-dir {self.folder}: must be a folder that can be written: {error}")
        self.write_evaluations()
        device = next(agent.parameters()).device
        print(f"device: {device}, CPU threads: {torch.get_num_threads()}, run folder: {self.folder}", flush=True)
        self.started = time.perf_counter() - seconds
        return progress

    def say(self, text: str) -> None:
        """Show a text beside the progress bar, or print it as a line where there is no bar."""
        self.bar.set_postfix_str(text)
        if self.bar.disable:
            print(text, flush=True)

    def seconds(self) -> float:
        """The seconds of training so far, over all resumes and without evaluations."""
        return time.perf_counter() - self.started

    def add_evaluation(self, step: int, returns: np.ndarray, lengths: np.ndarray, seconds: float) -> None:
        """Add a row to evaluations.csv, of an evaluation that began after so many seconds of training."""
        check_finite({"the return of an evaluation": returns}, step + self.offset)
        self.evaluations.append(f"{step},{returns.mean()},{returns.std()},{lengths.mean()},{seconds:.2f}")
        self.write_evaluations()
        self.log({"eval/return_mean": returns.mean()}, step)
        self.say(f"step {step}: return {returns.mean():.1f} +- {returns.std():.1f}, {seconds:.0f} s")
        self.started = time.perf_counter() - seconds  # the time that the evaluation took does not count

    def write_evaluations(self) -> None:
        """Write evaluations.csv anew, whole."""
        rows = ["step,return_mean,return_std,length_mean,seconds", *self.evaluations]
        save("\n".join(rows) + "\n", self.folder / "evaluations.csv")

    def log_losses(self, step: int) -> None:
        """Log the agent's latest losses, which must be finite, and the steps per second so far."""
        check_finite(self.agent.losses, step + self.offset)
        losses = {f"losses/{name}": value for name, value in self.agent.losses.items()}
        self.log({**losses, "charts/SPS": (step + self.offset) / self.seconds()}, step)

    def log_episode(self, episode_return: float, length: int, step: int) -> None:
        """Log a training episode that ended at this step."""
        self.log({"charts/episodic_return": episode_return, "charts/episodic_length": length}, step)

    def log(self, scalars: dict, step: int) -> None:
        """Write scalars to TensorBoard."""
        self.logged = step + self.offset
        try:
            for tag, value in scalars.items():
                self.writer.add_scalar(tag, value, self.logged)
            self.writer.flush()
        except OSError as error:
            fail(f"{self.folder} cannot be written: {error}; --resume goes on from the last checkpoint", status=1)

    def pause(self, due: bool, progress: dict) -> None:
        """Write a checkpoint if one is due or a signal has come; exit after a signal. Called where a run can resume."""
        stop = len(received_signals) > 0
        if due or stop:
            self.save_checkpoint(progress)
        if stop:
            where = f"step {progress['step']} after {self.agent.updates} updates"
            print(f"stopped at {where}; --resume --run-dir {self.run_dir} continues")
            sys.exit(128 + received_signals[0])

    def save_checkpoint(self, progress: dict) -> None:
        """Write all that a bit-exact continuation needs."""
        check_finite(self.agent.state_dict(), progress["step"] + self.offset)
        contents = {
            "info": self.info,
            "progress": progress,
            "seconds": self.seconds(),
            "evaluations": self.evaluations,
            "logged": self.logged,
            "agent": self.agent.state_dict(),
            "updates": self.agent.updates,
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.agent.optimizers.items()},
            "replay": torch.from_numpy(self.replay.rows[: self.replay.added]),
            "added": self.replay.added,
            "numpy_rng": self.rng.bit_generator.state,
            "torch_rng": torch.get_rng_state(),
        }
        save(contents, self.folder / "checkpoint.pt")

    def load_checkpoint(self, progress: dict) -> tuple[dict, float]:
        """Restore everything and return the progress and the seconds; fail on what is not this run's checkpoint."""
        file = self.folder / "checkpoint.pt"
        try:
            with warnings.catch_warnings(action="ignore"):  # of a foreign file
                contents = torch.load(file, map_location="cpu", weights_only=True)
            if contents["info"] != self.info:
                raise ValueError("its arguments or versions are not those of args.json")
            kinds = {
                "seconds": float,
                "evaluations": list,
                "logged": int,
                "updates": int,
                "added": int,
                "optimizers": dict,
            }
            for name, kind in kinds.items():
                if type(contents[name]) is not kind:
                    raise TypeError(f"its {name} must be of type {kind.__name__}, is {contents[name]!r}")
            if not all(isinstance(row, str) for row in contents["evaluations"]):
                raise TypeError("its evaluations must be rows of text")
            self.agent.load_state_dict(contents["agent"])
            for name, optimizer in self.agent.optimizers.items():
                stored = contents["optimizers"][name]
                groups = optimizer.state_dict()["param_groups"]
                if stored["param_groups"] != groups or len(stored["state"]) not in (0, len(groups[0]["params"])):
                    raise ValueError(f"its optimiser of {name} is another one")
                optimizer.load_state_dict(stored)
                for parameter, state in optimizer.state.items():
                    shapes = [state[key].shape for key in ("exp_avg", "exp_avg_sq", "step")]
                    if shapes != [parameter.shape, parameter.shape, ()]:
                        raise ValueError(f"its optimiser of {name} is for another network")
            rows = contents["replay"].numpy()
            expected = (min(contents["added"], len(self.replay.rows)), self.replay.rows.shape[1])
            if rows.shape != expected or rows.dtype != np.float32:
                raise ValueError(f"its replay must be float32 {expected}, is {rows.dtype} {rows.shape}")
            self.replay.rows[: len(rows)] = rows
            self.rng.bit_generator.state = contents["numpy_rng"]
            torch.set_rng_state(contents["torch_rng"])
            types = {name: type(value) for name, value in contents["progress"].items()}
            if types != {name: type(value) for name, value in progress.items()}:
                raise ValueError(f"its progress must be as {progress}, is {contents['progress']}")
            self.replay.added = contents["added"]
            self.agent.updates = contents["updates"]
            self.evaluations = contents["evaluations"]
            self.logged = contents["logged"]
            return contents["progress"], contents["seconds"]
        except Exception as error:  # a damaged or foreign file may raise anything
            fail(f"--resume True: {file} must be this run's checkpoint: {type(error).__name__}: {error}")

    def finish(self, dimensions: dict) -> None:
        """Write model.pt, the final networks with what is needed to make them again; the run is complete then."""
        self.bar.close()
        self.write_evaluations()  # once more, in case someone has deleted the file meanwhile
        networks = {name: network.state_dict() for name, network in self.agent.named_children()}
        buffers = dict(self.agent.named_buffers(recurse=False))  # what belongs to no network, as the sigma of D3G+
        save({**networks, **buffers, "args": self.info["args"], **dimensions}, self.folder / "model.pt")
        (self.folder / "checkpoint.pt").unlink(missing_ok=True)


# Copied from d3g_continuous.on_signal
def on_signal(signum: int, _frame) -> None:
    """SIGTERM or Ctrl-C: remember it for the next pause; a second one ends the process at once."""
    received_signals.append(signum)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    print("\nwill stop with its next checkpoint; again to stop at once", file=sys.stderr, flush=True)


# Copied from d3g_continuous.on_thread_error
def on_thread_error(details: threading.ExceptHookArgs) -> None:
    """Where TensorBoard's thread cannot write, the main one finds out and says so; this one keeps quiet."""
    if not issubclass(details.exc_type, OSError):
        threading.__excepthook__(details)


def load_dataset(file: Path, env_id: str, obs_dim: int, info: dict) -> ReplayBuffer:
    """Return a data set of observations [obs_dim] as a buffer without actions, and describe it in the run's `info`.

    Fail on a file that is none, if the JSON file beside it names another task, and if the run to be resumed had begun
    with other data.
    """
    names = ("observations", "rewards", "next_observations", "terminations")
    try:
        with np.load(file, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in names}
        for name, array in found.items():
            if array.dtype.kind not in "biuf":
                raise ValueError(f"{name} must be numbers, has the type {array.dtype}")
            shape = (len(found["rewards"]), obs_dim) if "observations" in name else (len(found["rewards"]),)
            if array.shape != shape or len(array) == 0:
                raise ValueError(f"{name} must have the shape {shape}, one row or more, has {array.shape}")
            with np.errstate(over="ignore"):
                found[name] = array.astype(np.float32)
            if not np.isfinite(found[name]).all():
                raise ValueError(f"{name} must be finite numbers of 32 bits, has NaN, infinite or larger ones")
        if not np.isin(found["terminations"], (0, 1)).all():
            raise ValueError("terminations must be 0 or 1")
        about_file = file.with_suffix(".json")
        about = json.loads(about_file.read_text()) if about_file.exists() else None
        # A NaN, which differs from itself, would make load_checkpoint refuse this very run's checkpoints
        json.dumps(about, allow_nan=False)
        if isinstance(about, dict) and about.get("env_id", env_id) != env_id:
            raise ValueError(f"it was collected on {about['env_id']}")
    except Exception as error:  # a damaged or foreign file may raise anything
        must = f"must be a data set of {env_id}, with observations of {obs_dim} components"
        made_by = f"python d3g_from_obs.py --env-id {env_id} --collect {file} makes one"
        fail(f"--dataset {file}: {must} ({made_by}): {error!r}")

    data = ReplayBuffer(len(found["rewards"]), obs_dim, 0)
    data.rows[:] = np.column_stack([found[name] for name in names])
    data.added = len(data.rows)
    digest = hashlib.sha256(data.rows).hexdigest()  # the file's own depends on the release of Python that wrote it
    known = info.get("data")
    if known and known["sha256"] != digest:
        begun_with = f"the data that the run began with, whose transitions have the SHA-256 {known['sha256']}"
        fail(f"--dataset {file}: must be {begun_with}, not {digest}")
    info.setdefault("data", {"sha256": digest, "mean_return": mean_return(data), "about": about})
    print(f"data: {file}, {len(data.rows)} transitions, mean return {info['data']['mean_return']:.2f}", flush=True)
    return data


def mean_return(data: ReplayBuffer) -> float:
    """The mean return of a data set's episodes, which end where one terminates or the next row does not go on."""
    s, _, r, s_next, terminated = np.split(data.rows, np.cumsum(data.widths)[:-1], axis=1)
    goes_on = (s[1:] == s_next[:-1]).all(axis=1) & (terminated[:-1, 0] == 0)
    episode = np.concatenate(([0], np.cumsum(~goes_on)))
    returns = np.bincount(episode, weights=r[:, 0])
    return float(returns.mean())


def describe_collection(args: Args) -> dict:
    """What determines a data set, as the JSON file beside it holds it."""
    demonstrator = None
    digest = None
    if args.randomness < 1:
        demonstrator = args.demonstrator
        try:
            digest = hashlib.sha256(Path(demonstrator).read_bytes()).hexdigest()
        except OSError as error:
            fail(f"--demonstrator {demonstrator}: must be model.pt of a TD3 run on {args.env_id}: {error!r}")
    return {
        "env_id": args.env_id,
        "demonstrator": demonstrator,
        "demonstrator_sha256": digest,
        "randomness": args.randomness,
        "dataset_size": args.dataset_size,
        "dataset_seed": args.dataset_seed,
    }


def load_demonstrator(args: Args, env: gym.Env) -> Actor:
    """Return the actor of a TD3 run; fail on a file that is none of this task."""
    try:
        model = torch.load(args.demonstrator, map_location="cpu", weights_only=True)
        if model["args"]["env_id"] != args.env_id:
            raise ValueError(f"it is from {model['args']['env_id']}")
        bounds = env.action_space
        actor = Actor(env.observation_space.shape[0], bounds.low, bounds.high, model["args"]["hidden_sizes"])
        actor.load_state_dict(model["actor"])
        if not all(value.isfinite().all() for value in actor.state_dict().values()):
            raise ValueError("its weights are not finite")
        return actor
    except Exception as error:  # a damaged or foreign file may raise anything
        fail(f"--demonstrator {args.demonstrator}: must be model.pt of a TD3 run on {args.env_id}: {error!r}")


def is_collected(file: Path, how: dict) -> bool:
    """Whether the data set that `how` describes is there already; fail if the file is another one."""
    if not file.exists():
        return False
    try:
        about = json.loads(file.with_suffix(".json").read_text())
        for name, value in how.items():
            if name not in ("demonstrator", "demonstrator_sha256") and about[name] != value:
                fail(f"--{name.replace('_', '-')} {value}: must be {about[name]}, with which {file} was collected")
        if about["demonstrator_sha256"] != how["demonstrator_sha256"]:  # it tells more than the path
            was = f"a model.pt of SHA-256 {about['demonstrator_sha256']}"
            fail(f"--demonstrator {how['demonstrator']}: must be {was}, with which {file} was collected")
    except (OSError, ValueError, LookupError, TypeError) as error:
        fail(f"{file}: must have the JSON file beside it that says how it was collected: {error!r}")
    print(f"{file} is there", flush=True)
    return True


@contextmanager
def reserve(file: Path, size: int) -> Iterator[None]:
    """See at once whether `file` can be written and have so many bytes; leave nothing behind of a failed collection."""
    partial = partial_file(file)
    try:
        try:
            make_folder(file.parent, exist_ok=True)
            with open(partial, "wb") as opened:
                os.posix_fallocate(opened.fileno(), 0, size)
                opened.truncate(0)
        except OSError as error:
            fail(f"{file}: must be a file that can be written, of {size} bytes: {error}")
        yield
    except MemoryError as error:
        fail(f"not enough memory for these arguments: {error}", status=1)
    finally:
        if partial.exists():  # unlink(missing_ok=True) fails on a read-only disk and below what is no folder
            partial.unlink()
        for folder in file.parents:
            if folder in made_folders and not any(folder.iterdir()):
                folder.rmdir()


def partial_file(file: Path) -> Path:
    """The temporary file of a collection, which other collections do not share."""
    return file.with_name(f"{file.name}.{os.getpid()}.tmp")


def stop_collecting_on_a_signal() -> None:
    """Exit if a signal has come: half a data set is none."""
    if len(received_signals) > 0:
        print("stopped; the collection begins again next time")
        sys.exit(128 + received_signals[0])


def save_dataset(data: ReplayBuffer, about: dict, file: Path) -> None:
    """Write the JSON file that describes the data set and then the data, which so are never there without it."""
    s, _, r, s_next, terminated = np.split(data.rows, np.cumsum(data.widths)[:-1], axis=1)
    try:
        with open(partial_file(file), "wb") as opened:
            np.savez(
                opened,
                observations=s,
                rewards=r[:, 0],
                next_observations=s_next,
                terminations=terminated[:, 0] > 0,
            )
    except OSError as error:
        fail(f"{file} cannot be written: {error}", status=1)
    save(json.dumps(about, indent=2) + "\n", file.with_suffix(".json"))
    os.replace(partial_file(file), file)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    train(tyro.cli(Args))
