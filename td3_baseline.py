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
"""TD3 and DDPG on continuous control, which D3G is compared with: Figure 7 of Edwards et al., ICML 2020.

    python td3_baseline.py --env-id HalfCheetah-v4 --seed 1

`--algorithm ddpg` trains DDPG: TD3 without its twin critics, its target policy smoothing and its delay, and with
another learning rate and other layers (`DEFAULTS`).
"""

import copy
import fcntl
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
from typing import Literal, NoReturn, TextIO

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
import tyro
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

DEFAULTS = {  # of the arguments in which TD3 and DDPG differ
    "td3": {
        "num_critics": 2,
        "policy_noise": 0.2,
        "policy_frequency": 2,
        "learning_rate": 3e-4,
        "hidden_sizes": (256, 256),
    },
    "ddpg": {
        "num_critics": 1,
        "policy_noise": 0.0,
        "policy_frequency": 1,
        "learning_rate": 1e-3,
        "hidden_sizes": (400, 300),
    },
}


@dataclass
class Args:
    """Train TD3 or DDPG on a Gymnasium task with flat observations and bounded continuous actions."""

    # Experiment
    exp_name: str = "td3_baseline"  # the name of this experiment, part of the default run folder
    seed: int = 1  # seed of the networks, the exploration, the batches and the episodes
    torch_deterministic: bool = True  # on a GPU, use only kernels that repeat bit by bit (a CPU run always does)
    cuda: bool = True  # use a GPU if there is one
    num_threads: int = 1  # CPU threads; 1 is best for seeds side by side, raise it for a single run
    run_dir: str | None = None  # the run's folder; by default runs/{env_id}__{exp_name}__{seed}__{unix time}
    resume: bool = False  # continue the run in --run-dir from its checkpoint, or start it if there is none
    checkpoint_frequency: int = 50_000  # environment steps between checkpoints, each at the next end of an episode

    # Environment and budget
    env_id: str = "HalfCheetah-v4"  # the Gymnasium task, Id-v0 or module:Id-v0
    total_timesteps: int = 1_000_000  # environment steps of the whole run, with the random ones at the start
    eval_frequency: int = 5_000  # environment steps between evaluations; the end is evaluated if it is a multiple
    eval_episodes: int = 10  # noise-free episodes per evaluation, the same start states every time

    # Algorithm
    algorithm: Literal["td3", "ddpg"] = "td3"  # td3 or ddpg; it decides the defaults of the next five arguments
    learning_rate: float | None = None  # learning rate of every Adam optimiser; td3: 3e-4, ddpg: 1e-3
    hidden_sizes: tuple[int, ...] | None = None  # widths of all hidden layers; td3: 256 256, ddpg: 400 300
    num_critics: int | None = None  # number of critics; the target takes the least of them; td3: 2, ddpg: 1
    policy_frequency: int | None = None  # critic updates per update of the actor and the targets; td3: 2, ddpg: 1
    policy_noise: float | None = None  # std of target policy smoothing, in units of the action scale; td3: 0.2, ddpg: 0
    noise_clip: float = 0.5  # bound of the smoothing noise, in units of the action scale
    buffer_size: int = 1_000_000  # transitions the replay buffer holds
    batch_size: int = 256  # transitions per update
    gamma: float = 0.99  # discount factor
    tau: float = 0.005  # step of the target networks towards the online ones
    learning_starts: int = 10_000  # uniformly random steps at the start, without updates
    exploration_noise: float = 0.1  # standard deviation of the exploration noise, in units of the action scale

    def __post_init__(self):
        for name, value in DEFAULTS[self.algorithm].items():
            if getattr(self, name) is None:
                setattr(self, name, value)


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


