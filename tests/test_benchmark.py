"""benchmark/: figures drawn from run folders."""

import csv
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import scipy.stats

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmark"))
import drawing  # noqa: E402
import figure7  # noqa: E402
import figure8  # noqa: E402
import table1  # noqa: E402

import d3g_from_obs  # noqa: E402

VERSIONS = {"torch": "2.13.0", "numpy": "2.4.6"}


def write_run(run_dir, returns, env_id="Hopper-v4", every=5000, complete=True, seed=None, versions=VERSIONS, **args):
    """A run's folder as figure7.py and table1.py read it; its seed is by default its name."""
    run_dir.mkdir()
    args = {"env_id": env_id, "seed": int(run_dir.name) if seed is None else seed, "exp_name": "x", **args}
    (run_dir / "args.json").write_text(json.dumps({"args": args, "versions": versions}))
    rows = [f"{every * k},{value},0.0,1.0,{k}" for k, value in enumerate(returns)]
    (run_dir / "evaluations.csv").write_text("\n".join(["step,return_mean,return_std,length_mean,seconds", *rows, ""]))
    if complete:
        (run_dir / "model.pt").touch()
    return run_dir


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
    figure7.main(figure7.Args(tuple(runs), tmp_path / "out.png"))
    (figure,) = kept
    hopper, ant = figure.axes[:2]
    lines = {line.get_label(): line.get_xydata().tolist() for line in hopper.get_lines()}
    assert lines == {
        "D3G (2 seeds)": [[0, 0], [5000, 20], [10000, 35]],
        "D3G\u207b (1 seed)": [[0, 5], [5000, 5], [10000, 5]],
    }
    assert (hopper.get_title(), ant.get_title()) == ("Hopper-v4", "Ant-v4")
    (band,) = hopper.collections
    assert {tuple(v) for v in band.get_paths()[0].vertices.tolist()} >= {
        (5000, 10),
        (5000, 30),
        (10000, 30),
        (10000, 40),
    }
    assert capsys.readouterr().out.splitlines() == [
        f"{runs[0]}: D3G on Hopper-v4, best evaluation 50.0 at step 15000",
        f"{runs[1]}: D3G on Hopper-v4, best evaluation 40.0 at step 10000; not complete, at step 10000: in no table",
        f"{runs[2]}: D3G\u207b on Hopper-v4, best evaluation 5.0 at step 0",
        f"{runs[3]}: TD3 on Ant-v4, best evaluation 2.0 at step 5000; not complete, at step 5000: in no table",
        f"{runs[4]}: TD3 on Ant-v4, not complete, no evaluation yet: left out",
        "table of Hopper-v4: cut to step 10000, which all its runs have reached",
        "D3G on Hopper-v4: cut to step 10000, which all its runs have reached",
        f"figure: {tmp_path / 'out.png'}",
        *(f"table: {tmp_path / name}" for name in ("out_evaluations.csv", "out.md", "out.csv")),
    ]
    picture = imageio.imread(tmp_path / "out.png")
    assert picture.shape[1] > 900
    assert picture[..., :3].std() > 10
    assert [(row["algorithm"], row["seeds"]) for row in read_csv(tmp_path / "out.csv")] == [
        ("D3G", "1"),
        ("D3G\u207b", "1"),
    ]
    assert len(read_csv(tmp_path / "out_evaluations.csv")) == 4 + 3 + 3 + 2
    assert "torch 2.13.0." in (tmp_path / "out.md").read_text()


