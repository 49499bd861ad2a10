"""How good the plans of many seeds are: plan_quality.py for all seeds and several data sets at once, on a GPU.

    python benchmark/many_plans.py --datasets datasets/InvertedPendulum-v4__random{0,0.5,1}.npz --output runs/plans.csv

Networks of this size leave a GPU idle and its processor busy with launching kernels. Here every weight has one more
axis, for the agent, so that one kernel computes a layer of all agents, and the kernels of two updates are recorded
once and replayed. An agent begins with the weights, and learns from the batches, of the run of d3g_from_obs.py with its
seed, data set and options; the sums inside a matrix product come in another order, so that the numbers part as they do
between two processors. `Agents.update` is that script's update again, and the tests hold it to the script's.

The CSV file has the rows of plan_quality.py, of both ways of acting. Measuring is done by `--workers` processes
meanwhile.

`--run-dirs FOLDER` turns the agents into runs of d3g_from_obs.py, each with a checkpoint after its last offline update,
and prints the commands that go on from there with the online rounds:

    python benchmark/many_plans.py ... --run-dirs runs/many --rounds 10 | benchmark/local.sh
"""

import multiprocessing
import shlex
import sys
import time
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from drawing import fail
from plan_quality import (
    LEARNING_OPTIONS,
    algorithm_name,
    check_options,
    check_seed,
    episode_seeds,
    grid_of_actions,
    make_agent,
    make_mujoco_env,
    measure,
    open_output,
    randomness,
    units,
)
from torch import nn
from torch.nn import functional as F  # noqa: N812

sys.path.insert(0, str(Path(__file__).parent.parent))
import d3g_from_obs

BATCH_SIZE = 256
CHUNK = 1000  # updates whose batches are drawn, and sent to the GPU, at once


@dataclass
class Args:
    """Learn offline with many seeds at once, and measure their plans with an exact inverse dynamics."""

    datasets: tuple[str, ...]
    """data sets FILE.npz, as of d3g_from_obs.py; every seed learns from each"""
    output: Path
    """the CSV file to write"""
    env_id: str = "InvertedPendulum-v4"
    """the MuJoCo task"""
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
    """seeds of the networks and the batches, as of d3g_from_obs.py"""
    updates: int = 100_000
    """offline updates"""
    frequency: int = 10_000
    """updates between measurements"""
    starts: int = 3
    """episodes per measurement, the same start states every time"""
    tries: int = 31
    """actions tried per action dimension, evenly spaced"""
    standardize: bool = False
    """the units of D3G+, as of d3g_from_obs.py"""
    scale_states: bool = False
    """in D3G+, states divided by their size, as of d3g_from_obs.py"""
    clamp_values: bool = False
    """in D3G+, values kept within those of the batch, as of d3g_from_obs.py"""
    workers: int = 2
    """processes that measure"""
    run_dirs: Path | None = None
    """a new folder for the folders of the agents' runs, DATASET__SEED, from which d3g_from_obs.py goes on"""
    rounds: int = 100
    """online rounds of these runs"""
    inverse_updates: int = 10_000
    """updates of the inverse dynamics per round, in these runs"""
    aim_halfway: bool = False
    """in D3G+, how these runs act, as of d3g_from_obs.py"""


class ManyMLPs(nn.Module):
    """As many MLPs as given, side by side: inputs [agents, batch, n_1], ... -> [agents, batch, sizes[-1]]."""

    def __init__(self, networks: list[d3g_from_obs.MLP]):
        super().__init__()
        layers = list(zip(*(network.layers for network in networks), strict=True))
        self.weights = nn.ParameterList(torch.stack([layer.weight.detach().T for layer in same]) for same in layers)
        self.biases = nn.ParameterList(torch.stack([layer.bias.detach()[None] for layer in same]) for same in layers)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        x = torch.cat(inputs, -1)
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x, weight)
            if k < len(self.weights) - 1:
                x = torch.relu_(x)
        return x

    def write_to(self, network: d3g_from_obs.MLP, agent: int) -> None:
        """Give a network the weights of that agent's."""
        for layer, weight, bias in zip(network.layers, self.weights, self.biases, strict=True):
            layer.weight.copy_(weight[agent].T)
            layer.bias.copy_(bias[agent, 0])


