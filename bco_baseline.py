"""BCO, behavioural cloning from observation (Torabi et al., 2018): Table 1 of Edwards et al., ICML 2020.

python bco_baseline.py --env-id InvertedPendulum-v4
"""

import hashlib
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

import gymnasium as gym
import numpy as np
import torch
import tyro
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

received_signals: list[int] = []  # SIGTERM or Ctrl-C, acted on at the end of a round


@dataclass
class Args:
    """Act in rounds that train an inverse dynamics and, with the actions it infers for a data set, a cloned policy."""

    # Experiment
    exp_name: str = Path(__file__).stem
    """the name of this experiment, part of the default run folder"""
    seed: int = 1
    """seed of the networks, the exploration, the batches and the episodes, not of the data set"""
    cuda: bool = True
    """use a GPU if there is one"""
    num_threads: int = 1
    """CPU threads; 1 is best for seeds side by side, raise it for a single run"""
    run_dir: str | None = None
    """the run's folder; by default runs/{env_id}__{exp_name}__{seed}__{unix time}"""
    resume: bool = False
    """continue the run in --run-dir from its checkpoint, or start it if there is none"""
    # Environment, data and budget
    env_id: str = "InvertedPendulum-v4"
    """the Gymnasium task, Id-v0 or module:Id-v0"""
    dataset: str | None = None
    """a data set FILE.npz to learn from; by default one is collected as follows, in datasets/, or found there"""
    demonstrator: str | None = None
    """the model.pt of a run of td3_baseline.py that collects the data, needed where --randomness is below 1"""
    randomness: float = 1.0
    """probability with which a uniformly random action replaces the demonstrator's"""
    dataset_size: int = 1_000_000
    """transitions to collect"""
    dataset_seed: int = 0
    """seed of the collection"""
    collect_only: bool = False
    """stop when the data set is there"""
    rounds: int = 100
    """rounds: an evaluation, steps in the task, updates of the inverse dynamics, updates of the policy"""
    steps_per_round: int = 1_000
    """environment steps per round"""
    inverse_updates: int = 10_000
    """updates of the inverse dynamics per round, on the steps of all rounds so far"""
    policy_updates: int = 10_000
    """updates of the cloned policy per round, on the data set"""
    eval_episodes: int = 10
    """noise-free episodes per evaluation, the same start states every time"""
    # Algorithm
    learning_rate: float = 3e-4
    """learning rate of every Adam optimiser"""
    hidden_sizes: tuple[int, ...] = (256, 256)
    """widths of the hidden layers of every network"""
    batch_size: int = 256
    """transitions per update"""
    exploration_noise: float = 0.1
    """standard deviation of the Gaussian exploration noise, in units of the action scale"""

    def __post_init__(self):
        def check(names: str, allowed: str, is_valid) -> None:
            for name in names.split():
                if not is_valid(getattr(self, name)):
                    fail(f"--{name.replace('_', '-')} {getattr(self, name)}: must be {allowed}")

        check("seed dataset_seed", "from 0 to 2**32 - 1", lambda x: 0 <= x < 2**32)
        counts = " ".join(name for name, x in vars(self).items() if type(x) is int and "seed" not in name)
        check(counts, "at least 1", lambda x: x >= 1)
        check("hidden_sizes", "one width or more, each at least 1", lambda x: len(x) >= 1 and min(x) >= 1)
        check("exploration_noise", "at least 0 and finite", lambda x: 0 <= x < np.inf)
        check("randomness", "from 0 to 1", lambda x: 0 <= x <= 1)
        check("learning_rate", "above 0 and at most 1", lambda x: 0 < x <= 1)
        check("resume", "used with --run-dir", lambda x: not x or self.run_dir)


# Copied from d3g_from_obs.MLP
class MLP(nn.Module):
    """MLP with ReLUs, inputs side by side: [batch, n_1], ... -> [batch, sizes[-1]]; with `bounds`, a scaled tanh."""

    def __init__(self, *sizes: int, bounds=None):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(n, m) for n, m in zip(sizes[:-1], sizes[1:], strict=True))
        if bounds is not None:
            low, high = (torch.as_tensor(x, dtype=torch.get_default_dtype()) for x in bounds)
            self.register_buffer("action_scale", (high - low) / 2)
            self.register_buffer("action_bias", (high + low) / 2)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        x = torch.cat(inputs, 1)
        for layer in self.layers[:-1]:
            x = torch.relu_(layer(x))
        x = self.layers[-1](x)
        return torch.tanh(x) * self.action_scale + self.action_bias if hasattr(self, "action_scale") else x


