"""D3G and, without its cycle, D3G- in a gridworld: Figure 6 of Edwards et al., ICML 2020.

python d3g_gridworld.py
"""

import copy
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from importlib.metadata import distributions
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
import tyro
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

SIZE = 11  # rows and columns of the grid
MOVES = np.array([(-1, 0), (1, 0), (0, -1), (0, 1)])  # up, down, left, right as (row, column)
received_signals: list[int] = []  # SIGTERM or Ctrl-C, acted on at the end of an episode


@dataclass
class Args:
    """Train D3G and D3G- in the gridworld, one run after the other."""

    # Experiment
    exp_name: str = Path(__file__).stem
    """the name of this experiment, part of the default root folder"""
    variants: tuple[str, ...] = ("d3g", "d3g_no_cycle")
    """what to train: d3g, d3g_no_cycle (D3G-) or both"""
    seed: int = 1
    """the first seed: of the networks, the exploration and the batches"""
    num_seeds: int = 5
    """runs of each variant, with this seed and those after it"""
    cuda: bool = True
    """use a GPU if there is one"""
    num_threads: int = 1
    """CPU threads; 1 is best for seeds side by side, raise it for a single run"""
    run_dir: str | None = None
    """the root folder, of the runs {variant}/seed{k}; by default runs/gridworld__{exp_name}__{seed}__{unix time}"""
    resume: bool = False
    """continue the runs in --run-dir from their checkpoints, or start those that have none"""
    checkpoint_frequency: int = 10_000
    """environment steps between checkpoints, each written at the next end of an episode"""
    # Environment and budget
    coordinate_scale: float = 1.0
    """what the coordinates (row, column) are multiplied by before the networks see them"""
    total_timesteps: int = 50_000
    """environment steps of each run"""
    eval_frequency: int = 500
    """environment steps between evaluations and measurements of the proposal's distance"""
    # Algorithm
    learning_rate: float = 3e-4
    """learning rate of every Adam optimiser"""
    hidden_sizes: tuple[int, ...] = (256, 256)
    """widths of the hidden layers of every network"""
    batch_size: int = 256
    """transitions per update"""
    gamma: float = 0.99
    """discount factor"""
    tau: float = 0.005
    """step of the target networks towards the online ones (the paper's eta)"""
    learning_starts: int = 10_000
    """uniformly random steps at the start, without updates"""
    policy_frequency: int = 2
    """updates per update of the proposal and the target networks (the paper's d)"""
    epsilon: float = 0.1
    """probability of a uniformly random action after the start"""
    beta: float = 1.0
    """weight of the distance between a proposal and its cycle (Eq. 12)"""

    def __post_init__(self):
        def check(names: str, allowed: str, is_valid) -> None:
            for name in names.split():
                if not is_valid(getattr(self, name)):
                    fail(f"--{name.replace('_', '-')} {getattr(self, name)}: must be {allowed}")

        check("variants", "d3g, d3g_no_cycle or both", lambda x: 0 < len(x) == len({*x} & {"d3g", "d3g_no_cycle"}))
        check("seed", "from 0 to 2**32 - 1", lambda x: 0 <= x < 2**32)
        check("num_seeds num_threads total_timesteps eval_frequency", "at least 1", lambda x: x >= 1)
        check("checkpoint_frequency batch_size policy_frequency", "at least 1", lambda x: x >= 1)
        check("hidden_sizes", "one width or more, each at least 1", lambda x: len(x) >= 1 and min(x) >= 1)
        check("learning_rate coordinate_scale", "positive and finite", lambda x: 0 < x < np.inf)
        check("learning_starts beta", "at least 0 and finite", lambda x: 0 <= x < np.inf)
        check("gamma epsilon", "from 0 to 1", lambda x: 0 <= x <= 1)
        check("tau", "above 0 and at most 1", lambda x: 0 < x <= 1)
        check("resume", "used with --run-dir", lambda x: not x or self.run_dir)
        self.cycle = tuple(self.variants) == ("d3g",)  # of a single run: whether proposals pass through I and f


