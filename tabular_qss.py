# /// script
# requires-python = ">=3.11,<3.15"
# dependencies = [
#     "numba==0.68.1",
#     "numpy==2.4.6",
#     "tqdm==4.70.1",
#     "tyro==1.0.17",
# ]
# ///
"""QSA and QSS learning in a gridworld: Figures 2, 3, 4 and the tabular appendix of Edwards et al., ICML 2020.

    python tabular_qss.py --experiment figure4c --num-threads 2

The algorithms are `learn_qsa`, which is Q-learning, and `learn_qss`; the experiments are listed in `CURVES`.
"""

import fcntl
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal, NoReturn, TextIO

import numpy as np
import tyro
from numba import njit
from tqdm import tqdm

DEFAULTS = {  # of the arguments in which the experiments differ
    "figure2": {"num_seeds": 10, "eval_frequency": 1_000, "eval_episodes": 1},
    "figure3": {"num_seeds": 10, "eval_frequency": 1_000, "eval_episodes": 1},
    "figure4a": {"num_seeds": 50, "eval_frequency": 1_000, "eval_episodes": 1},
    "figure4b": {"num_seeds": 50, "eval_frequency": 1_000, "eval_episodes": 1},
    "figure4c": {"num_seeds": 50, "eval_frequency": 1_000, "eval_episodes": 1},
    "figure4d": {"num_seeds": 50, "eval_frequency": 10, "eval_episodes": 1},
    "appendix_stochastic": {"num_seeds": 10, "eval_frequency": 1_000, "eval_episodes": 10},
    "appendix_windy": {"num_seeds": 10, "eval_frequency": 1_000, "eval_episodes": 10},
}


@dataclass
class Args:
    """Run one of the paper's tabular experiments, at its full size unless told otherwise."""

    # Experiment
    exp_name: str = "tabular_qss"  # the name of this experiment, part of the default run folder
    experiment: Literal[*DEFAULTS] = "figure2"  # the figure, or part of one, whose data to make
    seed: int = 1  # the first seed; a run takes this one and those after it
    num_seeds: int | None = None  # independent repetitions of every curve; Figure 4: 50, all others: 10
    num_threads: int = 1  # CPU threads, over which the seeds are spread
    run_dir: str | None = None  # the run's folder; by default runs/{experiment}__{exp_name}__{seed}__{unix time}
    resume: bool = False  # accept a --run-dir that holds this run: done if it is complete, begun again if not

    # Budget
    episodes: int = 50_000  # training episodes; in Figure 4d, those before the actions are relabelled
    transfer_episodes: int = 10_000  # training episodes after the relabelling (Figure 4d only)
    eval_frequency: int | None = None  # training episodes between evaluations (not Figures 2, 3); 4d: 10, others: 1,000
    eval_episodes: int | None = None  # greedy episodes per evaluation (not Figures 2, 3); appendix: 10, others: 1

    # Algorithm
    learning_rate: float = 0.01  # step size of the updates (the paper's alpha)
    gamma: float = 0.99  # discount factor
    initial_value: float = 0.001  # what the tables hold at the start
    start_e: float = 1.0  # probability of a random action at the start (epsilon)
    end_e: float = 0.1  # probability of a random action in the end
    exploration_steps: int = 100_000  # training steps over which epsilon falls linearly from start to end

    def __post_init__(self):
        for name, value in DEFAULTS[self.experiment].items():
            if getattr(self, name) is None:
                setattr(self, name, value)
        self.initial_value += 0.0  # makes 0.0 of -0.0: equal arguments are to give equal bytes


UP, DOWN, LEFT, RIGHT = range(4)
SIZE = 11  # rows and columns of the grid
# The cell in a row and a column is state 11 row + column. States from the goal on are terminal: in the windy variant
# those after it are the cells below the grid
GOAL = SIZE * SIZE - 1
NUM_STATES = SIZE * SIZE + SIZE
TIME_LIMIT = 500  # steps after which an episode is cut, which is not a termination


