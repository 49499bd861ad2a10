"""tabular_qss.py: the gridworld, the updates, what they converge to, and every experiment with its figure."""

import csv
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import imageio.v3 as imageio
import numpy as np
import pytest
import tyro

import tabular_qss
from tabular_qss import DOWN, GOAL, LEFT, NUM_STATES, RIGHT, UP, Args

ROOT = Path(__file__).parent.parent
VECTORS = {UP: (-1, 0), DOWN: (1, 0), LEFT: (0, -1), RIGHT: (0, 1)}
GRID = [(row, column) for row in range(11) for column in range(11)]
END = (10, 10)


def cell(s):
    """The (row, column) of a state."""
    return divmod(int(s), 11)


def state(row, column):
    return 11 * row + column


def after(place, move, windy=False):
    """Where a move leads, by coordinates."""
    row, column = (x + dx for x, dx in zip(place, VECTORS[move], strict=True))
    if 0 <= row <= (11 if windy else 10) and 0 <= column <= 10:
        return row, column
    return place


def rngs(seed=1):
    return np.random.default_rng((seed, 1)), np.random.default_rng((seed, 2))


def settings(moves, rng, eval_rng, **changed):
    """The arguments of learn_qsa and learn_qss after the tables, by name so that a test can change one."""
    values = {"moves": np.array(moves), "start": 0, "slip": 0.0, "windy": 0, "episodes": 1, "eval_frequency": 1000}
    values |= {
        "eval_episodes": 1,
        "alpha": 0.01,
        "gamma": 0.99,
        "start_e": 1.0,
        "end_e": 0.1,
        "exploration_steps": 100_000,
    }
    assert changed.keys() <= values.keys()
    return (*(values | changed).values(), rng, eval_rng)


# -------------------------------------------------------------------------------------------------- exact answers


def value_iteration(gamma=0.99):
    """Optimal values {(row, column): V} of the deterministic grid; the goal's is not defined."""
    V = dict.fromkeys(GRID, 0.0)
    for _ in range(50):
        V |= {p: max(1.0 if after(p, m) == END else -1 + gamma * V[after(p, m)] for m in VECTORS) for p in GRID[:-1]}
    return V


def random_walk(gamma):
    """Values [121] of moving uniformly at random, from the linear system V = r + gamma P V."""
    A, b = np.eye(121), np.zeros(121)
    for i, place in enumerate(GRID[:-1]):
        for move in VECTORS:
            to = after(place, move)
            b[i] += 0.25 if to == END else -0.25
            if to != END:
                A[i, GRID.index(to)] -= 0.25 * gamma
    return np.linalg.solve(A, b)


@pytest.fixture(scope="module")
def explored():
    """Tables learned from 50,000 episodes of random actions, which visit every transition often."""
    Q_sa, Q_ss = np.full((NUM_STATES, 4), 0.001), np.full((NUM_STATES, NUM_STATES), 0.001)
    how = {"episodes": 50_000, "eval_frequency": 50_000, "end_e": 1.0}
    tabular_qss.learn_qsa(Q_sa, *settings(range(4), *rngs(1), **how))
    given = tabular_qss.known_actions(4, False, False)
    tabular_qss.learn_qss(Q_ss, *given, False, *settings(range(4), *rngs(2), **how))
    return Q_sa, Q_ss


def test_tables_converge_to_value_iteration(explored):
    """Every Q(s, a) and every Q(s, s') with s' in N(s), to 1e-6; other pairs (s, s') are never touched."""
    V = value_iteration()
    Q_sa, Q_ss = explored
    pairs = set()
    for place in GRID[:-1]:
        for move in VECTORS:
            to = after(place, move)
            q = 1.0 if to == END else -1 + 0.99 * V[to]
            assert Q_sa[state(*place), move] == pytest.approx(q, abs=1e-6)
            assert Q_ss[state(*place), state(*to)] == pytest.approx(q, abs=1e-6)
            pairs.add((state(*place), state(*to)))
    untouched = np.ones_like(Q_ss, bool)
    untouched[tuple(np.array(list(pairs)).T)] = False
    assert np.all(Q_ss[untouched] == 0.001)
    assert np.all(Q_sa[GOAL:] == 0.001)


@pytest.mark.parametrize("algorithm", ["QSA", "QSS"])
def test_values_of_a_full_run_are_optimal(algorithm):
    """The paper's settings: max_a Q(s, a), max_s' Q(s, s') and V*(s) agree to 1e-3 in every state (Theorem 2.2.1)."""
    returns, values = tabular_qss.learn_table(Args(), algorithm, *rngs())
    V = value_iteration()
    np.testing.assert_allclose(values[:-1], [V[place] for place in GRID[:-1]], atol=1e-3)
    assert values[-1] == 0.001
    assert returns.shape == (51,)
    assert returns[0] == -500, "ties go up, into the wall"
    assert returns[-1] == -18


@pytest.mark.parametrize(
    ("gamma", "alpha", "mean", "largest"),
    [
        (0.99, 0.01, 3.0, 5.0),  # the paper's; the maximum over noisy values lies above the value, of -94 at the start
        (0.9, 0.002, 0.03, 0.3),
    ],
)
def test_full_slip(gamma, alpha, mean, largest):
    """With only random moves, QSA learns the value of the random walk, QSS still the deterministic optimum."""
    walk, V = random_walk(gamma), value_iteration(gamma)
    args = Args(learning_rate=alpha, gamma=gamma)
    _, qsa = tabular_qss.learn_table(args, "QSA", *rngs(), slip=1.0)
    _, qss = tabular_qss.learn_table(args, "QSS", *rngs(), slip=1.0)
    assert abs(qsa - walk)[:-1].mean() < mean
    assert abs(qsa - walk)[:-1].max() < largest
    np.testing.assert_allclose(qss[:-1], [V[place] for place in GRID[:-1]], atol=1e-3)


# ------------------------------------------------------------------------------- an independent implementation


