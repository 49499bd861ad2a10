"""benchmark/: figures drawn from run folders."""

import csv
import importlib
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import scipy.stats
import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmark"))
import appendix  # noqa: E402
import drawing  # noqa: E402
import figure7  # noqa: E402
import figure8  # noqa: E402
import random_policy  # noqa: E402
import speed  # noqa: E402
import table1  # noqa: E402
import td3_authors  # noqa: E402

import bco_baseline  # noqa: E402
import d3g_continuous  # noqa: E402
import d3g_from_obs  # noqa: E402
import d3g_gridworld  # noqa: E402
import td3_baseline  # noqa: E402

VERSIONS = {"torch": "2.13.0", "numpy": "2.4.6"}
HEADER = "step,return_mean,return_std,length_mean,seconds"


def write_run(run_dir, returns, env_id="Hopper-v4", every=5000, complete=True, seed=None, data=None, **args):
    """A run's folder as figure7.py and table1.py read it; its seed is by default its name."""
    run_dir.mkdir(parents=True)
    versions = args.pop("versions", VERSIONS)
    own = {"env_id": env_id, "seed": int(run_dir.name) if seed is None else seed, "exp_name": "x"}
    if "rounds" not in args:
        own |= {"eval_frequency": every, "total_timesteps": every * (len(returns) - 1 if complete else 100)}
    info = {"args": own | args, "versions": versions, "git_commit": None}
    if data:
        info["data"] = data
    (run_dir / "args.json").write_text(json.dumps(info))
    rows = [f"{every * k},{value},0.0,1.0,{k}" for k, value in enumerate(returns)]
    (run_dir / "evaluations.csv").write_text("\n".join([HEADER, *rows, ""]))
    if complete:
        (run_dir / "model.pt").touch()
    return run_dir


