"""QSA and QSS learning in a gridworld: Figures 2, 3, 4 and the tabular appendix of Edwards et al., ICML 2020.

python tabular_qss.py --experiment figure4c --num-threads 2
"""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from numba import njit
from tqdm import tqdm

UP, DOWN, LEFT, RIGHT = range(4)
SIZE = 11  # rows and columns of the grid
GOAL = SIZE * SIZE - 1  # state 11 row + column; the terminal states are the goal and, behind it, the cells of row 11
NUM_STATES = SIZE * SIZE + SIZE
TIME_LIMIT = 500  # steps after which an episode is cut, which is not a termination

NUM_ACTIONS, SLIPS = (4, 40, 400), (0.25, 0.5, 0.75)
CURVES = {  # experiment: [(algorithm, setting, what `run` is to do for it)]
    "figure2": [("QSA", 0.0, {}), ("QSS", 0.0, {})],
    "figure3": [(x, slip, {"slip": slip}) for slip in (0.0, *SLIPS, 1.0) for x in ("QSA", "QSS")],
    "figure4a": [("QSA", n, {"num_actions": n}) for n in NUM_ACTIONS],
    "figure4b": [("QSS", n, {"num_actions": n}) for n in NUM_ACTIONS],
    "figure4c": [("QSS", n, {"num_actions": n, "learned": True}) for n in NUM_ACTIONS],
    "figure4d": [(x, way, {"learned": True, "labels": way}) for x in ("QSA", "QSS") for way in ("transfer", "scratch")],
    "appendix_stochastic": [(x, slip, {"slip": slip}) for slip in SLIPS for x in ("QSA", "QSS")],
    "appendix_windy": [(x, "windy", {"windy": True}) for x in ("QSA", "QSS")],
}


@dataclass
class Args:
    """Run one of the paper's tabular experiments, at its full size unless told otherwise."""

    # Experiment
    exp_name: str = Path(__file__).stem
    """the name of this experiment, part of the default run folder"""
    experiment: Literal[*CURVES] = "figure2"
    """the figure, or part of one, whose data to make"""
    seed: int = 1
    """the first seed; a run takes this one and those after it"""
    num_seeds: int | None = None
    """independent repetitions of every curve; Figure 4: 50, all others: 10"""
    num_threads: int = 1
    """CPU threads, over which the seeds are spread"""
    run_dir: str | None = None
    """the run's folder; by default runs/{experiment}__{exp_name}__{seed}__{unix time}"""
    resume: bool = False
    """accept a --run-dir that holds this run already: done if it is complete, begun again if not"""
    # Budget
    episodes: int = 50_000
    """training episodes; in Figure 4d, those before the actions are relabelled"""
    transfer_episodes: int = 10_000
    """training episodes after the relabelling (Figure 4d only)"""
    eval_frequency: int | None = None
    """training episodes between evaluations; Figure 4d: 10, all others: 1,000"""
    eval_episodes: int | None = None
    """greedy episodes per evaluation; appendix: 10, all others: 1"""
    # Algorithm
    learning_rate: float = 0.01
    """step size of the updates (the paper's alpha)"""
    gamma: float = 0.99
    """discount factor"""
    initial_value: float = 0.001
    """what the tables hold at the start"""
    start_e: float = 1.0
    """probability of a random action at the start (epsilon)"""
    end_e: float = 0.1
    """probability of a random action in the end"""
    exploration_steps: int = 100_000
    """training steps over which epsilon falls linearly from start to end"""

    def __post_init__(self):
        def check(names: str, allowed: str, is_valid) -> None:
            for name in names.split():
                if not is_valid(getattr(self, name)):
                    fail(f"--{name.replace('_', '-')} {getattr(self, name)}: must be {allowed}")

        implied = {
            "num_seeds": 50 if self.experiment.startswith("figure4") else 10,
            "eval_frequency": 10 if self.experiment == "figure4d" else 1_000,
            "eval_episodes": 10 if self.experiment.startswith("appendix") else 1,
        }
        vars(self).update({name: value for name, value in implied.items() if getattr(self, name) is None})
        check("seed", "from 0 to 2**32 - 1", lambda x: 0 <= x < 2**32)
        check("num_seeds num_threads episodes transfer_episodes", "at least 1", lambda x: x >= 1)
        check("eval_frequency eval_episodes exploration_steps", "at least 1", lambda x: x >= 1)
        check("learning_rate", "above 0 and at most 1", lambda x: 0 < x <= 1)
        check("gamma start_e end_e", "from 0 to 1", lambda x: 0 <= x <= 1)
        check("end_e", "at most --start-e", lambda x: x <= self.start_e)
        check("initial_value", "finite", np.isfinite)
        check("resume", "used with --run-dir", lambda x: not x or self.run_dir)


