"""benchmark/: figures drawn from run folders."""

import json
import subprocess
import sys
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmark"))
import drawing  # noqa: E402
import figure7  # noqa: E402
import figure8  # noqa: E402

import d3g_from_obs  # noqa: E402


def write_run(run_dir, returns, env_id="Hopper-v4", **args):
    """A run's folder as figure7.py reads it, evaluated every 5,000 steps."""
    run_dir.mkdir()
    (run_dir / "args.json").write_text(json.dumps({"args": {"env_id": env_id, **args}}))
    rows = [f"{5000 * k},{value},0.0,1.0,{k}" for k, value in enumerate(returns)]
    (run_dir / "evaluations.csv").write_text("\n".join(["step,return_mean,return_std,length_mean,seconds", *rows, ""]))
    return run_dir


def test_bootstrap_interval_of_a_known_mean():
    """For many normal values, the mean plus and minus 1.96 standard errors; for equal ones, the value itself."""
    values = np.random.default_rng(0).normal(3, 2, size=(400, 1))
    low, high = drawing.bootstrap_interval(values)[:, 0]
    error = values.std() / np.sqrt(400)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.05 * error * 1.96)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.05 * error * 1.96)
    np.testing.assert_array_equal(drawing.bootstrap_interval(np.full((3, 2), 7.0)), np.full((2, 2), 7.0))


def test_curves_are_means_over_seeds_cut_to_the_common_step(tmp_path, monkeypatch, capsys):
    runs = [
        write_run(tmp_path / "1", [0, 10, 30, 50], cycle=True),
        write_run(tmp_path / "2", [0, 30, 40], cycle=True),
        write_run(tmp_path / "3", [5, 5, 5], cycle=False),
        write_run(tmp_path / "4", [1, 2], env_id="Ant-v4", algorithm="td3"),
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
        f"{runs[1]}: D3G on Hopper-v4, best evaluation 40.0 at step 10000",
        f"{runs[2]}: D3G\u207b on Hopper-v4, best evaluation 5.0 at step 0",
        f"{runs[3]}: TD3 on Ant-v4, best evaluation 2.0 at step 5000",
        "D3G on Hopper-v4: cut to step 10000, which all its runs have reached",
        f"figure: {tmp_path / 'out.png'}",
    ]
    picture = imageio.imread(tmp_path / "out.png")
    assert picture.shape[1] > 900
    assert picture[..., :3].std() > 10


def test_figure7_refuses_what_is_not_a_run(tmp_path):
    command = [sys.executable, ROOT / "benchmark" / "figure7.py", tmp_path]
    child = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert child.returncode == 2
    assert child.stderr.startswith(f"error: {tmp_path}: must be the folder of a run: ")
    assert child.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


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