def stop_of(script, args, capsys):
    """Call a script that is to end with an error; return the line that it says."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        script.main(args)
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    return said.removeprefix("error: ")


def contents(folder):
    """Every file under a folder, and what is in it."""
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def read_csv(file):
    with open(file) as f:
        return list(csv.DictReader(f))


def test_bootstrap_interval_of_a_known_mean():
    """For many normal values, the mean plus and minus 1.96 standard errors; for equal ones, the value itself."""
    values = np.random.default_rng(0).normal(3, 2, size=(400, 1))
    low, high = drawing.bootstrap_interval(values)[:, 0]
    error = values.std() / np.sqrt(400)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.05 * error * 1.96)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.05 * error * 1.96)
    np.testing.assert_array_equal(drawing.bootstrap_interval(np.full((3, 2), 7.0)), np.full((2, 2), 7.0))


@pytest.mark.parametrize("n", [2, 3, 10])
def test_bootstrap_interval_and_interquartile_mean_are_scipys(n):
    """Of a few skewed values, as of a few seeds. With 10,000 resamples a limit is off by 4% of the interval at most."""
    values = np.random.default_rng(n).exponential(size=n)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=200_000, method="percentile", batch=10_000
    ).confidence_interval
    tolerance = 0.04 * (theirs.high - theirs.low)
    np.testing.assert_allclose(drawing.bootstrap_interval(values[:, None])[:, 0], theirs, rtol=0, atol=tolerance)
    assert drawing.interquartile_mean(values) == pytest.approx(scipy.stats.trim_mean(values, 0.25), rel=1e-12)


def test_figure7_curves_are_means_over_seeds_cut_to_the_common_step(tmp_path, monkeypatch, capsys):
    runs = [
        write_run(tmp_path / "1", [0, 10, 30, 50], cycle=True),
        write_run(tmp_path / "2", [0, 30, 40], cycle=True, complete=False),
        write_run(tmp_path / "3", [5, 5, 5], cycle=False),
        write_run(tmp_path / "4", [1, 2], env_id="Ant-v4", algorithm="td3", complete=False, versions={"torch": "0"}),
        write_run(tmp_path / "5", [], env_id="Ant-v4", algorithm="td3", complete=False),
    ]
    kept = []
    monkeypatch.setattr(figure7.plt, "close", kept.append)
    figure7.main(figure7.Args(tuple(runs), output=tmp_path / "out.png"))
    (figure,) = kept
    ant, hopper = figure.axes[:2]
    lines = {line.get_label(): line.get_xydata().tolist() for line in hopper.get_lines()}
    assert lines == {
        "D3G": [[0, 0], [5000, 20], [10000, 35]],
        "_child1": [[0, 0], [5000, 10], [10000, 30]],  # its two runs, thin and without a name
        "_child2": [[0, 0], [5000, 30], [10000, 40]],
        "D3G\u207b": [[0, 5], [5000, 5], [10000, 5]],
    }
    widths = [line.get_linewidth() for line in hopper.get_lines()]
    assert max(widths[1:3]) < min(widths[0], widths[3]) / 2
    assert len(hopper.collections) == 0, "no band of two runs"
    assert (hopper.get_title(), ant.get_title()) == ("Hopper-v4\n1 to 2 seeds", "Ant-v4\n1 seed")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["TD3", "D3G", "D3G\u207b"]
    assert capsys.readouterr().out.splitlines() == [
        f"{runs[3]}: TD3 on Ant-v4, best evaluation 2.0 at step 5000; not complete, at step 5000: in no table",
        f"{runs[4]}: TD3 on Ant-v4, not complete, no evaluation yet: left out",
        f"{runs[0]}: D3G on Hopper-v4, best evaluation 50.0 at step 15000",
        f"{runs[1]}: D3G on Hopper-v4, best evaluation 40.0 at step 10000; not complete, at step 10000: in no table",
        f"{runs[2]}: D3G\u207b on Hopper-v4, best evaluation 5.0 at step 0",
        "D3G on Hopper-v4: cut to step 10000, which all its runs have reached",
        "scores: Ant-v4 left out, without a complete run of TD3",
        "scores: Hopper-v4 left out, without a complete run of TD3",
        f"figure: {tmp_path / 'out.png'}",
        f"figure: {tmp_path / 'out.svg'}",
        f"table: {tmp_path / 'out_evaluations.csv'}",
        f"runs: {tmp_path / 'out_runs.json'}",
        f"table: {tmp_path / 'out.md'}",
        f"table: {tmp_path / 'out.csv'}",
    ]
    picture = imageio.imread(tmp_path / "out.png")
    assert picture.shape[1] > 900
    assert picture[..., :3].std() > 10
    assert [(row["algorithm"], row["seeds"], row["step"]) for row in read_csv(tmp_path / "out.csv")] == [
        ("D3G", "1", "15000"),
        ("D3G\u207b", "1", "10000"),
    ]
    assert len(read_csv(tmp_path / "out_evaluations.csv")) == 4 + 3
    assert "torch 2.13.0." in (tmp_path / "out.md").read_text()


def test_figure7_tables_of_known_answers(tmp_path, capsys):
    """Five seeds whose last, highest and average evaluations are known by hand; others have their own last step."""
    runs = [
        write_run(tmp_path / str(k), [0, top, last], algorithm="ddpg")
        for k, (top, last) in enumerate([(10, 1), (20, 2), (30, 3), (40, 4), (500, 100)])
    ]
    runs.append(write_run(tmp_path / "8", [1, 2, 3, 5], algorithm="td3"))
    runs.append(write_run(tmp_path / "9", [1, 2, 3, 6, 7], algorithm="td3"))
    runs.append(write_run(tmp_path / "7", [2, 4], env_id="Walker2d-v4", algorithm="ddpg", versions={"torch": "9"}))
    figure7.main(figure7.Args(tuple(runs), output=tmp_path / "out.png"))
    assert "table, TD3 on Hopper-v4: cut to step 15000, which all its runs have reached" in capsys.readouterr().out
    td3, hopper, walker = read_csv(tmp_path / "out.csv")
    means = {name: float(x) for name, x in hopper.items() if name.endswith(("mean", "iqm"))}
    assert means == pytest.approx({
        "final_mean": 22, "final_iqm": 3,  # without the lowest and the highest of five
        "best_mean": 120, "best_iqm": 30,
        "area_mean": (0 + 2 * 120 + 22) / 4, "area_iqm": (10.5 + 15.75 + 21) / 3,
    })  # fmt: skip
    last = drawing.bootstrap_interval(np.array([[1.0], [2], [3], [4], [100]]))[:, 0]
    assert [float(hopper["final_low"]), float(hopper["final_high"])] == last.tolist()
    assert last[0] < 3 < 22 < last[1] < 100
    assert (hopper["task"], hopper["algorithm"], hopper["seeds"], hopper["step"]) == ("Hopper-v4", "DDPG", "5", "10000")
    assert (td3["algorithm"], td3["seeds"], td3["step"], td3["final_mean"]) == ("TD3", "2", "15000", "5.5")
    assert (walker["step"], walker["final_mean"], walker["area_mean"]) == ("5000", "4.0", "3.0")
    caption, _, header, rule, *rows = (tmp_path / "out.md").read_text().splitlines()
    assert "Versions: numpy 2.4.6, torch 2.13.0 and 9." in caption
    assert header.startswith(
        "| task | step | algorithm | seeds | final: mean [95%] | IQM | best: mean [95%] | IQM | area"
    )
    assert rule.count("---") == 10
    cells = [cell.strip() for cell in rows[1].split("|")[1:-1]]
    assert cells[:6] == ["Hopper-v4", "10,000", "DDPG", "5", f"22.0 [{last[0]:.1f}, {last[1]:.1f}]", "3.0"]
    assert rows[2] == "| Walker2d-v4 | 5,000 | DDPG | 1 | 4.0 | 4.0 | 4.0 | 4.0 | 3.0 | 3.0 |"
    evaluations = read_csv(tmp_path / "out_evaluations.csv")
    assert len(evaluations) == 15 + 4 + 5 + 2
    assert list(evaluations[1].values()) == ["Hopper-v4", "DDPG", "0", "5000", "10.0"]


def test_a_run_that_has_not_begun_is_left_out(tmp_path, capsys):
    """A script makes args.json, to lock the folder, before it has anything to write there."""
    run = write_run(tmp_path / "0", [1, 2], algorithm="td3")
    new = tmp_path / "1"
    new.mkdir()
    (new / "args.json").touch()
    figure7.main(figure7.Args((new, run), output=tmp_path / "out.png"))
    assert capsys.readouterr().out.startswith(f"{new}: has not begun yet: left out\n{run}: TD3 on Hopper-v4")
    (new / "evaluations.csv").write_text(f"{HEADER}\n0,1,2,3,4\n")
    said = stop_of(figure7, figure7.Args((new, run), output=tmp_path / "out.png"), capsys)
    assert said.startswith(f"{new}: must be the folder of a run: args.json: ")


def test_the_interval_over_tasks_is_that_of_rliable():
    """The numbers of rliable 1.2.0's get_interval_estimates with aggregate_iqm, 50,000 resamples, on these scores of
    five runs of four tasks: 0.693, 0.448 to 0.953 or 0.954 by its seed."""
    scores = [
        np.array([0.2, 0.15, 0.15, 0.21, 0.07]),
        np.array([1.05, 0.4, 0.59, 0.43, 0.67]),
        np.array([1.45, 1.51, 1.6, 1.49, 1.12]),
        np.array([-0.29, 1.94, 0.96, 1.3, -0.69]),
    ]
    assert drawing.interquartile_mean(np.concatenate(scores)) == pytest.approx(0.693)
    low, high = figure7.stratified_interval(scores, resamples=50_000)
    assert low == pytest.approx(0.448, abs=0.003)
    assert high == pytest.approx(0.953, abs=0.003)
    assert figure7.stratified_interval([np.array([2.0])]).tolist() == [2, 2]
    assert figure7.interquartile_mean_over_tasks(scores) == pytest.approx(0.693)


def test_every_task_counts_as_much_however_many_runs_it_has():
    """As if each task had six runs, of which four of the eighteen are left out on either side."""
    scores = [np.array([0.0]), np.array([1.0, 3.0]), np.array([4.0, 5.0, 9.0])]
    assert figure7.interquartile_mean_over_tasks(scores) == np.mean([0, 0, 1, 1, 1, 3, 3, 3, 4, 4])
    scores = [np.array([0.0]), np.array([1.0, 1.0]), np.array([4.0, 4.0, 4.0])]
    assert figure7.stratified_interval(scores).tolist() == [1.4, 1.4]  # two times 0, six times 1, two times 4


def test_figure7_scores_over_tasks(tmp_path, capsys):
    (tmp_path / "random.csv").write_text(
        "task,episodes,return_mean,return_std\nHopper-v4,9,10,1\nAnt-v4,9,-100,1\nWalker2d-v4,9,-40,1\n"
    )
    runs = (
        write_run(tmp_path / "1", [0, 20, 110], algorithm="td3"),
        write_run(tmp_path / "2", [0, 40, 310], algorithm="td3"),
        write_run(tmp_path / "3", [0, 110, 60], cycle=True),
        write_run(tmp_path / "4", [0, 30], cycle=False),
        write_run(tmp_path / "5", [0, 30, 900, 900], algorithm="ddpg"),
        write_run(tmp_path / "6", [0, 900], algorithm="td3", env_id="Ant-v4"),
        write_run(tmp_path / "7", [0, 400], cycle=True, env_id="Ant-v4"),
        write_run(tmp_path / "8", [0, 400], cycle=True, env_id="Reacher-v4"),
        write_run(tmp_path / "9", [0, 400], algorithm="td3", env_id="Reacher-v4", complete=False),
        # Every 10,000 steps, where TD3 has an evaluation every 5,000: 60 at step 10,000
        write_run(tmp_path / "10", [0, 60], cycle=True, standardize=True, every=10_000),
        # Of TD3 below random actions a score would change its sign
        write_run(tmp_path / "11", [0, -60], algorithm="td3", env_id="Walker2d-v4"),
        write_run(tmp_path / "12", [0, -30], cycle=True, env_id="Walker2d-v4"),
    )
    figure7.main(figure7.Args(runs, random=tmp_path / "random.csv", output=tmp_path / "out.png"))
    out = capsys.readouterr().out
    assert "scores: DDPG on Hopper-v4 left out, not every run of TD3 has one at step 15000\n" in out
    for algorithm in ("TD3", "D3G"):
        why = "TD3 is not above random actions at step 5000"
        assert f"scores: {algorithm} on Walker2d-v4 left out, {why}\n" in out
    assert "scores: Reacher-v4 left out, without random returns\n" in out
    rows = (tmp_path / "out.md").read_text().splitlines()[-5:]
    assert rows[0] == "|---|---|---|---|---|"
    cells = [row.strip("| ").split(" | ") for row in rows[1:]]
    assert [row[:4] for row in cells] == [
        ["TD3", "Ant-v4, Hopper-v4", "3", "1.00"],  # 1; (110 - 10) / 200, (310 - 10) / 200
        ["D3G", "Ant-v4, Hopper-v4", "2", "0.38"],  # 500 / 1000; 50 / 200
        ["D3G\u207b", "Hopper-v4", "1", "1.00"],  # 20 / 20, at the step that it has reached
        ["D3G\u207a", "Hopper-v4", "1", "0.25"],  # 50 / 200
    ]
    assert cells[1][4] == "[0.38, 0.38] (a range)"


@pytest.mark.parametrize(
    "text",
    [None, "", "{}", "{}\n", "task,return_mean\nAnt-v4,1\n", "{}\nAnt-v4,1,nan,0\n", "{}\nA,1,x,0\n", "{}\nA,1\n"],
)
def test_figure7_refuses_what_are_not_random_returns(text, tmp_path, capsys):
    run = write_run(tmp_path / "1", [1, 2], cycle=True)
    file = tmp_path / "random.csv"
    if text is not None:
        file.write_text(text.format(",".join(random_policy.COLUMNS)))
    with pytest.raises(SystemExit) as stop:
        figure7.main(figure7.Args((run,), random=file, output=tmp_path / "out.png"))
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: --random {file}: must be a file of benchmark/random_policy.py: ")
    assert not (tmp_path / "out.png").exists()


def test_random_policy_measures_returns(tmp_path, capsys):
    """Of InvertedPendulum a reward of 1 for every step before it falls; the same again with the same seed."""
    args = random_policy.Args(tmp_path / "out.csv", tasks=("InvertedPendulum-v4",), episodes=30)
    random_policy.main(args)
    (row,) = read_csv(tmp_path / "out.csv")
    assert (row["task"], row["episodes"]) == ("InvertedPendulum-v4", "30")
    assert 4 < float(row["return_mean"]) < 8
    assert (float(row["return_mean"]) * 30) % 1 == pytest.approx(0, abs=1e-9)
    returns = random_policy.measure(d3g_from_obs.make_env("InvertedPendulum-v4"), 30)
    assert (returns.mean(), returns.std()) == (float(row["return_mean"]), float(row["return_std"]))
    assert len(set(returns)) > 3
    with pytest.raises(SystemExit):
        random_policy.main(random_policy.Args(tmp_path / "out.csv", episodes=0))
    assert capsys.readouterr().err == "error: --episodes 0: must be at least 1\n"
    with pytest.raises(SystemExit):  # before it measures
        random_policy.main(random_policy.Args(tmp_path / "no" / "out.csv"))
    assert capsys.readouterr() == (
        "",
        f"error: --output {tmp_path / 'no' / 'out.csv'}: must be in a folder that exists\n",
    )


def test_figure7_draws_a_band_of_six_runs(tmp_path, monkeypatch):
    returns = np.random.default_rng(0).normal(size=(6, 4))
    runs = tuple(write_run(tmp_path / str(k), row, cycle=True) for k, row in enumerate(returns))
    kept = []
    monkeypatch.setattr(figure7.plt, "close", kept.append)
    figure7.main(figure7.Args(runs, output=tmp_path / "out.png"))
    axis = kept[0].axes[0]
    assert axis.get_title() == "Hopper-v4\n6 seeds"
    (line,) = axis.get_lines()
    np.testing.assert_allclose(line.get_ydata(), returns.mean(0))
    (band,) = axis.collections
    corners = {tuple(v) for v in band.get_paths()[0].vertices.tolist()}
    low, high = drawing.bootstrap_interval(returns)
    assert corners >= {(5000 * k, x) for k in range(4) for x in (low[k], high[k])}


def test_figure7_cuts_the_axes_of_reacher_and_ant_alone(tmp_path, monkeypatch):
    runs = []
    lowest = {"Reacher-v4": -100, "Reacher-v5": -14, "Ant-v4": -3000, "HalfCheetah-v4": -3000}
    for task, low in lowest.items():
        runs.append(write_run(tmp_path / task, [low, -4], env_id=task, seed=1, cycle=True))
    kept = []
    monkeypatch.setattr(figure7.plt, "close", kept.append)
    figure7.main(figure7.Args(tuple(runs), output=tmp_path / "out.png"))
    axes = {axis.get_title().split("\n")[0]: axis for axis in kept[0].axes}
    assert axes["Reacher-v4"].get_ylim()[0] == -15
    assert axes["Reacher-v4"].get_title() == "Reacher-v4\n1 seed, cut at -15"
    assert -15 < axes["Reacher-v5"].get_ylim()[0] < -14
    assert axes["Reacher-v5"].get_title() == "Reacher-v5\n1 seed"
    assert axes["Ant-v4"].get_ylim()[0] == -600
    assert axes["Ant-v4"].get_title() == "Ant-v4\n1 seed, cut at -600"
    assert axes["HalfCheetah-v4"].get_ylim()[0] < -3000
    assert {"0", "2k", "4k"} <= {tick.get_text() for tick in axes["Reacher-v4"].get_xticklabels()}


def test_the_same_figure_is_the_same_file(tmp_path):
    run = write_run(tmp_path / "1", [1, 2, 3], cycle=True)
    for name in ("a", "b"):
        figure7.main(figure7.Args((run,), output=tmp_path / f"{name}.png"))
    for ending in ("png", "svg"):
        assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()


@pytest.mark.parametrize("slip", [0.0, 0.3, 1.0])
def test_the_optimum_of_the_appendix_is_that_of_policy_iteration(slip):
    """Each policy's value solved exactly from the linear equations of an episode without a limit."""
    neighbours = np.zeros((4, 121), int)
    for cell in range(121):
        row, column = divmod(cell, 11)
        for k, (i, j) in enumerate(((-1, 0), (1, 0), (0, -1), (0, 1))):
            neighbours[k, cell] = 11 * min(max(row + i, 0), 10) + min(max(column + j, 0), 10)
    policy = np.where(np.arange(121) < 110, 1, 3)  # down, then right
    for _ in range(20):
        probabilities = slip / 4 + (1 - slip) * (np.arange(4)[:, None] == policy)
        transitions = np.zeros((121, 121))
        for k in range(4):
            transitions[np.arange(121), neighbours[k]] += probabilities[k]
        rewards = (probabilities * np.where(neighbours == 120, 1, -1)).sum(0)
        values = np.append(np.linalg.solve(np.eye(120) - transitions[:-1, :-1], rewards[:-1]), 0.0)
        policy = (np.where(neighbours == 120, 1, -1) + values[neighbours]).round(9).argmax(0)
    if slip == 1.0:  # a random walk often needs more than 500 steps
        assert values[0] < -500 < appendix.optimum(str(slip)) < -300
    else:
        assert appendix.optimum(str(slip)) == pytest.approx(values[0], abs=1e-6)
    assert appendix.optimum("0") == -18
    assert appendix.optimum("windy") == 0.5