def neighbours(windy: bool) -> np.ndarray:
    """N(s) in the order of the moves up, down, left, right: the states they lead to [NUM_STATES, 4]; walls hold."""
    n = np.tile(np.arange(NUM_STATES)[:, None], 4)
    for s in range(GOAL):
        row, column = divmod(s, SIZE)
        if row > 0:
            n[s, UP] = s - SIZE
        if row < SIZE - 1 or windy:  # below the bottom row there is the windy cliff
            n[s, DOWN] = s + SIZE
        if column > 0:
            n[s, LEFT] = s - 1
        if column < SIZE - 1:
            n[s, RIGHT] = s + 1
    return n


NEIGHBOURS = np.stack([neighbours(windy=False), neighbours(windy=True)])  # indexed by [windy, s, move]


@njit(cache=True, nogil=True)
def randint(n, rng):
    """A uniformly random integer from 0 to n - 1 (rng.integers takes five times as long here)."""
    return int(n * rng.random())


@njit(cache=True, nogil=True)
def step(s, move, slip, windy, rng):
    """Take one step of the gridworld: return s', the reward, and whether the episode terminates there.

    With probability `slip` a uniformly random move replaces the given one. In the windy variant a step from the bottom
    row falls with probability 0.5 to the terminal cell below, wherever it was going.
    """
    if rng.random() < slip:
        move = randint(4, rng)
    s_next = NEIGHBOURS[windy, s, move]
    if windy and s // SIZE == SIZE - 1 and rng.random() < 0.5:
        s_next = s + SIZE
    terminated = s_next >= GOAL
    if windy:  # two returns: with a single one, numba makes QSA half as fast
        return s_next, 1.0 if s_next == GOAL else 0.0, terminated
    return s_next, 1.0 if terminated else -1.0, terminated


@njit(cache=True, nogil=True)
def best_neighbour(Q, s, windy):
    """tau(s) = argmax over s' in N(s) of Q(s, s') (Eq. 3), the first of equals."""
    best = NEIGHBOURS[windy, s, 0]
    for move in range(1, 4):
        if Q[s, NEIGHBOURS[windy, s, move]] > Q[s, best]:
            best = NEIGHBOURS[windy, s, move]
    return best


@njit(cache=True, nogil=True)
def inverse_dynamics(actions, counts, s, s_next, rng):
    """I(s, s'): a uniform draw from the actions known to lead from s to s', from all actions where none is known."""
    n = counts[s, s_next]
    if n == 0:
        return randint(actions.shape[2], rng)
    return actions[s, s_next, randint(n, rng)]


@njit(cache=True, nogil=True)
def learn_inverse_dynamics(actions, counts, s, s_next, a):
    """Add a to the set I(s, s')."""
    n = counts[s, s_next]
    if not np.any(actions[s, s_next, :n] == a):
        actions[s, s_next, n] = a
        counts[s, s_next] += 1


def known_actions(num_actions: int, windy: bool, learned: bool) -> tuple[np.ndarray, np.ndarray]:
    """The sets I(s, s'), as actions [NUM_STATES, NUM_STATES, num_actions] and how many of these count.

    Empty if they are to be learned; else given, with the base actions 0 to 3 that make the moves.
    """
    actions = np.zeros((NUM_STATES, NUM_STATES, num_actions), np.int16)
    counts = np.zeros((NUM_STATES, NUM_STATES), np.int64)
    if not learned:
        for s in range(GOAL):
            for move, s_next in enumerate(NEIGHBOURS[int(windy), s]):
                learn_inverse_dynamics(actions, counts, s, s_next, move)
    return actions, counts


@njit(cache=True, nogil=True)
def evaluate_qsa(Q, moves, start, slip, windy, episodes, rng):
    """Act greedily, argmax_a Q(s, a); return the mean undiscounted return of so many episodes."""
    mean = 0.0
    for _ in range(episodes):
        s = start
        for _ in range(TIME_LIMIT):
            s, r, terminated = step(s, moves[np.argmax(Q[s])], slip, windy, rng)
            mean += r / episodes
            if terminated:
                break
    return mean