def test_figure7_tables_of_known_answers(tmp_path, capsys):
    """Five seeds whose last, highest and average evaluations are known by hand; another task has its own last step."""
    runs = [
        write_run(tmp_path / str(k), [0, top, last], algorithm="ddpg", total_timesteps=10_000)
        for k, (top, last) in enumerate([(10, 1), (20, 2), (30, 3), (40, 4), (500, 100)])
    ]
    runs.append(write_run(tmp_path / "9", [2, 4], env_id="Ant-v4", algorithm="ddpg", versions={"torch": "9"}))
    figure7.main(figure7.Args(tuple(runs), tmp_path / "out.png"))
    hopper, ant = read_csv(tmp_path / "out.csv")
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
    assert (ant["step"], ant["final_mean"], ant["area_mean"]) == ("5000", "4.0", "3.0")
    caption, _, header, rule, *rows = (tmp_path / "out.md").read_text().splitlines()
    assert "Versions: numpy 2.4.6, torch 2.13.0 and 9." in caption
    assert header.startswith(
        "| task | step | algorithm | seeds | final: mean [95%] | IQM | best: mean [95%] | IQM | area"
    )
    assert rule.count("---") == 10
    cells = [cell.strip() for cell in rows[0].split("|")[1:-1]]
    assert cells[:6] == ["Hopper-v4", "10,000", "DDPG", "5", f"22.0 [{last[0]:.1f}, {last[1]:.1f}]", "3.0"]
    assert rows[1] == "| Ant-v4 | 5,000 | DDPG | 1 | 4.0 | 4.0 | 4.0 | 4.0 | 3.0 | 3.0 |"
    evaluations = read_csv(tmp_path / "out_evaluations.csv")
    assert len(evaluations) == 17
    assert list(evaluations[1].values()) == ["Hopper-v4", "DDPG", "0", "5000", "10.0"]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (None, "RUN_DIRS: must be at least one folder of a run"),
        ({"tau": 0.1}, "{1}: must have --tau 0.5 like {0}, has 0.1"),
        ({"seed": 0}, "{1}: must be of another seed than {0}, has 0 too"),
        ({"every": 1000}, "table of Hopper-v4: all its runs must have been evaluated at the same steps"),
        ({"algorithm": None}, "{1}: must be a run of d3g_continuous.py or td3_baseline.py, is one of x"),
        ("", "{1}: must be the folder of a run: ValueError"),
        ("step,return_mean\n0,1\n", "{1}: must be the folder of a run: ValueError"),
        (
            "step,return_mean,return_std,length_mean,seconds\n",
            "{1}: must have an evaluation in evaluations.csv, has none",
        ),
        ("step,return_mean,return_std,length_mean,seconds\n0,1,2\n", "{1}: must be the folder of a run: ValueError"),
        (
            "step,return_mean,return_std,length_mean,seconds\n0,1,2,3\n1,1,2,3\n",
            "{1}: must be the folder of a run: Val",
        ),
        (
            "step,return_mean,return_std,length_mean,seconds\n0,x,2,3,4\n",
            "{1}: must be the folder of a run: ValueError",
        ),
        (
            "step,return_mean,return_std,length_mean,seconds\n0,nan,2,3,4\n",
            "{1}: must be the folder of a run: ValueErr",
        ),
        (
            "step,return_mean,return_std,length_mean,seconds\n9,1,2,3,4\n5,1,2,3,4\n",
            "{1}: must be the folder of a run: ValueError('evaluations.csv must have rising steps and finite returns')",
        ),
    ],
)
def test_figure7_refuses(change, error, tmp_path, capsys):
    args = {"algorithm": "td3", "tau": 0.5}
    runs = [write_run(tmp_path / "0", [1, 2], **args)]
    if isinstance(change, str):
        runs.append(write_run(tmp_path / "1", [1, 2], **args))
        (runs[1] / "evaluations.csv").write_text(change)
    elif change:
        args = {name: x for name, x in (args | change).items() if x is not None}
        runs.append(write_run(tmp_path / "1", [1, 2], **args))
    with pytest.raises(SystemExit) as stop:
        figure7.main(figure7.Args(tuple(runs) if change is not None else (), tmp_path / "out.png"))
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert said.startswith("error: " + error.format(*runs))
    assert said.count("\n") == 1
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("out", "must be the name of a picture with its ending, such as out.png"),
        ("out.md", "must be a picture that can be written, such as out.png: Format"),
    ],
)
def test_figure7_refuses_an_output_that_is_not_a_picture(name, error, tmp_path, capsys):
    run = write_run(tmp_path / "0", [1, 2], algorithm="td3")
    with pytest.raises(SystemExit) as stop:
        figure7.main(figure7.Args((run,), tmp_path / name))
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: --output {tmp_path / name}: {error}")
    assert not list(tmp_path.glob("out*"))


def test_figure7_refuses_what_is_not_a_run(tmp_path):
    command = [sys.executable, ROOT / "benchmark" / "figure7.py", tmp_path]
    child = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert child.returncode == 2
    assert child.stderr.startswith(f"error: {tmp_path}: must be the folder of a run: ")
    assert child.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


# -------------------------------------------------------------------------------------------------------- Table 1

D3G = {"offline_updates": 150_000, "inverse_updates": 2000}
BCO = {"policy_updates": 10_000, "inverse_updates": 2000}
DATA = {"dataset": None, "demonstrator": None, "dataset_size": 1000, "dataset_seed": 0, "steps_per_round": 1000}


def write_round(folder, k, returns, task="InvertedPendulum-v4", p=1.0, **how):
    """A run's folder as table1.py reads it."""
    how = DATA | {"rounds": len(returns)} | how
    return write_run(folder / str(k), returns, env_id=task, randomness=p, every=1000, **how)