def test_figure7_names_and_colours(tmp_path, monkeypatch):
    """D3G with standardised differences has a colour of its own; D3G lies over all others, under it D3G+."""
    runs = [
        write_run(tmp_path / "1", [1, 2], cycle=True, standardize=True),
        write_run(tmp_path / "2", [1, 2], cycle=True, standardize=False),
        write_run(tmp_path / "3", [1, 2], cycle=True),  # of before there was --standardize
        write_run(tmp_path / "4", [1, 2], cycle=False, standardize=False),
        write_run(tmp_path / "5", [1, 2], algorithm="td3"),
        write_run(tmp_path / "6", [1, 2], algorithm="ddpg"),
    ]
    kept = []
    monkeypatch.setattr(figure7.plt, "close", kept.append)
    figure7.main(figure7.Args(tuple(runs), output=tmp_path / "out.png"))
    lines = [line for line in kept[0].axes[0].get_lines() if not line.get_label().startswith("_")]
    assert [line.get_label() for line in lines] == ["TD3", "DDPG", "D3G", "D3G\u207b", "D3G\u207a"]
    assert len({line.get_color() for line in lines}) == 5
    from_below = sorted(lines, key=lambda line: line.get_zorder())
    assert [line.get_label() for line in from_below] == ["D3G\u207b", "DDPG", "TD3", "D3G\u207a", "D3G"]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (None, "RUN_DIRS: must be at least one folder of a run, or --evaluations FILE"),
        ({"tau": 0.1}, "{1}: must have --tau 0.5 like {0}, has 0.1"),
        ({"seed": 0}, "{1}: must be of another seed than {0}, has 0 too"),
        ({"every": 1000}, "{1}: must have --eval-frequency 5000 like {0}, has 1000"),
        (
            {"algorithm": None},
            "{1}: must be the folder of a run: must be of d3g_continuous.py or td3_baseline.py, is of x",
        ),
        (
            {"algorithm": None, "cycle": False, "standardize": True},
            "{1}: must be the folder of a run: args.json: must be of td3, ddpg,",
        ),
    ],
)
def test_figure7_refuses(change, error, tmp_path, capsys):
    args = {"algorithm": "td3", "tau": 0.5}
    runs = [write_run(tmp_path / "0", [1, 2], **args)]
    if change:
        args = {name: x for name, x in (args | change).items() if x is not None}
        runs.append(write_run(tmp_path / "1", [1, 2], **args))
    how = figure7.Args(tuple(runs) if change is not None else (), output=tmp_path / "out.png")
    assert stop_of(figure7, how, capsys).startswith(error.format(*runs))
    assert not list(tmp_path.glob("out*"))


def test_an_argument_that_only_one_run_has_is_no_difference(tmp_path, capsys):
    """Runs of before and after a change of the scripts are drawn together; those that both have it are compared."""
    runs = [
        write_run(tmp_path / "0", [1, 2], algorithm="td3", capture_all=True),
        write_run(tmp_path / "1", [1, 2], algorithm="td3", new=3),
        write_run(tmp_path / "2", [1, 2], algorithm="td3", new=3),
    ]
    figure7.main(figure7.Args(tuple(runs), output=tmp_path / "out.png"))
    runs.append(write_run(tmp_path / "3", [1, 2], algorithm="td3", new=4))
    said = stop_of(figure7, figure7.Args(tuple(runs), output=tmp_path / "out.png"), capsys)
    assert said == f"{runs[3]}: must have --new 3 like {runs[1]}, has 4\n"


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("out", "--output {}: must be the name of a picture with its ending, such as out.png"),
        ("out.md", "--output {}: must be a picture that can be written, such as out.png: Format"),
        ("nowhere/out.png", "--output: must be in a folder that exists, and {} a file"),
        ("evaluations.png", "--output: must have another name, {} is a file that runs write"),
    ],
)
def test_figure7_refuses_an_output_that_cannot_be(name, error, tmp_path, capsys):
    run = write_run(tmp_path / "0", [1, 2], algorithm="td3")
    before = contents(tmp_path)
    place = tmp_path / name.replace("evaluations.png", "evaluations.csv")
    said = stop_of(figure7, figure7.Args((run,), output=tmp_path / name), capsys)
    assert said.startswith(error.format(place))
    assert contents(tmp_path) == before


def test_nothing_is_written_where_one_output_cannot_be(tmp_path, capsys):
    """The table's place is taken by a folder: the picture is not written either."""
    run = write_run(tmp_path / "0", [1, 2], algorithm="td3")
    (tmp_path / "out.csv").mkdir()
    before = contents(tmp_path)
    said = stop_of(figure7, figure7.Args((run,), output=tmp_path / "out.png"), capsys)
    assert said == f"--output: must be in a folder that exists, and {tmp_path / 'out.csv'} a file\n"
    assert contents(tmp_path) == before


def test_figure7_refuses_what_is_not_a_run(tmp_path, capsys):
    status, said, wrote = outcome_of(figure7, figure7.Args((tmp_path,)), tmp_path, capsys)
    assert said.startswith(f"error: {tmp_path}: must be the folder of a run: ")
    assert (status, said.count("\n"), wrote) == (2, 1, [])


# -------------------------------------------------------------------------------------------------------- Table 1

D3G = {"offline_updates": 150_000, "inverse_updates": 2000}
BCO = {"policy_updates": 10_000, "inverse_updates": 2000}
PLUS = ("standardize", "scale_states", "clamp_values", "aim_halfway")  # what makes D3G D3G+


def data_of(task="InvertedPendulum-v4", p=1.0, **changed):
    """What args.json says of a data set."""
    about = {"env_id": task, "randomness": p, "score": 9.25, "mean_return": 6.0, "demonstrator": None} | changed
    return {"sha256": f"{task} {p}", "mean_return": 6.0, "about": about}


def write_round(folder, k, returns, task="InvertedPendulum-v4", p=1.0, **how):
    """A run's folder as table1.py reads it."""
    how = {"rounds": len(returns), "steps_per_round": 1000, "dataset": f"datasets/{p}.npz"} | how
    how.setdefault("data", data_of(task, p))
    return write_run(folder / str(k), returns, env_id=task, every=1000, **how)