# Copied from d3g_from_obs.sample
def sample(rows: np.ndarray, widths: tuple[int, ...], batch_size: int, rng, device) -> tuple[torch.Tensor, ...]:
    """Draw a batch of the rows uniformly with replacement and split it into its parts, each [batch, width]."""
    batch = rows[rng.integers(len(rows), size=batch_size)]
    return torch.as_tensor(batch, dtype=torch.get_default_dtype(), device=device).split(widths, dim=1)


class BCO(nn.Module):
    """The agent: networks, optimisers, its two updates, and how it acts.

    inverse_dynamics  I    s, s' [batch, obs_dim] -> action [batch, action_dim]
    policy            pi   s -> action
    """

    def __init__(self, obs_dim: int, action_low: np.ndarray, action_high: np.ndarray, args: Args):
        super().__init__()
        self.action_low, self.action_high, self.losses, bounds = action_low, action_high, {}, (action_low, action_high)
        self.inverse_dynamics = MLP(2 * obs_dim, *args.hidden_sizes, len(action_low), bounds=bounds)
        self.policy = MLP(obs_dim, *args.hidden_sizes, len(action_low), bounds=bounds)
        self.optimizers = {}
        for name, network in self.named_children():
            self.optimizers[name] = torch.optim.Adam(network.parameters(), args.learning_rate, fused=True)

    # Copied from d3g_from_obs.D3G.update_inverse_dynamics
    def update_inverse_dynamics(self, batch: tuple[torch.Tensor, ...]) -> None:
        """Eq. 10 on a batch s, a, s' from acting: minimise |I(s, s') - a|^2."""
        s, a, s_next = batch
        self.minimise("inverse_dynamics", nn.functional.mse_loss(self.inverse_dynamics(s, s_next), a))

    def update_policy(self, batch: tuple[torch.Tensor, ...]) -> None:
        """Cloning, on a batch s, r, s', terminated of the data set: minimise |pi(s) - I(s, s')|^2."""
        s, _, s_next, _ = batch
        with torch.no_grad():
            a = self.inverse_dynamics(s, s_next)
        self.minimise("policy", nn.functional.mse_loss(self.policy(s), a))

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
        bias = self.policy.action_bias
        s = torch.as_tensor(observation, dtype=bias.dtype, device=bias.device).unsqueeze(0)
        action = self.policy(s).squeeze(0).cpu().numpy()
        return np.clip(action + noise, self.action_low, self.action_high).astype(self.action_low.dtype)


# Copied from d3g_from_obs.evaluate
def evaluate(act, env: gym.Env, seeds: list[int], record=lambda *_: None) -> np.ndarray:
    """Play an episode per seed, with actions act(s); call record(s, r, s', terminated); returns and lengths [2, n]."""
    episodes = []
    for seed in seeds:
        observation, info = env.reset(seed=seed)
        while "episode" not in info:
            s = np.copy(observation)  # some tasks reuse their array
            observation, reward, terminated, _, info = env.step(act(s))
            record(s, reward, observation, terminated)
        episodes.append((info["episode"]["r"], info["episode"]["l"]))
    return np.array(episodes, dtype=np.float64).T