@njit(cache=True, nogil=True)
def evaluate_qss(Q, actions, counts, moves, start, slip, windy, episodes, rng):
    """Act greedily, I(s, tau(s)); return the mean undiscounted return of so many episodes."""
    mean = 0.0
    for _ in range(episodes):
        s = start
        for _ in range(TIME_LIMIT):
            a = inverse_dynamics(actions, counts, s, best_neighbour(Q, s, windy), rng)
            s, r, terminated = step(s, moves[a], slip, windy, rng)
            mean += r / episodes
            if terminated:
                break
    return mean


@njit(cache=True, nogil=True)
def learn_qsa(
    Q,
    moves,
    start,
    slip,
    windy,
    episodes,
    eval_frequency,
    eval_episodes,
    alpha,
    gamma,
    start_e,
    end_e,
    exploration_steps,
    rng,
    eval_rng,
):
    """Q-learning of Q(s, a) [NUM_STATES, actions], in place; return the mean greedy return of every evaluation.

    Action a makes the move moves[a]. Training draws from `rng`, evaluations from `eval_rng`.
    """
    returns = np.zeros(episodes // eval_frequency + 1)
    t = 0
    for episode in range(episodes + 1):
        if episode % eval_frequency == 0:
            mean = evaluate_qsa(Q, moves, start, slip, windy, eval_episodes, eval_rng)
            returns[episode // eval_frequency] = mean
        if episode == episodes:
            return returns

        s = start
        greedy = np.argmax(Q[s])
        for _ in range(TIME_LIMIT):
            epsilon = max(end_e, start_e + (end_e - start_e) * t / exploration_steps)
            if rng.random() < epsilon:
                a = randint(len(moves), rng)
            else:
                a = greedy
            s_next, r, terminated = step(s, moves[a], slip, windy, rng)

            # Q(s, a) <- Q(s, a) + alpha [r + gamma max_a' Q(s', a') - Q(s, a)]
            greedy = np.argmax(Q[s_next])  # for the target, and for the next step
            y = r if terminated else r + gamma * Q[s_next, greedy]
            Q[s, a] += alpha * (y - Q[s, a])
            if s_next == s:  # this update has changed Q(s', .), so that another action may be greedy now
                greedy = np.argmax(Q[s])

            s = s_next
            t += 1
            if terminated:
                break


@njit(cache=True, nogil=True)
def learn_qss(
    Q,
    actions,
    counts,
    learned,
    moves,
    start,
    slip,
    windy,
    episodes,
    eval_frequency,
    eval_episodes,
    alpha,
    gamma,
    start_e,
    end_e,
    exploration_steps,
    rng,
    eval_rng,
):
    """QSS-learning of Q(s, s') [NUM_STATES, NUM_STATES], in place; return the mean greedy return of every evaluation.

    `actions` and `counts` are the sets I(s, s'), in place too if they are to be learned. Else as `learn_qsa`.
    """
    returns = np.zeros(episodes // eval_frequency + 1)
    t = 0
    for episode in range(episodes + 1):
        if episode % eval_frequency == 0:
            mean = evaluate_qss(Q, actions, counts, moves, start, slip, windy, eval_episodes, eval_rng)
            returns[episode // eval_frequency] = mean
        if episode == episodes:
            return returns

        s = start
        for _ in range(TIME_LIMIT):
            epsilon = max(end_e, start_e + (end_e - start_e) * t / exploration_steps)
            if rng.random() < epsilon:
                a = randint(len(moves), rng)
            else:  # Eq. 4: pi(s) = I(s, tau(s))
                a = inverse_dynamics(actions, counts, s, best_neighbour(Q, s, windy), rng)
            s_next, r, terminated = step(s, moves[a], slip, windy, rng)

            # Eq. 5: Q(s, s') <- Q(s, s') + alpha [r + gamma Q(s', tau(s')) - Q(s, s')], whatever the action was
            y = r if terminated else r + gamma * Q[s_next, best_neighbour(Q, s_next, windy)]
            Q[s, s_next] += alpha * (y - Q[s, s_next])
            if learned:
                learn_inverse_dynamics(actions, counts, s, s_next, a)

            s = s_next
            t += 1
            if terminated:
                break


def learn_table(
    args: Args,
    algorithm: str,
    rng: np.random.Generator,
    eval_rng: np.random.Generator,
    num_actions: int = 4,
    slip: float = 0.0,
    windy: bool = False,
    learned: bool = False,
    labels: str | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Train one table; return the greedy returns [points] and, over the grid's states, the values max Q [121].

    Action k makes the move k mod 4. With `labels`, 3 - k mod 4: at "scratch" from the start, at "transfer" after
    training with the old labels, of which the table is kept while epsilon and the learned inverse dynamics start again.
    Ties go to the lowest label in QSA, to the first of up, down, left, right in QSS.
    """
    start = SIZE * (SIZE - 1) if windy else 0
    columns = NUM_STATES if algorithm == "QSS" else num_actions
    Q = np.full((NUM_STATES, columns), args.initial_value)

    def learn(moves: np.ndarray, episodes: int, eval_frequency: int) -> np.ndarray:
        how = {
            "moves": moves,
            "start": start,
            "slip": slip,
            "windy": int(windy),
            "episodes": episodes,
            "eval_frequency": eval_frequency,
            "eval_episodes": args.eval_episodes,
            "alpha": args.learning_rate,
            "gamma": args.gamma,
            "start_e": args.start_e,
            "end_e": args.end_e,
            "exploration_steps": args.exploration_steps,
            "rng": rng,
            "eval_rng": eval_rng,
        }
        if algorithm == "QSA":
            return learn_qsa(Q, **how)
        actions, counts = known_actions(num_actions, windy, learned)
        return learn_qss(Q, actions, counts, learned, **how)

    moves = np.arange(num_actions) % 4
    if labels is None:
        returns = learn(moves, args.episodes, args.eval_frequency)
    else:
        if labels == "transfer":
            learn(moves, args.episodes, eval_frequency=args.episodes)  # its returns are not used
        returns = learn(3 - moves, args.transfer_episodes, args.eval_frequency)

    if algorithm == "QSA":
        values = Q[: GOAL + 1].max(1)
    else:
        values = np.array([Q[s, best_neighbour(Q, s, int(windy))] for s in range(GOAL + 1)])
    return returns, values


BOTH = ("QSA", "QSS")
NUM_ACTIONS = (4, 40, 400)
SLIPS = (0.25, 0.5, 0.75)
FIGURE3_SLIPS = (0.0, *SLIPS, 1.0)
CURVES = {  # experiment: {(algorithm, setting): arguments of learn_table}
    "figure2": {(x, 0.0): {} for x in BOTH},
    "figure3": {(x, slip): {"slip": slip} for slip in FIGURE3_SLIPS for x in BOTH},
    "figure4a": {("QSA", n): {"num_actions": n} for n in NUM_ACTIONS},
    "figure4b": {("QSS", n): {"num_actions": n} for n in NUM_ACTIONS},
    "figure4c": {("QSS", n): {"num_actions": n, "learned": True} for n in NUM_ACTIONS},
    "figure4d": {(x, labels): {"learned": True, "labels": labels} for x in BOTH for labels in ("transfer", "scratch")},
    "appendix_stochastic": {(x, slip): {"slip": slip} for slip in SLIPS for x in BOTH},
    "appendix_windy": {(x, "windy"): {"windy": True} for x in BOTH},
}


def optimal_return(slip: float, windy: bool) -> float:
    """The highest expected return of an episode, undiscounted, by backward induction over its 500 steps."""
    bottom_row = slice(SIZE * (SIZE - 1), GOAL)
    reward = np.full(NUM_STATES, 0.0 if windy else -1.0)
    reward[GOAL] = 1.0
    V = np.zeros(NUM_STATES)
    for _ in range(TIME_LIMIT):
        q = (reward + V)[NEIGHBOURS[int(windy)]]  # of every state and move
        if windy:  # from the bottom row, half the steps end below with nothing
            q[bottom_row] /= 2
        V = (1 - slip) * q.max(1) + slip * q.mean(1)
        V[GOAL:] = 0
    return V[SIZE * (SIZE - 1) if windy else 0]


def interval(values: np.ndarray) -> str:
    """The mean over seeds and its 95% bootstrap interval, in words."""
    means = np.random.default_rng(0).choice(values, (10_000, len(values))).mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{values.mean():.4g} [{low:.4g}, {high:.4g}]"


def evaluated_episodes(args: Args) -> range:
    """The numbers of training episodes after which there is an evaluation; in Figure 4d those with the new labels."""
    episodes = args.transfer_episodes if args.experiment == "figure4d" else args.episodes
    return range(0, episodes + 1, args.eval_frequency)


def compare_returns(args: Args, returns: np.ndarray) -> np.ndarray:
    """Print how every curve of returns [curves, seeds, points] ends; return results.csv's column [rows, 1]."""
    for k, ((algorithm, setting), options) in enumerate(CURVES[args.experiment].items()):
        windy = options.get("windy", False)
        optimum = optimal_return(options.get("slip", 0.0), windy)
        if windy:  # steps are free
            near = "at the optimum"
            enough = optimum
        else:
            near = "within one step of the optimum"
            enough = optimum - 1
        (points,) = np.nonzero(returns[k].mean(0) >= enough - 1e-9)
        if len(points) > 0:
            first = f"first at episode {evaluated_episodes(args)[points[0]]}"
        else:
            first = "never"
        last = evaluated_episodes(args)[-1]
        final = interval(returns[k, :, -1])
        print(f"{algorithm}, {setting}: return {final} after episode {last}, {near} {optimum:.2f} {first}")
    return returns.reshape(-1, 1)


def compare_values(values: np.ndarray) -> np.ndarray:
    """Figure 2, of values [curves, seeds, 121]: print how QSS differs; return results.csv's columns [rows, 4]."""
    qsa, qss = values
    fraction = (qss - qsa) / np.maximum(abs(qsa), 0.1)
    difference = abs(qss - qsa)
    mean_fraction = interval(abs(fraction).mean(1))
    largest = abs(fraction.mean(0)).max()
    print(
        f"absolute fraction (QSS - QSA) / max(|QSA|, 0.1): mean over states {mean_fraction}, "
        f"largest {largest:.4g} (of the mean over seeds)"
    )
    mean_difference = interval(difference.mean(1))
    print(
        f"absolute difference: mean over states {mean_difference}, "
        f"largest {difference.max():.4g} (of all seeds and states)"
    )
    return np.stack([qsa, qss, fraction, difference], -1).reshape(-1, 4)


def measure_distances(values: np.ndarray) -> np.ndarray:
    """Figure 3, of values [curves, seeds, 121]: print how far QSS is from QSA; return results.csv's columns [rows, 3].

    The distance is that of the 121 values of a seed, Euclidean.
    """
    qsa = values[0::2]  # [slips, seeds, 121]; in CURVES the two algorithms alternate
    qss = values[1::2]
    distance = np.linalg.norm(qss - qsa, axis=2)
    for k, slip in enumerate(FIGURE3_SLIPS):
        qsa_moved = np.linalg.norm((qsa[k] - qsa[0]).mean(0))
        qss_moved = np.linalg.norm((qss[k] - qss[0]).mean(0))
        print(
            f"slip {slip}: distance of QSS from QSA {interval(distance[k])}; "
            f"of the mean values from those without slip: QSA {qsa_moved:.2f}, QSS {qss_moved:.2f}"
        )
    same_for_all_states = np.broadcast_to(distance[:, :, None], qsa.shape)
    return np.stack([qsa, qss, same_for_all_states], -1).reshape(-1, 3)


def train(args: Args) -> Path:
    """Run the experiment and return the run's folder. Equal `args` give equal numbers, on any number of threads."""
    check_args(args)
    curves = CURVES[args.experiment]
    returns = allocate(len(curves), args.num_seeds, len(evaluated_episodes(args)))
    values = allocate(len(curves), args.num_seeds, GOAL + 1)

    with open_run(args, args.run_dir or new_folder(f"{args.experiment}__{args.exp_name}__{args.seed}")) as run:
        if run.is_complete():
            return run.folder
        run.start()
        tables = len(curves) * args.num_seeds
        bar = tqdm(total=tables, unit="table", file=sys.stdout, disable=not sys.stdout.isatty())

        def learn(table: int) -> None:
            curve, k = divmod(table, args.num_seeds)
            algorithm, setting = list(curves)[curve]
            options = curves[algorithm, setting]
            rng = np.random.default_rng((args.seed + k, curve, 1))
            eval_rng = np.random.default_rng((args.seed + k, curve, 2))
            returns[curve, k], values[curve, k] = learn_table(args, algorithm, rng, eval_rng, **options)

        with ThreadPoolExecutor(args.num_threads) as pool:
            for _ in pool.map(learn, range(tables)):
                bar.update()
        bar.close()

        if args.experiment == "figure2":
            numbers = compare_values(values)
        elif args.experiment == "figure3":
            numbers = measure_distances(values)
        else:
            numbers = compare_returns(args, returns)
        run.finish(numbers)

    figure = args.experiment
    if figure.startswith("figure4"):
        figure = "figure4"
    elif figure.startswith("appendix"):
        figure = "appendix"
    print(f"run folder: {run.folder}; draw it: python benchmark/{figure}.py {run.folder}")
    return run.folder


# ------------------------- The experiment ends here. What follows keeps a run: checks, its folder, resuming, signals.

RUN_FILES = ("args.json", "results.csv")
# The folders that this process made: if a run fails before its start, those that are empty are deleted again
made_folders: list[Path] = []
MAY_DIFFER_ON_RESUME = ("run_dir", "resume")
LARGEST_COUNT = 10**18  # what numba's 64-bit integers hold, with room


def check_args(args: Args) -> None:
    """Fail, naming the argument, where a value is out of range."""

    def check(name: str, valid: bool, allowed: str) -> None:
        if not valid:
            fail(f"--{name.replace('_', '-')} {getattr(args, name)}: must be {allowed}")

    check("seed", 0 <= args.seed < 2**32, "from 0 to 2**32 - 1")
    for name in ("num_seeds", "num_threads", "episodes", "transfer_episodes"):
        check(name, getattr(args, name) >= 1, "at least 1")
    for name in ("eval_frequency", "eval_episodes", "exploration_steps"):
        check(name, getattr(args, name) >= 1, "at least 1")
    for name in ("num_seeds", "episodes", "transfer_episodes", "eval_frequency", "eval_episodes", "exploration_steps"):
        check(name, getattr(args, name) <= LARGEST_COUNT, "at most 10**18")
    check("num_threads", args.num_threads <= 1_000, "at most 1,000")
    check("learning_rate", 0 < args.learning_rate <= 1, "above 0 and at most 1")
    for name in ("gamma", "start_e", "end_e"):
        check(name, 0 <= getattr(args, name) <= 1, "from 0 to 1")
    check("end_e", args.end_e <= args.start_e, "at most --start-e")
    check("initial_value", np.isfinite(args.initial_value), "finite")
    check("initial_value", abs(args.initial_value) <= 1e100, "from -1e100 to 1e100")  # squares must be finite, too
    check("run_dir", args.run_dir != "", "the name of a folder")
    check("resume", not args.resume or args.run_dir is not None, "used with --run-dir")


# Copied from d3g_continuous.fail
def fail(message: str, status: int = 2) -> NoReturn:
    """Print one line on standard error and exit: with 2 for bad input, with 1 for a run that went wrong."""
    one_line = " ".join(message.split())
    print(f"error: {one_line}", file=sys.stderr)
    sys.exit(status)


def allocate(*shape: int) -> np.ndarray:
    """Zeros of this shape; fail where the machine's memory has no room for them."""
    size = np.dtype(float).itemsize * math.prod(shape)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        if size > memory:  # some systems promise more than they have
            raise MemoryError(f"the results take {size:,} bytes, the machine has {memory:,}")
        return np.zeros(shape)
    except MemoryError as error:
        fail(f"not enough memory for these arguments: {error}", status=1)


# Copied from d3g_continuous.make_folder
def make_folder(folder: Path, exist_ok: bool = False) -> None:
    """Make a folder and those above it, and remember which of them did not exist."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=exist_ok)
    made_folders.extend(missing)


# Copied from d3g_continuous.new_folder
def new_folder(name: str) -> Path:
    """Make a folder in runs/ that did not exist, named after the experiment and the time in seconds."""
    while True:
        folder = Path("runs", f"{re.sub('[/:]', '_', name)}__{int(time.time())}")
        try:
            make_folder(folder)
            return folder
        except FileExistsError:
            time.sleep(0.1)  # another run started in the same second
        except OSError as error:
            fail(f"--run-dir {folder}: must be a folder that can be written: {error}")


def describe(args: Args, folder: Path) -> dict:
    """What args.json holds: the arguments, and what else the bits of the results depend on; here without torch."""
    given = asdict(args)
    given["run_dir"] = args.run_dir or str(folder)
    versions = {name: version(name) for name in ("numba", "llvmlite", "numpy")}
    versions["python"] = sys.version.split()[0]
    commit = None
    try:
        git = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        done = subprocess.run(git, cwd=Path(__file__).parent, capture_output=True, text=True)
        commit = done.stdout.strip() or None
    except OSError:
        pass  # git is not installed; the commit is for information only
    processor = None
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"model name\s*: (.*)", cpuinfo.read_text())
        processor = found[1] if found else None  # some processors have no such line
    return {
        "args": given,
        "versions": versions,
        "git_commit": commit,
        "processor": processor,
        "ld_preload": os.environ.get("LD_PRELOAD"),
    }


def frame_results(args: Args) -> tuple[str, list[str]]:
    """The header of results.csv, and what each of its rows begins with, before the numbers that were measured."""
    seeds = range(args.seed, args.seed + args.num_seeds)
    cells = [f"{row},{column}" for row in range(SIZE) for column in range(SIZE)]
    if args.experiment == "figure2":
        header = "seed,row,column,qsa_value,qss_value,fraction,absolute_difference"
        starts = [f"{seed},{cell}" for seed in seeds for cell in cells]
    elif args.experiment == "figure3":
        header = "slip,seed,row,column,qsa_value,qss_value,distance"
        starts = [f"{slip},{seed},{cell}" for slip in FIGURE3_SLIPS for seed in seeds for cell in cells]
    else:
        header = "episode,algorithm,setting,seed,return"
        starts = []
        for algorithm, setting in CURVES[args.experiment]:
            for seed in seeds:
                starts += [f"{episode},{algorithm},{setting},{seed}" for episode in evaluated_episodes(args)]
    return header, starts


def results_text(args: Args, numbers: np.ndarray) -> str:
    """The text of results.csv, with these numbers [rows, columns]."""
    header, starts = frame_results(args)
    lines = [header]
    for start, row in zip(starts, numbers.tolist(), strict=True):
        lines.append(",".join([start, *map(str, row)]))
    return "\n".join(lines) + "\n"


def check_results(args: Args, text: str) -> None:
    """Raise ValueError unless this is the text of a results.csv of these arguments, whole and with finite numbers."""
    header, starts = frame_results(args)
    found, *rows = text.split("\n")
    if found != header:
        raise ValueError(f"its first line must be {header}")
    if len(rows) != len(starts) + 1 or rows[-1] != "":
        raise ValueError(f"it must have {len(starts)} whole rows")
    for start, row in zip(starts, rows[:-1], strict=True):
        cells = row.removeprefix(f"{start},").split(",")
        if not row.startswith(f"{start},") or row.count(",") != header.count(","):
            raise ValueError(f"it must have a row that begins with {start} where it has {row}")
        if not np.isfinite([float(cell) for cell in cells]).all():
            raise ValueError(f"its numbers must be finite, not as in {row}")


def save(text: str, file: Path) -> None:
    """Write to a temporary file that then replaces `file`: a kill leaves the old one or the new one, whole."""
    partial = file.with_name("partial.tmp")
    try:
        partial.write_text(text)
        os.replace(partial, file)
    except OSError as error:
        partial.unlink(missing_ok=True)
        fail(f"{file} cannot be written: {error}; --resume makes it once there is room", status=1)


@contextmanager
def open_run(args: Args, folder: Path | str) -> Iterator["Run"]:
    """Lock the folder until the run ends or fails; fail if it is in use, or holds a run that `args` do not resume."""
    folder = Path(folder)
    file = folder / "args.json"
    try:
        make_folder(folder, exist_ok=True)
        mode = "a+"  # makes an empty args.json where there is none
        if any((folder / name).exists() for name in RUN_FILES):  # a run is there: its args.json must be, too
            mode = "r+" if os.access(file, os.W_OK) else "r"  # a complete run may lie on a read-only disk
        args_file = open(file, mode)
    except FileNotFoundError as error:
        fail(f"--run-dir {folder}: must be a new folder or hold the args.json of the run to resume: {error}")
    except OSError as error:
        fail(f"--run-dir {folder}: must be a folder that can be written: {error}")
    with args_file:
        try:
            fcntl.flock(args_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fail(f"--run-dir {folder}: must not be in use, but another process has locked it")
        if os.fstat(args_file.fileno()).st_nlink == 0:  # deleted meanwhile, by a run that failed before it started
            fail(f"--run-dir {folder}: must not be in use, but another process has locked it")
        run = Run(args, args_file, folder)
        try:
            run.check_resume(args.resume)
            yield run
        except MemoryError as error:
            fail(f"not enough memory for these arguments: {error}", status=1)
        except OSError as error:  # of numba's cache of compiled functions, say
            fail(f"{folder}: the run cannot go on: {error}", status=1)
        finally:
            run.close()


class Run:
    """A run's folder: its arguments and, when it is complete, its results."""

    def __init__(self, args: Args, args_file: TextIO, folder: Path):
        self.args = args
        self.args_file = args_file
        self.folder = folder
        self.description = describe(args, folder)
        self.info = self.description  # what args.json holds
        self.is_new = False  # whether args.json is still to be written

    # Copied from d3g_continuous.Run.check_resume
    def check_resume(self, resume: bool) -> None:
        """Fail if the folder holds a run, unless it is to be resumed with the arguments of its args.json."""
        given = self.info["args"]
        try:
            self.args_file.seek(0)
            text = self.args_file.read()
            held = [name for name in RUN_FILES if (self.folder / name).exists()]
            self.is_new = text == "" and held == ["args.json"]
            if self.is_new:
                return
            if not resume:
                fail(f"--run-dir {self.folder}: must not hold a run, unless with --resume, but has {', '.join(held)}")
            self.info = json.loads(text)
            for name in given:
                was = self.info["args"][name]
                if name not in MAY_DIFFER_ON_RESUME and given[name] != was:
                    fail(f"--{name.replace('_', '-')} {given[name]}: must be {was} to resume {self.folder}")
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            fail(f"--run-dir {self.folder}: must be a new folder or hold the args.json of the run to resume: {error!r}")

    def close(self) -> None:
        """Leave nothing behind of a run that failed before it started."""
        if self.is_new:
            with suppress(OSError):  # an empty args.json may lie where nothing can be written
                (self.folder / "args.json").unlink()
                for folder in (self.folder, *self.folder.parents):
                    if folder in made_folders and not any(folder.iterdir()):
                        folder.rmdir()

    def is_complete(self) -> bool:
        """Whether the run has ended, with results that are whole; says so, or what is wrong with them."""
        file = self.folder / "results.csv"
        try:
            check_results(self.args, file.read_text())
        except FileNotFoundError:
            return False
        except (OSError, ValueError) as error:
            print(f"{file} is damaged and is made again, which takes minutes and gives the same numbers: {error}")
            return False
        print(f"{self.folder} is complete")
        return True

    def start(self) -> None:
        """Begin, also where a run was broken off, of which nothing is kept: args.json has the versions of this one."""
        info = self.description | {"args": self.info["args"]}
        partial = self.folder / "partial.tmp"
        try:
            partial.touch()  # where it cannot be written, say so now and not after minutes
            partial.unlink()
            (self.folder / "results.csv").unlink(missing_ok=True)
            self.is_new = True  # until it is written: if that fails, `close` deletes it
            (self.folder / "args.json").write_text(json.dumps(info, indent=2) + "\n")  # in place: it is locked
        except OSError as error:
            fail(f"{self.folder} cannot be written: {error}", status=1)
        self.is_new = False
        print(f"device: cpu, CPU threads: {self.args.num_threads}, run folder: {self.folder}", flush=True)

    def finish(self, numbers: np.ndarray) -> None:
        """Write results.csv; the run is complete then."""
        save(results_text(self.args, numbers), self.folder / "results.csv")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C stops at once: there is nothing to be kept
    train(tyro.cli(Args))