def test_table1_of_known_answers(tmp_path, capsys):
    """Highest evaluations of the rounds that all have, population deviation, the data's numbers from args.json."""
    half = data_of(p=0.5, score=31.5)
    runs = [
        write_round(tmp_path, 1, [5, 90, 80, 1000], **D3G),  # the 1000 is beyond the rounds that all have
        write_round(tmp_path, 2, [5, 10, 7], **D3G),
        write_round(tmp_path, 3, [5, 1, 1], seed=1, **BCO),
        write_round(tmp_path, 4, [3, 3], complete=False, rounds=3, **BCO),
        write_round(tmp_path, 5, [2, 4, 3], p=0.5, data=half, **BCO),
        write_round(tmp_path, 6, [-4, -5, -6], task="Reacher-v4", **D3G),
        write_round(tmp_path, 7, [], complete=False, rounds=3, **D3G),
    ]
    (runs[6] / "evaluations.csv").unlink()  # as a run is in its offline phase
    table1.main(table1.Args(tuple(runs), output=tmp_path / "out.md"))
    assert capsys.readouterr().out.splitlines() == [
        f"{runs[3]}: not complete, 2 of 3 evaluations: left out",
        f"{runs[6]}: not complete, 0 of 3 evaluations: left out",
        "all runs: cut to 3 evaluations, which all have",
        f"table: {tmp_path / 'out.md'}",
        f"table: {tmp_path / 'out.csv'}",
        f"table: {tmp_path / 'out_evaluations.csv'}",
        f"runs: {tmp_path / 'out_runs.json'}",
    ]
    caption, _, header, rule, *rows = (tmp_path / "out.md").read_text().splitlines()
    assert caption.startswith("The highest of 3 evaluations (the paper: of 100): ")
    assert "D3G 150,000 updates offline, rounds of 1,000 steps and 2,000 updates of the inverse dynamics; " in caption
    assert "BCO 10,000 updates of the policy a round, rounds of 1,000 steps and 2,000 updates" in caption
    assert header == (
        "| task | % random | data (mean return) | data, paper | BCO (IQM; seeds) | BCO, paper | D3G (IQM; seeds) "
        "| D3G, paper |"
    )
    assert rows == [
        "| InvertedPendulum-v4 | 50 | 31.5 (6.0) | 18.0 ± 2.4 | 4.0 ± 0.0 (4.0; 1) | 12.1 ± 8.3 |  | 900.2 ± 299.2 |",
        "| InvertedPendulum-v4 | 100 | 9.2 (6.0) | 8.6 ± 0.3 | 5.0 ± 0.0 (5.0; 1) | 31.0 ± 4.7 "
        "| 50.0 ± 40.0 (50.0; 2) | 1000 ± 0 |",
        "| Reacher-v4 | 100 | 9.2 (6.0) | -40.6 ± 0.5 |  | -9.7 ± 0.8 | -4.0 ± 0.0 (-4.0; 1) | -6.4 ± 0.7 |",
    ]
    numbers = read_csv(tmp_path / "out.csv")
    assert [tuple(row.values()) for row in numbers] == [
        ("InvertedPendulum-v4", "0.5", "BCO", "1", "3", "4.0", "0.0", "4.0", "31.5", "6.0"),
        ("InvertedPendulum-v4", "1.0", "BCO", "1", "3", "5.0", "0.0", "5.0", "9.25", "6.0"),
        ("InvertedPendulum-v4", "1.0", "D3G", "2", "3", "50.0", "40.0", "50.0", "9.25", "6.0"),
        ("Reacher-v4", "1.0", "D3G", "1", "3", "-4.0", "0.0", "-4.0", "9.25", "6.0"),
    ]
    evaluations = read_csv(tmp_path / "out_evaluations.csv")
    assert len(evaluations) == 4 + 3 + 3 + 3 + 3
    first = ["InvertedPendulum-v4", "1.0", "D3G", "1", "2", "1000", "90.0"]
    assert list(evaluations[1].values()) == first


def test_table1_has_a_column_of_standardised_differences_where_there_are_such_runs(tmp_path):
    runs = [
        write_round(tmp_path, 1, [5, 90], **dict.fromkeys(PLUS, True), **D3G),
        write_round(tmp_path, 2, [5, 10], **dict.fromkeys(PLUS, False), **D3G),
        write_round(tmp_path, 3, [6, 20], **D3G),  # of before there was --standardize
        write_round(tmp_path, 4, [7, 8], task="Reacher-v4", **BCO),
    ]
    table1.main(table1.Args(tuple(runs), output=tmp_path / "out.md"))
    caption, _, header, rule, *rows = (tmp_path / "out.md").read_text().splitlines()
    assert "D3G 150,000 updates offline" in caption
    assert "D3G\u207a 150,000 updates offline" in caption
    assert header.endswith("| D3G (IQM; seeds) | D3G, paper | D3G\u207a (IQM; seeds) |")
    assert rows[0].endswith("| 15.0 ± 5.0 (15.0; 2) | 1000 ± 0 | 90.0 ± 0.0 (90.0; 1) |")
    assert rows[1].endswith("| 8.0 ± 0.0 (8.0; 1) | -9.7 ± 0.8 |  | -6.4 ± 0.7 |  |")


def test_published_runs_name_preloaded_libraries_without_their_folders(tmp_path):
    """And a run whose folder has the whole paths is the same run as the published one."""
    run = write_round(tmp_path, 1, [5, 90], **D3G)
    info = json.loads((run / "args.json").read_text()) | {"ld_preload": "/home/x/.cache/a.so:/lib/b.so.4"}
    (run / "args.json").write_text(json.dumps(info))
    table1.main(table1.Args((run,), output=tmp_path / "out.md"))
    (published,) = json.loads((tmp_path / "out_runs.json").read_text())
    assert published["info"] == info | {"ld_preload": "a.so:b.so.4"}
    again = table1.Args((run,), evaluations=tmp_path / "out_evaluations.csv", output=tmp_path / "again.md")
    table1.main(again)
    assert (tmp_path / "again_runs.json").read_text() == (tmp_path / "out_runs.json").read_text()


def test_table1_has_the_papers_numbers():
    """Some of its Table 1, typed again from the paper."""
    assert len(table1.PAPER) == 10
    assert table1.PAPER["InvertedPendulum", 1.0] == ("8.6 ± 0.3", "31.0 ± 4.7", "1000 ± 0")
    assert table1.PAPER["Reacher", 0.25] == ("-12.5 ± 1.0", "-4.3 ± 0.6", "-4.2 ± 0.6")


UNKNOWN = {"sha256": "x", "mean_return": 6.0, "about": None}
OTHER = data_of() | {"sha256": "other"}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (None, "RUN_DIRS: must be at least one folder of a run, or --evaluations FILE"),
        ({"complete": False}, "RUN_DIRS: must be at least one complete run, all are incomplete"),
        ({"seed": 0}, "{1}: must be of another seed than {0}, has 0 too"),
        ({"offline_updates": 9}, "{1}: must have --offline-updates 150000 like {0}, has 9"),
        (
            {"standardize": True, "scale_states": False},
            "{1}: must be the folder of a run: must have all of --standardize, --scale-states, --clamp-values, "
            "--aim-halfway, as D3G+, or none, as D3G",
        ),
        (
            {"standardize": True, "scale_states": True, "clamp_values": True},
            "{1}: must be the folder of a run: must have all of --standardize, --scale-states, --clamp-values, "
            "--aim-halfway, as D3G+, or none, as D3G",
        ),
        (
            {"aim_halfway": True},
            "{1}: must be the folder of a run: must have all of --standardize, --scale-states, --clamp-values, "
            "--aim-halfway, as D3G+, or none, as D3G",
        ),
        (
            {"data": UNKNOWN},
            "{1}: must be the folder of a run: args.json: must say what the data are, which had no JSON file of",
        ),
        ({"data": OTHER}, "{1}: must be of the same data as {0}, by their sha256 in args.json they are not"),
        ({"data": data_of(score=1.0)}, "{1}: must be of the same data as {0}, score 9.25, has 1.0"),
        (
            {"data": data_of("Reacher-v4")},
            "{1}: must be the folder of a run: args.json: must be of data of InvertedPendulum-v4, are of Reacher-v4",
        ),
    ],
)
def test_table1_refuses(change, error, tmp_path, capsys):
    how = dict(change or {})
    runs = [write_round(tmp_path, 0, [1, 2], **D3G | {"complete": how.get("complete", True)})]
    if change:
        runs.append(write_round(tmp_path, 1, [1, 2], **D3G | how))
    how = table1.Args(tuple(runs) if change else (), output=tmp_path / "out.md")
    assert stop_of(table1, how, capsys).startswith(error.format(*runs))
    assert not list(tmp_path.glob("out*"))


def test_table1_refuses_what_is_not_a_run(tmp_path, capsys):
    made = tmp_path / "made"
    made.mkdir()
    status, said, wrote = outcome_of(table1, table1.Args((made,)), made, capsys)
    assert said.startswith(f"error: {made}: must be the folder of a run: ")
    assert (status, said.count("\n"), wrote) == (2, 1, [])
    run = write_run(tmp_path / "1", [1, 2], algorithm="td3")
    status, said, wrote = outcome_of(table1, table1.Args((run,), output=made / "table1.md"), made, capsys)
    reason = "must be of d3g_from_obs.py or bco_baseline.py, is of x"
    assert said == f"error: {run}: must be the folder of a run: {reason}\n"
    assert (status, wrote) == (2, [])


# ------------------------------------------------------------------------------------- TD3 beside its authors' curves


def write_authors(folder, task="Hopper-v1", returns=lambda seed: np.arange(201.0) + 10 * seed):
    """A clone of TD3's authors' repository, as far as td3_authors.py reads it."""
    (folder / "learning_curves" / "X").mkdir(parents=True)
    for seed in range(10):
        np.save(folder / "learning_curves" / "X" / f"TD3_{task}_{seed}.npy", returns(seed))
    return folder


