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
