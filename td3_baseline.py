"""TD3 and DDPG on continuous control, which D3G is compared with: Figure 7 of Edwards et al., ICML 2020.

    python td3_baseline.py --env-id HalfCheetah-v4 --seed 1

`--algorithm ddpg` trains DDPG: TD3 without its twin critics, its target policy smoothing and its delay.
"""

import copy
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Literal

import gymnasium as gym
import imageio
import numpy as np
import torch
import torch.nn.functional as F
import tyro
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

received_signals: list[int] = []  # SIGTERM or Ctrl-C, acted on at the end of an episode


@dataclass
class Args:
    """Train TD3 or DDPG on a Gymnasium task with flat observations and bounded continuous actions."""

    # Experiment
    exp_name: str = Path(__file__).stem
    """the name of this experiment, part of the default run folder"""
    seed: int = 1
    """seed of the networks, the exploration, the batches and the episodes"""
    torch_deterministic: bool = True
    """on a GPU, use only kernels that repeat bit by bit (a CPU run always does)"""
    cuda: bool = True
    """use a GPU if there is one"""
    num_threads: int = 1
    """CPU threads; 1 is best for seeds side by side, raise it for a single run"""
    run_dir: str | None = None
    """the run's folder; by default runs/{env_id}__{exp_name}__{seed}__{unix time}"""
    resume: bool = False
    """continue the run in --run-dir from its checkpoint, or start it if there is none"""
    checkpoint_frequency: int = 50_000
    """environment steps between checkpoints, each written at the next end of an episode"""
    capture_video: bool = False
    """write a GIF of the first episode of each evaluation to the run folder"""
    # Environment and budget
    env_id: str = "HalfCheetah-v4"
    """the Gymnasium task, Id-v0 or module:Id-v0"""
    total_timesteps: int = 1_000_000
    """environment steps of the whole run"""
    eval_frequency: int = 5_000
    """environment steps between evaluations"""
    eval_episodes: int = 10
    """noise-free episodes per evaluation, the same start states every time"""
    # Algorithm
    algorithm: Literal["td3", "ddpg"] = "td3"
    """td3, or ddpg: the defaults of the five arguments after this one"""
    num_critics: int | None = None
    """critics, the least of whose targets counts; td3: 2, ddpg: 1"""
    policy_noise: float | None = None
    """standard deviation of target policy smoothing, in units of the action scale; td3: 0.2, ddpg: 0"""
    policy_frequency: int | None = None
    """critic updates per update of the actor and the target networks; td3: 2, ddpg: 1"""
    learning_rate: float | None = None
    """learning rate of every Adam optimiser; td3: 3e-4, ddpg: 1e-3"""
    hidden_sizes: tuple[int, ...] | None = None
    """widths of the hidden layers of every network; td3: 256 256, ddpg: 400 300"""
    noise_clip: float = 0.5
    """bound of the smoothing noise, in units of the action scale"""
    buffer_size: int = 1_000_000
    """transitions the replay buffer holds"""
    batch_size: int = 256
    """transitions per update"""
    gamma: float = 0.99
    """discount factor"""
    tau: float = 0.005
    """step of the target networks towards the online ones"""
    learning_starts: int = 10_000
    """uniformly random steps at the start, without updates"""
    exploration_noise: float = 0.1
    """standard deviation of the Gaussian exploration noise, in units of the action scale"""

    def __post_init__(self):
        def check(names: str, allowed: str, is_valid) -> None:
            for name in names.split():
                if not is_valid(getattr(self, name)):
                    fail(f"--{name.replace('_', '-')} {getattr(self, name)}: must be {allowed}")

        td3 = {"num_critics": 2, "policy_noise": 0.2, "policy_frequency": 2, "learning_rate": 3e-4}
        ddpg = {"num_critics": 1, "policy_noise": 0.0, "policy_frequency": 1, "learning_rate": 1e-3}
        implied = td3 | {"hidden_sizes": (256, 256)} if self.algorithm == "td3" else ddpg | {"hidden_sizes": (400, 300)}
        vars(self).update({name: value for name, value in implied.items() if getattr(self, name) is None})
        check("seed", "from 0 to 2**32 - 1", lambda x: 0 <= x < 2**32)
        check("num_threads total_timesteps eval_frequency eval_episodes", "at least 1", lambda x: x >= 1)
        check("checkpoint_frequency buffer_size batch_size", "at least 1", lambda x: x >= 1)
        check("policy_frequency num_critics", "at least 1", lambda x: x >= 1)
        check("learning_starts", "at least 0", lambda x: x >= 0)
        check("hidden_sizes", "one width or more, each at least 1", lambda x: len(x) >= 1 and min(x) >= 1)
        check("learning_rate", "positive and finite", lambda x: 0 < x < np.inf)
        check("exploration_noise policy_noise noise_clip", "at least 0 and finite", lambda x: 0 <= x < np.inf)
        check("gamma", "from 0 to 1", lambda x: 0 <= x <= 1)
        check("tau", "above 0 and at most 1", lambda x: 0 < x <= 1)
        check("resume", "used with --run-dir", lambda x: not x or self.run_dir)


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

    def __init__(self, obs_dim: int, action_low, action_high, hidden_sizes: tuple[int, ...]):
        super().__init__(obs_dim, *hidden_sizes, len(action_low))
        low, high = (torch.as_tensor(x, dtype=torch.get_default_dtype()) for x in (action_low, action_high))
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

    def add(self, s, a, r: float, s_next, terminated: bool) -> None:
        """Store a transition over the oldest one. `terminated` is false where only a time limit ended the episode."""
        self.rows[self.added % len(self.rows)] = np.concatenate((s, a, [r], s_next, [terminated]))
        self.added += 1

    def sample(self, batch_size: int, rng: np.random.Generator, device: torch.device) -> tuple[torch.Tensor, ...]:
        """Draw (s, a, r, s', terminated), each [batch, width], uniformly with replacement, in torch's default dtype."""
        rows = self.rows[rng.integers(min(self.added, len(self.rows)), size=batch_size)]
        return torch.as_tensor(rows, dtype=torch.get_default_dtype(), device=device).split(self.widths, dim=1)


