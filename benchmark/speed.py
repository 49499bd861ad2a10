"""How fast each script's loop is, and what part that is of what the processor can do at these sizes.

    python benchmark/speed.py
    benchmark/amd_avx512.sh python benchmark/speed.py

A pass is a whole turn of the loop: environment step, batch and update on HalfCheetah-v4 or in the gridworld; batch and
update on data of InvertedPendulum-v4; an environment step with its tabular update. Achieved is passes per second times
the floating-point operations of an update; reachable is what a linear layer of 256 by 256 reaches on a batch of 256, in
the same process just before and after. If Stable-Baselines3 can be imported, its TD3 is measured at the same settings
right after each measurement of ours. The table gives medians over the repeats. Other processes disturb: measure on a
quiet machine, and compare only what was measured in the same call or in turns.
"""

import contextlib
import csv
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import tyro
from drawing import fail
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent.parent))
import bco_baseline
import d3g_continuous
import d3g_from_obs
import d3g_gridworld
import tabular_qss
import td3_baseline


@dataclass
class Args:
    """Measure the loops of all scripts and print a table."""

    passes: int = 1000
    """passes per measurement"""
    repeats: int = 3
    """measurements of each loop, all loops in turn"""
    num_threads: int = 1
    """CPU threads"""


def read_seconds(run_dir: str) -> list[float]:
    """The seconds of training that had passed at each evaluation of a run."""
    with open(Path(run_dir) / "evaluations.csv") as file:
        return [float(row["seconds"]) for row in csv.DictReader(file)]