class GridWorld(gym.Env):
    """The grid: observations [2] are (row, column) times `scale`; actions 0 to 3 go up, down, left, right; walls stop;
    the reward is -1 a step and 1 on the one that reaches the goal (10, 10), which terminates."""

    def __init__(self, scale: float = 1.0):
        self.scale = scale
        self.observation_space = gym.spaces.Box(0, scale * (SIZE - 1), (2,), np.float32)
        self.action_space = gym.spaces.Discrete(len(MOVES))

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        self.cell = np.zeros(2, np.int64)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.cell = np.clip(self.cell + MOVES[action], 0, SIZE - 1)
        terminated = bool((self.cell == SIZE - 1).all())
        return (self.cell * self.scale).astype(np.float32), 1.0 if terminated else -1.0, terminated, False, {}


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


class InverseDynamics(MLP):
    """I_omega (Eq. 10): s, s' [batch, obs_dim] -> probabilities of the actions [batch, actions], a softmax."""

    def forward(self, s: torch.Tensor, s_next: torch.Tensor) -> torch.Tensor:
        return torch.softmax(super().forward(s, s_next), 1)


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


class D3G(nn.Module):
    """D3G as in d3g_continuous.py, for actions as vectors [batch, actions]: one-hot, or the probabilities of I."""

    def __init__(self, obs_dim: int, num_actions: int, args: Args):
        super().__init__()
        self.critic = nn.ModuleList(MLP(2 * obs_dim, *args.hidden_sizes, 1) for _ in range(2))
        self.proposal = MLP(obs_dim, *args.hidden_sizes, obs_dim)
        self.inverse_dynamics = InverseDynamics(2 * obs_dim, *args.hidden_sizes, num_actions)
        if args.cycle:
            self.forward_dynamics = MLP(obs_dim + num_actions, *args.hidden_sizes, obs_dim)
        self.optimizers = {}
        for name, network in self.named_children():
            self.optimizers[name] = torch.optim.Adam(network.parameters(), args.learning_rate, fused=True)
        self.critic_target = copy.deepcopy(self.critic).requires_grad_(False)
        self.proposal_target = copy.deepcopy(self.proposal).requires_grad_(False)
        self.online = [*self.critic.parameters(), *self.proposal.parameters()]
        self.targets = [*self.critic_target.parameters(), *self.proposal_target.parameters()]
        self.args, self.updates, self.losses = args, 0, {}

    # Copied from d3g_continuous.D3G.cycle
    def cycle(self, s: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        """C(s, p) of Algorithm 2, where s leads when p is aimed at; in D3G-, p itself. All [batch, obs_dim]."""
        return s + self.forward_dynamics(s, self.inverse_dynamics(s, p)) if self.args.cycle else p

    # Copied from d3g_continuous.D3G.update
    def update(self, batch: tuple[torch.Tensor, ...]) -> None:
        """Learn from a batch s, a, r, s', terminated, each [batch, width]; leave the latest losses in `self.losses`."""
        s, a, r, s_next, terminated = batch
        self.updates += 1

        # Eq. 13, target: y = r + gamma (1 - d) min_i Q_i'(s', C(s', s' + tau'(s')))
        with torch.no_grad():
            c = self.cycle(s_next, s_next + self.proposal_target(s_next))
            y = r + self.args.gamma * (1 - terminated) * torch.min(*(q(s_next, c) for q in self.critic_target))

        # Eq. 6, critics: minimise sum_i |y - Q_i(s, s')|^2
        q1, q2 = (q(s, s_next) for q in self.critic)
        self.minimise("critic", F.mse_loss(q1, y) + F.mse_loss(q2, y))
        self.losses["qf1_values"] = q1.detach().mean()

        # Eq. 10, inverse dynamics: minimise |I(s, s') - a|^2
        self.minimise("inverse_dynamics", F.mse_loss(self.inverse_dynamics(s, s_next), a))

        # Eq. 11, forward dynamics: minimise |s + f(s, a) - s'|^2
        if self.args.cycle:
            self.minimise("forward_dynamics", F.mse_loss(self.forward_dynamics(s, a), s_next - s))

        if self.updates % self.args.policy_frequency == 0:
            # Eq. 12, proposal p = s + tau(s): minimise -Q_1(s, C(s, p)) + beta |p - C(s, p)|^2 through I, f
            p = s + self.proposal(s)
            c = self.cycle(s, p)
            self.minimise("proposal", -self.critic[0](s, c).mean() + self.args.beta * F.mse_loss(c, p))

            # Algorithm 1, lines 22-24, targets: theta' <- eta theta + (1 - eta) theta', and psi' likewise
            with torch.no_grad():
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
    def act(self, observation: np.ndarray) -> int:
        """The action that I(s, s + tau(s)) holds most probable, for one observation [obs_dim]."""
        s = torch.as_tensor(observation, device=next(self.parameters()).device).unsqueeze(0)
        return int(self.inverse_dynamics(s, s + self.proposal(s)).argmax())

    @torch.inference_mode()
    def propose(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The proposals s + tau(s) for cells [n, 2], again in cells, and Q_1(s, s + tau(s)) [n]."""
        scale, device = self.args.coordinate_scale, next(self.parameters()).device
        s = torch.as_tensor(cells * scale, dtype=torch.get_default_dtype(), device=device)
        p = s + self.proposal(s)
        return p.cpu().numpy() / scale, self.critic[0](s, p).squeeze(1).cpu().numpy()


def evaluate(agent: D3G, env: gym.Env) -> tuple[float, int]:
    """Act greedily for an episode, which always starts in the same cell; return its return and its length."""
    observation, info = env.reset()
    while "episode" not in info:
        observation, _, _, _, info = env.step(agent.act(observation))
    return info["episode"]["r"], info["episode"]["l"]


def neighbour_distance(cell: np.ndarray, proposed: np.ndarray) -> float:
    """The least Manhattan distance, in cells, of a proposed place (row, column) to N(cell), which the moves lead to."""
    return float(abs(proposed - np.clip(cell + MOVES, 0, SIZE - 1)).sum(1).min())


def write_panels(agent: D3G, distances: list[tuple[int, float]], run_dir: Path) -> None:
    """Write the data of Figure 6: values of all cells, distances, and 50 proposals in a row from the start."""

    def write(name: str, header: str, *columns) -> None:
        np.savetxt(run_dir / name, np.column_stack(columns), delimiter=",", header=header, comments="")

    cells = np.indices((SIZE, SIZE)).reshape(2, -1).T
    proposed, values = agent.propose(cells)
    path = [np.zeros((1, 2))]
    for _ in range(50):
        path.append(agent.propose(path[-1])[0])
    write("values.csv", "row,column,value,proposal_row,proposal_column", cells, values, proposed)
    write("distances.csv", "step,distance", distances)
    write("path.csv", "k,row,column", np.arange(len(path)), np.concatenate(path))


# Copied from d3g_continuous.fail
def fail(message: str, status: int = 2):
    """Print one line on standard error and exit: with 2 for bad input, with 1 for a run that went wrong."""
    print("error:", *message.split(), file=sys.stderr)
    sys.exit(status)


# Copied from d3g_continuous.check_finite
def check_finite(tensors: dict[str, torch.Tensor], step: int) -> None:
    """Stop the run, with status 1, at a loss or a parameter that is NaN or infinite."""
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            fail(f"{name} is NaN or infinite at step {step}; the last checkpoint stays", status=1)


def open_run(args: Args) -> tuple[Path, dict]:
    """Return the run's folder and what its args.json holds or shall hold; fail if `args` may not use the folder."""
    run_dir, given = Path(args.run_dir), json.loads(json.dumps(asdict(args)))
    try:
        held = [x for x in ("args.json", "evaluations.csv", "checkpoint.pt", "model.pt") if (run_dir / x).exists()]
        if held and not args.resume:
            fail(f"--run-dir {run_dir}: must not hold a run, unless with --resume, but has {', '.join(held)}")
        if held:
            info = json.loads((run_dir / "args.json").read_text())
            for name in given.keys() - {"resume", "run_dir", "checkpoint_frequency", "cuda"}:
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


def train_one(args: Args, run_dir: Path, info: dict) -> None:
    """Train the one variant and seed of `args`. On a CPU, equal `args` give equal numbers."""
    if (run_dir / "model.pt").exists():
        (run_dir / "checkpoint.pt").unlink(missing_ok=True)
        print(f"{run_dir} is complete")
        return
    device = torch.device("cuda" if args.cuda and torch.cuda.is_available() else "cpu")
    torch.set_num_threads(args.num_threads)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    grids = [gym.wrappers.TimeLimit(GridWorld(args.coordinate_scale), 500) for _ in range(2)]
    env, eval_env = map(gym.wrappers.RecordEpisodeStatistics, grids)
    agent = D3G(2, len(MOVES), args).to(device)
    buffer = ReplayBuffer(args.total_timesteps, 2, len(MOVES))
    step, seconds, evaluations, distances = 0, 0.0, [], []
    if (run_dir / "checkpoint.pt").exists():
        checkpoint = load(run_dir / "checkpoint.pt", info, agent, buffer, rng)
        step, seconds, evaluations, distances = (checkpoint[k] for k in ("step", "seconds", "evaluations", "distances"))
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
    next_checkpoint, done = step + args.checkpoint_frequency, True
    started = time.perf_counter() - seconds
    while True:
        if step == len(evaluations) * args.eval_frequency:
            check_finite(agent.state_dict(), step)
            seconds = time.perf_counter() - started
            greedy_return, length = evaluate(agent, eval_env)
            evaluations.append(f"{step},{greedy_return},0.0,{length},{seconds:.2f}")
            csv.write(evaluations[-1] + "\n")
            distances.append((step, neighbour_distance(np.zeros(2), agent.propose(np.zeros((1, 2)))[0][0])))
            writer.add_scalar("eval/return_mean", greedy_return, step)
            bar.set_postfix_str(f"return {greedy_return:.0f}")
            if bar.disable:
                print(f"step {step}/{args.total_timesteps}: return {greedy_return:.0f}, {seconds:.0f} s", flush=True)
            started = time.perf_counter() - seconds  # evaluations do not count
        if step == args.total_timesteps:
            break
        if done:
            stop = received_signals[:1]  # read once, since a signal may come at any moment
            if stop or step >= next_checkpoint:
                check_finite(agent.state_dict(), step)
                writer.flush()
                state = {"info": info, "step": step, "evaluations": evaluations, "distances": distances}
                state |= {"agent": agent.state_dict(), "updates": agent.updates, "added": buffer.added}
                state |= {"optimizers": {name: optimizer.state_dict() for name, optimizer in agent.optimizers.items()}}
                state |= {"replay": torch.from_numpy(buffer.rows[: buffer.added]), "torch_rng": torch.get_rng_state()}
                state |= {"rng": rng.bit_generator.state, "seconds": time.perf_counter() - started}
                save(state, run_dir / "checkpoint.pt")
                next_checkpoint = step + args.checkpoint_frequency
            if stop:
                print(f"stopped at step {step}; --resume --run-dir {run_dir.parents[1]} continues")
                sys.exit(128 + stop[0])
            observation, _ = env.reset()
        explore = step < args.learning_starts or rng.random() < args.epsilon
        action = rng.integers(len(MOVES)) if explore else agent.act(observation)
        next_observation, reward, terminated, truncated, stats = env.step(action)
        buffer.add(observation, np.eye(len(MOVES))[action], reward, next_observation, terminated)
        observation = next_observation
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
            writer.add_scalar("charts/episodic_return", stats["episode"]["r"], step)
            writer.add_scalar("charts/episodic_length", stats["episode"]["l"], step)
    bar.close()
    writer.close()
    check_finite(agent.state_dict(), step)
    model = {name: network.state_dict() for name, network in agent.named_children()}
    write_panels(agent, distances, run_dir)
    save(model | {"args": info["args"], "obs_dim": 2, "action_dim": len(MOVES)}, run_dir / "model.pt")
    (run_dir / "checkpoint.pt").unlink(missing_ok=True)


def train(args: Args) -> Path:
    """Train every variant on every seed and return the root folder."""
    root = Path(args.run_dir or f"runs/gridworld__{args.exp_name}__{args.seed}__{int(time.time())}")
    pairs = [(variant, seed) for variant in args.variants for seed in range(args.seed, args.seed + args.num_seeds)]
    runs = [replace(args, variants=(v,), seed=k, num_seeds=1, run_dir=f"{root}/{v}/seed{k}") for v, k in pairs]
    for run, (run_dir, info) in [(run, open_run(run)) for run in runs]:  # all folders first: nothing is written yet
        train_one(run, run_dir, info)
    print(f"run folder: {root}; draw it: python benchmark/figure6.py {root}")
    return root


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    train(tyro.cli(Args))