class TD3(nn.Module):
    """The agent of section 4.2 (DDPG: 4.1): critics Q_theta_i, s and a -> [batch, 1], and the actor pi_psi."""

    def __init__(self, obs_dim: int, action_low: np.ndarray, action_high: np.ndarray, args: Args):
        super().__init__()
        self.args, self.action_low, self.action_high = args, action_low, action_high
        sizes = (obs_dim + len(action_low), *args.hidden_sizes, 1)
        self.critic = nn.ModuleList(MLP(*sizes) for _ in range(args.num_critics))
        self.actor = Actor(obs_dim, action_low, action_high, args.hidden_sizes)
        self.optimizers = {}
        for name, network in self.named_children():
            self.optimizers[name] = torch.optim.Adam(network.parameters(), args.learning_rate, fused=True)
        self.critic_target = copy.deepcopy(self.critic).requires_grad_(False)
        self.actor_target = copy.deepcopy(self.actor).requires_grad_(False)
        self.online = [*self.critic.parameters(), *self.actor.parameters()]
        self.targets = [*self.critic_target.parameters(), *self.actor_target.parameters()]
        self.updates, self.losses = 0, {}

    def update(self, batch: tuple[torch.Tensor, ...]) -> None:
        """Learn from a batch s, a, r, s', terminated, each [batch, width]; leave the latest losses in `self.losses`."""
        s, a, r, s_next, terminated = batch
        self.updates += 1
        with torch.no_grad():
            # TD3's target policy smoothing: a' = pi'(s') + clipped noise, within the action bounds (DDPG: none)
            scale, bias = self.actor.action_scale, self.actor.action_bias
            noise = self.args.policy_noise * torch.randn(a.shape).to(a)  # from the generator that checkpoints keep
            noise = noise.clamp(-self.args.noise_clip, self.args.noise_clip) * scale
            a_next = (self.actor_target(s_next) + noise).clamp(bias - scale, bias + scale)
            # Target, with TD3's least of twin critics (DDPG: its only one): y = r + gamma (1 - d) min_i Q_i'(s', a')
            q_next = torch.stack([q(s_next, a_next) for q in self.critic_target]).amin(0)
            y = r + self.args.gamma * (1 - terminated) * q_next

        # Critics: minimise sum_i |y - Q_i(s, a)|^2
        q_values = [q(s, a) for q in self.critic]
        self.minimise("critic", sum(F.mse_loss(q, y) for q in q_values))
        self.losses["qf1_values"] = q_values[0].detach().mean()
        # Actor, with TD3's delay (DDPG: none): minimise -Q_1(s, pi(s))
        if self.updates % self.args.policy_frequency == 0:
            self.minimise("actor", -self.critic[0](s, self.actor(s)).mean())
            with torch.no_grad():  # targets: theta' <- tau theta + (1 - tau) theta', and psi' likewise
                torch._foreach_lerp_(self.targets, self.online, self.args.tau)

    # Copied from d3g_continuous.D3G.minimise
    def minimise(self, name: str, loss: torch.Tensor) -> None:
        """One Adam step of network `name` on `loss`; no other network gets gradients, wherever `loss` leads."""
        parameters = self.optimizers[name].param_groups[0]["params"]
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        self.optimizers[name].step()
        self.losses[f"{name}_loss"] = loss.detach()

    @torch.inference_mode()
    def act(self, observation: np.ndarray, noise: np.ndarray | float = 0.0) -> np.ndarray:
        """pi(s) + noise for one observation [obs_dim], clipped to the action bounds [action_dim]."""
        bias = self.actor.action_bias
        s = torch.as_tensor(observation, dtype=bias.dtype, device=bias.device).unsqueeze(0)
        action = self.actor(s).squeeze(0).cpu().numpy()
        return np.clip(action + noise, self.action_low, self.action_high).astype(self.action_low.dtype)