class Reference:
    """QSA and QSS learning with dictionaries over coordinates, which draws random numbers in the same order."""

    def __init__(self, algorithm, moves, rng, slip=0.0, windy=False, learned=False):
        self.algorithm, self.moves, self.rng, self.slip, self.windy = algorithm, list(moves), rng, slip, windy
        self.Q, self.learned, self.t = {}, learned, 0
        self.known = {}  # (s, s'): actions in the order in which they were seen
        if not learned:
            for place in GRID[:-1]:
                for move in VECTORS:
                    self.known.setdefault((place, after(place, move, windy)), []).append(move)

    def randint(self, n):
        return int(n * self.rng.random())

    def q(self, *key):
        return self.Q.get(key, 0.001)

    def options(self, s):
        if self.algorithm == "QSA":
            return range(len(self.moves))
        return [after(s, move, self.windy) for move in VECTORS]

    def best(self, s):
        return max(self.options(s), key=lambda option: self.q(s, option))  # the first of equals

    def value(self, s):
        return self.q(s, self.best(s))

    def episode(self):
        s = (10, 0) if self.windy else (0, 0)
        for _ in range(500):
            epsilon = max(0.1, 1 - 0.9 * self.t / 1000)
            self.t += 1
            if self.rng.random() < epsilon:
                a = self.randint(len(self.moves))
            elif self.algorithm == "QSA":
                a = self.best(s)
            else:
                known = self.known.get((s, self.best(s)), [])
                a = known[self.randint(len(known))] if known else self.randint(len(self.moves))
            move = self.moves[a]
            if self.rng.random() < self.slip:
                move = self.randint(4)
            to = after(s, move, self.windy)
            if self.windy and s[0] == 10 and self.rng.random() < 0.5:
                to = (11, s[1])
            done = to == END or to[0] == 11
            reward = float(to == END) if self.windy else 1.0 if to == END else -1.0
            target = reward + (0 if done else 0.99 * self.value(to))
            key = (s, a) if self.algorithm == "QSA" else (s, to)
            self.Q[key] = self.q(*key) + 0.01 * (target - self.q(*key))
            if self.learned and a not in self.known.setdefault((s, to), []):
                self.known[s, to].append(a)
            s = to
            if done:
                return


@pytest.mark.parametrize("algorithm", ["QSA", "QSS"])
@pytest.mark.parametrize(
    ("num_actions", "permuted", "options"),
    [
        (4, False, {}),
        (40, False, {}),
        (4, True, {"learned": True}),
        (40, True, {"learned": True}),
        (4, False, {"slip": 0.3}),
        (4, False, {"windy": True}),
    ],
)
def test_tables_equal_an_independent_implementation(algorithm, num_actions, permuted, options):
    moves = [(3 - k % 4) if permuted else k % 4 for k in range(num_actions)]
    slip, windy, learned = (
        options.get(name, default) for name, default in (("slip", 0.0), ("windy", False), ("learned", False))
    )
    rng, eval_rng = rngs(5)
    reference = Reference(algorithm, moves, np.random.default_rng((5, 1)), slip, windy, learned)
    episodes = 300 if windy else 20
    for _ in range(episodes):
        reference.episode()
    start = 110 if windy else 0
    how = settings(
        moves, rng, eval_rng, slip=slip, windy=int(windy), start=start, episodes=episodes, exploration_steps=1000
    )
    actions, counts = tabular_qss.known_actions(num_actions, windy, learned)
    if algorithm == "QSA":
        Q = np.full((NUM_STATES, num_actions), 0.001)
        tabular_qss.learn_qsa(Q, *how)
        expected = {(state(*s), a): q for (s, a), q in reference.Q.items()}
    else:
        Q = np.full((NUM_STATES, NUM_STATES), 0.001)
        tabular_qss.learn_qss(Q, actions, counts, learned, *how)
        expected = {(state(*s), state(*to)): q for (s, to), q in reference.Q.items()}
        sets = {(state(*s), state(*to)): known for (s, to), known in reference.known.items()}
        assert {pair: actions[pair][: counts[pair]].tolist() for pair in zip(*np.nonzero(counts), strict=True)} == sets
    assert len(expected) > (30 if windy else 200)
    table = np.full_like(Q, 0.001)
    for key, q in expected.items():
        table[key] = q
    np.testing.assert_allclose(Q, table, rtol=1e-12)
    assert rng.random() == reference.rng.random(), "another number of random draws"


# ------------------------------------------------------------------------------------------------ by hand


def test_single_updates_by_hand():
    """Two steps right into the goal, from (10, 8): the first bootstraps from the second's old value."""
    greedy = {"start": state(10, 8), "start_e": 0.0, "end_e": 0.0}
    Q = np.full((NUM_STATES, 4), 0.001)
    Q[state(10, 8), RIGHT], Q[state(10, 9), RIGHT] = 0.3, 0.5
    before = Q.copy()
    tabular_qss.learn_qsa(Q, *settings(range(4), *rngs(), **greedy))
    before[state(10, 8), RIGHT] = 0.3 + 0.01 * (-1 + 0.99 * 0.5 - 0.3)
    before[state(10, 9), RIGHT] = 0.5 + 0.01 * (1 - 0.5)
    np.testing.assert_allclose(Q, before, rtol=1e-14)

    Q = np.full((NUM_STATES, NUM_STATES), 0.001)
    Q[state(10, 8), state(10, 9)], Q[state(10, 9), GOAL] = 0.3, 0.5
    before = Q.copy()
    given = tabular_qss.known_actions(4, False, False)
    tabular_qss.learn_qss(Q, *given, False, *settings(range(4), *rngs(), **greedy))
    before[state(10, 8), state(10, 9)] = 0.3 + 0.01 * (-1 + 0.99 * 0.5 - 0.3)
    before[state(10, 9), GOAL] = 0.5 + 0.01 * (1 - 0.5)
    np.testing.assert_allclose(Q, before, rtol=1e-14)


def test_the_time_limit_is_not_a_termination():
    """500 steps into the wall above the start: every one, the last one too, bootstraps."""
    Q = np.full((NUM_STATES, 4), 0.001)
    Q[0, UP] = 1e6
    tabular_qss.learn_qsa(Q, *settings(range(4), *rngs(), start_e=0.0, end_e=0.0))
    q = 1e6
    for _ in range(500):
        q += 0.01 * (-1 + 0.99 * q - q)
    assert Q[0, UP] == pytest.approx(q, rel=1e-12)
    Q[0, UP] = 0.001
    assert np.all(Q == 0.001)


