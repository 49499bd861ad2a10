"""The returns of a policy that draws every action uniformly, which are the zero of the scores over tasks in figure7.md.

    python benchmark/random_policy.py --output benchmark/results/random_policy.csv

A row of the CSV file has the mean and the population standard deviation of a task's undiscounted returns.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import numpy as np
import tyro
from drawing import DAMAGE, csv_text, fail, read_table, write_files

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from d3g_continuous import make_env  # noqa: E402

TASKS = (
    "HalfCheetah-v4",
    "Hopper-v4",
    "Walker2d-v4",
    "Ant-v4",
    "Humanoid-v4",
    "InvertedPendulum-v4",
    "InvertedDoublePendulum-v4",
    "Reacher-v4",
)
COLUMNS = ("task", "episodes", "return_mean", "return_std")


@dataclass
class Args:
    """Measure the random policy on tasks."""

    output: Path
    """the CSV file to write"""
    tasks: tuple[str, ...] = TASKS
    """ids of Gymnasium tasks"""
    episodes: int = 100
    """episodes per task"""


def measure(env: gym.Env, episodes: int) -> np.ndarray:
    """The undiscounted returns of episodes of uniformly random actions [episodes]."""
    rng = np.random.default_rng(0)
    low = env.action_space.low
    high = env.action_space.high
    returns = np.zeros(episodes)
    for k in range(episodes):
        env.reset(seed=int(rng.integers(2**31)))
        done = False
        while not done:
            _, reward, terminated, truncated, _ = env.step(rng.uniform(low, high).astype(low.dtype))
            returns[k] += reward
            done = terminated or truncated
    return returns


def read_random_returns(file: Path) -> dict[str, float]:
    """Return the mean return of the random policy by task, from a file that this script wrote; fail if it is none."""
    try:
        table = read_table(file, ",".join(COLUMNS), text=("task",))
        if len(table["task"]) == 0:
            raise ValueError("must have a row per task, has none")
    except DAMAGE as error:
        fail(f"--random {file}: must be a file of benchmark/random_policy.py: {error}")
    return dict(zip(table["task"].tolist(), table["return_mean"].tolist(), strict=True))


def main(args: Args) -> None:
    """Measure, and write a row per task."""
    if args.episodes < 1:
        fail(f"--episodes {args.episodes}: must be at least 1")
    if not args.output.parent.is_dir():
        fail(f"--output {args.output}: must be in a folder that exists")
    rows = [list(COLUMNS)]
    for task in args.tasks:
        returns = measure(make_env(task), args.episodes)
        print(f"{task}: {returns.mean():.1f} +- {returns.std():.1f}", flush=True)
        rows.append([task, args.episodes, float(returns.mean()), float(returns.std())])
    write_files({args.output: csv_text(rows)})


if __name__ == "__main__":
    main(tyro.cli(Args))