def steps(module, passes: int, folder: str = "", **how) -> float:
    """Seconds for steps with updates, of a script that learns while it steps in a task; before them as many others."""
    run_dir = tempfile.mkdtemp()
    how |= {"total_timesteps": 2 * passes, "learning_starts": passes // 2, "eval_frequency": passes}
    module.train(module.Args(run_dir=run_dir, **how))
    _, middle, end = read_seconds(f"{run_dir}/{folder}")
    return end - middle


def rounds(module, **how) -> list[float]:
    """Seconds before the first, the second and the third evaluation of a script that learns from a data set."""
    run_dir = tempfile.mkdtemp()
    module.train(module.Args(dataset_size=10_000, rounds=3, steps_per_round=1, eval_episodes=1, run_dir=run_dir, **how))
    return read_seconds(run_dir)


def tabular(passes: int, qss: bool) -> float:
    """Seconds for steps with tabular updates, all of episodes that end at the time limit, since nothing is learned."""
    n, limit = tabular_qss.NUM_STATES, tabular_qss.TIME_LIMIT
    Q, moves = np.zeros((n, n if qss else 4)), np.arange(4)
    sets = (*tabular_qss.known_actions(4, False, False), False) if qss else ()
    learn = tabular_qss.learn_qss if qss else tabular_qss.learn_qsa
    rngs = [np.random.default_rng(k) for k in range(2)]
    for episodes in (1, -(-passes // limit)):  # the first one compiles
        started = time.perf_counter()
        learn(Q, *sets, moves, 0, 0.0, 0, episodes, episodes + 1, 0, 0.0, 0.99, 0.0, 0.0, 1, *rngs)
    return (time.perf_counter() - started) * passes / (episodes * limit)


def stable_baselines3(passes: int) -> float:
    """Seconds for steps with updates of Stable-Baselines3's TD3, where td3_baseline.py is measured."""
    from stable_baselines3 import TD3
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.noise import NormalActionNoise

    class Clock(BaseCallback):
        def _on_step(self):
            times[self.num_timesteps] = time.perf_counter()
            return True

    times, env = {}, d3g_continuous.make_env("HalfCheetah-v4")
    noise = NormalActionNoise(np.zeros(6), np.full(6, 0.1))
    how = {"learning_rate": 3e-4, "batch_size": 256, "policy_kwargs": {"net_arch": [256, 256]}, "action_noise": noise}
    how |= {"learning_starts": passes // 2, "train_freq": 1, "gradient_steps": 1, "device": "cpu", "seed": 1}
    TD3("MlpPolicy", env, **how).learn(2 * passes + 1, callback=Clock())
    return times[2 * passes] - times[passes]


def gflops(passes: int = 2000) -> float:
    """What F.linear reaches with a batch of 256 and layers of 256 by 256, in 1e9 floating-point operations a second."""
    x, w = torch.randn(256, 256), torch.randn(256, 256)
    for k in range(1 + passes):
        if k == 1:
            started = time.perf_counter()
        torch.nn.functional.linear(x, w)
    return passes * 2 * 256**3 / (time.perf_counter() - started) / 1e9


def mflop(cls: type, method: str, loop: Callable[[int], float]) -> float:
    """Floating-point operations of one call of an agent's update, averaged over an even number of calls, in 1e6."""
    update, counts = getattr(cls, method), []

    def counted(agent, batch):
        with FlopCounterMode(display=False) as counter:
            update(agent, batch)
        counts.append(counter.get_total_flops() / 1e6)

    setattr(cls, method, counted)
    loop(4)
    setattr(cls, method, update)
    return float(np.mean(counts[: len(counts) // 2 * 2]))


def main(args: Args) -> None:
    """Measure each loop `repeats` times, all loops in turn, and print the table."""
    for name, x in vars(args).items():
        if x < 1:
            fail(f"--{name.replace('_', '-')} {x}: must be at least 1")
    torch.set_num_threads(args.num_threads)
    here = {"num_threads": args.num_threads, "cuda": False}
    cheetah = here | {"env_id": "HalfCheetah-v4", "eval_episodes": 1}
    grid = [here | {"num_seeds": 1, "variants": (v,), "folder": f"{v}/seed1"} for v in ("d3g", "d3g_no_cycle")]
    long, td3 = 10**9, "td3_baseline.py: TD3"
    loops = {  # its name: the update's class and method, and what measures it
        "tabular_qss.py: QSA": (None, lambda n: tabular(1000 * n, qss=False) / 1000),
        "tabular_qss.py: QSS": (None, lambda n: tabular(1000 * n, qss=True) / 1000),
        "d3g_gridworld.py: D3G": ((d3g_gridworld.D3G, "update"), lambda n: steps(d3g_gridworld, n, **grid[0])),
        "d3g_gridworld.py: D3G\u207b": ((d3g_gridworld.D3G, "update"), lambda n: steps(d3g_gridworld, n, **grid[1])),
        "d3g_continuous.py: D3G": ((d3g_continuous.D3G, "update"), lambda n: steps(d3g_continuous, n, **cheetah)),
        "d3g_continuous.py: D3G\u207b": (
            (d3g_continuous.D3G, "update"),
            lambda n: steps(d3g_continuous, n, cycle=False, **cheetah),
        ),
        td3: ((td3_baseline.TD3, "update"), lambda n: steps(td3_baseline, n, **cheetah)),
        "td3_baseline.py: DDPG": (
            (td3_baseline.TD3, "update"),
            lambda n: steps(td3_baseline, n, algorithm="ddpg", **cheetah),
        ),
        "d3g_from_obs.py: offline": (
            (d3g_from_obs.D3G, "update"),
            lambda n: rounds(d3g_from_obs, offline_updates=n, inverse_updates=1, eval_frequency=long, **here)[0],
        ),
        "d3g_from_obs.py: inverse dynamics": (
            (d3g_from_obs.D3G, "update_inverse_dynamics"),
            lambda n: np.diff(rounds(d3g_from_obs, offline_updates=1, inverse_updates=n, **here))[1],
        ),
        "bco_baseline.py: policy": (
            (bco_baseline.BCO, "update_policy"),
            lambda n: np.diff(rounds(bco_baseline, policy_updates=n, inverse_updates=1, **here))[1],
        ),
    }
    theirs = find_spec("stable_baselines3") is not None
    rates, reached = {name: [] for name in loops}, {name: [] for name in loops}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        tempfile.tempdir = folder  # the runs' folders and the data set go there too
        silent = contextlib.redirect_stdout(open(os.devnull, "w"))  # noqa: SIM115
        with silent:
            costs = {name: mflop(*update, loop) for name, (update, loop) in loops.items() if update}
        for k in range(args.repeats):
            for name, (_, loop) in loops.items():
                print(f"repeat {k + 1}/{args.repeats}: {name}", file=sys.stderr)
                before = gflops()
                with silent:
                    rates[name].append(args.passes / loop(args.passes))
                reached[name].append((before + gflops()) / 2)
                if name == td3 and theirs:
                    rates.setdefault("Stable-Baselines3: TD3", []).append(args.passes / stable_baselines3(args.passes))
    print(f"PyTorch {torch.__version__}, threads: {args.num_threads}, LD_PRELOAD: {os.environ.get('LD_PRELOAD', '')}")
    print("| loop | passes per second | MFLOP per update | `F.linear` GFLOP/s | achieved / reachable |")
    print("|---|---|---|---|---|")
    for name, rate in rates.items():
        rate, cost = float(np.median(rate)), costs.get(name)
        linear = float(np.median(reached[name])) if cost else None
        cells = [f"{cost:.1f}", f"{linear:.0f}", f"{rate * cost / 1000 / linear:.2f}"] if cost else ["", "", ""]
        print(f"| {name} | {rate:,.1f} | {' | '.join(cells)} |")
    if theirs:
        ratios = np.divide(rates[td3], rates["Stable-Baselines3: TD3"])
        print(f"TD3, ours / Stable-Baselines3: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")


if __name__ == "__main__":
    main(tyro.cli(Args))