def test_neighbours():
    for windy in (False, True):
        for place in GRID[:-1]:
            expected = [state(*after(place, move, windy)) for move in (UP, DOWN, LEFT, RIGHT)]
            assert tabular_qss.NEIGHBOURS[int(windy), state(*place)].tolist() == expected
    by_hand = {(0, 0): [0, 11, 0, 1], (0, 5): [5, 16, 4, 6], (5, 0): [44, 66, 55, 56], (10, 3): [102, 113, 112, 114]}
    for place, expected in by_hand.items():
        assert tabular_qss.NEIGHBOURS[0, state(*place)].tolist() == expected
    assert tabular_qss.NEIGHBOURS[1, state(10, 3)].tolist() == [102, 124, 112, 114], "the terminal cell below"


def test_inverse_dynamics_given():
    """I(s, s') is the base action, also among redundant ones; between the two walls of a corner it is a fair choice."""
    for num_actions in (4, 400):
        actions, counts = tabular_qss.known_actions(num_actions, windy=False, learned=False)
        for place in GRID[:-1]:
            for to in {after(place, move) for move in VECTORS}:
                pair = state(*place), state(*to)
                expected = [move for move in VECTORS if after(place, move) == to]
                assert actions[pair][: counts[pair]].tolist() == expected
        rng = np.random.default_rng(0)
        draws = [tabular_qss.inverse_dynamics(actions, counts, 0, 0, rng) for _ in range(4000)]
        assert set(draws) == {UP, LEFT}
        assert np.mean(np.array(draws) == UP) == pytest.approx(0.5, abs=0.03)
    actions, counts = tabular_qss.known_actions(4, windy=True, learned=False)
    assert counts[state(10, 3), state(11, 3)] == 1
    assert actions[state(10, 3), state(11, 3), 0] == DOWN
    assert counts[state(10, 3), state(10, 3)] == 0


def test_inverse_dynamics_learned():
    """Uniform over all actions while the set is empty, then over the set, which takes every action once."""
    actions, counts = tabular_qss.known_actions(40, windy=False, learned=True)
    assert counts.sum() == 0
    rng = np.random.default_rng(0)
    draws = [tabular_qss.inverse_dynamics(actions, counts, 5, 6, rng) for _ in range(40_000)]
    counted = np.bincount(draws, minlength=40)
    assert len(counted) == 40
    assert abs(counted - 1000).max() < 150
    for a in (7, 31, 7, 19, 31):
        tabular_qss.learn_inverse_dynamics(actions, counts, 5, 6, a)
    assert actions[5, 6, : counts[5, 6]].tolist() == [7, 31, 19]
    draws = [tabular_qss.inverse_dynamics(actions, counts, 5, 6, rng) for _ in range(3000)]
    assert set(draws) == {7, 19, 31}
    assert np.bincount(draws)[[7, 19, 31]].min() > 900
    assert counts.sum() == 3


def test_nothing_is_carried_from_seed_to_seed():
    args = Args(experiment="figure4c", episodes=300, eval_frequency=100)
    first = tabular_qss.learn_table(args, "QSS", *rngs(3), num_actions=40, learned=True)
    tabular_qss.learn_table(args, "QSS", *rngs(4), num_actions=40, learned=True)
    again = tabular_qss.learn_table(args, "QSS", *rngs(3), num_actions=40, learned=True)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("algorithm", ["QSA", "QSS"])
def test_transfer_keeps_the_table_alone(algorithm):
    """After relabelling: the old table, epsilon from the start again, an empty inverse dynamics, actions 3 - k."""
    args = Args(experiment="figure4d", episodes=400, transfer_episodes=100, exploration_steps=2000)
    returns, values = tabular_qss.learn_table(args, algorithm, *rngs(), learned=True, labels="transfer")
    scratch, _ = tabular_qss.learn_table(args, algorithm, *rngs(), learned=True, labels="scratch")

    generators = rngs()
    Q = np.full((NUM_STATES, 4 if algorithm == "QSA" else NUM_STATES), 0.001)

    def learn(moves, **how):
        how = settings(moves, *generators, exploration_steps=2000, **how)
        if algorithm == "QSA":
            return tabular_qss.learn_qsa(Q, *how)
        return tabular_qss.learn_qss(Q, *tabular_qss.known_actions(4, False, True), True, *how)

    learn([UP, DOWN, LEFT, RIGHT], episodes=400, eval_frequency=400)
    expected = learn([RIGHT, LEFT, DOWN, UP], episodes=100, eval_frequency=10)
    np.testing.assert_array_equal(returns, expected)
    assert len(returns) == 11
    table = Q[:121].max(1) if algorithm == "QSA" else [Q[s, tabular_qss.NEIGHBOURS[0, s]].max() for s in range(121)]
    np.testing.assert_array_equal(values, table)
    generators = rngs()
    Q[:] = 0.001
    np.testing.assert_array_equal(scratch, learn([RIGHT, LEFT, DOWN, UP], episodes=100, eval_frequency=10))


def test_windy_cliff_by_counting():
    rng = np.random.default_rng(0)

    def outcomes(place, move, n=4000):
        seen = {}
        for _ in range(n):
            s, r, terminated = tabular_qss.step(state(*place), move, 0.0, 1, rng)
            key = (cell(s), r, bool(terminated))
            seen[key] = seen.get(key, 0) + 1 / n
        return seen

    half = pytest.approx(0.5, abs=0.03)
    assert outcomes((10, 4), UP) == {((9, 4), 0.0, False): half, ((11, 4), 0.0, True): half}
    assert outcomes((10, 4), LEFT) == {((10, 3), 0.0, False): half, ((11, 4), 0.0, True): half}
    assert outcomes((10, 4), DOWN) == {((11, 4), 0.0, True): pytest.approx(1)}
    assert outcomes((10, 9), RIGHT) == {(END, 1.0, True): half, ((11, 9), 0.0, True): half}
    assert outcomes((9, 10), DOWN) == {(END, 1.0, True): pytest.approx(1)}
    assert outcomes((9, 4), DOWN) == {((10, 4), 0.0, False): pytest.approx(1)}


