"""How good a plan the offline phase of d3g_from_obs.py has learned, update for update, without any online rounds.

    python benchmark/plan_quality.py --dataset datasets/InvertedPendulum-v4__random.npz --seed 1 --output runs/plans.csv

The agent learns as in a run of d3g_from_obs.py of the same arguments, number for number. Every `--frequency` updates it
acts with an exact inverse dynamics in place of a learned one: in the simulator's present state many actions are tried
for one step, and the one is taken whose next state is nearest to the one that the agent acts towards, each component in
units of sigma, the standard deviation of s' - s over the data. It acts towards its proposal p, and, for a measurement
of its own, towards halfway between p and C(s, p), as with `--aim-halfway`, which changes nothing that is learned. A row
of the CSV file says which run it is of and has the mean return of episodes from the same few starts, and the return of
each. `plan_quality_figure.py` draws such files.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import gymnasium as gym
import mujoco
import numpy as np
import torch
import tyro
from drawing import fail
from gymnasium.envs.mujoco import MujocoEnv
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parent.parent))
import d3g_from_obs

LEARNING_OPTIONS = ("standardize", "scale_states", "clamp_values")  # those of D3G+ that change what is learned
MOST_ACTIONS = 100_000  # that are tried at every step


@dataclass
class Args:
    """Learn offline and measure the plan with an exact inverse dynamics."""

    dataset: str
    """the data set FILE.npz, as of d3g_from_obs.py"""
    output: Path
    """the CSV file to write"""
    env_id: str = "InvertedPendulum-v4"
    """the MuJoCo task"""
    seed: int = 1
    """seed of the networks and the batches, as of d3g_from_obs.py"""
    updates: int = 100_000
    """offline updates"""
    frequency: int = 2_000
    """updates between measurements"""
    starts: int = 5
    """episodes per measurement, the same start states every time"""
    tries: int = 31
    """actions tried per action dimension, evenly spaced"""
    standardize: bool = False
    """the units of D3G+, as of d3g_from_obs.py"""
    scale_states: bool = False
    """in D3G+, states divided by their size, as of d3g_from_obs.py"""
    clamp_values: bool = False
    """in D3G+, values kept within those of the batch, as of d3g_from_obs.py"""


def algorithm_name(options: dict[str, bool]) -> str:
    """D3G and those of its options that are on, as on a command line."""
    return " ".join(["D3G", *(f"--{name.replace('_', '-')}" for name, on in options.items() if on)])


def grid_of_actions(space: gym.spaces.Box, tries: int) -> np.ndarray:
    """Evenly spaced actions [tries ** action_dim, action_dim], bounds included."""
    axes = [np.linspace(low, high, tries) for low, high in zip(space.low, space.high, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes)).astype(space.dtype)


def best_action(
    env: gym.Env, present: mujoco.MjData, actions: np.ndarray, aim: np.ndarray, sigma: np.ndarray
) -> np.ndarray:
    """The action whose next state is nearest to `aim` [obs_dim].

    `present` is a place for a copy of the simulator's data, from which they are as before, to the last derived number:
    some tasks compute their reward from positions that belong to the step before."""
    task = env.unwrapped
    mujoco.mj_copyData(present, task.model, task.data)
    distances = []
    for action in actions:
        reached = task.step(action)[0]
        distances.append(np.linalg.norm((reached - aim) / sigma))
        mujoco.mj_copyData(task.data, task.model, present)
    return actions[np.argmin(distances)]


@torch.inference_mode()
def aimed_state(agent: d3g_from_obs.D3G, observation: np.ndarray) -> np.ndarray:
    """The next state [obs_dim] that the agent acts towards from one observation [obs_dim]."""
    s = torch.as_tensor(observation, dtype=torch.float32).unsqueeze(0)
    return agent.decode(s, agent.aim(agent.scale(s))).squeeze(0).numpy()


def measure(agent, env: gym.Env, actions: np.ndarray, sigma: np.ndarray, seeds: list[int]) -> list[float]:
    """The return of an episode per seed."""
    present = mujoco.MjData(env.unwrapped.model)
    returns = []
    for seed in seeds:
        observation, _ = env.reset(seed=seed)
        total = 0.0
        done = False
        while not done:
            aim = aimed_state(agent, observation)
            action = best_action(env, present, actions, aim, sigma)
            observation, reward, terminated, truncated, _ = env.step(action)
            total += reward
            done = terminated or truncated
        returns.append(total)
    return returns


def make_mujoco_env(env_id: str, tries: int) -> gym.Env:
    """Make a MuJoCo task; fail where there would be too many actions to try."""
    env = d3g_from_obs.make_env(env_id)
    if not isinstance(env.unwrapped, MujocoEnv):
        fail(f"--env-id {env_id}: must be a MuJoCo task")
    dimensions = env.action_space.shape[0]
    if tries**dimensions > MOST_ACTIONS:
        fail(
            f"--tries {tries}: must be fewer, {env_id} has {dimensions} action dimensions, and {tries}**{dimensions} "
            f"actions are more than {MOST_ACTIONS:,}"
        )
    return env


def units(env: gym.Env, data: d3g_from_obs.ReplayBuffer) -> np.ndarray:
    """The standard deviation of s' - s over the data [obs_dim], as D3G+ computes it."""
    agent = make_agent(env, data, {"standardize": True}, 0)
    return agent.sigma.numpy()