def test_td3_authors_tables_and_curves_of_known_answers(tmp_path, monkeypatch):
    """Theirs are the ten curves k + 10 seed at step 5,000 k, cut where ours end, after the fourth evaluation; so is the
    run of Figure 7 on that task."""
    authors = write_authors(tmp_path / "TD3")
    published = (
        write_run(tmp_path / "3", [0, 1, 4, 9, 16, 25], algorithm="td3"),
        write_run(tmp_path / "4", [7, 7], cycle=True),
        write_run(tmp_path / "5", [8, 8], env_id="Ant-v4", algorithm="td3"),
    )
    figure7.main(figure7.Args(published, output=tmp_path / "figure7.png"))
    runs = (
        write_run(tmp_path / "1", [0, 10, 20, 30], algorithm="td3"),
        write_run(tmp_path / "2", [2, 2, 2, 5], algorithm="td3"),
    )
    kept = []
    monkeypatch.setattr(figure7.plt, "close", kept.append)
    how = {"figure7": tmp_path / "figure7_evaluations.csv"}
    td3_authors.main(td3_authors.Args(authors, runs, output=tmp_path / "out.png", **how))
    (axis,) = kept[0].axes
    lines = [line.get_xydata() for line in axis.get_lines()]
    assert [line[:, 0].tolist() for line in lines] == [[0, 5000, 10_000, 15_000]] * (10 + 1 + 3 + 1)
    values = [line[:, 1].tolist() for line in lines]
    assert values[:10] == [[10 * seed + k for k in range(4)] for seed in range(10)]
    assert values[10:] == [[45, 46, 47, 48], [1, 6, 11, 17.5], [0, 10, 20, 30], [2, 2, 2, 5], [0, 1, 4, 9]]
    assert [line.get_color() for line in axis.get_lines()[10:]] == ["0.3"] + 3 * ["#7B3294"] + [drawing.GREEN]
    assert axis.get_title() == "Hopper-v4\nseeds, in the legend's order: 10, 2, 1"
    table = (tmp_path / "out.md").read_text()
    assert table.splitlines()[-3:] == [
        "| Hopper-v4 | 15,000 | its authors | 10 | 48 (3 to 93) | 46 (2 to 92) |",
        "| Hopper-v4 | 15,000 | `td3_baseline.py`, their settings | 2 | 18 (5 to 30) | 9 (2 to 15) |",
        "| Hopper-v4 | 15,000 | `td3_baseline.py`, D3G's settings | 1 | 9 | 3 |",
    ]
    assert "torch 2.13.0." in table

    again = tmp_path / "again"
    again.mkdir()
    file = tmp_path / "out_evaluations.csv"
    td3_authors.main(td3_authors.Args(authors, evaluations=file, output=again / "out.png", **how))
    made = {path.name: path.read_bytes() for path in tmp_path.glob("out*")}
    assert sorted(made) == ["out.md", "out.png", "out.svg", "out_evaluations.csv", "out_runs.json"]
    assert {path.name: path.read_bytes() for path in again.iterdir()} == made


@pytest.mark.parametrize(
    ("how", "returns", "error"),
    [
        ({"cycle": True}, None, "{run}: must be a run of TD3, is one of D3G"),
        (
            {"algorithm": "td3", "every": 1000},
            None,
            "{run}: must have --eval-frequency 5000, as the authors' evaluations",
        ),
        (
            {"algorithm": "td3"},
            lambda seed: np.zeros(2),
            "{run}: must not be longer than the authors' 2 evaluations",
        ),
        (
            {"algorithm": "td3"},
            lambda seed: np.full(201, np.nan),
            "{authors}: must be a clone of github.com/sfujim/TD3 with 10 curves of Hopper-v1: must have finite returns "
            "[evaluations] in a file, has (201,)",
        ),
        (
            {"algorithm": "td3"},
            lambda seed: np.array([{}] * 201),
            "{authors}: must be a clone of github.com/sfujim/TD3 with 10 curves of Hopper-v1: Object arrays cannot be "
            "loaded when allow_pickle=False",
        ),
        (
            {"algorithm": "td3", "env_id": "Humanoid-v4"},
            None,
            "{authors}: must be a clone of github.com/sfujim/TD3 with 10 curves of Humanoid-v1: must have one "
            "TD3_Humanoid-v1_0.npy in learning_curves, has 0",
        ),
    ],
    ids=["D3G", "frequency", "longer", "not finite", "pickled", "no such task"],
)
def test_td3_authors_refuses(how, returns, error, tmp_path, capsys):
    authors = write_authors(tmp_path / "TD3", **({"returns": returns} if returns else {}))
    run = write_run(tmp_path / "1", [0, 1, 2], **how)
    before = contents(tmp_path)
    said = stop_of(td3_authors, td3_authors.Args(authors, (run,), output=tmp_path / "out.png"), capsys)
    assert said == error.format(run=run, authors=authors) + "\n"
    assert contents(tmp_path) == before


def test_td3_authors_names_the_argument_of_a_file_that_is_not_there(tmp_path, capsys):
    authors = write_authors(tmp_path / "TD3")
    run = write_run(tmp_path / "1", [0, 1, 2], algorithm="td3")
    missing = tmp_path / "none_evaluations.csv"
    how = {"figure7": missing, "output": tmp_path / "out.png"}
    said = stop_of(td3_authors, td3_authors.Args(authors, (run,), **how), capsys)
    assert said.startswith(f"--figure7 {missing}: must be of an earlier call, and the file of its runs beside it: ")


def test_td3_authors_leaves_out_runs_that_are_not_complete_and_refuses_damaged_curves(tmp_path, capsys):
    authors = write_authors(tmp_path / "TD3")
    going_on = write_run(tmp_path / "1", [0, 1, 2], algorithm="td3", complete=False)
    said = stop_of(td3_authors, td3_authors.Args(authors, (going_on,), output=tmp_path / "out.png"), capsys)
    assert said == "RUN_DIRS: must be at least one complete run, all are incomplete\n"
    run = write_run(tmp_path / "2", [0, 10], algorithm="td3")
    td3_authors.main(td3_authors.Args(authors, (going_on, run), output=tmp_path / "out.png"))
    assert f"{going_on}: not complete, 3 of 101 evaluations: left out\n" in capsys.readouterr().out
    assert "| Hopper-v4 | 5,000 | `td3_baseline.py`, their settings | 1 | 10 | 5 |" in (tmp_path / "out.md").read_text()
    (authors / "learning_curves" / "X" / "TD3_Hopper-v1_3.npy").write_bytes(b"")
    said = stop_of(td3_authors, td3_authors.Args(authors, (run,), output=tmp_path / "out.png"), capsys)
    assert said.startswith(f"{authors}: must be a clone of github.com/sfujim/TD3 with 10 curves of Hopper-v1: ")


# ----------------------------------------------------------------------------------------- Runs of an earlier call


def figure7_runs(folder):
    """Runs of two tasks; TD3 was given more steps than D3G."""
    return [
        write_run(folder / "walker1" / "1", [0, 10, 30], env_id="Walker2d-v4", cycle=True, hidden_sizes=[256, 256]),
        write_run(folder / "walker2" / "2", [0, 10 / 3, 40], env_id="Walker2d-v4", cycle=True, hidden_sizes=[256, 256]),
        write_run(folder / "walker3" / "1", [0, 1, 2, 3, 4], env_id="Walker2d-v4", algorithm="td3"),
        write_run(folder / "walker4" / "2", [0, 1, 2, 3, 5], env_id="Walker2d-v4", algorithm="td3"),
        write_run(folder / "ant1" / "1", [7, 8], env_id="Ant-v4", algorithm="td3"),
    ]


def table1_runs(folder):
    return [
        write_round(folder / "a", 1, [5, 90, 7, 1000], **D3G),
        write_round(folder / "b", 1, [5, 10 / 3, 8], **BCO),
        write_round(folder / "c", 1, [5, 70, 9], p=0.5, **D3G),
        write_round(folder / "d", 1, [-5, -70, -6], task="Reacher-v4", **D3G),
    ]


SCRIPTS = {"figure7": (figure7, "out.png", figure7_runs), "table1": (table1, "out.md", table1_runs)}


@pytest.mark.parametrize("name", SCRIPTS)
def test_runs_of_an_earlier_call_make_the_same_files(name, tmp_path):
    """All bytes of picture, tables and runs: from folders, from files alone, from files for some and folders for
    others, and where the output overwrites the files that it is made from."""
    script, output, make = SCRIPTS[name]
    runs = make(tmp_path / "runs")
    for place in ("folders", "files", "some", "mixed"):
        (tmp_path / place).mkdir()
    script.main(script.Args(tuple(runs), output=tmp_path / "folders" / output))
    expected = contents(tmp_path / "folders")
    file = Path("out_evaluations.csv")
    assert {str(path) for path in expected} >= {output, "out.md", "out.csv", "out_runs.json", str(file)}

    script.main(script.Args(evaluations=tmp_path / "folders" / file, output=tmp_path / "files" / output))
    assert contents(tmp_path / "files") == expected
    script.main(script.Args(evaluations=tmp_path / "files" / file, output=tmp_path / "files" / output))
    assert contents(tmp_path / "files") == expected

    script.main(script.Args(tuple(runs[:2]), output=tmp_path / "some" / output))
    assert contents(tmp_path / "some") != expected
    mixed = script.Args(tuple(runs[1:]), evaluations=tmp_path / "some" / file, output=tmp_path / "mixed" / output)
    script.main(mixed)  # the second run is in both, and the same
    assert contents(tmp_path / "mixed") == expected
    for run in json.loads((tmp_path / "mixed" / "out_runs.json").read_text()):
        assert run["info"]["args"]["seed"] == run["seed"]
        assert run["info"]["versions"] == VERSIONS


@pytest.mark.parametrize("name", SCRIPTS)
def test_by_default_the_files_of_an_earlier_call_are_made_anew(name, tmp_path):
    """Under the name of the evaluations: those of another series in the same folder stay."""
    script, output, make = SCRIPTS[name]
    runs = make(tmp_path / "runs")
    script.main(script.Args(tuple(runs), output=tmp_path / output))
    before = contents(tmp_path)
    (tmp_path / output).unlink()
    script.main(script.Args(evaluations=tmp_path / "out_evaluations.csv"))
    assert contents(tmp_path) == before

    script.main(script.Args(tuple(runs), evaluations=tmp_path / "out_evaluations.csv"))
    added = contents(tmp_path).keys() - before.keys()
    assert {path.parent for path in added} == {runs[0].relative_to(tmp_path)}
    assert f"{name}{Path(output).suffix}" in {path.name for path in added}


