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

import gymnasium as gym
import mujoco
import numpy as np
import torch
import tyro
from drawing import fail
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parent.parent))
import d3g_from_obs

LEARNING_OPTIONS = ("standardize", "scale_states", "clamp_values")  # those of D3G+ that change what is learned
WHOLE_STATE = mujoco.mjtState.mjSTATE_INTEGRATION  # all that determines what the simulator does next


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


def best_action(env: gym.Env, actions: np.ndarray, aim: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """The action whose next state is nearest to `aim` [obs_dim]; the simulator is left as it was."""
    task = env.unwrapped
    state = np.empty(mujoco.mj_stateSize(task.model, WHOLE_STATE))
    mujoco.mj_getState(task.model, task.data, state, WHOLE_STATE)
    distances = []
    for action in actions:
        mujoco.mj_setState(task.model, task.data, state, WHOLE_STATE)
        reached = task.step(action)[0]
        distances.append(np.linalg.norm((reached - aim) / sigma))
    mujoco.mj_setState(task.model, task.data, state, WHOLE_STATE)
    return actions[np.argmin(distances)]


@torch.inference_mode()
def aimed_state(agent: d3g_from_obs.D3G, observation: np.ndarray) -> np.ndarray:
    """The next state [obs_dim] that the agent acts towards from one observation [obs_dim]."""
    s = torch.as_tensor(observation, dtype=torch.float32).unsqueeze(0)
    return agent.decode(s, agent.aim(agent.scale(s))).squeeze(0).numpy()


def measure(agent, env: gym.Env, actions: np.ndarray, sigma: np.ndarray, seeds: list[int]) -> list[float]:
    """The return of an episode per seed."""
    returns = []
    for seed in seeds:
        observation, _ = env.reset(seed=seed)
        total = 0.0
        done = False
        while not done:
            aim = aimed_state(agent, observation)
            action = best_action(env, actions, aim, sigma)
            observation, reward, terminated, truncated, _ = env.step(action)
            total += reward
            done = terminated or truncated
        returns.append(total)
    return returns


def main(args: Args) -> None:
    """Learn, measure, and write a row per measurement at once."""
    for name in ("updates", "frequency", "starts"):
        if getattr(args, name) < 1:
            fail(f"--{name} {getattr(args, name)}: must be at least 1")
    if args.tries < 2:
        fail(f"--tries {args.tries}: must be at least 2")
    if args.scale_states and not args.standardize:
        fail("--scale-states True: must be used with --standardize")
    env = d3g_from_obs.make_env(args.env_id)
    if not isinstance(env.unwrapped, gym.envs.mujoco.MujocoEnv):
        fail(f"--env-id {args.env_id}: must be a MuJoCo task")
    obs_dim = env.observation_space.shape[0]
    info = {}
    data = d3g_from_obs.load_dataset(Path(args.dataset), obs_dim, info)
    s = data.rows[:, :obs_dim]
    s_next = data.rows[:, -1 - obs_dim : -1]
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    low = env.action_space.low
    high = env.action_space.high
    options = {name: getattr(args, name) for name in LEARNING_OPTIONS}
    agent = d3g_from_obs.D3G(obs_dim, low, high, **options)
    units = d3g_from_obs.D3G(obs_dim, low, high, standardize=True)
    units.set_units(s, s_next)
    sigma = units.sigma.numpy()
    if args.standardize:
        agent.set_units(s, s_next)
    if args.scale_states:
        agent.set_state_scale(s)
    actions = grid_of_actions(env.action_space, args.tries)
    seeds = np.random.SeedSequence((args.seed, 2)).generate_state(args.starts).tolist()

    about = info["data"]["about"] or {}
    randomness = about.get("randomness", Path(args.dataset).stem)
    columns = ["task", "randomness", "algorithm", "seed", "update", "return_mean"]
    columns += [f"return_{k}" for k in range(args.starts)]
    try:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        file = open(args.output, "w", buffering=1, encoding="utf-8")
    except OSError as error:
        fail(f"--output {args.output}: must be a file that can be written: {error}")
    with file:
        file.write(",".join(columns) + "\n")
        for update in tqdm(range(1, args.updates + 1), file=sys.stdout, disable=not sys.stdout.isatty()):
            agent.update(data.sample(256, rng, torch.device("cpu")))
            if update % args.frequency != 0:
                continue
            for halfway in (False, True):
                agent.aim_halfway = halfway
                returns = measure(agent, env, actions, sigma, seeds)
                algorithm = algorithm_name(options | {"aim_halfway": halfway})
                row = [args.env_id, randomness, algorithm, args.seed, update, np.mean(returns), *returns]
                file.write(",".join(map(str, row)) + "\n")
                if not sys.stdout.isatty():
                    print(f"update {update}, {algorithm}: {np.mean(returns):.1f}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Args))