def test_windy_cliff_learned():
    """QSA leaves the bottom row, for its ceiling of 0.5; QSS trusts the wind; the cell below is worth 0."""
    args = Args(experiment="appendix_windy", eval_episodes=1000)
    qsa, values = tabular_qss.learn_table(args, "QSA", *rngs(), windy=True)
    assert np.mean(qsa[-10:]) == pytest.approx(0.5, abs=0.02)
    assert values[110] == pytest.approx(0.5 * 0.99**11, abs=0.1)
    qss, _ = tabular_qss.learn_table(args, "QSS", *rngs(), windy=True)
    assert np.mean(qss[-10:]) < 0.2

    Q = np.full((NUM_STATES, NUM_STATES), 0.001)
    given = tabular_qss.known_actions(4, True, False)
    for start in range(119, 109, -1):  # at random from every cell of the bottom row, the last one first
        how = settings(range(4), *rngs(), windy=1, start=start, episodes=10_000, eval_frequency=10_000, end_e=1.0)
        tabular_qss.learn_qss(Q, *given, False, *how)
    how = settings(range(4), *rngs(), windy=1, start=110, alpha=0.0, eval_episodes=10_000)
    (greedy,) = tabular_qss.learn_qss(Q, *given, False, *how)
    assert greedy < 0.005, "ten steps along the cliff, each survived with probability 0.5"
    assert Q[110, 111] == pytest.approx(0.99**9, abs=1e-3)
    assert abs(Q[110, 121]) < 1e-6, "Q((10, 0), (11, 0))"
    assert np.all(Q[GOAL:] == 0.001), "nothing is learned behind an end"


def test_slip_by_counting():
    """Slip 0.4 from the middle: the move itself with 0.6 + 0.1, each other one with 0.1."""
    rng = np.random.default_rng(0)
    seen = [tabular_qss.step(state(5, 5), RIGHT, 0.4, 0, rng) for _ in range(20_000)]
    assert {(r, t) for _, r, t in seen} == {(-1.0, False)}
    counted = np.bincount([s for s, _, _ in seen], minlength=NUM_STATES) / len(seen)
    expected = {(5, 6): 0.7, (4, 5): 0.1, (6, 5): 0.1, (5, 4): 0.1}
    assert {cell(s): counted[s] for s in np.flatnonzero(counted)} == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("algorithm", ["QSA", "QSS"])
def test_evaluation_leaves_epsilon_and_tables_alone(algorithm):
    """More and longer evaluations, and still the same tables."""
    often = Args(experiment="figure4a", episodes=300, eval_frequency=1, eval_episodes=3)
    seldom = Args(experiment="figure4a", episodes=300, eval_frequency=300, eval_episodes=1)
    options = {"num_actions": 40, "slip": 0.2, "learned": True}
    many, values = tabular_qss.learn_table(often, algorithm, *rngs(), **options)
    two, same_values = tabular_qss.learn_table(seldom, algorithm, *rngs(), **options)
    np.testing.assert_array_equal(values, same_values)
    assert (len(many), len(two)) == (301, 2)


@pytest.mark.parametrize("algorithm", ["QSA", "QSS"])
def test_ties_and_greedy_returns(algorithm):
    """Down before right; 20 steps to the goal are worth -18; a table that knows the path has it from the start."""
    V = value_iteration()
    Q = np.full((NUM_STATES, 8 if algorithm == "QSA" else NUM_STATES), -100.0)
    for place in GRID[:-1]:
        for move in VECTORS:
            to = after(place, move)
            for index in (move, move + 4) if algorithm == "QSA" else (state(*to),):
                Q[state(*place), index] = 1.0 if to == END else round(-1 + 0.99 * V[to], 9)
    visited = []
    s = 0
    while s != GOAL:
        if algorithm == "QSA":
            move = np.argmax(Q[s])
            assert move < 4, "the lowest of redundant actions"
            s = int(tabular_qss.NEIGHBOURS[0, s, move])
        else:
            s = int(tabular_qss.best_neighbour(Q, s, 0))
        visited.append(cell(s))
    assert visited == [(row, 0) for row in range(1, 11)] + [(10, column) for column in range(1, 11)]
    how = settings([0, 1, 2, 3] * 2, *rngs(), alpha=0.0)
    if algorithm == "QSA":
        returns = tabular_qss.learn_qsa(Q, *how)
    else:
        returns = tabular_qss.learn_qss(Q, *tabular_qss.known_actions(8, False, False), False, *how)
    assert returns.tolist() == [-18.0]


def test_optimal_returns():
    """-18 without slip, 0.5 beside the cliff; with slip, what 200,000 episodes of the best policy come to."""
    assert tabular_qss.optimal_return(0.0, False) == -18
    assert tabular_qss.optimal_return(0.0, True) == 0.5
    Q, V = np.zeros((NUM_STATES, 4)), np.zeros(NUM_STATES)
    for _ in range(500):
        for place in GRID[:-1]:
            ends = [after(place, move) for move in VECTORS]
            Q[state(*place)] = [0.5 * ((1 if to == END else -1) + V[state(*to)]) for to in ends]  # and 0.5 random
        V[:GOAL] = Q[:GOAL].max(1) + Q[:GOAL].mean(1)
    how = settings(range(4), *rngs(), slip=0.5, alpha=0.0, eval_episodes=200_000)
    (mean,) = tabular_qss.learn_qsa(Q, *how)
    assert tabular_qss.optimal_return(0.5, False) == pytest.approx(mean, abs=0.1)


# ----------------------------------------------------------------------------------- every experiment, as a process

SMALL = {  # arguments, and the lines of results.csv
    "figure2": (["--episodes", 300], 1 + 2 * 121),
    "figure3": (["--episodes", 100], 1 + 5 * 2 * 121),
    "figure4a": (["--episodes", 300, "--eval-frequency", 100], 1 + 3 * 2 * 4),
    "figure4b": (["--episodes", 300, "--eval-frequency", 100], 1 + 3 * 2 * 4),
    "figure4c": (["--episodes", 300, "--eval-frequency", 100], 1 + 3 * 2 * 4),
    "figure4d": (["--episodes", 300, "--transfer-episodes", 50], 1 + 4 * 2 * 6),
    "appendix_stochastic": (["--episodes", 300, "--eval-frequency", 100], 1 + 6 * 2 * 4),
    "appendix_windy": (["--episodes", 300, "--eval-frequency", 100], 1 + 2 * 2 * 4),
}
FIGURES = {  # of the printed commands: folders under runs/
    "figure2": ["figure2"],
    "figure3": ["figure3"],
    "figure4": [f"figure4/figure4{x}" for x in "abcd"],
    "appendix": ["appendix/appendix_stochastic", "appendix/appendix_windy"],
}