class Agents(d3g_from_obs.D3G):
    """The offline phase of several agents of equal options at once; every tensor has one more axis in front, of agents.

    What D3G computes element by element is D3G's own: scale, encode, decode, encode_difference, clamp, cycle.
    """

    def __init__(self, agents: list[d3g_from_obs.D3G], learning_rate: float, device: torch.device):
        nn.Module.__init__(self)
        one = agents[0]
        self.gamma, self.tau, self.beta, self.policy_frequency = one.gamma, one.tau, one.beta, one.policy_frequency
        self.standardize, self.scale_states, self.clamp_values = one.standardize, one.scale_states, one.clamp_values
        for name, _ in one.named_buffers(recurse=False):
            shape = (len(agents), 1, -1)
            self.register_buffer(name, torch.stack([getattr(agent, name) for agent in agents]).reshape(shape))
        for name in ("critic", "critic_target"):
            pairs = zip(*(getattr(agent, name) for agent in agents), strict=True)
            setattr(self, name, nn.ModuleList(ManyMLPs(list(same)) for same in pairs))
        for name in ("proposal", "proposal_target", "forward_dynamics"):
            setattr(self, name, ManyMLPs([getattr(agent, name) for agent in agents]))
        self.to(device)
        self.critic_target.requires_grad_(False)
        self.proposal_target.requires_grad_(False)
        self.optimizers = {}
        for name in ("critic", "proposal", "forward_dynamics"):
            parameters = list(getattr(self, name).parameters())
            # `capturable` only says that a recording may hold its steps
            self.optimizers[name] = torch.optim.Adam(
                parameters, learning_rate, fused=True, capturable=device.type == "cuda"
            )
        self.online = [*self.critic.parameters(), *self.proposal.parameters()]
        self.targets = [*self.critic_target.parameters(), *self.proposal_target.parameters()]
        self.updates = 0
        self.losses = {}

    def update(self, batch: tuple[torch.Tensor, ...]) -> None:
        """D3G.update on a batch s, a (empty), r, s', terminated, each [agents, batch, width].

        A mean over the batch is of one agent; the losses of all are added, so that each has the gradient it has alone.
        """
        s, _, r, s_next, terminated = batch
        agents = len(s)
        x = self.encode(s, s_next)
        s = self.scale(s)
        s_next = self.scale(s_next)
        self.updates += 1
        q_data = self.critic_target[0](s, x)
        if self.clamp_values:
            self.value_low.copy_(q_data.amin(1, keepdim=True))
            self.value_high.copy_(q_data.amax(1, keepdim=True))

        with torch.no_grad():  # Eq. 13
            c = self.cycle(s_next, self.encode_difference(s_next, self.proposal_target(s_next)), self.critic_target)
            q1, q2 = (critic(s_next, c) for critic in self.critic_target)
            y = r + self.gamma * (1 - terminated) * self.clamp(torch.min(q1, q2))

        q1, q2 = (critic(s, x) for critic in self.critic)  # Eq. 6
        self.minimise("critic", agents * (F.mse_loss(q1, y) + F.mse_loss(q2, y)))

        reached = self.encode_difference(s, self.forward_dynamics(s, q_data))  # Eq. 14
        self.minimise("forward_dynamics", agents * F.mse_loss(reached, x))

        if self.updates % self.policy_frequency == 0:
            p = self.encode_difference(s, self.proposal(s))  # Eq. 12
            c = self.cycle(s, p, self.critic)
            self.minimise("proposal", agents * (-self.critic[0](s, c).mean() + self.beta * F.mse_loss(c, p)))

            with torch.no_grad():
                for target, online in zip(self.targets, self.online, strict=True):
                    target.lerp_(online, self.tau)

    @torch.no_grad()
    def write_to(self, agent: d3g_from_obs.D3G, k: int) -> None:
        """Give a D3G what the k-th agent has learned; not Adam's moments, which the online rounds do not need."""
        for name, buffer in agent.named_buffers(recurse=False):
            buffer.copy_(getattr(self, name)[k].reshape(buffer.shape))
        for name in ("critic", "critic_target"):
            for networks, network in zip(getattr(self, name), getattr(agent, name), strict=True):
                networks.write_to(network, k)
        for name in ("proposal", "proposal_target", "forward_dynamics"):
            getattr(self, name).write_to(getattr(agent, name), k)
        agent.updates = self.updates


class Batches:
    """The batches of runs of d3g_from_obs.py with these data sets [data sets, n, width] and seeds, drawn ahead.

    The agents are those of the first data set, a seed each, then those of the next.
    """

    def __init__(self, rows: torch.Tensor, widths: tuple[int, ...], seeds: tuple[int, ...], device: torch.device):
        self.rows = rows.to(device).flatten(0, 1)
        self.size = rows.shape[1]
        self.widths = widths
        self.rngs = [np.random.default_rng(seed) for _ in rows for seed in seeds]
        self.first = np.repeat(np.arange(len(rows)) * self.size, len(seeds))[:, None]
        self.drawn = torch.zeros((CHUNK, len(self.rngs), BATCH_SIZE), dtype=torch.int64, device=device)
        self.k = torch.zeros(1, dtype=torch.int64, device=device)  # the next batch of those drawn

    def draw(self) -> None:
        """Draw the next CHUNK batches of all agents: the same numbers as one draw after the other gives."""
        drawn = [rng.integers(self.size, size=(CHUNK, BATCH_SIZE)) for rng in self.rngs]
        self.drawn.copy_(torch.from_numpy(np.stack(drawn, axis=1) + self.first))
        self.k.zero_()

    def next(self) -> tuple[torch.Tensor, ...]:
        """The next batch s, a (empty), r, s', terminated, each [agents, batch, width]."""
        chosen = self.drawn.index_select(0, self.k)[0]
        self.k += 1
        return self.rows[chosen].split(self.widths, dim=-1)