# Copied from d3g_from_obs.collect
def collect(args: Args, env: gym.Env) -> Path:
    """Return the file of the data set that `args` describe, collected unless it is in datasets/ already. A JSON file
    beside it has its mean return and its policy's score in Table 1: the highest of 100 evaluations of 10 episodes."""
    low, high, obs_dim = env.action_space.low, env.action_space.high, env.observation_space.shape[0]
    name = f"{args.env_id.replace('/', '_')}__random{args.randomness}__{args.dataset_size}__{args.dataset_seed}"
    if args.randomness < 1:
        try:
            model = torch.load(args.demonstrator, map_location="cpu", weights_only=True)
            if model["args"]["env_id"] != args.env_id:
                raise ValueError(f"it is from {model['args']['env_id']}")
            policy = MLP(obs_dim, *model["args"]["hidden_sizes"], len(low), bounds=(low, high))
            policy.requires_grad_(False).load_state_dict(model["actor"])
            name += f"__{hashlib.sha256(Path(args.demonstrator).read_bytes()).hexdigest()[:12]}"
        except Exception as error:  # a damaged or foreign file may raise anything
            fail(f"--demonstrator {args.demonstrator}: must be model.pt of a TD3 run on {args.env_id}: {error!r}")
    file = Path("datasets", f"{name}.npz")
    if file.exists():
        return file
    print(f"collecting {file}")
    rng, rows = np.random.default_rng(args.dataset_seed), []

    def behave(s: np.ndarray) -> np.ndarray:
        if rng.random() < args.randomness:
            return rng.uniform(low, high).astype(low.dtype)
        return policy(torch.as_tensor(s, dtype=torch.float32).unsqueeze(0)).squeeze(0).numpy()

    while len(rows) < args.dataset_size:
        evaluate(behave, env, rng.integers(2**31, size=1).tolist(), lambda *x: rows.append(np.float32(np.hstack(x))))
    seeds = rng.integers(2**31, size=10).tolist()  # the same start states every time, as in a run's evaluations
    score = max(evaluate(behave, env, seeds)[0].mean() for _ in range(100))
    s, r, s_next, terminated = np.split(np.array(rows[: args.dataset_size]), np.cumsum((obs_dim, 1, obs_dim)), axis=1)
    (partial := file.with_suffix(f".{os.getpid()}.npz")).parent.mkdir(exist_ok=True)
    np.savez(partial, observations=s, rewards=r[:, 0], next_observations=s_next, terminations=terminated[:, 0] > 0)
    file.with_suffix(".json").write_text(json.dumps({"mean_return": load_dataset(partial, obs_dim)[1], "score": score}))
    os.replace(partial, file)
    return file


# Copied from d3g_from_obs.load_dataset
def load_dataset(file: Path, obs_dim: int) -> tuple[np.ndarray, float]:
    """Return a data set's rows (s, r, s', terminated) and the mean return of its episodes, which end where one
    terminates or the next row does not continue; fail on a file that is none for observations [obs_dim]."""
    names = ("observations", "rewards", "next_observations", "terminations")
    try:
        with np.load(file, allow_pickle=False) as data:
            s, r, s_next, terminated = (data[name].astype(np.float32) for name in names)
        shapes, n = [x.shape for x in (s, r, s_next, terminated)], max(len(s), 1)
        rows = np.column_stack((s, r, s_next, terminated))
        if shapes != [(n, obs_dim), (n,), (n, obs_dim), (n,)] or not np.isfinite(rows).all() or {*terminated} - {0, 1}:
            raise ValueError(
                f"{names} have shapes {shapes}, {np.sum(~np.isfinite(rows))} values not finite; terminations: 0, 1"
            )
    except Exception as error:  # a damaged or foreign file may raise anything
        fail(f"--dataset {file}: must be a data set as the README says, with {obs_dim} observations: {error!r}")
    ends = (terminated[:-1] > 0) | (s[1:] != s_next[:-1]).any(1)
    return rows, float(np.bincount(np.append(0, ends.cumsum()), r).mean())


# Copied from d3g_continuous.fail
def fail(message: str, status: int = 2):
    """Print one line on standard error and exit: with 2 for bad input, with 1 for a run that went wrong."""
    print("error:", *message.split(), file=sys.stderr)
    sys.exit(status)


# Copied from d3g_from_obs.make_env
def make_env(env_id: str) -> gym.Env:
    """Make a Gymnasium task; fail unless its spaces suit."""
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # the paper's tasks are not the newest
        try:
            env = gym.make(env_id)
        except Exception as error:  # the task's own code may raise anything
            fail(f"--env-id {env_id}: must be a task that Gymnasium can make: {type(error).__name__}: {error}")
    obs, act = env.observation_space, env.action_space
    flat = all(isinstance(space, gym.spaces.Box) and len(space.shape) == 1 for space in (obs, act))
    if not (flat and np.isfinite([act.low, act.high]).all() and (act.low < act.high).all() and act.dtype.kind == "f"):
        fail(f"--env-id {env_id}: must have flat observations and flat, bounded, real actions, has {obs} and {act}")
    return gym.wrappers.RecordEpisodeStatistics(env)