# Copied from d3g_continuous.evaluate
def evaluate(agent: nn.Module, env: gym.Env, seeds: list[int], video: Path | None) -> np.ndarray:
    """Act without noise, an episode per seed, the first one into a GIF; return returns and lengths: [2, episodes]."""
    episodes, frames = [], []
    fps = env.metadata.get("render_fps") or 30
    skip = -(-fps // 25)  # browsers slow down GIFs that are faster
    for seed in seeds:
        observation, info = env.reset(seed=seed)
        while "episode" not in info:
            if video and not episodes and env.episode_lengths % skip == 0:
                frames.append(env.render()[::2, ::2].copy())
            observation, _, _, _, info = env.step(agent.act(observation))
        episodes.append((info["episode"]["r"], info["episode"]["l"]))
    if video:
        imageio.mimsave(video, frames, duration=1000 * skip / fps, loop=0)
    return np.array(episodes, dtype=np.float64).T


# Copied from d3g_continuous.fail
def fail(message: str, status: int = 2):
    """Print one line on standard error and exit: with 2 for bad input, with 1 for a run that went wrong."""
    print("error:", *message.split(), file=sys.stderr)
    sys.exit(status)


# Copied from d3g_continuous.make_env
def make_env(env_id: str, render: bool = False) -> gym.Env:
    """Make a Gymnasium task; fail unless its spaces suit and, with `render`, its frames can be drawn."""
    if render:  # a frame in a child process first: a renderer that cannot start may raise on import, or abort
        if sys.platform == "linux" and not os.environ.keys() & {"DISPLAY", "WAYLAND_DISPLAY"}:
            os.environ.setdefault("MUJOCO_GL", "egl")
        code = "import sys; i, *sys.path = sys.argv[1:]; import gymnasium as g; e = g.make(i, render_mode='rgb_array')"
        command = [sys.executable, "-c", code + "; e.reset(); e.render().shape", env_id, *sys.path]
        child = subprocess.run(command, capture_output=True, text=True)
        if child.returncode != 0:
            gl, last_line = os.environ.get("MUJOCO_GL"), child.stderr.strip().splitlines()[-1:]
            fail(f"--capture-video True: must be False where {env_id} cannot be drawn (MUJOCO_GL={gl}): {last_line}")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # the paper's tasks are not the newest
        try:
            env = gym.make(env_id, **({"render_mode": "rgb_array"} if render else {}))
        except Exception as error:  # the task's own code may raise anything
            fail(f"--env-id {env_id}: must be a task that Gymnasium can make: {type(error).__name__}: {error}")
    obs, act = env.observation_space, env.action_space
    flat = all(isinstance(space, gym.spaces.Box) and len(space.shape) == 1 for space in (obs, act))
    if not (flat and np.isfinite([act.low, act.high]).all() and (act.low < act.high).all() and act.dtype.kind == "f"):
        fail(f"--env-id {env_id}: must have flat observations and flat, bounded, real actions, has {obs} and {act}")
    return gym.wrappers.RecordEpisodeStatistics(env)


# Copied from d3g_continuous.check_finite
def check_finite(tensors: dict[str, torch.Tensor], step: int) -> None:
    """Stop the run, with status 1, at a loss or a parameter that is NaN or infinite."""
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            fail(f"{name} is NaN or infinite at step {step}; the last checkpoint stays", status=1)


# Copied from d3g_continuous.open_run
def open_run(args: Args) -> tuple[Path, dict]:
    """Return the run's folder and what its args.json holds or shall hold; fail if `args` may not use the folder."""
    run_dir = Path(args.run_dir or f"runs/{args.env_id}__{args.exp_name}__{args.seed}__{int(time.time())}")
    given = json.loads(json.dumps(asdict(args))) | {"run_dir": str(run_dir)}
    try:
        held = [x for x in ("args.json", "evaluations.csv", "checkpoint.pt", "model.pt") if (run_dir / x).exists()]
        if held and not args.resume:
            fail(f"--run-dir {run_dir}: must not hold a run, unless with --resume, but has {', '.join(held)}")
        if held:
            info = json.loads((run_dir / "args.json").read_text())
            for name in given.keys() - {"resume", "run_dir", "checkpoint_frequency", "cuda", "capture_video"}:
                if given[name] != (was := info["args"][name]):
                    fail(f"--{name.replace('_', '-')} {given[name]}: must be {was} to resume {run_dir}")
            return run_dir, info
    except (OSError, ValueError, LookupError, TypeError) as error:
        fail(f"--run-dir {run_dir}: must be a new folder or hold the args.json of the run to resume: {error!r}")
    found = {d.name: d.version for d in distributions() if d.name in ("torch", "gymnasium", "mujoco", "numpy")}
    git = 'git describe --always --dirty --abbrev=40 --exclude="*"'
    commit = subprocess.run(git, cwd=Path(__file__).parent, shell=True, capture_output=True, text=True).stdout.strip()
    found["python"] = sys.version.split()[0]
    return run_dir, {"args": given, "versions": found, "git_commit": commit or None}


# Copied from d3g_continuous.save
def save(contents: dict, file: Path) -> None:
    """torch.save to a temporary file that then replaces `file`: a kill leaves the old one or the new one, whole."""
    torch.save(contents, file.with_name("partial.tmp"))
    os.replace(file.with_name("partial.tmp"), file)


# Copied from d3g_continuous.load
def load(file: Path, info: dict, agent: nn.Module, buffer: ReplayBuffer, rng: np.random.Generator) -> dict:
    """Restore everything from a checkpoint and return it; fail on a file that is not the checkpoint of this run."""
    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
        if checkpoint["info"] != info:
            raise ValueError("its arguments or versions are not those of args.json")
        agent.load_state_dict(checkpoint["agent"])
        for name, optimizer in agent.optimizers.items():
            optimizer.load_state_dict(checkpoint["optimizers"][name])
        agent.updates, buffer.added = checkpoint["updates"], checkpoint["added"]
        buffer.rows[: buffer.added] = checkpoint.pop("replay")
        rng.bit_generator.state = checkpoint["rng"]
        torch.set_rng_state(checkpoint["torch_rng"])
        return checkpoint
    except Exception as error:  # a damaged or foreign file may raise anything
        fail(f"--resume True: {file} must be this run's checkpoint: {type(error).__name__}: {error}")


# Copied from d3g_continuous.on_signal
def on_signal(signum: int, _frame) -> None:
    """The first SIGTERM or Ctrl-C ends the run at the next episode end, with a checkpoint; a second one at once."""
    if received_signals:
        os._exit(128 + signum)
    received_signals.append(signum)
    os.write(2, b"\nwill stop with a checkpoint at the end of this episode; again to stop at once\n")


# Copied from d3g_continuous.train with D3G->TD3
def train(args: Args) -> Path:
    """Train TD3 as `args` say and return the run's folder. On a CPU, equal `args` give equal numbers."""
    run_dir, info = open_run(args)
    if (run_dir / "model.pt").exists():
        (run_dir / "checkpoint.pt").unlink(missing_ok=True)
        print(f"{run_dir} is complete")
        return run_dir
    device = torch.device("cuda" if args.cuda and torch.cuda.is_available() else "cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it a GPU's matrix products may not repeat
    torch.use_deterministic_algorithms(args.torch_deterministic and device.type == "cuda")
    torch.set_num_threads(args.num_threads)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    eval_seeds = np.random.SeedSequence((args.seed, 2)).generate_state(args.eval_episodes).tolist()
    eval_env, env = make_env(args.env_id, render=args.capture_video), make_env(args.env_id)
    obs_dim, low, high = env.observation_space.shape[0], env.action_space.low, env.action_space.high
    agent = TD3(obs_dim, low, high, args).to(device)
    buffer = ReplayBuffer(min(args.buffer_size, args.total_timesteps), obs_dim, len(low))
    step, episode, seconds, evaluations = 0, 0, 0.0, []
    if (run_dir / "checkpoint.pt").exists():
        checkpoint = load(run_dir / "checkpoint.pt", info, agent, buffer, rng)
        step, episode, seconds, evaluations = (checkpoint[k] for k in ("step", "episode", "seconds", "evaluations"))
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        if not (run_dir / "args.json").exists():
            (run_dir / "partial.tmp").write_text(json.dumps(info, indent=2) + "\n")
            os.replace(run_dir / "partial.tmp", run_dir / "args.json")
        csv = open(run_dir / "evaluations.csv", "w", buffering=1)
    except OSError as error:
        fail(f"--run-dir {run_dir}: must be a folder that can be written: {error}")
    csv.write("\n".join(["step,return_mean,return_std,length_mean,seconds", *evaluations, ""]))
    writer = SummaryWriter(run_dir, purge_step=step + 1 if step else 0)
    print(f"device: {device}, CPU threads: {args.num_threads}, run folder: {run_dir}", flush=True)
    bar = tqdm(total=args.total_timesteps, initial=step, file=sys.stdout, disable=not sys.stdout.isatty())
    next_checkpoint = step + args.checkpoint_frequency
    started = time.perf_counter() - seconds
    done = True
    while True:
        if step == len(evaluations) * args.eval_frequency:
            check_finite(agent.state_dict(), step)
            seconds = time.perf_counter() - started
            video = run_dir / f"episode_{step}.gif" if args.capture_video else None
            returns, lengths = evaluate(agent, eval_env, eval_seeds, video)
            evaluations.append(f"{step},{returns.mean()},{returns.std()},{lengths.mean()},{seconds:.2f}")
            csv.write(evaluations[-1] + "\n")
            writer.add_scalar("eval/return_mean", returns.mean(), step)
            summary = f"return {returns.mean():.1f} +- {returns.std():.1f}"
            bar.set_postfix_str(summary)
            if bar.disable:
                print(f"step {step}/{args.total_timesteps}: {summary}, {seconds:.0f} s", flush=True)
            started = time.perf_counter() - seconds  # evaluations do not count
        if step == args.total_timesteps:
            break
        if done:
            stop = received_signals[:1]  # read once, since a signal may come at any moment
            if stop or step >= next_checkpoint:
                check_finite(agent.state_dict(), step)
                writer.flush()
                state = {"info": info, "step": step, "episode": episode, "evaluations": evaluations}
                state |= {"agent": agent.state_dict(), "updates": agent.updates, "added": buffer.added}
                state |= {"optimizers": {name: optimizer.state_dict() for name, optimizer in agent.optimizers.items()}}
                state |= {"replay": torch.from_numpy(buffer.rows[: buffer.added]), "torch_rng": torch.get_rng_state()}
                state |= {"rng": rng.bit_generator.state, "seconds": time.perf_counter() - started}
                save(state, run_dir / "checkpoint.pt")
                next_checkpoint = step + args.checkpoint_frequency
            if stop:
                print(f"stopped at step {step}; --resume --run-dir {run_dir} continues")
                sys.exit(128 + stop[0])
            episode_seed = np.random.SeedSequence((args.seed, 1, episode)).generate_state(1)[0]
            observation = np.copy(env.reset(seed=int(episode_seed))[0])  # a copy: some tasks reuse their array
        if step < args.learning_starts:
            action = rng.uniform(low, high).astype(low.dtype)
        else:
            action = agent.act(observation, rng.normal(0, args.exploration_noise, len(low)) * (high - low) / 2)
        next_observation, reward, terminated, truncated, stats = env.step(action)
        buffer.add(observation, action, reward, next_observation, terminated)
        observation = np.copy(next_observation)
        done = terminated or truncated
        step += 1
        bar.update()
        if step > args.learning_starts:
            agent.update(buffer.sample(args.batch_size, rng, device))
            if agent.updates % 100 == 0:
                for name, loss in agent.losses.items():
                    writer.add_scalar(f"losses/{name}", loss, step)
                writer.add_scalar("charts/SPS", step / (time.perf_counter() - started), step)
                writer.flush()
                check_finite(agent.losses, step)
        if done:
            episode += 1
            writer.add_scalar("charts/episodic_return", stats["episode"]["r"], step)
            writer.add_scalar("charts/episodic_length", stats["episode"]["l"], step)
    bar.close()
    writer.close()
    check_finite(agent.state_dict(), step)
    model = {name: network.state_dict() for name, network in agent.named_children()}
    model |= {"args": info["args"], "obs_dim": obs_dim, "action_dim": len(low)}
    save(model | {"action_low": low.tolist(), "action_high": high.tolist()}, run_dir / "model.pt")
    (run_dir / "checkpoint.pt").unlink(missing_ok=True)
    print(f"run folder: {run_dir}; draw it: python benchmark/figure7.py {run_dir}")
    return run_dir


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    train(tyro.cli(Args))
