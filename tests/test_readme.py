"""The README's promises that can be run."""

import re
from pathlib import Path

import numpy as np

import d3g_continuous

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_loading_a_model_and_acting(tmp_path):
    """The README's lines act as the run's last evaluation did: the same return, start state for start state."""
    run_dir = tmp_path / "run"
    args = d3g_continuous.Args(
        env_id="InvertedPendulum-v4",
        total_timesteps=400,
        learning_starts=200,
        eval_frequency=400,
        eval_episodes=3,
        hidden_sizes=(24, 16),
        run_dir=str(run_dir),
    )
    d3g_continuous.train(args)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(code.split("\n\n")[1].strip().splitlines()) == 6, "loading and acting in six lines"
    names = {}
    exec(code.replace("runs/demo", str(run_dir)), names)
    assert names["env"].action_space.contains(names["action"].astype(np.float32))
    seeds = np.random.SeedSequence((1, 2)).generate_state(3).tolist()
    env = d3g_continuous.make_env("InvertedPendulum-v4")
    returns, lengths = d3g_continuous.evaluate(names["agent"], env, seeds, None)
    last = (run_dir / "evaluations.csv").read_text().splitlines()[-1].split(",")
    assert [str(returns.mean()), str(returns.std()), str(lengths.mean())] == last[1:4]


def test_every_script_is_in_the_table():
    rows = re.findall(r"^\| `(\w+\.py)` \| \S.* \|$", README, re.M)
    assert sorted(rows) == sorted(p.name for p in ROOT.glob("*.py"))


def test_every_argument_that_may_change_on_resume_is_named():
    sentence = re.search(r"The\s+arguments must be those of `args.json`, except (.*?)\.\n", README, re.S)[1]
    named = set(re.findall(r"`--([\w-]+)`", sentence))
    source = (ROOT / "d3g_continuous.py").read_text()
    free = set(re.search(r"given.keys\(\) - \{(.*?)\}", source)[1].replace('"', "").replace("_", "-").split(", "))
    assert named == free