# Copied from d3g_from_obs.check_finite
def check_finite(tensors: dict[str, torch.Tensor], step: int) -> None:
    """Stop the run, with status 1, at a loss or a parameter that is NaN or infinite."""
    for name in (name for name, tensor in tensors.items() if not tensor.isfinite().all()):
        fail(f"{name} is NaN or infinite at step {step}; the last checkpoint stays", status=1)


def open_run(args: Args) -> tuple[Path, dict]:
    """Return the run's folder and what its args.json holds or shall hold; fail if `args` may not use the folder."""
    run_dir = Path(args.run_dir or f"runs/{args.env_id}__{args.exp_name}__{args.seed}__{int(time.time())}")
    given = json.loads(json.dumps(asdict(args))) | {"run_dir": str(run_dir)}
    try:
        if held := [x for x in ("args.json", "evaluations.csv", "checkpoint.pt", "model.pt") if (run_dir / x).exists()]:
            if not args.resume:
                fail(f"--run-dir {run_dir}: must not hold a run, unless with --resume, but has {', '.join(held)}")
            info = json.loads((run_dir / "args.json").read_text())
            for name in given.keys() - {"resume", "run_dir", "cuda"}:
                if given[name] != (was := info["args"][name]):
                    fail(f"--{name.replace('_', '-')} {given[name]}: must be {was} to resume {run_dir}")
            return run_dir, info
    except (OSError, ValueError, LookupError, TypeError) as error:
        fail(f"--run-dir {run_dir}: must be a new folder or hold the args.json of the run to resume: {error!r}")
    found = {d.name: d.version for d in distributions() if d.name in ("torch", "gymnasium", "mujoco", "numpy")}
    git = 'git describe --always --dirty --abbrev=40 --exclude="*"'
    git = subprocess.run(git, cwd=Path(__file__).parent, shell=True, capture_output=True, text=True).stdout.strip()
    return run_dir, {"args": given, "versions": found | {"python": sys.version.split()[0]}, "git_commit": git or None}


def on_signal(signum: int, _frame) -> None:
    """The first SIGTERM or Ctrl-C ends the run with a checkpoint, after the round, another one at once."""
    os._exit(128 + signum) if received_signals else received_signals.append(signum)