def neighbours(windy: bool) -> np.ndarray:
    """N(s) in the order of the moves up, down, left, right: the states they lead to [NUM_STATES, 4]; walls hold."""
    n = np.tile(np.arange(NUM_STATES)[:, None], 4)
    for s in range(GOAL):
        row, column = divmod(s, SIZE)
        n[s, UP] = s - SIZE if row > 0 else s
        n[s, DOWN] = s + SIZE if row < SIZE - 1 or windy else s  # below the bottom row there is the windy cliff
        n[s, LEFT] = s - 1 if column > 0 else s
        n[s, RIGHT] = s + 1 if column < SIZE - 1 else s
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
    if windy:
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
    return actions[s, s_next, randint(n, rng)] if n > 0 else randint(actions.shape[2], rng)


@njit(cache=True, nogil=True)
def learn_inverse_dynamics(actions, counts, s, s_next, a):
    """Add a to the set I(s, s')."""
    n = counts[s, s_next]
    if not np.any(actions[s, s_next, :n] == a):
        actions[s, s_next, n] = a
        counts[s, s_next] += 1


@njit(cache=True, nogil=True)
def learn_qsa(
    Q, moves, start, slip, windy, episodes, eval_frequency, eval_episodes, alpha, gamma, start_e, end_e, e_steps, rng,
    eval_rng,
):  # fmt: skip
    """Q-learning of Q(s, a) [NUM_STATES, actions], in place; return the mean greedy return of every evaluation.

    Action a makes the move moves[a]. Training draws from `rng`, evaluations from `eval_rng`.
    """
    returns = np.zeros(episodes // eval_frequency + 1)
    t = 0
    for episode in range(episodes + 1):
        if episode % eval_frequency == 0:
            for _ in range(eval_episodes):
                s = start
                for _ in range(TIME_LIMIT):
                    s, r, terminated = step(s, moves[np.argmax(Q[s])], slip, windy, eval_rng)
                    returns[episode // eval_frequency] += r / eval_episodes
                    if terminated:
                        break
        if episode == episodes:
            return returns
        s, greedy = start, np.argmax(Q[start])
        for _ in range(TIME_LIMIT):
            epsilon = max(end_e, start_e + (end_e - start_e) * t / e_steps)
            a = randint(len(moves), rng) if rng.random() < epsilon else greedy
            s_next, r, terminated = step(s, moves[a], slip, windy, rng)
            # Q(s, a) <- Q(s, a) + alpha [r + gamma max_a' Q(s', a') - Q(s, a)]
            greedy = np.argmax(Q[s_next])
            y = r if terminated else r + gamma * Q[s_next, greedy]
            Q[s, a] += alpha * (y - Q[s, a])
            if s_next == s:  # this update may have changed what is greedy
                greedy = np.argmax(Q[s])
            s = s_next
            t += 1
            if terminated:
                break


@njit(cache=True, nogil=True)
def learn_qss(
    Q, actions, counts, learned, moves, start, slip, windy, episodes, eval_frequency, eval_episodes, alpha, gamma,
    start_e, end_e, e_steps, rng, eval_rng,
):  # fmt: skip
    """QSS-learning of Q(s, s') [NUM_STATES, NUM_STATES], in place; return the mean greedy return of every evaluation.

    `actions` and `counts` are the sets I(s, s'), in place too if they are to be learned. Else as `learn_qsa`.
    """
    returns = np.zeros(episodes // eval_frequency + 1)
    t = 0
    for episode in range(episodes + 1):
        if episode % eval_frequency == 0:
            for _ in range(eval_episodes):
                s = start
                for _ in range(TIME_LIMIT):
                    a = inverse_dynamics(actions, counts, s, best_neighbour(Q, s, windy), eval_rng)
                    s, r, terminated = step(s, moves[a], slip, windy, eval_rng)
                    returns[episode // eval_frequency] += r / eval_episodes
                    if terminated:
                        break
        if episode == episodes:
            return returns
        s = start
        for _ in range(TIME_LIMIT):
            epsilon = max(end_e, start_e + (end_e - start_e) * t / e_steps)
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


def known_actions(num_actions: int, windy: bool, learned: bool) -> tuple[np.ndarray, np.ndarray]:
    """The sets I(s, s'), as actions [NUM_STATES, NUM_STATES, actions] and how many of these count: empty if they are to
    be learned; else given, with the base actions 0 to 3 that make the moves."""
    actions = np.zeros((NUM_STATES, NUM_STATES, num_actions), np.int16)
    counts = np.zeros((NUM_STATES, NUM_STATES), np.int64)
    if not learned:
        for s in range(GOAL):
            for move, s_next in enumerate(NEIGHBOURS[int(windy), s]):
                learn_inverse_dynamics(actions, counts, s, s_next, move)
    return actions, counts


def run(
    args: Args, algorithm: str, rng, eval_rng, num_actions=4, slip=0.0, windy=False, learned=False, labels=None
) -> tuple[np.ndarray, np.ndarray]:
    """Train one table; return the greedy returns [points] and, over the grid's states, the values max Q [121].

    Action k makes the move k mod 4. With `labels`, 3 - k mod 4: at "scratch" from the start, at "transfer" after
    training with the old labels, of which the table is kept while epsilon and the learned inverse dynamics start again.
    Ties go to the lowest label in QSA, to the first of up, down, left, right in QSS.
    """
    start = SIZE * (SIZE - 1) if windy else 0
    Q = np.full((NUM_STATES, num_actions if algorithm == "QSA" else NUM_STATES), args.initial_value)

    def learn(moves: np.ndarray, episodes: int, eval_frequency: int) -> np.ndarray:
        task = (moves, start, slip, int(windy), episodes, eval_frequency, args.eval_episodes)
        how = (args.learning_rate, args.gamma, args.start_e, args.end_e, args.exploration_steps, rng, eval_rng)
        if algorithm == "QSA":
            return learn_qsa(Q, *task, *how)
        return learn_qss(Q, *known_actions(num_actions, windy, learned), learned, *task, *how)

    moves = np.arange(num_actions) % 4
    if labels == "transfer":
        learn(moves, args.episodes, args.episodes)
    if labels:
        returns = learn(3 - moves, args.transfer_episodes, args.eval_frequency)
    else:
        returns = learn(moves, args.episodes, args.eval_frequency)
    if algorithm == "QSA":
        return returns, Q[: GOAL + 1].max(1)
    return returns, np.array([Q[s, best_neighbour(Q, s, int(windy))] for s in range(GOAL + 1)])


def optimal_return(slip: float, windy: bool) -> float:
    """The highest expected return of an episode, undiscounted, by backward induction over its 500 steps."""
    n = NEIGHBOURS[int(windy)]
    reward = np.where(np.arange(NUM_STATES) == GOAL, 1.0, 0.0 if windy else -1.0)
    V = np.zeros(NUM_STATES)
    for _ in range(TIME_LIMIT):
        q = (reward + V)[n]  # of every state and move
        if windy:  # from the bottom row, half the steps end below with nothing
            q[GOAL - SIZE + 1 : GOAL] /= 2
        V = (1 - slip) * q.max(1) + slip * q.mean(1)
        V[GOAL:] = 0
    return V[SIZE * (SIZE - 1) if windy else 0]


def interval(values: np.ndarray) -> str:
    """The mean over seeds and its 95% bootstrap interval, in words."""
    means = np.random.default_rng(0).choice(values, (10_000, len(values))).mean(1)
    return "{:.4g} [{:.4g}, {:.4g}]".format(values.mean(), *np.percentile(means, [2.5, 97.5]))


# Copied from d3g_continuous.fail
def fail(message: str, status: int = 2):
    """Print one line on standard error and exit: with 2 for bad input, with 1 for a run that went wrong."""
    print("error:", *message.split(), file=sys.stderr)
    sys.exit(status)


def open_run(args: Args) -> tuple[Path, dict]:
    """Return the run's folder and what its args.json holds or shall hold; fail if `args` may not use the folder."""
    run_dir = Path(args.run_dir or f"runs/{args.experiment}__{args.exp_name}__{args.seed}__{int(time.time())}")
    given = asdict(args) | {"run_dir": str(run_dir)}
    try:
        held = [x for x in ("args.json", "results.csv") if (run_dir / x).exists()]
        if held and not args.resume:
            fail(f"--run-dir {run_dir}: must not hold a run, unless with --resume, but has {', '.join(held)}")
        if held:
            info = json.loads((run_dir / "args.json").read_text())
            for name in given.keys() - {"resume", "run_dir"}:
                if given[name] != (was := info["args"][name]):
                    fail(f"--{name.replace('_', '-')} {given[name]}: must be {was} to resume {run_dir}")
            return run_dir, info
    except (OSError, ValueError, LookupError, TypeError) as error:
        fail(f"--run-dir {run_dir}: must be a new folder or hold the args.json of the run to resume: {error!r}")
    packages = ("torch", "gymnasium", "mujoco", "numpy", "numba")
    found = {d.name: d.version for d in distributions() if d.name in packages}
    git = 'git describe --always --dirty --abbrev=40 --exclude="*"'
    commit = subprocess.run(git, cwd=Path(__file__).parent, shell=True, capture_output=True, text=True).stdout.strip()
    found["python"] = sys.version.split()[0]
    return run_dir, {"args": given, "versions": found, "git_commit": commit or None}


def save(text: str, file: Path) -> None:
    """Write to a temporary file that then replaces `file`: a kill leaves the old one or the new one, whole."""
    file.with_name("partial.tmp").write_text(text)
    os.replace(file.with_name("partial.tmp"), file)


def curves(args: Args, returns: dict) -> str:
    """The rows of a learning curve's results.csv, from {(algorithm, setting): returns [seeds, points]}."""
    rows = ["episode,algorithm,setting,seed,return"]
    for (algorithm, setting), table in returns.items():
        how = next(how for x, y, how in CURVES[args.experiment] if (x, y) == (algorithm, setting))
        windy, optimum = how.get("windy", False), optimal_return(how.get("slip", 0.0), how.get("windy", False))
        near = np.flatnonzero(table.mean(0) >= optimum - (not windy) - 1e-9)  # in the windy grid, steps are free
        first = f"first at episode {near[0] * args.eval_frequency}" if len(near) else "never"
        print(f"{algorithm}, {setting}: final return {interval(table[:, -1])}, ", end="")
        print(f"{'at' if windy else 'within one step of'} the optimum {optimum:.2f} {first}")
        for k, curve in enumerate(table):
            for point, value in enumerate(curve):
                rows.append(f"{point * args.eval_frequency},{algorithm},{setting},{args.seed + k},{value}")
    return "\n".join([*rows, ""])


def figure2(args: Args, values: dict) -> str:
    """The rows of Figure 2's results.csv, from {(algorithm, setting): values [seeds, 121]}."""
    rows = ["seed,row,column,qsa_value,qss_value,fraction,absolute_difference"]
    qsa, qss = values["QSA", 0.0], values["QSS", 0.0]
    fraction, difference = (qss - qsa) / np.maximum(abs(qsa), 0.1), abs(qss - qsa)
    print(f"absolute fraction: mean over states {interval(abs(fraction).mean(1))}, ", end="")
    print(f"largest {abs(fraction.mean(0)).max():.4g} (of the mean over seeds)")
    print(f"absolute difference: mean over states {interval(difference.mean(1))}, largest {difference.max():.4g}")
    for k in range(args.num_seeds):
        for s, columns in enumerate(zip(qsa[k], qss[k], fraction[k], difference[k], strict=True)):
            rows.append(",".join(map(str, (args.seed + k, *divmod(s, SIZE), *columns))))
    return "\n".join([*rows, ""])


def figure3(args: Args, values: dict) -> str:
    """The rows of Figure 3's results.csv; the distance is that of the 121 values of a seed, Euclidean."""
    rows = ["slip,seed,row,column,qsa_value,qss_value,distance"]
    for slip in (0.0, *SLIPS, 1.0):
        qsa, qss = values["QSA", slip], values["QSS", slip]
        distance = np.linalg.norm(qss - qsa, axis=1)
        moved = (np.linalg.norm((values[x, slip] - values[x, 0.0]).mean(0)) for x in ("QSA", "QSS"))
        print(f"slip {slip}: distance of QSS from QSA {interval(distance)}; ", end="")
        print("of the mean values from those without slip: QSA {:.2f}, QSS {:.2f}".format(*moved))
        for k in range(args.num_seeds):
            for s, columns in enumerate(zip(qsa[k], qss[k], strict=True)):
                rows.append(",".join(map(str, (slip, args.seed + k, *divmod(s, SIZE), *columns, distance[k]))))
    return "\n".join([*rows, ""])


def train(args: Args) -> Path:
    """Run the experiment and return the run's folder. Equal `args` give equal numbers, on any number of threads."""
    run_dir, info = open_run(args)
    if (run_dir / "results.csv").exists():
        print(f"{run_dir} is complete")
        return run_dir
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        save(json.dumps(info, indent=2) + "\n", run_dir / "args.json")
    except OSError as error:
        fail(f"--run-dir {run_dir}: must be a folder that can be written: {error}")
    print(f"device: cpu, CPU threads: {args.num_threads}, run folder: {run_dir}", flush=True)
    jobs = [(curve, args.seed + k) for curve in range(len(CURVES[args.experiment])) for k in range(args.num_seeds)]
    bar = tqdm(total=len(jobs), unit="table", file=sys.stdout, disable=not sys.stdout.isatty())
    returns, values = {}, {}

    def do(job: tuple[int, int]):
        curve, seed = job
        algorithm, setting, how = CURVES[args.experiment][curve]
        rngs = (np.random.default_rng((seed, curve, stream)) for stream in (1, 2))
        return (algorithm, setting), *run(args, algorithm, *rngs, **how)

    with ThreadPoolExecutor(args.num_threads) as pool:
        for key, curve_returns, curve_values in pool.map(do, jobs):
            returns.setdefault(key, []).append(curve_returns)
            values.setdefault(key, []).append(curve_values)
            bar.update()
    bar.close()
    returns, values = ({key: np.stack(rows) for key, rows in x.items()} for x in (returns, values))
    if args.experiment in ("figure2", "figure3"):
        text = (figure2 if args.experiment == "figure2" else figure3)(args, values)
    else:
        text = curves(args, returns)
    save(text, run_dir / "results.csv")
    drawn_by = "appendix" if args.experiment.startswith("appendix") else args.experiment[:7]
    print(f"run folder: {run_dir}; draw it: python benchmark/{drawn_by}.py {run_dir}")
    return run_dir


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C stops at once: there is nothing to be kept
    train(tyro.cli(Args))