@pytest.fixture(scope="module")
def experiments(tmp_path_factory):
    """The commands that benchmark/*.sh print, made small, run two at a time; {experiment: (folder, output)}."""
    root = tmp_path_factory.mktemp("experiments")
    commands = {}
    for figure in FIGURES:
        command = [ROOT / "benchmark" / f"{figure}.sh", "--num-seeds", "2"]
        printed = subprocess.run(command, capture_output=True, text=True)
        for line in printed.stdout.splitlines():
            python, script, option, experiment, *rest = line.split()
            assert (python, script, option) == ("python", "tabular_qss.py", "--experiment")
            assert rest[0] == "--run-dir"
            assert rest[2:] == ["--resume", "--num-seeds", "2"]
            small = ["--seed", 4, *SMALL[experiment][0]]
            commands[experiment] = [sys.executable, ROOT / script, option, experiment, *rest, *map(str, small)]
    assert list(commands) == list(SMALL)

    def run(experiment):
        child = subprocess.run(commands[experiment], cwd=root, capture_output=True, text=True)
        assert (child.returncode, child.stderr) == (0, "")
        return root / commands[experiment][5], child.stdout, commands[experiment]

    with ThreadPoolExecutor(2) as pool:
        return root, dict(zip(SMALL, pool.map(run, SMALL), strict=True))


def read(run_dir):
    with open(run_dir / "results.csv") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("experiment", SMALL)
def test_experiment_as_a_process(experiment, experiments):
    run_dir, out, _ = experiments[1][experiment]
    run_dir = Path(run_dir)
    assert {p.name for p in run_dir.iterdir()} - {"figure2.png", "figure3.png"} == {"args.json", "results.csv"}
    info = json.loads((run_dir / "args.json").read_text())
    assert list(info) == ["args", "versions", "git_commit", "processor", "ld_preload"]
    assert info["args"]["experiment"] == experiment
    assert (info["args"]["seed"], info["args"]["num_seeds"]) == (4, 2)
    packages = {name: version(name) for name in ("numba", "llvmlite", "numpy")}
    assert info["versions"] == packages | {"python": sys.version.split()[0]}
    assert info["ld_preload"] == os.environ.get("LD_PRELOAD")
    rows = read(run_dir)
    assert len(rows) + 1 == SMALL[experiment][1]
    assert {int(row["seed"]) for row in rows} == {4, 5}
    lines = out.splitlines()
    assert lines[0].startswith("device: cpu, CPU threads: 1, run folder: runs/")
    figure = "appendix" if experiment.startswith("appendix") else experiment[:7]
    relative = lines[0].split()[-1]
    assert lines[-1] == f"run folder: {relative}; draw it: python benchmark/{figure}.py {relative}"
    if "return" in rows[0]:
        assert list(rows[0]) == ["episode", "algorithm", "setting", "seed", "return"]
        args = Args(**info["args"])
        for curve, ((algorithm, setting), how) in enumerate(tabular_qss.CURVES[experiment].items()):
            mine = [row for row in rows if (row["algorithm"], row["setting"]) == (algorithm, str(setting))]
            for seed in (4, 5):
                generators = (np.random.default_rng((seed, curve, stream)) for stream in (1, 2))
                returns, _ = tabular_qss.learn_table(args, algorithm, *generators, **how)
                assert [float(row["return"]) for row in mine if int(row["seed"]) == seed] == returns.tolist()
                episodes = [int(row["episode"]) for row in mine if int(row["seed"]) == seed]
                assert episodes == [args.eval_frequency * k for k in range(len(returns))]
            final = np.mean([float(row["return"]) for row in mine if row["episode"] == mine[-1]["episode"]])
            assert lines[1 + curve].startswith(f"{algorithm}, {setting}: return {final:.4g} [")
            assert f"] after episode {mine[-1]['episode']}, " in lines[1 + curve]
    for row in rows:
        qsa, qss = (float(row.get(name, 0)) for name in ("qsa_value", "qss_value"))
        if experiment == "figure2":
            assert float(row["fraction"]) == pytest.approx((qss - qsa) / max(abs(qsa), 0.1))
            assert float(row["absolute_difference"]) == pytest.approx(abs(qss - qsa))
    if experiment == "figure2":
        fractions = np.array([float(row["fraction"]) for row in rows]).reshape(2, 121)  # of two seeds
        differences = [float(row["absolute_difference"]) for row in rows]
        largest = abs(fractions.mean(axis=0)).max()
        assert lines[1].endswith(f", largest {largest:.4g} (of the mean over seeds)")
        assert lines[2].endswith(f", largest {max(differences):.4g} (of all seeds and states)")
    if experiment == "figure3":
        assert list(rows[0]) == ["slip", "seed", "row", "column", "qsa_value", "qss_value", "distance"]
        for k in range(0, len(rows), 121):
            table = rows[k : k + 121]
            assert [(int(row["row"]), int(row["column"])) for row in table] == GRID
            differences = [float(row["qss_value"]) - float(row["qsa_value"]) for row in table]
            distances = [float(row["distance"]) for row in table]
            np.testing.assert_allclose(distances, np.linalg.norm(differences), rtol=1e-12)


@pytest.mark.parametrize("figure", FIGURES)
def test_figure_from_small_runs(figure, experiments):
    root, _ = experiments
    run_dirs = [root / "runs" / run_dir for run_dir in FIGURES[figure]]
    output = root / f"{figure}.png"
    command = [sys.executable, ROOT / "benchmark" / f"{figure}.py", *run_dirs, "--output", output]
    child = subprocess.run(command, capture_output=True, text=True, cwd=root)
    written = f"figure: {output}\n"
    if figure in ("figure4", "appendix"):  # curves alone, and so as SVG too
        written += f"figure: {output.with_suffix('.svg')}\n"
    assert (child.returncode, child.stdout, child.stderr) == (0, written, "")
    picture = imageio.imread(output)
    assert picture.shape[1] >= 1000
    assert picture[..., :3].std() > 10


def test_summary_says_when_a_curve_comes_near_the_optimum(capsys):
    """The first episode at which the mean over seeds is within one step of -18."""
    returns = np.array([[-500.0, -20, -18, -18], [-500, -18.5, -19, -18]])
    args = Args(experiment="figure4b", num_seeds=2, episodes=3000)
    numbers = tabular_qss.compare_returns(args, np.stack([returns, returns - 2, returns]))
    text = tabular_qss.results_text(args, numbers)
    assert capsys.readouterr().out.splitlines()[:2] == [
        "QSS, 4: return -18 [-18, -18] after episode 3000, within one step of the optimum -18.00 first at episode 2000",
        "QSS, 40: return -20 [-20, -20] after episode 3000, within one step of the optimum -18.00 never",
    ]
    assert text.splitlines()[:3] == ["episode,algorithm,setting,seed,return", "0,QSS,4,1,-500.0", "1000,QSS,4,1,-20.0"]