def record(agents: Agents, batches: Batches):
    """Return a function that makes two updates.

    On a GPU it replays their kernels, which are recorded here. Before it records, this call makes 20 updates itself.
    """

    def two_updates():
        for _ in range(2):
            agents.update(batches.next())

    if not batches.rows.is_cuda:
        return two_updates
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(10):
            two_updates()
    torch.cuda.current_stream().wait_stream(aside)
    made = agents.updates
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        two_updates()
    agents.updates = made  # recording computes nothing

    def replay():
        graph.replay()
        agents.updates += 2

    return replay


worker_env = None  # the task of a measuring process


def prepare_worker(env_id: str) -> None:
    """Give a measuring process a task of its own, and one CPU thread."""
    global worker_env
    torch.set_num_threads(1)
    worker_env = d3g_from_obs.make_env(env_id)


def measure_agent(networks: dict, options: dict, sigma: np.ndarray, tries: int, seeds: list[int]) -> list[float]:
    """The returns of one agent, whose networks these are, as plan_quality.py measures them."""
    env = worker_env
    agent = d3g_from_obs.D3G(len(sigma), env.action_space.low, env.action_space.high, **options)
    agent.load_state_dict(agent.state_dict() | networks)
    return measure(agent, env, grid_of_actions(env.action_space, tries), sigma, seeds)


def needed(agent: d3g_from_obs.D3G) -> dict[str, torch.Tensor]:
    """Of the agent's state, what acting and imagining need; the inverse dynamics is an exact one here."""
    ours = tuple(name for name, _ in agent.named_buffers(recurse=False))
    ours += ("proposal.", "forward_dynamics.", "critic_target.0.")
    return {name: value for name, value in agent.state_dict().items() if name.startswith(ours)}


def check_args(args: Args) -> None:
    """Fail on the first argument that cannot be."""
    if args.frequency < 1 or args.frequency % CHUNK:
        fail(f"--frequency {args.frequency}: must be a multiple of {CHUNK}")
    if args.updates < 1 or args.updates % args.frequency:
        fail(f"--updates {args.updates}: must be a multiple of --frequency {args.frequency}")
    for name in ("datasets", "seeds"):
        given = getattr(args, name)
        if not given or len(set(given)) < len(given):
            fail(f"--{name} {' '.join(map(str, given))}: must be at least one, and none twice")
    for name, least in {"starts": 1, "workers": 1, "tries": 2, "rounds": 1, "inverse_updates": 1}.items():
        if getattr(args, name) < least:
            fail(f"--{name.replace('_', '-')} {getattr(args, name)}: must be at least {least}")
    names = [Path(file).stem for file in args.datasets]
    if args.run_dirs is not None and len(set(names)) < len(names):
        fail(f"--datasets {' '.join(args.datasets)}: must have names that differ, since --run-dirs has folders of them")
    for seed in args.seeds:
        check_seed("seeds", seed)
    check_options(args)
    if args.run_dirs is None:
        for name in ("rounds", "inverse_updates", "aim_halfway"):
            given = getattr(args, name)
            if given != getattr(Args, name):
                fail(f"--{name.replace('_', '-')} {given}: is of the runs in --run-dirs, must be given with it")
    elif args.run_dirs.exists():
        fail(f"--run-dirs {args.run_dirs}: must be a new folder")


@dataclass
class Run:
    """An agent as it is measured: with the networks of its place in `Agents`."""

    agent: d3g_from_obs.D3G
    dataset: str
    data: dict  # what args.json says of the data set
    seed: int
    sigma: np.ndarray  # the units of distances [obs_dim]
    randomness: float | str  # that of its data
    torch_rng: torch.Tensor  # torch's random state once the networks are made