class TD3(nn.Module):
    """The agent of section 4.2 (DDPG: 4.1): networks, optimisers, one update, and how it acts.

    critic   Q_theta_i   s, a -> [batch, 1], each
    actor    pi_psi      s [batch, obs_dim] -> action [batch, action_dim]

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
        num_critics: int = 2,
        policy_noise: float = 0.2,
        noise_clip: float = 0.5,
    ):
        super().__init__()
        self.action_low = action_low
        self.action_high = action_high
        self.gamma = gamma
        self.tau = tau
        self.policy_frequency = policy_frequency
        self.policy_noise = policy_noise
        self.noise_clip = noise_clip

        self.critic = nn.ModuleList(MLP(obs_dim + len(action_low), *hidden_sizes, 1) for _ in range(num_critics))
        self.actor = Actor(obs_dim, action_low, action_high, hidden_sizes)
        self.optimizers = {}  # one for each network above; the targets below are not trained
        for name, network in self.named_children():
            self.optimizers[name] = torch.optim.Adam(network.parameters(), learning_rate, fused=True)

        self.critic_target = copy.deepcopy(self.critic).requires_grad_(False)
        self.actor_target = copy.deepcopy(self.actor).requires_grad_(False)
        self.online = [*self.critic.parameters(), *self.actor.parameters()]
        self.targets = [*self.critic_target.parameters(), *self.actor_target.parameters()]
        self.updates = 0
        self.losses = {}

    def update(self, batch: tuple[torch.Tensor, ...]) -> None:
        """Learn from a batch s, a, r, s', terminated, each [batch, width]; leave the latest losses in `self.losses`."""
        s, a, r, s_next, terminated = batch
        self.updates += 1

        with torch.no_grad():
            # TD3's target policy smoothing: a' = pi'(s') + clipped noise, within the action bounds (DDPG: none)
            scale = self.actor.action_scale
            bias = self.actor.action_bias
            noise = self.policy_noise * torch.randn(a.shape).to(a)  # from the generator that checkpoints keep
            noise = noise.clamp(-self.noise_clip, self.noise_clip) * scale
            a_next = (self.actor_target(s_next) + noise).clamp(bias - scale, bias + scale)

            # Target, with TD3's least of twin critics (DDPG: its only one):
            # y = r + gamma (1 - terminated) min_i Q_i'(s', a')
            q_next = torch.stack([critic(s_next, a_next) for critic in self.critic_target]).amin(0)
            y = r + self.gamma * (1 - terminated) * q_next

        # Critics: minimise sum_i |y - Q_i(s, a)|^2
        q_values = [critic(s, a) for critic in self.critic]
        self.minimise("critic", sum(F.mse_loss(q, y) for q in q_values))
        self.losses["qf1_values"] = q_values[0].detach().mean()

        if self.updates % self.policy_frequency == 0:
            # Actor, with TD3's delay (DDPG: none): minimise -Q_1(s, pi(s))
            self.minimise("actor", -self.critic[0](s, self.actor(s)).mean())

            # Targets: theta' <- tau theta + (1 - tau) theta', and psi' likewise
            with torch.no_grad():
                for target, online in zip(self.targets, self.online, strict=True):
                    target.lerp_(online, self.tau)

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

    @torch.inference_mode()
    def act(self, observation: np.ndarray, noise: np.ndarray | float = 0.0) -> np.ndarray:
        """pi(s) + noise for one observation [obs_dim], clipped to the action bounds [action_dim]."""
        bias = self.actor.action_bias  # has the dtype and the device of the networks
        s = torch.as_tensor(observation, dtype=bias.dtype, device=bias.device).unsqueeze(0)
        action = self.actor(s).squeeze(0).cpu().numpy()
        return np.clip(action + noise, self.action_low, self.action_high).astype(self.action_low.dtype)


def make_agent(args: Args, obs_dim: int, action_low: np.ndarray, action_high: np.ndarray) -> TD3:
    """Make the agent that `args` describe, for a task of these dimensions and bounds."""
    return TD3(
        obs_dim,
        action_low,
        action_high,
        learning_rate=args.learning_rate,
        hidden_sizes=args.hidden_sizes,
        gamma=args.gamma,
        tau=args.tau,
        policy_frequency=args.policy_frequency,
        num_critics=args.num_critics,
        policy_noise=args.policy_noise,
        noise_clip=args.noise_clip,
    )


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