def test_table1_of_known_answers(tmp_path, monkeypatch, capsys):
    """Highest evaluations of the rounds that all have, population deviation, the data's file found by its name."""
    monkeypatch.chdir(tmp_path)
    Path("expert.pt").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()[:12]
    Path("datasets").mkdir()
    for name, score in (("random1.0__1000__0", 9.25), (f"random0.5__1000__0__{digest}", 31.5)):
        Path("datasets", f"InvertedPendulum-v4__{name}.json").write_text(
            json.dumps({"score": score, "mean_return": 6.0})
        )
    expert = {"p": 0.5, "demonstrator": "expert.pt"}
    runs = [
        write_round(tmp_path, 1, [5, 90, 80, 1000], **D3G),  # the 1000 is beyond the rounds that all have
        write_round(tmp_path, 2, [5, 10, 7], **D3G),
        write_round(tmp_path, 3, [5, 1, 1], seed=1, **BCO),
        write_round(tmp_path, 4, [3, 3], complete=False, rounds=3, **BCO),
        write_round(tmp_path, 5, [2, 4, 3], **expert, **BCO),
        write_round(tmp_path, 6, [-4, -5, -6], task="Reacher-v4", **D3G),
        write_round(tmp_path, 7, [], complete=False, rounds=3, **D3G),
    ]
    (runs[6] / "evaluations.csv").unlink()  # as a run is in its offline phase
    table1.main(table1.Args(tuple(runs), tmp_path / "out.md"))
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{runs[3]}: not complete, 2 of 3 evaluations: left out"
    assert said.pop(1) == f"{runs[6]}: not complete, 0 of 3 evaluations: left out"
    assert said[1] == "all runs: cut to 3 evaluations, which all have"
    assert said[2].startswith("Reacher-v4, randomness 1.0: no score of the data: ")
    assert said[3:] == [f"table: {tmp_path / name}" for name in ("out.md", "out.csv", "out_evaluations.csv")]
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
        "| Reacher-v4 | 100 |  | -40.6 ± 0.5 |  | -9.7 ± 0.8 | -4.0 ± 0.0 (-4.0; 1) | -6.4 ± 0.7 |",
    ]
    numbers = read_csv(tmp_path / "out.csv")
    assert [tuple(row.values()) for row in numbers] == [
        ("InvertedPendulum-v4", "0.5", "BCO", "1", "3", "4.0", "0.0", "4.0", "31.5", "6.0"),
        ("InvertedPendulum-v4", "1.0", "BCO", "1", "3", "5.0", "0.0", "5.0", "9.25", "6.0"),
        ("InvertedPendulum-v4", "1.0", "D3G", "2", "3", "50.0", "40.0", "50.0", "9.25", "6.0"),
        ("Reacher-v4", "1.0", "D3G", "1", "3", "-4.0", "0.0", "-4.0", "", ""),
    ]
    assert len(read_csv(tmp_path / "out_evaluations.csv")) == 4 + 3 + 3 + 3 + 3