def make_agent(env: gym.Env, data: d3g_from_obs.ReplayBuffer, options: dict[str, bool], seed: int) -> d3g_from_obs.D3G:
    """The agent with which a run of d3g_from_obs.py of that seed begins; torch's random numbers go on from there."""
    torch.manual_seed(seed)
    obs_dim = env.observation_space.shape[0]
    agent = d3g_from_obs.D3G(obs_dim, env.action_space.low, env.action_space.high, **options)
    s = data.rows[:, :obs_dim]
    s_next = data.rows[:, -1 - obs_dim : -1]
    if agent.standardize:
        agent.set_units(s, s_next)
    if agent.scale_states:
        agent.set_state_scale(s)
    return agent


def randomness(info: dict, dataset: str) -> float | str:
    """That of a data set by what `load_dataset` has said in `info`, or the file's name where it is not known."""
    return (info["data"]["about"] or {}).get("randomness", Path(dataset).stem)


def episode_seeds(seed: int, starts: int) -> list[int]:
    """The seeds of the episodes of a measurement, those of the evaluations of a run."""
    return np.random.SeedSequence((seed, 2)).generate_state(starts).tolist()


def open_output(file: Path, starts: int) -> TextIO:
    """Open a new file, whose folder is made too, to be written line by line, and write the names of the columns."""
    columns = ["task", "randomness", "algorithm", "seed", "update", "return_mean"]
    columns += [f"return_{k}" for k in range(starts)]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        opened = open(file, "x", buffering=1, encoding="utf-8")
    except OSError as error:
        fail(f"--output {file}: must be a new file that can be written: {error}")
    opened.write(",".join(columns) + "\n")
    return opened


def check_args(args: Args) -> None:
    """Fail on the first argument that cannot be."""
    for name, least in {"updates": 1, "frequency": 1, "starts": 1, "tries": 2}.items():
        if getattr(args, name) < least:
            fail(f"--{name} {getattr(args, name)}: must be at least {least}")
    if args.frequency > args.updates:
        fail(f"--frequency {args.frequency}: must be at most --updates {args.updates}, or nothing is measured")
    check_seed("seed", args.seed)
    check_options(args)


def check_seed(name: str, seed: int) -> None:
    """Fail where a number cannot be a seed."""
    if not 0 <= seed < 2**32:
        fail(f"--{name} {seed}: must be from 0 to 2**32 - 1")


def check_options(args) -> None:
    """Fail where the options of D3G+ do not go together."""
    if args.scale_states and not args.standardize:
        fail("--scale-states True: must be used with --standardize")


def main(args: Args) -> None:
    """Learn, measure, and write a row per measurement at once."""
    check_args(args)
    env = make_mujoco_env(args.env_id, args.tries)
    info = {}
    data = d3g_from_obs.load_dataset(Path(args.dataset), args.env_id, env.observation_space.shape[0], info)
    torch.set_num_threads(1)
    sigma = units(env, data)
    options = {name: getattr(args, name) for name in LEARNING_OPTIONS}
    agent = make_agent(env, data, options, args.seed)
    rng = np.random.default_rng(args.seed)
    actions = grid_of_actions(env.action_space, args.tries)
    seeds = episode_seeds(args.seed, args.starts)
    of_data = randomness(info, args.dataset)
    with open_output(args.output, args.starts) as file:
        for update in tqdm(range(1, args.updates + 1), file=sys.stdout, disable=not sys.stdout.isatty()):
            agent.update(data.sample(256, rng, torch.device("cpu")))
            if update % args.frequency != 0:
                continue
            d3g_from_obs.check_finite(agent.state_dict(), update)
            for halfway in (False, True):
                agent.aim_halfway = halfway
                returns = measure(agent, env, actions, sigma, seeds)
                algorithm = algorithm_name(options | {"aim_halfway": halfway})
                row = [args.env_id, of_data, algorithm, args.seed, update, np.mean(returns), *returns]
                file.write(",".join(map(str, row)) + "\n")
                if not sys.stdout.isatty():
                    print(f"update {update}, {algorithm}: {np.mean(returns):.1f}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Args))
