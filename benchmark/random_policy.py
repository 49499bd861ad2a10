"""The returns of a policy that draws every action uniformly, which are the zero of the scores over tasks in figure7.md.

    python benchmark/random_policy.py --output benchmark/results/random_policy.csv

A row of the CSV file has the mean and the population standard deviation of a task's undiscounted returns.
"""

import csv
import sys
from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import numpy as np
import tyro
from drawing import csv_text, fail, write_files

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
        with open(file, newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        returns = {row["task"]: float(row["return_mean"]) for row in rows}
        if not returns or not np.isfinite(list(returns.values())).all():
            raise ValueError("it has no returns, or such as are not finite")
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        fail(f"--random {file}: must be a file of benchmark/random_policy.py: {error!r}")
    return returns


def main(args: Args) -> None:
    """Measure, and write a row per task."""
    if args.episodes < 1:
        fail(f"--episodes {args.episodes}: must be at least 1")
    rows = [["task", "episodes", "return_mean", "return_std"]]
    for task in args.tasks:
        returns = measure(make_env(task), args.episodes)
        print(f"{task}: {returns.mean():.1f} +- {returns.std():.1f}", flush=True)
        rows.append([task, args.episodes, float(returns.mean()), float(returns.std())])
    write_files({args.output: csv_text(rows)})


if __name__ == "__main__":
    main(tyro.cli(Args))