def test_a_run_that_goes_on_may_be_drawn_again_and_again(tmp_path):
    """Only complete runs go to the files that the next call reads."""
    complete = write_run(tmp_path / "1", [1, 2, 3], cycle=True)
    going_on = write_run(tmp_path / "2", [1, 2], cycle=True, complete=False)
    how = {"output": tmp_path / "out.png"}
    figure7.main(figure7.Args((complete, going_on), **how))
    before = contents(tmp_path)
    with open(going_on / "evaluations.csv", "a") as file:
        file.write("10000,9,0,1,2\n")
    figure7.main(figure7.Args((complete, going_on), evaluations=tmp_path / "out_evaluations.csv", **how))
    after = contents(tmp_path)
    changed = {str(path) for path in after if after[path] != before[path]}
    assert changed == {"out.png", "out.svg", str(going_on.relative_to(tmp_path) / "evaluations.csv")}
    assert [row["seed"] for row in read_csv(tmp_path / "out_evaluations.csv")] == 3 * ["1"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_run_that_differs_from_that_of_an_earlier_call_is_refused(name, tmp_path, capsys):
    script, output, make = SCRIPTS[name]
    runs = make(tmp_path / "runs")
    script.main(script.Args(tuple(runs), output=tmp_path / output))
    file = tmp_path / "out_evaluations.csv"
    before = contents(tmp_path)
    how = script.Args((runs[0],), evaluations=file, output=tmp_path / output)
    script.main(how)  # as it is, it is the same run
    assert contents(tmp_path) == before
    for changed, old, new in (("evaluations.csv", ",5,", ",6,"), ("args.json", "2.13.0", "2.13.1")):
        if name == "figure7":
            old, new = old.replace(",5,", "0,10,"), new.replace(",6,", "0,11,")
        text = (runs[0] / changed).read_text()
        assert old in text
        (runs[0] / changed).write_text(text.replace(old, new))
        said = stop_of(script, how, capsys)
        assert said.startswith(f"{runs[0]}: must be the same run as {tmp_path / 'out_runs.json'}, run ")
        (runs[0] / changed).write_text(text)
    assert contents(tmp_path) == before


def test_arguments_are_compared_with_those_of_an_earlier_call(tmp_path, capsys):
    runs = figure7_runs(tmp_path / "runs")
    figure7.main(figure7.Args(tuple(runs[:1]), output=tmp_path / "out.png"))
    other = write_run(tmp_path / "3", [0, 1, 2], env_id="Walker2d-v4", cycle=True, hidden_sizes=[64, 64])
    how = figure7.Args((other,), evaluations=tmp_path / "out_evaluations.csv", output=tmp_path / "new.png")
    said = stop_of(figure7, how, capsys)
    first = f"{tmp_path / 'out_runs.json'}, run 1"
    assert said == f"{other}: must have --hidden-sizes [256, 256] like {first}, has [64, 64]\n"


@pytest.mark.parametrize(
    ("name", "script"),
    [
        ("figure7", figure7),
        ("d3g_plus", figure7),
        ("td3_settings", figure7),
        ("table1", table1),
        ("table1_d3g_plus", table1),
        ("table1_ten_seeds", table1),
    ],
)
def test_the_published_tables_are_those_of_the_published_evaluations(name, script, tmp_path):
    published = ROOT / "benchmark" / "results"
    output = f"{name}.png" if script is figure7 else f"{name}.md"
    script.main(script.Args(evaluations=published / f"{name}_evaluations.csv", output=tmp_path / output))
    for path, made in contents(tmp_path).items():
        if path.suffix != ".png":
            assert made == (published / path).read_bytes(), path


# ---------------------------------------------------------------------------------------------------- Damaged folders


def tabular_run(folder, experiment, **changed):
    """A small whole run of tabular_qss.py: two seeds."""
    folder.mkdir(parents=True)
    args = {"exp_name": "tabular_qss", "experiment": experiment, "seed": 4, "num_seeds": 2, "gamma": 0.99}
    args |= {"episodes": 20, "transfer_episodes": 10, "eval_frequency": 5} | changed
    info = {"args": args, "versions": VERSIONS, "git_commit": None}
    (folder / "args.json").write_text(json.dumps(info))
    rng = np.random.default_rng(0)
    cells = [(row, column) for row in range(11) for column in range(11)]
    if experiment == "figure2":
        rows = ["seed,row,column,qsa_value,qss_value,fraction,absolute_difference"]
        rows += [f"{k},{i},{j},{','.join(map(str, rng.random(4)))}" for k in (4, 5) for i, j in cells]
    elif experiment == "figure3":
        rows = ["slip,seed,row,column,qsa_value,qss_value,distance"]
        for slip in (0.0, 0.25, 0.5, 0.75, 1.0):
            rows += [f"{slip},{k},{i},{j},{','.join(map(str, rng.random(3)))}" for k in (4, 5) for i, j in cells]
    else:
        rows = ["episode,algorithm,setting,seed,return"]
        last = 10 if experiment == "figure4d" else 20
        for algorithm, setting in drawing.CURVES[experiment]:
            rows += [f"{x},{algorithm},{setting},{k},{rng.random()}" for k in (4, 5) for x in range(0, last + 1, 5)]
    (folder / "results.csv").write_text("\n".join([*rows, ""]))
    return folder


def gridworld_runs(folder):
    """Two small whole runs per variant of d3g_gridworld.py."""
    rng = np.random.default_rng(0)
    for variant in ("d3g", "d3g_no_cycle"):
        for seed in (1, 2):
            run = folder / variant / f"seed{seed}"
            write_run(run, [-500, -20, -19], every=500, seed=seed, gamma=0.99, learning_starts=500, variants=[variant])
            cells = np.indices((11, 11)).reshape(2, -1).T
            tables = {
                "values.csv": ("row,column,value,proposal_row,proposal_column", [cells, rng.random((121, 3))]),
                "distances.csv": ("step,distance", [[[0], [500], [1000]], rng.random((3, 1))]),
                "path.csv": ("k,row,column", [np.arange(51)[:, None], rng.random((51, 2))]),
            }
            for name, (header, columns) in tables.items():
                np.savetxt(run / name, np.hstack(columns), delimiter=",", header=header, comments="")


def whole(name, folder):
    """Make the folders that a script reads; return its positional argument and the run that is to be damaged."""
    if name in ("figure2", "figure3"):
        run = tabular_run(folder / "run", name)
        return run, run
    if name in ("figure4a", "figure4d"):
        run = tabular_run(folder / "run", name)
        return (run,), run
    if name == "appendix":
        runs = (tabular_run(folder / "a", "appendix_stochastic"), tabular_run(folder / "b", "appendix_windy"))
        return runs, runs[0]
    if name == "figure6":
        gridworld_runs(folder / "root")
        return folder / "root", folder / "root" / "d3g_no_cycle" / "seed2"
    if name == "figure7":
        how = {"tau": 0.5, "hidden_sizes": [8, 8], "cycle": True, "standardize": True, "cuda": True}
        runs = tuple(write_run(folder / str(k), [1, 2, 3], **how) for k in (1, 2))
        return runs, runs[1]
    how = D3G | dict.fromkeys(PLUS, True) | {"tau": 0.5}
    runs = tuple(write_round(folder, k, [1, 2, 3], **how) for k in (1, 2))
    return runs, runs[1]


# What args.json must have for each script; and what it need not have, but if so as it should be, or as other seeds do
NEEDED = {
    "figure2": "args versions args.experiment args.seed args.num_seeds",
    "figure3": "args versions args.experiment args.seed args.num_seeds",
    "figure4a": "args versions args.experiment args.seed args.num_seeds args.episodes args.eval_frequency",
    "figure4d": "args versions args.experiment args.seed args.num_seeds args.transfer_episodes args.eval_frequency",
    "appendix": "args versions args.experiment args.seed args.num_seeds args.episodes args.eval_frequency",
    "figure6": "args versions args.seed args.total_timesteps args.eval_frequency args.gamma args.learning_starts",
    "figure7": "args versions args.env_id args.seed args.total_timesteps args.eval_frequency args.cycle",
    "table1": "args versions data data.about data.about.env_id data.about.randomness data.about.score "
    "data.about.mean_return args.env_id args.seed args.rounds args.steps_per_round args.offline_updates "
    "args.inverse_updates args.standardize args.scale_states args.clamp_values args.aim_halfway",
}
LOOKED_AT = {
    "figure6": "versions.torch versions.numpy args.env_id args.variants",
    "figure7": "versions.torch versions.numpy args.tau args.hidden_sizes args.standardize",
    "table1": "versions.torch versions.numpy args.tau data.sha256",
}


def paths_of(value, before=()):
    """The paths of all keys in nested objects."""
    for name, inner in value.items():
        yield (*before, name)
        if isinstance(inner, dict):
            yield from paths_of(inner, (*before, name))


def damages_of_args(name, run):
    """Yield what is damaged, whether that must be refused, and the damaged text of args.json."""
    text = (run / "args.json").read_text()
    info = json.loads(text)
    needed = NEEDED[name].split()
    looked_at = needed + LOOKED_AT.get(name, "versions.torch versions.numpy").split()
    for path in paths_of(info):
        dotted = ".".join(path)
        *outer, last = path
        changed = json.loads(text)
        inner = changed
        for part in outer:
            inner = inner[part]
        right = inner.pop(last)
        yield f"{dotted} deleted", dotted in needed, json.dumps(changed)
        for wrong in (None, [[]], "x", -1.5, True):
            if type(wrong) is type(right):
                continue
            inner[last] = wrong
            refused = dotted in looked_at and not (dotted == "data.sha256" and wrong is None)
            if type(right) is float and wrong == -1.5:
                continue
            yield f"{dotted} {wrong}", refused, json.dumps(changed)
    for bad in ("", "{", "[]", "null", "5", text[: len(text) // 2], text.replace('"2.13.0"', "NaN")):
        yield f"args.json: {bad[:20]}", True, bad


def damages_of_table(text):
    """Yield what is damaged, and the damaged bytes of a CSV file."""
    header, *rows = text.splitlines()
    names = header.split(",")
    middle = len(rows) // 2

    def of(first, *others):
        return "\n".join([first, *others, ""]).encode()

    yield "empty", b""
    yield "no text", b"\xff\xfe"
    yield "cut in the middle of a row", text[:-4].encode()
    yield "cut before the end of the last row", text[:-1].encode()
    yield "cut after a row", of(header, *rows[:-1])
    yield "a row lacks", of(header, *rows[:middle], *rows[middle + 1 :])
    yield "a row twice", of(header, *rows[:middle], rows[middle], *rows[middle:])
    yield "only the header", of(header)
    yield "no header", of(*rows)
    yield (
        "two rows changed places",
        of(header, *rows[: middle - 1], rows[middle], rows[middle - 1], *rows[middle + 1 :]),
    )
    for k, name in enumerate(names):
        yield f"column {name} renamed", of(",".join([*names[:k], "renamed", *names[k + 1 :]]), *rows)
        for bad in ("nan", "inf", "-inf", "1e308", "", "x", "1,2"):
            values = rows[middle].split(",")
            values[k] = bad
            yield f"{name} {bad}", of(header, *rows[:middle], ",".join(values), *rows[middle + 1 :])


def outcome_of(script, how, folder, capsys):
    """Call a script that writes into a folder, and empty it: exit status, what the script says, what it wrote."""
    capsys.readouterr()
    try:
        script.main(how)
        status = 0
    except SystemExit as stop:
        status = stop.code
    except BaseException as error:  # what is looked for
        status = repr(error)
    wrote = list(contents(folder))
    for path in wrote:
        (folder / path).unlink()
    return status, capsys.readouterr().err, wrote


def complaint(outcome, refused):
    """What is wrong with an outcome of a script that must refuse, or must not."""
    status, said, wrote = outcome
    if refused:
        good = status == 2 and said.startswith("error: ") and said.count("\n") == 1 and not wrote
    else:
        good = status == 0 and said == "" and wrote
    return "" if good else f"status {status}, wrote {len(wrote)} files, said {said!r}"


def no_pictures(figure, output):
    """In place of drawing.pictures, which takes most of the time."""
    figure7.plt.close(figure)
    return {output: b"a picture"}


def no_interval(returns):
    """In place of drawing.bootstrap_interval, which takes much of the rest."""
    return np.stack([returns.min(0), returns.max(0)])


@pytest.mark.parametrize("name", NEEDED)
def test_damaged_folders_are_refused(name, tmp_path, capsys, monkeypatch):
    """Every key of args.json and every file of a run, damaged in many ways: one line, status 2, nothing written. Where
    it is a key that the script does not look at, the figure is made as of the whole run."""
    script = importlib.import_module({"figure4a": "figure4", "figure4d": "figure4"}.get(name, name))
    for function, quick in (("pictures", no_pictures), ("bootstrap_interval", no_interval)):
        monkeypatch.setattr(drawing, function, quick)
        if hasattr(script, function):
            monkeypatch.setattr(script, function, quick)
    runs, run = whole(name, tmp_path / "runs")
    made = tmp_path / "made"
    made.mkdir()
    how = script.Args(runs, output=made / ("out.md" if name == "table1" else "out.png"))
    wrong = {"the whole run": complaint(outcome_of(script, how, made, capsys), refused=False)}

    file = run / "args.json"
    text = file.read_text()
    for what, refused, damaged in damages_of_args(name, run):
        file.write_text(damaged)
        wrong[what] = complaint(outcome_of(script, how, made, capsys), refused)
    file.write_text(text)
    for file in [run / "args.json", *run.glob("*.csv")]:
        text = file.read_text()
        file.unlink()
        wrong[f"{file.name} missing"] = complaint(outcome_of(script, how, made, capsys), refused=True)
        file.mkdir()
        wrong[f"{file.name} a folder"] = complaint(outcome_of(script, how, made, capsys), refused=True)
        file.rmdir()
        if file.suffix == ".csv":
            for what, damaged in damages_of_table(text):
                file.write_bytes(damaged)
                wrong[f"{file.name}, {what}"] = complaint(outcome_of(script, how, made, capsys), refused=True)
        file.write_text(text)
    wrong["the whole run again"] = complaint(outcome_of(script, how, made, capsys), refused=False)
    assert len(wrong) > 60
    assert {what: said for what, said in wrong.items() if said} == {}


@pytest.mark.parametrize("name", SCRIPTS)
def test_damaged_files_of_an_earlier_call_are_refused(name, tmp_path, capsys):
    script, output, make = SCRIPTS[name]
    script.main(script.Args(tuple(make(tmp_path / "runs")), output=tmp_path / output))
    file, runs = tmp_path / "out_evaluations.csv", tmp_path / "out_runs.json"
    made = tmp_path / "made"
    made.mkdir()
    how = script.Args(evaluations=file, output=made / output)
    wrong = {}

    text = file.read_text()
    for what, damaged in damages_of_table(text):
        file.write_bytes(damaged)
        wrong[what] = complaint(outcome_of(script, how, made, capsys), refused=True)
    file.write_text(text)

    text = runs.read_text()
    entries = json.loads(text)
    damages = {"no list": "{}", "cut": text[:-9], "empty": "", "a run lacks": json.dumps(entries[1:])}
    damages["a run twice"] = json.dumps([*entries, entries[0]])
    damages["not an object"] = json.dumps([5, *entries[1:]])
    for key in entries[0]:
        for value in (None, "x", 7, [], {}):
            damages[f"{key} {value}"] = json.dumps([entries[0] | {key: value}, *entries[1:]])
    for what, damaged in damages.items():
        runs.write_text(damaged)
        wrong[what] = complaint(outcome_of(script, how, made, capsys), refused=True)
    runs.write_text(text)
    wrong["whole again"] = complaint(outcome_of(script, how, made, capsys), refused=False)
    assert {what: said for what, said in wrong.items() if said} == {}

    missing = script.Args(evaluations=tmp_path / "other_evaluations.csv", output=made / output)
    assert stop_of(script, missing, capsys).startswith(
        f"--evaluations {missing.evaluations}: must be of an earlier call"
    )
    misnamed = script.Args(evaluations=tmp_path / "out.csv", output=made / output)
    assert "its name must end with _evaluations.csv" in stop_of(script, misnamed, capsys)


# ---------------------------------------------------------------------------------------------------------- speed


def evaluate_nothing(agent, env, seeds=None):
    """In place of a script's `evaluate`, which would act for whole episodes: a return and a length."""
    return np.array([0.0]), np.array([1.0])


def test_speed_measures_every_script(monkeypatch, capsys):
    """One short measurement of each loop: the update's operations are those counted by hand, and rates are rates.

    Evaluations, which no loop measures, would take most of the time.
    """
    for script in (d3g_continuous, d3g_from_obs, d3g_gridworld, td3_baseline, bco_baseline):
        monkeypatch.setattr(script, "evaluate", evaluate_nothing)
    monkeypatch.setattr(tempfile, "tempdir", None)  # speed.py sets it; after the test it is as before
    speed.main(speed.Args(passes=20, repeats=1))
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table]
    of = {name: cells for name, *cells in rows[1:]}
    assert {name.split(":")[0] for name in of} - {"Stable-Baselines3"} == {p.name for p in ROOT.glob("*.py")}
    # BCO's policy of 4-256-256-1: forwards of I (8 inputs) and pi, backward of pi without the gradient of its input
    forward = [2 * 256 * (n * 256 + 256 * 256 + 256) for n in (8, 4)]
    backward = 2 * forward[1] - 2 * 256 * 4 * 256
    assert float(of["bco_baseline.py: policy"][1]) == pytest.approx((sum(forward) + backward) / 1e6, abs=0.06)
    for rate, cost, reached, fraction in (x for x in of.values() if x[1]):
        achieved = float(rate.replace(",", "")) * float(cost) / 1000
        reachable = float(reached)  # printed as a whole number, which may be 0.5 off
        assert achieved / (reachable + 0.5) - 0.01 < float(fraction) < achieved / (reachable - 0.5) + 0.01
        assert 0.02 < float(fraction) < 1.2


def test_speed_refuses_passes_without_random_steps():
    command = [sys.executable, ROOT / "benchmark" / "speed.py", "--passes", "3"]
    child = subprocess.run(command, capture_output=True, text=True)
    assert (child.returncode, child.stderr) == (2, "error: --passes 3: must be at least 4\n")


# ------------------------------------------------------------------------------------------------------- Figure 8


@pytest.mark.parametrize("env_id", ["Reacher-v4", "Reacher-v5"])
@pytest.mark.parametrize("shoulder", [0.4, 2.5, -2.8, -0.6])
@pytest.mark.parametrize("elbow", [0.7, 2.2, -2.1, -0.9])
def test_reachers_pose_reproduces_its_observation(env_id, shoulder, elbow):
    """Joints in all four quadrants; a target and a fingertip that were imagined wrongly are put right."""
    env = d3g_from_obs.make_env(env_id).unwrapped
    env.reset(seed=3)
    target = env.data.qpos[2:].copy()
    env.set_state(np.array([shoulder, elbow, *target]), np.array([0.3, -1.2, 0, 0]))
    observation = env._get_obs()
    imagined = observation.astype(np.float32)
    imagined[4:6] += 0.1
    imagined[8:] -= 0.2
    env.reset(seed=4)
    corrected = figure8.set_pose(env, imagined, target)
    np.testing.assert_allclose(env.data.qpos, [shoulder, elbow, *target], atol=1e-6)
    np.testing.assert_allclose(env.data.qvel, [0.3, -1.2, 0, 0], atol=1e-6)
    np.testing.assert_allclose(env._get_obs(), observation, atol=1e-6)
    np.testing.assert_allclose(corrected, observation, atol=1e-6)
    imagined[:4] *= 2  # no cosines and sines: the angles are as before, and the state goes on as it was imagined
    corrected = figure8.set_pose(env, imagined, target)
    np.testing.assert_allclose(env._get_obs(), observation, atol=1e-6)
    np.testing.assert_allclose(corrected[:4], 2 * observation[:4], atol=1e-6)
    np.testing.assert_allclose(corrected[4:], observation[4:], atol=1e-6)


def test_pendulums_pose_is_its_observation():
    env = d3g_from_obs.make_env("InvertedPendulum-v4").unwrapped
    env.reset(seed=0)
    observation = np.array([0.3, -0.1, 1.2, 0.4], np.float32)
    assert figure8.set_pose(env, observation, None) is observation
    np.testing.assert_allclose(env._get_obs(), observation)


def test_a_plan_goes_on_from_corrected_states_until_it_stops():
    class Agent:
        def imagine(self, s, steps):
            assert steps == 1
            return (s + 1).unsqueeze(0)

    plan = figure8.imagine(Agent(), np.zeros(2), lambda s: s * [1, 0], lambda s: s[0] >= 4)
    np.testing.assert_array_equal(plan, [[k, 0] for k in range(5)])
    assert figure8.imagine(Agent(), np.zeros(2)).shape == (201, 2)


@pytest.mark.parametrize(("x", "angle"), [(0.0, 0.0), (0.8, 0.0), (-0.8, 0.15), (0.5, -0.2)])
def test_figure8_draws_the_pole_at_its_angle_wherever_the_cart_is(x, angle, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", os.environ.get("MUJOCO_GL", "egl"))
    env = figure8.make_viewed("InvertedPendulum-v4")
    env.reset(seed=0)
    figure8.set_pose(env, np.array([x, angle, 0.0, 0.0]), None)
    red, green, _ = np.moveaxis(env.render().astype(int), 2, 0)
    rows, columns = np.nonzero((green > 150) & (red < 100))  # the pole is cyan, the cart yellow
    assert np.ptp(rows) > 40
    assert math.atan(-np.polyfit(rows, columns, 1)[0]) == pytest.approx(angle, abs=0.02)


def learn(env_id, **more):
    """Collect a small data set and learn from it, in the current folder's data.npz and run.

    The data's score, of which no figure shows anything, would take 1,000 episodes.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(d3g_from_obs, "evaluate", evaluate_nothing)
        d3g_from_obs.train(d3g_from_obs.Args(env_id=env_id, dataset_size=300, collect="data.npz"))
    small = {"offline_updates": 20, "rounds": 1, "steps_per_round": 20, "inverse_updates": 5, "eval_episodes": 1}
    small |= {"hidden_sizes": (8, 8), "batch_size": 16, "dataset": "data.npz", "run_dir": "run"}
    d3g_from_obs.train(d3g_from_obs.Args(env_id=env_id, **small | more))


@pytest.mark.parametrize(
    ("env_id", "more"),
    [
        ("InvertedPendulum-v4", {"standardize": True, "scale_states": True}),
        ("Reacher-v4", {}),
        ("InvertedDoublePendulum-v4", {}),
    ],
)
def test_figure8(env_id, more, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    learn(env_id, **more)
    command = [sys.executable, ROOT / "benchmark" / "figure8.py", "run"]
    child = subprocess.run(command, capture_output=True, text=True)
    assert (child.returncode, child.stderr) == (0, "")
    *said, last = child.stdout.splitlines()
    if "Double" in env_id:  # curves, and so as SVG too
        assert said.pop() == "figure: run/figure8.png"
        assert last == "figure: run/figure8.svg"
    else:
        assert last == "figure: run/figure8.png"
    picture = imageio.imread(tmp_path / "run" / "figure8.png")
    assert picture[..., :3].std() > 10
    assert (tmp_path / "run" / "figure8.gif").exists() == bool(said) == (env_id != "InvertedDoublePendulum-v4")
    if said:
        steps = int(said[0].split()[1])
        assert said[1:] == ["figure: run/figure8.gif"]
        assert len(imageio.imread(tmp_path / "run" / "figure8.gif", index=None)) == steps + 1
        assert picture.shape[1] >= 1400
    if env_id == "InvertedPendulum-v4":
        before = contents(tmp_path)
        no_renderer = os.environ | {"MUJOCO_GL": "none there"}
        child = subprocess.run(command, capture_output=True, text=True, env=no_renderer)
        assert child.returncode == 2
        assert child.stderr.startswith(f"error: run: must be of a task that can be drawn here, {env_id} is not: ")
        assert child.stderr.count("\n") == 1
        assert contents(tmp_path) == before


@pytest.mark.parametrize("halfway", [False, True])
def test_figure8_draws_the_policy_of_the_run(halfway, tmp_path, monkeypatch):
    """Its agent acts as the weights, the units and the arguments in model.pt say."""
    monkeypatch.chdir(tmp_path)
    learn("InvertedPendulum-v4", standardize=True, scale_states=True, aim_halfway=halfway)
    model = torch.load("run/model.pt", weights_only=True)
    agent, env_id = figure8.load(Path("run"))
    assert env_id == "InvertedPendulum-v4"
    s = torch.tensor([[0.1, -0.05, 0.3, 0.7]])
    told = s / model["state_scale"]
    p = agent.proposal(told)
    assert torch.equal(agent.proposal.layers[0].weight, model["proposal"]["layers.0.weight"])
    with torch.no_grad():
        c = agent.forward_dynamics(told, agent.critic_target[0](told, p))
        aim = (p + c) / 2 if halfway else p
        assert agent.act(s[0].numpy()).tolist() == agent.inverse_dynamics(told, aim)[0].numpy().tolist()
        assert torch.equal(agent.imagine(s, 1)[0], s + model["sigma"] * c)


def test_figure8_refuses_damaged_models(tmp_path, monkeypatch, capsys):
    """Whatever is wrong with model.pt: one line, status 2, nothing written."""
    monkeypatch.chdir(tmp_path)
    learn("InvertedDoublePendulum-v4")
    file = Path("run", "model.pt")
    model = torch.load(file, weights_only=True)
    whole = file.read_bytes()
    made = tmp_path / "made"
    made.mkdir()
    how = figure8.Args(Path("run"), made / "out.png")
    wrong = {"whole": complaint(outcome_of(figure8, how, made, capsys), refused=False)}

    def look(what, content):
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            torch.save(content, file)
        wrong[what] = complaint(outcome_of(figure8, how, made, capsys), refused=True)

    look("empty", b"")
    look("cut", whole[: len(whole) // 2])
    look("no model", b"not a model")
    look("a list", [1, 2])
    look("code", slice(1, 2))
    networks = [name for name, value in model.items() if isinstance(value, dict) and name != "args"]
    for name in (*networks, "args", "obs_dim", "action_low", "action_high"):
        look(f"{name} deleted", {key: value for key, value in model.items() if key != name})
        for value in (None, "x", {}, [[]]):
            look(f"{name} {value}", model | {name: value})
    for name, value in (("env_id", "InvertedPendulum-v4"), ("env_id", "Nowhere-v0"), ("env_id", None), ("env_id", 5)):
        look(f"{name} {value}", model | {"args": model["args"] | {name: value}})
    look("hidden sizes", model | {"args": model["args"] | {"hidden_sizes": (16, 16)}})
    look("no env_id", model | {"args": {name: x for name, x in model["args"].items() if name != "env_id"}})
    for name in networks:
        weights = {key: torch.full_like(value, float("nan")) for key, value in model[name].items()}
        look(f"{name} not finite", model | {name: weights})
    file.unlink()
    wrong["missing"] = complaint(outcome_of(figure8, how, made, capsys), refused=True)
    assert len(networks) >= 5
    assert {what: said for what, said in wrong.items() if said} == {}


def test_figure8_refuses_what_is_not_a_run(tmp_path, capsys):
    status, said, wrote = outcome_of(figure8, figure8.Args(tmp_path), tmp_path, capsys)
    assert said.startswith(f"error: {tmp_path}: must be the folder of a complete run of d3g_from_obs.py: ")
    assert (status, said.count("\n"), wrote) == (2, 1, [])


def test_figure8s_arguments(tmp_path, capsys):
    for arguments, says in [
        ({"seed": -1}, "error: --seed -1: must be at least 0\n"),
        (
            {"output": tmp_path / "plan.gif"},
            f"error: --output {tmp_path / 'plan.gif'}: must be a PNG to write in a folder that exists\n",
        ),
        (
            {"output": tmp_path / "nowhere" / "x.png"},
            f"error: --output {tmp_path / 'nowhere' / 'x.png'}: must be a PNG to write in a folder that exists\n",
        ),
    ]:
        with pytest.raises(SystemExit) as stop:
            figure8.Args(tmp_path, **arguments)
        assert stop.value.code == 2
        assert capsys.readouterr().err == says
