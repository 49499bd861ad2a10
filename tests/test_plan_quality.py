"""benchmark/plan_quality.py: the exact inverse dynamics, and that its agent learns as a run of d3g_from_obs.py does.

And plan_quality_figure.py, which draws its files.
"""

import csv
import subprocess
import sys
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmark"))
import plan_quality  # noqa: E402
import plan_quality_figure  # noqa: E402

import d3g_from_obs  # noqa: E402


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Random data of InvertedPendulum-v4."""
    file = tmp_path_factory.mktemp("data") / "random.npz"
    d3g_from_obs.train(d3g_from_obs.Args(collect=str(file), dataset_size=500))
    return str(file)


@pytest.mark.parametrize(("env_id", "tries"), [("InvertedPendulum-v4", 5), ("Reacher-v4", 5), ("Ant-v4", 2)])
def test_the_best_action_is_the_one_that_leads_to_the_proposal(env_id, tries):
    """And the simulator is left as it was: episodes with the search and without are the same, and so are the rewards,
    which Reacher and Ant compute from positions that the simulator derived in the step before."""
    env = d3g_from_obs.make_env(env_id)
    without = d3g_from_obs.make_env(env_id)
    present = mujoco.MjData(env.unwrapped.model)
    actions = plan_quality.grid_of_actions(env.action_space, tries)
    dimensions = env.action_space.shape[0]
    assert actions.shape == (tries**dimensions, dimensions)
    assert actions.min(0).tolist() == env.action_space.low.tolist()
    assert actions.max(0).tolist() == env.action_space.high.tolist()
    sigma = np.ones(env.observation_space.shape[0])
    env.reset(seed=1)
    without.reset(seed=1)
    rng = np.random.default_rng(0)
    for action in actions[rng.permutation(len(actions))[:4]]:
        after, reward, *_ = without.step(action)
        found = plan_quality.best_action(env, present, actions, after, sigma)
        assert found.tolist() == action.tolist()
        observation, its_reward, *_ = env.step(action)
        assert observation.tolist() == after.tolist()
        assert its_reward == reward


def test_distances_are_in_units_of_sigma():
    """Between an action that meets one component and one that meets another, sigma decides."""

    class Task:
        model = mujoco.MjModel.from_xml_string("<mujoco/>")
        data = mujoco.MjData(model)

        @property
        def unwrapped(self):
            return self

        def step(self, action):
            return ([np.array([1.0, 0.0]), np.array([0.0, 2.0])][int(action[0])],)

    task = Task()
    present = mujoco.MjData(Task.model)
    actions = np.array([[0.0], [1.0]])
    proposed = np.array([1.0, 2.0])
    assert plan_quality.best_action(task, present, actions, proposed, np.array([0.1, 1.0])).tolist() == [0.0]
    assert plan_quality.best_action(task, present, actions, proposed, np.array([1.0, 0.1])).tolist() == [1.0]


def test_a_plan_that_is_not_a_number_stops_the_measurement(dataset, tmp_path, monkeypatch, capsys):
    update = d3g_from_obs.D3G.update

    def spoilt(agent, batch):
        update(agent, batch)
        for parameter in agent.proposal.parameters():
            parameter.data.fill_(np.nan)

    monkeypatch.setattr(d3g_from_obs.D3G, "update", spoilt)
    with pytest.raises(SystemExit) as stop:
        plan_quality.main(plan_quality.Args(dataset, tmp_path / "out.csv", updates=2, frequency=2))
    assert stop.value.code == 1
    assert capsys.readouterr().err.startswith("error: proposal.layers.0.weight is NaN or infinite at step 2; ")


@pytest.mark.parametrize(
    ("how", "algorithm"),
    [
        ({}, "D3G"),
        ({"standardize": True}, "D3G --standardize"),
        ({"standardize": True, "scale_states": True}, "D3G --standardize --scale-states"),
        ({"clamp_values": True}, "D3G --clamp-values"),
    ],
)
def test_learns_as_a_run_does_and_measures_what_it_acts_towards(how, algorithm, dataset, tmp_path, monkeypatch):
    """That is its proposal, then halfway between it and its cycle, at every look."""
    kept = []
    measure = plan_quality.measure

    def measure_and_keep(agent, *others):
        returns = measure(agent, *others)
        kept.append((agent, agent.aim_halfway, returns))
        return returns

    monkeypatch.setattr(plan_quality, "measure", measure_and_keep)
    how = {"dataset": dataset, "seed": 5, **how}
    output = tmp_path / "new" / "plans.csv"
    plan_quality.main(plan_quality.Args(output=output, updates=40, frequency=20, starts=2, tries=3, **how))
    online = {"rounds": 1, "steps_per_round": 5, "inverse_updates": 1, "eval_episodes": 1}
    d3g_from_obs.train(d3g_from_obs.Args(offline_updates=40, run_dir=str(tmp_path / "run"), **online, **how))
    model = torch.load(tmp_path / "run" / "model.pt", weights_only=True)
    agent = kept[-1][0]
    for network in ("critic", "proposal", "forward_dynamics", "critic_target", "proposal_target"):
        for name, tensor in getattr(agent, network).state_dict().items():
            assert torch.equal(tensor, model[network][name]), f"{network}.{name}"

    with open(output, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["update"], row["algorithm"]) for row in rows] == [
        ("20", algorithm),
        ("20", f"{algorithm} --aim-halfway"),
        ("40", algorithm),
        ("40", f"{algorithm} --aim-halfway"),
    ]
    for row, (_, halfway, measured) in zip(rows, kept, strict=True):
        assert [row[name] for name in ("task", "randomness", "seed")] == ["InvertedPendulum-v4", "1.0", "5"]
        assert halfway == row["algorithm"].endswith(" --aim-halfway")
        returns = [float(row[f"return_{k}"]) for k in range(2)]
        assert returns == measured
        assert all(3 <= x <= 1000 for x in returns)
        assert float(row["return_mean"]) == np.mean(returns)


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"updates": 0}, "--updates 0: must be at least 1"),
        ({"frequency": 0}, "--frequency 0: must be at least 1"),
        ({"starts": 0}, "--starts 0: must be at least 1"),
        ({"tries": 1}, "--tries 1: must be at least 2"),
        ({"seed": -1}, "--seed -1: must be from 0 to 2**32 - 1"),
        ({"updates": 2, "frequency": 20}, "--frequency 20: must be at most --updates 2, or nothing is measured"),
        (
            {"env_id": "HalfCheetah-v4"},
            "--tries 31: must be fewer, HalfCheetah-v4 has 6 action dimensions, and 31**6 actions are more than 100",
        ),
        ({"scale_states": True}, "--scale-states True: must be used with --standardize"),
        ({"env_id": "MountainCarContinuous-v0"}, "--env-id MountainCarContinuous-v0: must be a MuJoCo task"),
        (
            {"env_id": "Reacher-v4"},
            "--dataset {}: must be a data set of Reacher-v4, with observations of 11 components",
        ),
        (
            {"updates": 2, "frequency": 2, "output": Path("/dev/null")},
            "--output /dev/null: must be a new file that can be written: ",
        ),
    ],
)
def test_refuses(how, error, dataset, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        plan_quality.main(plan_quality.Args(**{"dataset": dataset, "output": tmp_path / "out.csv", **how}))
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {error.format(dataset)}")
    assert said.count("\n") == 1
    assert not (tmp_path / "out.csv").exists()


def test_refuses_a_task_without_mujoco_where_none_has_been_made_yet(dataset, tmp_path):
    """In a process of its own: once a MuJoCo task is made, Gymnasium has loaded what is asked for here."""
    command = [sys.executable, Path(plan_quality.__file__), "--env-id", "Pendulum-v1", "--dataset", dataset]
    done = subprocess.run([*command, "--output", tmp_path / "out.csv"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "error: --env-id Pendulum-v1: must be a MuJoCo task\n")


HEADER = ",".join(plan_quality_figure.COLUMNS)


def measured(algorithm, seed, returns, randomness="1.0", every=10):
    """A file of plan_quality.py with one start per measurement."""
    rows = [f"{HEADER},return_0"]
    for k, x in enumerate(returns, 1):
        rows.append(f"InvertedPendulum-v4,{randomness},{algorithm},{seed},{k * every},{x},{x}")
    return "\n".join(rows) + "\n"


def test_draws_every_seed_and_their_mean_where_all_were_measured(tmp_path, monkeypatch, capsys):
    """And says where some were not, and writes all rows, from which, beside a further file, it draws again."""
    drawn = []
    monkeypatch.setattr(plan_quality_figure, "draw_curve", lambda axis, *curve: drawn.append((axis.get_title(), curve)))
    monkeypatch.setattr(plan_quality_figure, "draw_legend", lambda figure, **style: None)
    files = [tmp_path / f"{k}.csv" for k in range(4)]
    files[0].write_text(measured("D3G", 1, [5.0, 6.0, 7.0]))
    files[1].write_text(measured("D3G", 2, [8.0, 9.0], every=20))
    files[2].write_text(measured("D3G --standardize --scale-states --clamp-values --aim-halfway", 1, [1000.0]))
    files[3].write_text(measured("D3G", 1, [3.0], randomness="0.5"))
    plan_quality_figure.main(plan_quality_figure.Args(tuple(files[:3]), tmp_path / "plans.png"))
    said = "D3G on InvertedPendulum-v4, 1.0: drawn at 1 of 4 updates, at which all seeds were measured\n"
    assert capsys.readouterr().out.startswith(said)
    first = (tmp_path / "plans.csv").read_text()
    assert first.splitlines()[:2] == [HEADER, "InvertedPendulum-v4,1.0,D3G,1,10,5.0"]
    assert len(first.splitlines()) == 1 + 3 + 2 + 1
    (_, (updates, returns, label, _)), (_, (_, plus, label_plus, _)) = drawn
    assert (updates.tolist(), returns.tolist(), label) == ([20], [[6], [8]], "D3G")
    assert (plus.tolist(), label_plus) == ([[1000]], "D3G\u207a")

    (tmp_path / "again").mkdir()
    output = tmp_path / "again" / "plans.svg"
    plan_quality_figure.main(plan_quality_figure.Args((tmp_path / "plans.csv", files[3]), output))
    again = (tmp_path / "again" / "plans.csv").read_text()
    assert sorted(again.splitlines()) == sorted([*first.splitlines(), "InvertedPendulum-v4,0.5,D3G,1,10,3.0"])
    assert output.exists()
    plan_quality_figure.main(plan_quality_figure.Args((tmp_path / "plans.csv",), tmp_path / "plans.png"))
    assert (tmp_path / "plans.csv").read_text() == first


def test_figure_does_not_write_over_the_single_returns_it_is_made_from(tmp_path, capsys):
    file = tmp_path / "plans.csv"
    file.write_text(measured("D3G", 1, [5.0, 6.0]))
    with pytest.raises(SystemExit) as stop:
        plan_quality_figure.main(plan_quality_figure.Args((file,), tmp_path / "plans.png"))
    assert stop.value.code == 2
    output = tmp_path / "plans.png"
    expected = f"error: --output {output}: must have another name than {file}, which would lose its single returns\n"
    assert capsys.readouterr().err == expected
    assert file.read_text() == measured("D3G", 1, [5.0, 6.0])
    assert not output.exists()


@pytest.mark.parametrize(
    ("contents", "error"),
    [
        (["step,return_mean\n"], "0.csv: must begin with the columns task,randomness,"),
        ([measured(f"D3G {k}", 1, [5.0]) for k in range(3)], "must have at most 2 further algorithms, have"),
        ([measured("D3G", 1, [5.0, 6.0], every=-1)], "updates must ascend"),
        ([measured("D3G", 1, [5.0, np.nan])], "column return_mean must have finite numbers"),
        ([measured("D3G", 1, [5.0]), measured("D3G", 1, [6.0])], "must be equal to that of another file"),
        ([measured("D3G", 1, [5.0]), measured("D3G", 2, [5.0], every=7)], "must have been measured at a common update"),
        ([HEADER + "\n"], "FILES: must have at least one measurement, have none"),
    ],
)
def test_figure_refuses(contents, error, tmp_path, capsys):
    files = []
    for k, content in enumerate(contents):
        files.append(tmp_path / f"{k}.csv")
        files[-1].write_text(content)
    with pytest.raises(SystemExit) as stop:
        plan_quality_figure.main(plan_quality_figure.Args(tuple(files), tmp_path / "plans.png"))
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert error in said
    assert said.count("\n") == 1
    assert not (tmp_path / "plans.png").exists()