def train(args: Args) -> Path:
    """Train the agent that `args` describe and return the run's folder.

    On the same CPU, equal `args` give equal numbers.
    """
    check_args(args)
    env = make_env(args.env_id)
    eval_env = make_env(args.env_id)
    obs_dim = env.observation_space.shape[0]
    low = env.action_space.low
    high = env.action_space.high

    with open_run(args, args.run_dir or new_folder(f"{args.env_id}__{args.exp_name}__{args.seed}")) as run:
        if run.is_complete():
            return run.folder
        device = prepare_torch(args)
        rng = np.random.default_rng(args.seed)
        # The start states of evaluations, apart from those of training (episode_seed)
        eval_seeds = np.random.SeedSequence((args.seed, 2)).generate_state(args.eval_episodes).tolist()
        agent = make_agent(args, obs_dim, low, high).to(device)
        replay = ReplayBuffer(min(args.buffer_size, args.total_timesteps), obs_dim, len(low))
        progress = run.start(agent, replay, rng, {"step": 0, "episode": 0})
        step = progress["step"]
        episode = progress["episode"]
        run.bar = tqdm(total=args.total_timesteps, initial=step, file=sys.stdout, disable=not sys.stdout.isatty())
        next_checkpoint = step + args.checkpoint_frequency
        done = True

        while True:
            # An evaluation is due, unless the run resumed at this very step and has it already
            if step == len(run.evaluations) * args.eval_frequency:
                check_finite(agent.state_dict(), step)
                seconds = run.seconds()
                returns, lengths = evaluate(agent, eval_env, eval_seeds)
                run.add_evaluation(step, returns, lengths, seconds)
            if step == args.total_timesteps:
                break

            if done:
                due = step >= next_checkpoint
                run.pause(due, {"step": step, "episode": episode})
                if due:
                    next_checkpoint = step + args.checkpoint_frequency
                observation, _ = env.reset(seed=episode_seed(args.seed, episode))
                observation = np.copy(observation)  # some tasks reuse their array
                check_finite({"observation": observation}, step)
                episode_return = 0.0
                episode_length = 0

            if step < args.learning_starts:
                action = rng.uniform(low, high).astype(low.dtype)
            else:
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
            check_finite({"observation": observation, "reward": reward}, step)

            if step > args.learning_starts:
                agent.update(replay.sample(args.batch_size, rng, device))
                if agent.updates % 100 == 0:
                    run.log_losses(step)
            if done:
                episode += 1
                run.log_episode(episode_return, episode_length, step)

        check_finite(agent.state_dict(), step)
        run.finish(
            {"obs_dim": obs_dim, "action_dim": len(low), "action_low": low.tolist(), "action_high": high.tolist()}
        )
    print(f"run folder: {run.folder}; draw it: python benchmark/figure7.py {run.folder}")
    return run.folder


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
    for name in ("num_threads", "total_timesteps", "eval_frequency", "eval_episodes", "checkpoint_frequency"):
        check(name, getattr(args, name) >= 1, "at least 1")
    for name in ("buffer_size", "batch_size", "policy_frequency", "num_critics"):
        check(name, getattr(args, name) >= 1, "at least 1")
    check("buffer_size", args.buffer_size <= 10**12, "at most 10**12")
    check("num_threads", args.num_threads <= 1024, "at most 1024")
    for name in ("eval_episodes", "batch_size"):
        check(name, getattr(args, name) <= 10**6, "at most 1,000,000")
    check("learning_starts", args.learning_starts >= 0, "at least 0")
    widths_fit = len(args.hidden_sizes) >= 1 and all(1 <= width <= 10_000 for width in args.hidden_sizes)
    check("hidden_sizes", widths_fit, "one width or more, each from 1 to 10,000")
    check("learning_rate", 0 < args.learning_rate < np.inf, "positive and finite")
    # NumPy draws no noise of scale -0.0
    noise_fits = 0 <= args.exploration_noise < np.inf and not np.signbit(args.exploration_noise)
    check("exploration_noise", noise_fits, "at least 0 and finite")
    check("policy_noise", 0 <= args.policy_noise < np.inf, "at least 0 and finite")
    check("noise_clip", 0 <= args.noise_clip < np.inf, "at least 0 and finite")
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


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    train(tyro.cli(Args))
