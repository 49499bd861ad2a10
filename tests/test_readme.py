"""The README's promises that can be run."""

import re
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

import d3g_continuous
import td3_baseline

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SHORT = {
    "env_id": "InvertedPendulum-v4",
    "total_timesteps": 400,
    "learning_starts": 200,
    "eval_frequency": 400,
    "eval_episodes": 3,
    "hidden_sizes": (24, 16),
}
ALGORITHMS = {  # of each its script, its arguments, and what the README changes in its lines for it
    "D3G": (d3g_continuous, {}, []),
    "D3G-": (d3g_continuous, {"cycle": False}, [("hidden_sizes=", "cycle=False, hidden_sizes=")]),
    "D3G+": (
        d3g_continuous,
        {"standardize": True},
        [("hidden_sizes=", "standardize=True, hidden_sizes="), ("env =", 'agent.sigma.copy_(model["sigma"])\nenv =')],
    ),
    "TD3": (td3_baseline, {}, [("D3G", "TD3"), ("d3g_continuous", "td3_baseline")]),
    "DDPG": (
        td3_baseline,
        {"algorithm": "ddpg"},
        [("D3G", "TD3"), ("d3g_continuous", "td3_baseline"), ("hidden_sizes=", "num_critics=1, hidden_sizes=")],
    ),
}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_loading_a_model_and_acting(algorithm, tmp_path):
    """The README's lines act as the run's last evaluation did: the same return, start state for start state."""
    script, how, changes = ALGORITHMS[algorithm]
    run_dir = tmp_path / "run"
    script.train(script.Args(**SHORT, **how, run_dir=str(run_dir)))
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(code.split("\n\n")[1].strip().splitlines()) == 8, "loading and acting in eight lines"
    for old, new in changes:
        assert old in code
        assert new.split(",")[0].split("\n")[0] in README
        code = code.replace(old, new)
    names = {}
    exec(code.replace("runs/demo", str(run_dir)), names)
    assert isinstance(names["env"].unwrapped, gym.envs.mujoco.MujocoEnv)
    action = names["action"]
    assert names["env"].action_space.contains(action), f"{action} of {action.dtype}, without a cast"
    seeds = np.random.SeedSequence((1, 2)).generate_state(3).tolist()
    env = script.make_env("InvertedPendulum-v4")
    returns, lengths = script.evaluate(names["agent"], env, seeds)
    last = (run_dir / "evaluations.csv").read_text().splitlines()[-1].split(",")
    assert [str(returns.mean()), str(returns.std()), str(lengths.mean())] == last[1:4]
    model = torch.load(run_dir / "model.pt", weights_only=True)
    assert set(dict(names["agent"].named_children())) == {name for name, x in model.items() if isinstance(x, dict)} - {
        "args"
    }


def test_every_script_is_in_the_table():
    rows = re.findall(r"^\| `(\w+\.py)` \| \S.* \|$", README, re.M)
    assert sorted(rows) == sorted(p.name for p in ROOT.glob("*.py"))


def test_every_argument_that_may_change_on_resume_is_named():
    sentence = re.search(r"The\s+arguments must be those of `args.json`, except (.*?)\.\n", README, re.S)[1]
    named = re.findall(r"`--([\w-]+)`", sentence)
    assert len(named) == len(set(named))
    assert set(named) == {name.replace("_", "-") for name in d3g_continuous.MAY_DIFFER_ON_RESUME}


def test_every_argument_in_the_text_exists():
    """Of those written as `--name`: a script's, or one of benchmark/'s."""
    files = [*ROOT.glob("*.py"), *ROOT.glob("benchmark/*.py"), *ROOT.glob("benchmark/*.sh")]
    code = "\n".join(file.read_text() for file in files)
    for name in sorted(set(re.findall(r"`--([a-z][\w-]*)", README))):
        field = name.removeprefix("no-").replace("-", "_")
        assert re.search(rf"^    {field}: |--{name}\b", code, re.M), f"--{name}"