def test_figures_refuse_other_runs(experiments):
    root, runs = experiments
    wrong = {"figure2": "figure3", "figure3": "figure2", "figure4": "appendix_windy", "appendix": "figure4a"}
    with ThreadPoolExecutor(2) as pool:

        def draw(figure):
            run_dir = root / runs[wrong[figure]][0]
            command = [sys.executable, ROOT / "benchmark" / f"{figure}.py", run_dir]
            return run_dir, subprocess.run(command, capture_output=True, text=True, cwd=root)

        for figure, (run_dir, child) in zip(wrong, pool.map(draw, wrong), strict=True):
            assert child.returncode == 2
            assert child.stderr.startswith(f"error: {run_dir}: must be a run of {figure}")
            assert child.stderr.count("\n") == 1


@pytest.mark.parametrize("damage", ["missing", "empty", "cut"])
def test_damaged_results_are_refused(damage, tmp_path, capsys):
    sys.path.insert(0, str(ROOT / "benchmark"))
    import drawing

    (tmp_path / "args.json").write_text(json.dumps({"args": {"experiment": "figure4a"}}))
    text = {"empty": "", "cut": "episode,algorithm,setting,seed,return\n0,QSA,4,1,-500\n0,QS"}
    if damage != "missing":
        (tmp_path / "results.csv").write_text(text[damage])
    with pytest.raises(SystemExit) as stop:
        drawing.read_results(tmp_path, ("figure4a",))
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {tmp_path}: must be the folder of a complete run of tabular_qss.py: ")
    assert err.count("\n") == 1


# ------------------------------------------------------------------------------------- run folder, errors


def small(run_dir, **changed):
    options = {"experiment": "figure4c", "num_seeds": 3, "episodes": 100, "eval_frequency": 50, "run_dir": str(run_dir)}
    return Args(**options | changed)


def test_same_numbers_on_any_number_of_threads(tmp_path, capsys):
    one = tabular_qss.train(small(tmp_path / "1"))
    two = tabular_qss.train(small(tmp_path / "2", num_threads=3))
    other = tabular_qss.train(small(tmp_path / "3", seed=2))
    assert (one / "results.csv").read_bytes() == (two / "results.csv").read_bytes()
    rows = {seed: [row for row in read(one) if row["seed"] == seed] for seed in "123"}
    assert [row for row in read(other) if row["seed"] in "23"] == [row for row in read(one) if row["seed"] in "23"], (
        "a seed is the same in any run"
    )
    assert [row["return"] for row in rows["1"]] != [row["return"] for row in rows["2"]]


def test_resume(tmp_path, capsys):
    run_dir = tabular_qss.train(small(tmp_path / "run"))
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in run_dir.iterdir()}
    capsys.readouterr()
    tabular_qss.train(small(run_dir, resume=True))
    assert capsys.readouterr().out == f"{run_dir} is complete\n"
    assert {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in run_dir.iterdir()} == before
    (run_dir / "results.csv").unlink()  # as a kill leaves it
    tabular_qss.train(small(run_dir, resume=True))
    assert {p.name: p.read_bytes() for p in run_dir.iterdir()} == {name: x for name, (x, _) in before.items()}


DAMAGES = {
    "empty": lambda text: "",
    "cut": lambda text: text[:-3],
    "another header": lambda text: text.replace("episode", "step", 1),
    "a row too few": lambda text: text[: text.rindex("\n", 0, -1) + 1],
    "a row too many": lambda text: text + text.splitlines()[-1] + "\n",
    "another seed": lambda text: re.sub(r",3,(\S+\n)$", r",4,\1", text),
    "a cell too many": lambda text: text[:-1] + ",0.0\n",
    "text": lambda text: text[: text.rindex(",") + 1] + "none\n",
    "nan": lambda text: text[: text.rindex(",") + 1] + "nan\n",
    "infinite": lambda text: text[: text.rindex(",") + 1] + "-inf\n",
    "no text at all": lambda text: b"\xff\xfe",
}


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """The folder of a small run, and what its files hold."""
    run_dir = tabular_qss.train(small(tmp_path_factory.mktemp("complete") / "run"))
    return run_dir, contents(run_dir)


def contents(run_dir):
    return {p.name: p.read_bytes() for p in run_dir.iterdir()}


@pytest.mark.parametrize("what", DAMAGES)
def test_damaged_results_are_made_again(what, complete, capsys):
    run_dir, before = complete
    damaged = DAMAGES[what]((run_dir / "results.csv").read_text())
    (run_dir / "results.csv").write_bytes(damaged if isinstance(damaged, bytes) else damaged.encode())
    assert (run_dir / "results.csv").read_bytes() != before["results.csv"]
    tabular_qss.train(small(run_dir, resume=True))
    said, device = capsys.readouterr().out.splitlines()[:2]
    assert said.startswith(f"{run_dir / 'results.csv'} is damaged and is made again, which takes minutes and gives ")
    assert device.startswith("device: cpu")
    assert (run_dir / "results.csv").read_bytes() == before["results.csv"]
    assert contents(run_dir).keys() == before.keys()


@pytest.mark.parametrize("experiment", ["figure2", "figure3", "figure4d"])
def test_results_are_looked_at_by_their_own_experiment(experiment):
    """What is written counts as whole, and not for one seed more or for another experiment."""
    options = {"num_seeds": 2, "episodes": 100, "transfer_episodes": 20}
    args = Args(experiment=experiment, **options)
    header, starts = tabular_qss.frame_results(args)
    text = tabular_qss.results_text(args, np.full((len(starts), header.count(",") - starts[0].count(",")), 0.5))
    tabular_qss.check_results(args, text)
    for other in (Args(experiment=experiment, **options | {"num_seeds": 3}), Args(experiment="figure4a", **options)):
        with pytest.raises(ValueError, match="^it(s first line)? must"):
            tabular_qss.check_results(other, text)


