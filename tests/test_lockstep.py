"""benchmark/lockstep.py beside stand-ins for the authors' classes: it finds equal what is equal, and nothing else."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmark"))
import lockstep  # noqa: E402

import bco_baseline  # noqa: E402

STANDIN = (ROOT / "tests/authors_standin.py").read_text()
NAMES = (
    "D3G, d3g_continuous.py",
    "D3G from observations, d3g_from_obs.py",
    "its imagined plan, a step",
    "TD3, td3_baseline.py",
    "DDPG, td3_baseline.py",
    "BCO, bco_baseline.py",
)


def write_standin(folder, text=STANDIN):
    (folder / "D3G").mkdir()
    for name in lockstep.CLASSES:
        (folder / "D3G" / f"{name}.py").write_text(text)
    return folder


def compare(folder, capsys, **how):
    """The exit status of main, its differences by name, and its standard error."""
    status = 0
    try:
        lockstep.main(lockstep.Args(folder, **how))
    except SystemExit as stop:
        status = stop.code
    finally:
        torch.set_default_dtype(torch.float32)
    out, error = capsys.readouterr()
    lines = [re.fullmatch(r"(.+): (\S+)", line) for line in out.splitlines()[1:]]
    return status, {line[1]: float(line[2]) for line in lines}, error


def test_classes_that_are_the_same_are_equal_to_rounding(tmp_path):
    command = [sys.executable, "benchmark/lockstep.py", str(write_standin(tmp_path)), "--updates", "10"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0
    assert process.stderr == ""
    first, *lines = process.stdout.splitlines()
    assert first == f"10 updates beside {tmp_path} at unknown commit, float64"
    assert tuple(line.rsplit(": ", 1)[0] for line in lines) == NAMES
    values = [float(line.rsplit(": ", 1)[1]) for line in lines]
    assert max(values) < 1e-13
    assert min(values[:2] + values[3:]) > 0  # they were computed in two ways


@pytest.mark.parametrize(
    ("old", "new", "different"),
    [
        ("0.995 * p.data + 0.005 * q.data", "0.994 * p.data + 0.006 * q.data", {0, 1, 2, 3, 4}),
        ("aim = s_next + self.model_target(s_next)", "aim = s_next + self.model(s_next)", {0, 1, 2}),
        ("self.difference(s_next, aim, self.critic_target)", "self.difference(s_next, aim, self.critic)", {1, 2}),
        ("F.mse_loss(reached, aim) -", "F.mse_loss(reached.detach(), aim) -", {0, 1, 2}),
        ("self.model(s), self.critic_target))", "self.model(s), self.critic))", {2}),
        ("torch.randn_like(a) * self.noise[0]", "torch.randn_like(a) * self.noise[1]", {3}),
        ("self.learn(1e-3, critic", "self.learn(3e-4, critic", {4}),
        ('self.descend("bc", F.mse_loss(self.bounded(self.bc, s), a))', "pass", {5}),
        ("return self.bound * torch.tanh", "return torch.tanh", {0, 1, 3, 4, 5}),
    ],
)
def test_a_class_that_differs_is_found(old, new, different, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(lockstep, "BATCH", 32)  # to be fast
    assert STANDIN.count(old) == 1
    status, values, error = compare(write_standin(tmp_path, STANDIN.replace(old, new)), capsys, updates=4)
    assert {k for k, name in enumerate(NAMES) if values[name] > 1e-11} == different
    assert all(values[name] < 1e-13 for k, name in enumerate(NAMES) if k not in different)
    assert status == 1
    assert re.fullmatch(r"error: the largest relative difference, \S+, is above 1e-12\n", error)


def test_a_parameter_that_is_not_a_number_is_found(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(lockstep, "BATCH", 32)
    update = bco_baseline.BCO.update_policy

    def spoilt(agent, batch):
        update(agent, batch)
        for parameter in agent.policy.parameters():
            parameter.data.fill_(np.nan)

    monkeypatch.setattr(bco_baseline.BCO, "update_policy", spoilt)
    status, values, error = compare(write_standin(tmp_path), capsys, updates=1)
    assert np.isnan(values[NAMES[5]])
    assert (status, error) == (1, "error: the largest relative difference, inf, is above 1e-12\n")


def test_refuses_what_is_not_the_repository(tmp_path, capsys):
    folder = tmp_path / "empty"
    folder.mkdir()
    start = f"error: AUTHORS_FOLDER {folder}: "
    expected = f"{start}must be a clone of github.com/uber-research/D3G, has no D3G/D3G.py\n"
    assert compare(folder, capsys) == (2, {}, expected)

    write_standin(folder, "import a_package_that_is_not_there")
    expected = "D3G/D3G.py cannot be imported: ModuleNotFoundError: No module named 'a_package_that_is_not_there'\n"
    assert compare(folder, capsys) == (2, {}, start + expected)

    for name in lockstep.CLASSES:
        (folder / "D3G" / f"{name}.py").write_text(STANDIN.replace("class DDPG", "class Other"))
    expected = f"{start}D3G/OurDDPG.py must be that of the authors, has no class DDPG\n"
    assert compare(folder, capsys) == (2, {}, expected)

    for name in lockstep.CLASSES:
        (folder / "D3G" / f"{name}.py").write_text(STANDIN.replace("def train_bc", "def other"))
    status, values, error = compare(folder, capsys, updates=1)
    expected = f"{start}must have the authors' classes, but with ours bco ends in AttributeError: "
    assert status == 2
    assert tuple(values) == NAMES[:5]
    assert error.startswith(expected)


def test_refuses_no_updates(tmp_path, capsys):
    assert compare(tmp_path, capsys, updates=0) == (2, {}, "error: --updates 0: must be at least 1\n")


def test_the_commit_of_a_clone_is_named(tmp_path):
    assert lockstep.read_commit(tmp_path) == "unknown commit"
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", tmp_path, "init", "--quiet"], check=True)
    subprocess.run(["git", "-C", tmp_path, *identity, "commit", "--quiet", "--allow-empty", "-m", "first"], check=True)
    head = subprocess.run(["git", "-C", tmp_path, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert lockstep.read_commit(tmp_path) == head.stdout[:12]
    (tmp_path / "inside").mkdir()
    assert lockstep.read_commit(tmp_path / "inside") == "unknown commit"