def test_table1_has_the_papers_numbers():
    """Some of its Table 1, typed again from the paper."""
    assert len(table1.PAPER) == 10
    assert table1.PAPER["InvertedPendulum", 1.0] == ("8.6 ± 0.3", "31.0 ± 4.7", "1000 ± 0")
    assert table1.PAPER["Reacher", 0.25] == ("-12.5 ± 1.0", "-4.3 ± 0.6", "-4.2 ± 0.6")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (None, "RUN_DIRS: must be at least one folder of a run"),
        ({"complete": False}, "RUN_DIRS: must be at least one complete run, all are incomplete"),
        ({"seed": 0}, "{1}: must be of another seed than {0}, has 0 too"),
        ({"offline_updates": 9}, "{1}: must have --offline-updates 150000 like {0}, has 9"),
        ({"dataset_seed": 3}, "{1}: must have --dataset-seed 0 like {0}, has 3"),
        ({"dataset": "a.npz"}, "{1}: must have learned from a collected data set, not from --dataset a.npz"),
        (
            {"data": "[]"},
            "datasets/InvertedPendulum-v4__random1.0__1000__0.json: must have the score and the mean return",
        ),
    ],
)
def test_table1_refuses(change, error, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    how = dict(change or {})
    if data := how.pop("data", None):
        Path("datasets").mkdir()
        Path("datasets", "InvertedPendulum-v4__random1.0__1000__0.json").write_text(data)
    runs = [write_round(tmp_path, 0, [1, 2], **D3G | {"complete": how.get("complete", True)})]
    runs += [write_round(tmp_path, 1, [1, 2], **D3G | how)] if change else []
    with pytest.raises(SystemExit) as stop:
        table1.main(table1.Args(tuple(runs) if change else (), tmp_path / "out.md"))
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert said.startswith("error: " + error.format(*runs))
    assert said.count("\n") == 1
    assert not list(tmp_path.glob("out*"))


def test_table1_refuses_what_is_not_a_run(tmp_path):
    command = [sys.executable, ROOT / "benchmark" / "table1.py", tmp_path]
    child = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert child.returncode == 2
    assert child.stderr.startswith(f"error: {tmp_path}: must be the folder of a run: ")
    run = write_run(tmp_path / "1", [1, 2], algorithm="td3")
    child = subprocess.run([*command[:-1], run], capture_output=True, text=True, cwd=tmp_path)
    assert child.stderr == f"error: {run}: must be a run of d3g_from_obs.py or bco_baseline.py, is one of x\n"


# ---------------------------------------------------------------------------------------------------------- speed


def test_speed_measures_every_script():
    """One short measurement of each loop: the update's operations are those counted by hand, and rates are rates."""
    command = [sys.executable, ROOT / "benchmark" / "speed.py", "--passes", "20", "--repeats", "1"]
    child = subprocess.run(command, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    rows = [[x.strip() for x in line.split("|")[1:-1]] for line in child.stdout.splitlines() if line.startswith("| ")]
    names, rates, costs, linear, fractions = zip(*rows[1:], strict=True)
    assert {name.split(":")[0] for name in names} - {"Stable-Baselines3"} == {p.name for p in ROOT.glob("*.py")}
    of = dict(zip(names, zip(rates, costs, linear, fractions, strict=True), strict=True))
    # BCO's policy of 4-256-256-1: forwards of I (8 inputs) and pi, backward of pi without the gradient of its input
    forward = [2 * 256 * (n * 256 + 256 * 256 + 256) for n in (8, 4)]
    backward = 2 * forward[1] - 2 * 256 * 4 * 256
    assert float(of["bco_baseline.py: policy"][1]) == pytest.approx((sum(forward) + backward) / 1e6, abs=0.06)
    for rate, cost, reached, fraction in (x for x in of.values() if x[1]):
        expected = float(rate.replace(",", "")) * float(cost) / 1000 / float(reached)
        assert float(fraction) == pytest.approx(expected, abs=0.02)
        assert 0.02 < expected < 1.2


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
        def imagine(self, s):
            return s + 1

    plan = figure8.imagine(Agent(), np.zeros(2), lambda s: s * [1, 0], lambda s: s[0] >= 4)
    np.testing.assert_array_equal(plan, [[k, 0] for k in range(5)])
    assert figure8.imagine(Agent(), np.zeros(2)).shape == (201, 2)


@pytest.mark.parametrize("env_id", ["InvertedPendulum-v4", "Reacher-v4", "InvertedDoublePendulum-v4"])
def test_figure8(env_id, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    how = {"dataset_size": 300, "offline_updates": 20, "rounds": 1, "steps_per_round": 20, "inverse_updates": 5}
    how |= {"hidden_sizes": (8, 8), "batch_size": 16, "eval_episodes": 1}
    d3g_from_obs.train(d3g_from_obs.Args(env_id=env_id, run_dir="run", **how))
    command = [sys.executable, ROOT / "benchmark" / "figure8.py", "run"]
    child = subprocess.run(command, capture_output=True, text=True)
    assert (child.returncode, child.stderr) == (0, "")
    *said, last = child.stdout.splitlines()
    assert last == "figure: run/figure8.png"
    picture = imageio.imread(tmp_path / "run" / "figure8.png")
    assert picture[..., :3].std() > 10
    assert (tmp_path / "run" / "figure8.gif").exists() == bool(said) == (env_id != "InvertedDoublePendulum-v4")
    if said:
        steps = int(said[0].split()[1])
        assert len(imageio.imread(tmp_path / "run" / "figure8.gif", index=None)) == steps + 1
        assert picture.shape[1] >= 1400


def test_figure8_refuses_what_is_not_a_run(tmp_path):
    command = [sys.executable, ROOT / "benchmark" / "figure8.py", tmp_path]
    child = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert child.returncode == 2
    assert child.stderr.startswith(f"error: {tmp_path}: must be the folder of a complete run of d3g_from_obs.py: ")
    assert child.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_figure8s_commands():
    printed = subprocess.run([ROOT / "benchmark" / "figure8.sh", "--seed", "2"], capture_output=True, text=True).stdout
    tasks = ("InvertedPendulum-v4", "Reacher-v4")
    assert printed.splitlines() == [
        f"python d3g_from_obs.py --env-id {x} --run-dir runs/figure8/{x} --resume --seed 2" for x in tasks
    ]


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