def test_a_run_begun_again_says_by_what(complete, capsys):
    """args.json of a run that ended without results is of the time when these are made."""
    run_dir, before = complete
    (run_dir / "results.csv").unlink()
    info = json.loads(before["args.json"])
    info["versions"]["numba"] = "0.1"
    (run_dir / "args.json").write_text(json.dumps(info | {"more": "x" * 1000}))
    tabular_qss.train(small(run_dir, resume=True))
    assert json.loads((run_dir / "args.json").read_text())["versions"] == {
        **info["versions"],
        "numba": version("numba"),
    }
    assert (run_dir / "results.csv").read_bytes() == before["results.csv"]


def test_zero_has_one_sign(tmp_path):
    """-0.0 equals 0.0 where arguments are compared, so it has to give the same bytes."""
    one, two = (small(tmp_path / str(x), experiment="figure2", num_seeds=1, initial_value=x) for x in (0.0, -0.0))
    files = [tabular_qss.train(args) / "results.csv" for args in (one, two)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_new_run_gets_a_folder_of_its_own(tmp_path, monkeypatch):
    """Two runs of the same second, the second of which waits for the next one."""
    monkeypatch.chdir(tmp_path)
    times = iter([100.2, 100.7, 100.9, 101.1])
    slept = []
    monkeypatch.setattr(tabular_qss, "time", SimpleNamespace(time=lambda: next(times), sleep=slept.append))
    for second in (100, 101):
        args = Args(experiment="figure4b", num_seeds=1, episodes=10, seed=7, exp_name="a/b:c")
        assert tabular_qss.train(args) == Path("runs", f"figure4b__a_b_c__7__{second}")
        assert contents(Path("runs", f"figure4b__a_b_c__7__{second}")).keys() == {"args.json", "results.csv"}
    assert len(slept) == 2


def test_a_folder_is_locked_by_the_process_that_uses_it(tmp_path):
    run_dir = tmp_path / "run"
    command = [sys.executable, ROOT / "tabular_qss.py", "--experiment", "figure4a", "--run-dir", run_dir, "--resume"]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout.readline().startswith("device: cpu")
        before = contents(run_dir)
        second = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (second.returncode, second.stdout) == (2, "")
        assert second.stderr == f"error: --run-dir {run_dir}: must not be in use, but another process has locked it\n"
        assert first.poll() is None
        assert contents(run_dir) == before
    finally:
        first.kill()
        first.communicate()
    third = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert third.stdout.readline().startswith("device: cpu"), "a lock that its process left behind"
    third.kill()
    third.communicate()


@contextmanager
def small_disk(folder, pages):
    """A disk with room for so many files of a page: a small file system where one can be mounted, else a limit on how
    large a file may get."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={max(pages, 1) * 4096}", "none", folder]
    if os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0:
        try:
            if pages == 0:
                (folder / "filling").write_bytes(bytes(4096))
            yield "[Errno 28] No space left on device"
        finally:
            subprocess.run(["umount", folder], check=True)
    else:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (pages * 4096, limits[1]))
        try:
            yield "[Errno 27] File too large"
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk(tmp_path, capsys):
    """No room for args.json: nothing is left. No room for the results: args.json stays."""
    disk = tmp_path / "disk"
    args = {"experiment": "figure2", "episodes": 10, "num_seeds": 2}
    tabular_qss.train(Args(**args, run_dir=str(tmp_path / "before")))  # compiles what is to be compiled
    capsys.readouterr()
    with small_disk(disk, pages=0) as reason:
        run_dir = disk / "run"
        error = refused(capsys, status=1, **args, run_dir=str(run_dir))
        assert error == f"error: {run_dir} cannot be written: {reason}\n"
        assert not run_dir.exists()
    (disk / "filling").unlink(missing_ok=True)
    disk.rmdir()
    with small_disk(disk, pages=1) as reason:
        with pytest.raises(SystemExit) as stop:
            tabular_qss.train(Args(**args, run_dir=str(run_dir)))
        out, error = capsys.readouterr()
        assert stop.value.code == 1
        assert "draw it" not in out
        expected = (
            f"error: {run_dir / 'results.csv'} cannot be written: {reason}; --resume makes it once there is room\n"
        )
        assert error == expected
        assert contents(run_dir).keys() == {"args.json"}


def test_a_folder_that_can_only_be_read(complete, tmp_path, capsys):
    """A complete run in it is one; of another one the disk's own words are shown."""
    files = complete[1]
    disk = tmp_path / "disk"
    for name in ("complete", "incomplete"):
        (disk / name).mkdir(parents=True)
    root = os.geteuid() == 0
    mount = ["mount", "-t", "tmpfs", "none", disk]
    mounted = root and subprocess.run(mount, capture_output=True).returncode == 0
    try:
        for name in ("complete", "incomplete"):
            (disk / name).mkdir(exist_ok=True)
            for file, content in files.items():
                (disk / name / file).write_bytes(content)
                (disk / name / file).chmod(0o444)
        (disk / "incomplete" / "results.csv").unlink()
        for folder in (disk / "complete", disk / "incomplete", disk):
            folder.chmod(0o555)
        if mounted:
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        capsys.readouterr()
        tabular_qss.train(small(disk / "complete", resume=True))
        assert capsys.readouterr().out == f"{disk / 'complete'} is complete\n"
        assert contents(disk / "complete") == files
        if mounted or not root:  # nothing else holds root back
            reason = "[Errno 30] Read-only file system" if mounted else "[Errno 13] Permission denied"
            error = refused(capsys, status=1, **vars(small(disk / "incomplete", resume=True)))
            assert error.startswith(f"error: {disk / 'incomplete'} cannot be written: {reason}")
            error = refused(capsys, **vars(small(disk / "new")))
            assert error.startswith(f"error: --run-dir {disk / 'new'}: must be a folder that can be written: {reason}")
    finally:
        if mounted:
            subprocess.run(["umount", disk], check=True)
        for folder in (disk, disk / "complete", disk / "incomplete"):
            folder.chmod(0o755)


def test_a_folder_is_tried_before_learning(tmp_path, monkeypatch, capsys):
    """Where the results will have no place, that is said before the minutes that they take."""
    (tmp_path / "run" / "partial.tmp").mkdir(parents=True)
    monkeypatch.setattr(tabular_qss, "learn_table", None)
    error = refused(capsys, status=1, **vars(small(tmp_path / "run")))
    assert error.startswith(f"error: {tmp_path / 'run'} cannot be written: ")
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["partial.tmp"]


def test_an_error_of_the_disk_while_learning(tmp_path, monkeypatch, capsys):
    """As when numba's cache of compiled functions cannot be written."""

    def fails(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tabular_qss, "learn_table", fails)
    with pytest.raises(SystemExit) as stop:
        tabular_qss.train(small(tmp_path / "run"))
    assert stop.value.code == 1
    expected = f"error: {tmp_path / 'run'}: the run cannot go on: [Errno 28] No space left on device\n"
    assert capsys.readouterr().err == expected
    assert contents(tmp_path / "run").keys() == {"args.json"}


@pytest.mark.parametrize(
    "args",
    [
        {"num_seeds": 2147483648},
        {"episodes": 10**18, "eval_frequency": 1},
        {"experiment": "figure4d", "transfer_episodes": 10**18},
    ],
)
def test_counts_beyond_memory(args, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert refused(capsys, status=1, **args).startswith("error: not enough memory for these arguments: ")
    assert list(tmp_path.iterdir()) == []


def test_memory_that_is_not_given(tmp_path, monkeypatch, capsys):
    """The machine has as much, but the process does not get it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tabular_qss.os, "sysconf", lambda name: 2**40)
    error = refused(capsys, status=1, num_seeds=2**45)
    assert error.startswith("error: not enough memory for these arguments: Unable to allocate ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, -2), (signal.SIGTERM, -15)])
def test_signals_stop_at_once_and_leave_no_results(signum, status, tmp_path):
    command = [sys.executable, ROOT / "tabular_qss.py", "--experiment", "figure4a", "--run-dir", tmp_path / "run"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout.readline().startswith("device: cpu")
    time.sleep(1)
    child.send_signal(signum)
    assert child.wait(10) == status
    assert "Traceback" not in child.stderr.read()
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["args.json"]


def refused(capsys, status=2, **args):
    with pytest.raises(SystemExit) as stop:
        tabular_qss.train(Args(**args))
    assert stop.value.code == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


NAN = float("nan")
AT_LEAST_1 = ["num_seeds", "num_threads", "episodes", "transfer_episodes", "eval_frequency", "eval_episodes"]


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [(name, 0, "at least 1") for name in [*AT_LEAST_1, "exploration_steps"]]
    + [("seed", -1, "from 0 to 2**32 - 1")]
    + [("learning_rate", value, "above 0 and at most 1") for value in (0.0, 1.1, NAN)]
    + [(name, value, "from 0 to 1") for name in ("gamma", "start_e", "end_e") for value in (-0.1, 1.1, NAN)]
    + [("initial_value", value, "finite") for value in (NAN, float("inf"))]
    + [("initial_value", value, "from -1e100 to 1e100") for value in (1e101, -1e101)]
    + [(name, 10**18 + 1, "at most 10**18") for name in AT_LEAST_1 if name != "num_threads"]
    + [("exploration_steps", 10**30, "at most 10**18"), ("num_threads", 1001, "at most 1,000")]
    + [("run_dir", "", "the name of a folder"), ("resume", True, "used with --run-dir")],
)
def test_values_out_of_range(name, value, allowed, capsys):
    assert refused(capsys, **{name: value}) == f"error: --{name.replace('_', '-')} {value}: must be {allowed}\n"


def test_epsilon_falls(capsys):
    assert refused(capsys, start_e=0.05) == "error: --end-e 0.1: must be at most --start-e\n"


def test_run_folders_that_cannot_be_used(tmp_path, capsys):
    run_dir = tabular_qss.train(small(tmp_path / "run"))
    before = {p.name: p.read_bytes() for p in run_dir.iterdir()}
    capsys.readouterr()
    args = vars(small(run_dir))
    held = f"error: --run-dir {run_dir}: must not hold a run, unless with --resume, but has args.json, results.csv\n"
    assert refused(capsys, **args) == held
    differs = f"error: --gamma 0.9: must be 0.99 to resume {run_dir}\n"
    assert refused(capsys, **args | {"gamma": 0.9, "resume": True}) == differs
    several = {"end_e": 0.2, "learning_rate": 0.1, "episodes": 50, "gamma": 0.9}
    differs = f"error: --episodes 50: must be 100 to resume {run_dir}\n"  # the first one in the order of Args
    assert refused(capsys, **args | several | {"resume": True}) == differs
    assert {p.name: p.read_bytes() for p in run_dir.iterdir()} == before
    (run_dir / "args.json").write_text("{")
    assert "must be a new folder or hold the args.json" in refused(capsys, **args | {"resume": True})
    (run_dir / "args.json").unlink()
    for resume in (False, True):  # results without their arguments
        assert "must be a new folder or hold the args.json" in refused(capsys, **args | {"resume": resume})
        assert contents(run_dir) == {"results.csv": before["results.csv"]}
    (tmp_path / "file").write_text("")
    assert "must be a folder that can be written: " in refused(capsys, **args | {"run_dir": str(tmp_path / "file")})


def test_bad_input_as_a_process(tmp_path):
    command = [sys.executable, ROOT / "tabular_qss.py", "--episodes", "0"]
    child = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (child.returncode, child.stdout) == (2, "")
    assert child.stderr == "error: --episodes 0: must be at least 1\n"
    assert list(tmp_path.iterdir()) == []


def test_defaults_are_the_papers():
    for experiment in tabular_qss.CURVES:
        args = Args(experiment=experiment)
        assert args.num_seeds == (50 if experiment.startswith("figure4") else 10)
        assert args.eval_frequency == (10 if experiment == "figure4d" else 1000)
        assert args.eval_episodes == (10 if experiment.startswith("appendix") else 1)
        assert (args.episodes, args.transfer_episodes, args.exploration_steps) == (50_000, 10_000, 100_000)


def test_help_describes_every_argument(capsys):
    with pytest.raises(SystemExit):
        tyro.cli(Args, args=["--help"])
    text = " ".join(capsys.readouterr().out.replace("\u2502", " ").split())
    source = (ROOT / "tabular_qss.py").read_text()
    for name in vars(Args()):
        assert f"--{name.replace('_', '-')}" in text
        (described,) = re.findall(rf"^    {name}: .*?  # (.*)$", source, re.M)
        assert described in text


def test_importing_has_no_effect(tmp_path):
    """Nor does it bring torch, which the script's header does not name."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import signal; import tabular_qss; "
    code += "print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, 'torch' in sys.modules)"
    child = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (child.stdout, child.stderr) == ("True False\n", "")
    assert list(tmp_path.iterdir()) == []