def train(args: Args) -> Path:
    """Train BCO as `args` say and return the run's folder. On a CPU, equal `args` and data give equal numbers."""
    env, eval_env = make_env(args.env_id), make_env(args.env_id)
    obs_dim, low, high = env.observation_space.shape[0], env.action_space.low, env.action_space.high
    run_dir, info = open_run(args)
    if (run_dir / "model.pt").exists():
        (run_dir / "checkpoint.pt").unlink(missing_ok=True)
        print(f"{run_dir} is complete")
        return run_dir
    torch.set_num_threads(args.num_threads)
    file = Path(args.dataset) if args.dataset else collect(args, env)
    data, data_return = load_dataset(file, obs_dim)
    print(f"data: {file}, {len(data)} transitions, mean return {data_return:.2f}")
    if args.collect_only:
        return run_dir
    device = torch.device("cuda" if args.cuda and torch.cuda.is_available() else "cpu")
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    eval_seeds = np.random.SeedSequence((args.seed, 2)).generate_state(args.eval_episodes).tolist()
    agent = BCO(obs_dim, low, high, args).to(device)
    widths = (obs_dim, len(low), obs_dim)  # of (s, a, s') as they come from acting
    online = np.zeros((args.rounds * args.steps_per_round, sum(widths)), np.float32)
    step, episode, seconds, rows = 0, 0, 0.0, ["step,return_mean,return_std,length_mean,seconds"]
    try:
        if (run_dir / "checkpoint.pt").exists():
            checkpoint = torch.load(run_dir / "checkpoint.pt", map_location="cpu", weights_only=True)
            if checkpoint["info"] != info:
                raise ValueError("its arguments or versions are not those of args.json")
            agent.load_state_dict(checkpoint["agent"])
            for name, optimizer in agent.optimizers.items():
                optimizer.load_state_dict(checkpoint["optimizers"][name])
            step, episode, seconds, rows = (checkpoint[k] for k in ("step", "episode", "seconds", "rows"))
            online[:step] = checkpoint["online"]
            rng.bit_generator.state = checkpoint["rng"]
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / "partial.tmp").write_text(json.dumps(info, indent=2) + "\n")
        os.replace(run_dir / "partial.tmp", run_dir / "args.json")
    except Exception as error:  # a damaged or foreign checkpoint may raise anything
        fail(f"--run-dir {run_dir}: must be a folder to write to and, to resume, have this run's checkpoint: {error!r}")
    writer = SummaryWriter(run_dir, purge_step=step + 1 if len(rows) > 1 else 0)
    print(f"device: {device}, CPU threads: {args.num_threads}, run folder: {run_dir}")
    bar = tqdm(total=args.rounds, initial=len(rows) - 1, unit="round", file=sys.stdout, disable=None)
    started = time.perf_counter() - seconds
    while step < len(online):
        if step == (len(rows) - 1) * args.steps_per_round:
            check_finite(agent.state_dict(), step)
            seconds = time.perf_counter() - started
            returns, lengths = evaluate(agent.act, eval_env, eval_seeds)
            started = time.perf_counter() - seconds  # evaluations do not count
            rows.append(f"{step},{returns.mean()},{returns.std()},{lengths.mean()},{seconds:.2f}")
            (run_dir / "evaluations.csv").write_text("\n".join([*rows, ""]))
            writer.add_scalar("eval/return_mean", returns.mean(), step)
            tqdm.write(f"step {step}/{len(online)}: return {returns.mean():.1f} +- {returns.std():.1f}")
        writer.flush()
        state = {"info": info, "step": step, "episode": episode, "rows": rows, "agent": agent.state_dict()}
        state |= {"optimizers": {name: optimizer.state_dict() for name, optimizer in agent.optimizers.items()}}
        state |= {"rng": rng.bit_generator.state, "online": torch.from_numpy(online[:step])}
        torch.save(state | {"seconds": time.perf_counter() - started}, run_dir / "partial.tmp")
        os.replace(run_dir / "partial.tmp", run_dir / "checkpoint.pt")
        if stop := received_signals[:1]:  # read once, since a signal may come at any moment
            print(f"stopped after {step} steps; --resume --run-dir {run_dir} continues")
            sys.exit(128 + stop[0])
        done = True
        for _ in range(args.steps_per_round):
            if done:
                seed = np.random.SeedSequence((args.seed, 1, episode)).generate_state(1).tolist()[0]
                observation, episode = np.copy(env.reset(seed=seed)[0]), episode + 1
            action = agent.act(observation, rng.normal(0, args.exploration_noise, len(low)) * (high - low) / 2)
            next_observation, _, terminated, truncated, stats = env.step(action)
            online[step] = np.concatenate((observation, action, next_observation))
            observation, step, done = np.copy(next_observation), step + 1, terminated or truncated
            if done:
                writer.add_scalar("charts/episodic_return", stats["episode"]["r"], step)
                writer.add_scalar("charts/episodic_length", stats["episode"]["l"], step)
        for _ in range(args.inverse_updates):
            agent.update_inverse_dynamics(sample(online[:step], widths, args.batch_size, rng, device))
        for _ in range(args.policy_updates):
            agent.update_policy(sample(data, (obs_dim, 1, obs_dim, 1), args.batch_size, rng, device))
        for name, loss in agent.losses.items():
            writer.add_scalar(f"losses/{name}", loss, step)
        writer.add_scalar("charts/SPS", step / (time.perf_counter() - started), step)
        check_finite(agent.losses | agent.state_dict(), step)
        bar.update()
    writer.close()
    model = {name: network.state_dict() for name, network in agent.named_children()}
    model |= {"args": info["args"], "obs_dim": obs_dim, "action_dim": len(low), "action_low": low.tolist()}
    torch.save(model | {"action_high": high.tolist()}, run_dir / "partial.tmp")
    os.replace(run_dir / "partial.tmp", run_dir / "model.pt")
    (run_dir / "checkpoint.pt").unlink(missing_ok=True)
    print(f"run folder: {run_dir}")
    return run_dir


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    train(tyro.cli(Args))