def load(args: Args, options: dict) -> tuple[list[Run], torch.Tensor, tuple[int, ...]]:
    """The runs as they begin, the data [data sets, n, width], and the widths of s, a (none), r, s', terminated."""
    env = make_mujoco_env(args.env_id, args.tries)
    runs = []
    rows = []
    for file in args.datasets:
        info = {}
        data = d3g_from_obs.load_dataset(Path(file), args.env_id, env.observation_space.shape[0], info)
        if rows and len(data.rows) != len(rows[0]):
            has = f"has {len(data.rows)}"
            fail(f"--datasets {file}: must have as many transitions as the first one, {len(rows[0])}, {has}")
        rows.append(torch.as_tensor(data.rows, dtype=torch.get_default_dtype()))
        sigma = units(env, data)
        for seed in args.seeds:
            agent = make_agent(env, data, options, seed)
            runs.append(Run(agent, file, info["data"], seed, sigma, randomness(info, file), torch.get_rng_state()))
    return runs, torch.stack(rows), data.widths


def write_run(args: Args, run: Run, rng: np.random.Generator, started: float) -> str:
    """Write a run's folder as d3g_from_obs.py leaves it after its last offline update; return the command to go on.

    `rng` has drawn the run's batches; learning, of all agents, began at `started`, by `time.perf_counter`.
    """
    folder = args.run_dirs / f"{Path(run.dataset).stem}__{run.seed}"
    arguments = {
        "env_id": args.env_id,
        "dataset": run.dataset,
        "seed": run.seed,
        "offline_updates": args.updates,
        "rounds": args.rounds,
        "inverse_updates": args.inverse_updates,
        **{name: True for name in (*LEARNING_OPTIONS, "aim_halfway") if getattr(args, name)},
        "run_dir": str(folder),
    }
    its_args = d3g_from_obs.Args(**arguments)
    steps = args.rounds * its_args.steps_per_round
    replay = d3g_from_obs.ReplayBuffer(steps, len(run.sigma), len(run.agent.action_low))
    progress = {"step": 0, "episode": 0}
    torch.set_rng_state(run.torch_rng)
    with redirect_stdout(sys.stderr), d3g_from_obs.open_run(its_args, folder) as files:
        files.info["data"] = run.data
        files.start(run.agent, replay, rng, progress)
        files.started = started
        files.save_checkpoint(progress)
    command = "python d3g_from_obs.py"
    for name, value in arguments.items():
        command += f" --{name.replace('_', '-')}"
        if value is not True:
            command += f" {shlex.quote(str(value))}"
    return f"{command} --resume"


def main(args: Args) -> None:
    """Learn, measure, and write a row per measurement when it is there; in the end write the runs' folders."""
    check_args(args)
    options = {name: getattr(args, name) for name in LEARNING_OPTIONS}
    with redirect_stdout(sys.stderr):  # the standard output is for commands alone
        runs, rows, widths = load(args, options)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    agents = Agents([run.agent for run in runs], 3e-4, device)
    batches = Batches(rows, widths, args.seeds, device)

    output = open_output(args.output, args.starts)
    if args.run_dirs is not None:
        try:
            args.run_dirs.mkdir(parents=True)
        except OSError as error:
            output.close()
            args.output.unlink()
            fail(f"--run-dirs {args.run_dirs}: must be a new folder: {error}")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    print(f"{algorithm_name(options)}: {len(runs)} agents, device: {name}", file=sys.stderr)
    spawn = multiprocessing.get_context("spawn")
    with output, spawn.Pool(args.workers, prepare_worker, (args.env_id,)) as pool:
        waiting = []  # a row's first columns, and what will be its returns

        def write_finished(wait: bool) -> None:
            while waiting and (wait or waiting[0][1].ready()):
                identity, result = waiting.pop(0)
                returns = result.get()
                output.write(",".join(map(str, [*identity, np.mean(returns), *returns])) + "\n")

        started = time.perf_counter()
        batches.draw()
        two_updates = record(agents, batches)
        while agents.updates < args.updates:
            two_updates()
            if agents.updates % CHUNK == 0:
                if agents.updates < args.updates:
                    batches.draw()
                write_finished(wait=False)
            if agents.updates % args.frequency == 0:
                print(f"update {agents.updates}, {time.perf_counter() - started:.0f} s", file=sys.stderr)
                for k, run in enumerate(runs):
                    agents.write_to(run.agent, k)
                    d3g_from_obs.check_finite(run.agent.state_dict(), agents.updates)
                    networks = {name: value.clone() for name, value in needed(run.agent).items()}
                    seeds = episode_seeds(run.seed, args.starts)
                    for halfway in (False, True):
                        acting = options | {"aim_halfway": halfway}
                        identity = (args.env_id, run.randomness, algorithm_name(acting), run.seed, agents.updates)
                        job = (networks, acting, run.sigma, args.tries, seeds)
                        waiting.append((identity, pool.apply_async(measure_agent, job)))
        if args.run_dirs is not None:
            for run, rng in zip(runs, batches.rngs, strict=True):
                print(write_run(args, run, rng, started), flush=True)
        write_finished(wait=True)


if __name__ == "__main__":
    main(tyro.cli(Args))
