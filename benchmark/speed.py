"""How fast each script's loop is, and what part that is of what the processor can do at these sizes.

    python benchmark/speed.py
    benchmark/fast_cpu.sh python benchmark/speed.py

A pass is a whole turn of the loop: environment step, batch and update on HalfCheetah-v4 or in the gridworld; batch and
update on data of InvertedPendulum-v4; an environment step with its tabular update. Achieved is passes per second times
the floating-point operations of an update; reachable is what a linear layer of 256 by 256 reaches on a batch of 256, in
the same process just before and after. If Stable-Baselines3 can be imported, its TD3 is measured at the same settings
right after each measurement of ours. The table gives medians over the repeats. Other processes disturb: measure on a
quiet machine, and compare only what was measured in the same call or in turns.
"""

import contextlib
import csv
import math
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
    only: str = ""
    """measure only the loops whose name has this in it"""


def read_seconds(run_dir: str) -> list[float]:
    """The seconds of training that had passed at each evaluation of a run."""
    with open(Path(run_dir) / "evaluations.csv") as file:
        return [float(row["seconds"]) for row in csv.DictReader(file)]


def steps(passes: int, module, folder: str = "", **how) -> float:
    """Seconds for steps with updates, of a script that learns while it steps in a task; before them as many others."""
    run_dir = tempfile.mkdtemp()
    lengths = {"total_timesteps": 2 * passes, "learning_starts": passes // 2, "eval_frequency": passes}
    module.train(module.Args(run_dir=run_dir, **lengths, **how))
    _, middle, end = read_seconds(f"{run_dir}/{folder}")
    return end - middle


def offline(passes: int, dataset: str, **how) -> float:
    """Seconds for offline updates of d3g_from_obs.py."""
    long = 10**9
    seconds = rounds(d3g_from_obs, dataset, offline_updates=passes, inverse_updates=1, eval_frequency=long, **how)
    return seconds[0]


def inverse_dynamics(passes: int, dataset: str, **how) -> float:
    """Seconds for a round of d3g_from_obs.py, of a step, updates of the inverse dynamics, and a checkpoint."""
    seconds = rounds(d3g_from_obs, dataset, offline_updates=1, inverse_updates=passes, **how)
    return seconds[2] - seconds[1]


def cloning(passes: int, dataset: str, **how) -> float:
    """Seconds for a round of bco_baseline.py, of a step, updates of the policy, and a checkpoint."""
    seconds = rounds(bco_baseline, dataset, policy_updates=passes, inverse_updates=1, **how)
    return seconds[2] - seconds[1]


def rounds(module, dataset: str, **how) -> list[float]:
    """Seconds before the first, the second and the third evaluation of a script that learns from a data set."""
    run_dir = tempfile.mkdtemp()
    args = module.Args(dataset=dataset, rounds=3, steps_per_round=1, eval_episodes=1, run_dir=run_dir, **how)
    module.train(args)
    return read_seconds(run_dir)


def tabular(passes: int, qss: bool) -> float:
    """Seconds for as many steps with tabular updates, measured over 1,000 times as many.

    All are of episodes that end at the time limit, since nothing is learned.
    """
    steps = 1000 * passes
    settings = {
        "moves": np.arange(4),
        "start": 0,
        "slip": 0.0,
        "windy": 0,
        "eval_episodes": 0,
        "alpha": 0.0,
        "gamma": 0.99,
        "start_e": 0.0,
        "end_e": 0.0,
        "exploration_steps": 1,
        "rng": np.random.default_rng(0),
        "eval_rng": np.random.default_rng(1),
    }
    if qss:
        Q = np.zeros((tabular_qss.NUM_STATES, tabular_qss.NUM_STATES))
        actions, counts = tabular_qss.known_actions(4, False, False)
        settings |= {"actions": actions, "counts": counts, "learned": False}
        learn = tabular_qss.learn_qss
    else:
        Q = np.zeros((tabular_qss.NUM_STATES, 4))
        learn = tabular_qss.learn_qsa
    for episodes in (1, math.ceil(steps / tabular_qss.TIME_LIMIT)):  # the first one compiles
        started = time.perf_counter()
        learn(Q, episodes=episodes, eval_frequency=episodes + 1, **settings)
    return (time.perf_counter() - started) / (episodes * tabular_qss.TIME_LIMIT) * passes


def stable_baselines3(passes: int) -> float:
    """Seconds for steps with updates of Stable-Baselines3's TD3, where td3_baseline.py is measured."""
    from stable_baselines3 import TD3
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.noise import NormalActionNoise

    class Clock(BaseCallback):
        def _on_step(self):
            times[self.num_timesteps] = time.perf_counter()
            return True

    times = {}
    env = d3g_continuous.make_env("HalfCheetah-v4")
    noise = NormalActionNoise(np.zeros(6), np.full(6, 0.1))
    agent = TD3(
        "MlpPolicy",
        env,
        learning_rate=3e-4,
        batch_size=256,
        policy_kwargs={"net_arch": [256, 256]},
        action_noise=noise,
        learning_starts=passes // 2,
        train_freq=1,
        gradient_steps=1,
        device="cpu",
        seed=1,
    )
    agent.learn(2 * passes + 1, callback=Clock())
    return times[2 * passes] - times[passes]


def gflops(passes: int) -> float:
    """What F.linear reaches with a batch of 256 and layers of 256 by 256, in 1e9 floating-point operations a second."""
    x = torch.randn(256, 256)
    w = torch.randn(256, 256)
    for k in range(1 + passes):
        if k == 1:
            started = time.perf_counter()
        torch.nn.functional.linear(x, w)
    return passes * 2 * 256**3 / (time.perf_counter() - started) / 1e9


class Counted(Exception):
    """Ends a run whose operations have been counted, before its evaluations, which take longer."""


@dataclass
class Loop:
    """A loop to measure: `measure(passes, **how)` gives seconds; an update is `method` of the agent's class."""

    name: str
    measure: Callable[..., float]
    how: dict
    agent: type | None = None
    method: str = "update"

    def seconds(self, passes: int) -> float:
        """Seconds for that many passes."""
        return self.measure(passes, **self.how)

    def mflop(self) -> float:
        """Floating-point operations of one update, averaged over the first four of a run, in 1e6."""
        update = getattr(self.agent, self.method)
        counts = []

        def counted(agent, batch):
            if len(counts) == 4:
                raise Counted
            with FlopCounterMode(display=False) as counter:
                update(agent, batch)
            counts.append(counter.get_total_flops() / 1e6)

        setattr(self.agent, self.method, counted)
        with contextlib.suppress(Counted):
            self.seconds(5)
        setattr(self.agent, self.method, update)
        assert len(counts) == 4
        return float(np.mean(counts))


def all_loops(num_threads: int, dataset: str) -> list[Loop]:
    """The loops of all scripts; those that learn from observations use the data set."""
    here = {"num_threads": num_threads, "cuda": False}
    data = here | {"dataset": dataset}
    cheetah = here | {"env_id": "HalfCheetah-v4", "eval_episodes": 1}
    d3g = cheetah | {"module": d3g_continuous}
    td3 = cheetah | {"module": td3_baseline}
    grid = here | {"module": d3g_gridworld, "num_seeds": 1}
    offline_plus = data | {"standardize": True, "scale_states": True, "clamp_values": True}
    with_cycle = grid | {"variants": ("d3g",), "folder": "d3g/seed1"}
    no_cycle = grid | {"variants": ("d3g_no_cycle",), "folder": "d3g_no_cycle/seed1"}
    return [
        Loop("tabular_qss.py: QSA", tabular, {"qss": False}),
        Loop("tabular_qss.py: QSS", tabular, {"qss": True}),
        Loop("d3g_gridworld.py: D3G", steps, with_cycle, d3g_gridworld.D3G),
        Loop("d3g_gridworld.py: D3G\u207b", steps, no_cycle, d3g_gridworld.D3G),
        Loop("d3g_continuous.py: D3G", steps, d3g, d3g_continuous.D3G),
        Loop("d3g_continuous.py: D3G\u207b", steps, d3g | {"cycle": False}, d3g_continuous.D3G),
        Loop("d3g_continuous.py: D3G\u207a", steps, d3g | {"standardize": True}, d3g_continuous.D3G),
        Loop("td3_baseline.py: TD3", steps, td3, td3_baseline.TD3),
        Loop("td3_baseline.py: DDPG", steps, td3 | {"algorithm": "ddpg"}, td3_baseline.TD3),
        Loop("d3g_from_obs.py: offline", offline, data, d3g_from_obs.D3G),
        Loop("d3g_from_obs.py: offline, D3G\u207a", offline, offline_plus, d3g_from_obs.D3G),
        Loop("d3g_from_obs.py: inverse dynamics", inverse_dynamics, data, d3g_from_obs.D3G, "update_inverse_dynamics"),
        Loop("bco_baseline.py: policy", cloning, data, bco_baseline.BCO, "update_policy"),
    ]


def main(args: Args) -> None:
    """Measure each loop `repeats` times, all loops in turn, and print the table."""
    for name, x in vars(args).items():
        least = 4 if name == "passes" else 1  # D3G+ needs two random steps before the first of its updates
        if name != "only" and x < least:
            fail(f"--{name.replace('_', '-')} {x}: must be at least {least}")
    torch.set_num_threads(args.num_threads)
    theirs = find_spec("stable_baselines3") is not None
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        tempfile.tempdir = folder  # the runs' folders go there too
        dataset = f"{folder}/data.npz"
        loops = [loop for loop in all_loops(args.num_threads, dataset) if args.only in loop.name]
        if not loops:
            fail(f"--only {args.only}: must be part of the name of a loop")
        silent = contextlib.redirect_stdout(open(os.devnull, "w"))  # noqa: SIM115
        with silent:
            d3g_from_obs.train(d3g_from_obs.Args(collect=dataset, dataset_size=10_000))
            costs = {loop.name: loop.mflop() for loop in loops if loop.agent}
        rates = {loop.name: [] for loop in loops}
        reached = {loop.name: [] for loop in loops}
        for k in range(args.repeats):
            for loop in loops:
                print(f"repeat {k + 1}/{args.repeats}: {loop.name}", file=sys.stderr)
                before = gflops(2 * args.passes)
                with silent:
                    rates[loop.name].append(args.passes / loop.seconds(args.passes))
                reached[loop.name].append((before + gflops(2 * args.passes)) / 2)
                if loop.name == "td3_baseline.py: TD3" and theirs:
                    rates.setdefault("Stable-Baselines3: TD3", []).append(args.passes / stable_baselines3(args.passes))
    print(f"PyTorch {torch.__version__}, threads: {args.num_threads}, LD_PRELOAD: {os.environ.get('LD_PRELOAD', '')}")
    print("| loop | passes per second | MFLOP per update | `F.linear` GFLOP/s | achieved / reachable |")
    print("|---|---|---|---|---|")
    for name, measured in rates.items():
        rate = float(np.median(measured))
        cells = ["", "", ""]
        if name in costs:
            linear = float(np.median(reached[name]))
            achieved = rate * costs[name] / 1000
            cells = [f"{costs[name]:.1f}", f"{linear:.0f}", f"{achieved / linear:.2f}"]
        print(f"| {name} | {rate:,.1f} | {' | '.join(cells)} |")
    if theirs and "td3_baseline.py: TD3" in rates:
        ratios = np.divide(rates["td3_baseline.py: TD3"], rates["Stable-Baselines3: TD3"])
        print(f"TD3, ours / Stable-Baselines3: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")


if __name__ == "__main__":
    main(tyro.cli(Args))
