"""benchmark/many_plans.py: that many agents at once learn what each learns alone, and are measured as alone.

What only a GPU does, the recording of kernels, is not tested here.
"""

import copy
import csv
import json
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import tyro

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmark"))
import many_plans  # noqa: E402
import plan_quality  # noqa: E402

import d3g_from_obs  # noqa: E402

LOW = np.array([-1.0, -2.0], np.float32)
WIDTHS = (4, 0, 1, 4, 1)  # s, a (none), r, s', terminated
CPU = torch.device("cpu")
PLUS = {"standardize": True, "scale_states": True, "clamp_values": True}


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("options", [{}, {"standardize": True}, {"clamp_values": True}, PLUS])
def test_many_agents_learn_what_each_learns_alone(options, double):
    """With the same first weights and the batches that each draws alone, to the last bits of 64-bit floats."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((2, 300, 10)) * [[[1.0]], [[3.0]]]
    rows[..., -1] = rng.random((2, 300)) < 0.1
    seeds = (1, 2, 3)
    alone = []
    for data in rows:
        for seed in seeds:
            torch.manual_seed(seed)
            agent = d3g_from_obs.D3G(4, LOW, -LOW, hidden_sizes=(16, 16), **options)
            if agent.standardize:
                agent.set_units(data[:, :4], data[:, 5:9])
            if agent.scale_states:
                agent.set_state_scale(data[:, :4])
            alone.append(agent)
    first = copy.deepcopy(alone)
    many = many_plans.Agents(alone, 3e-4, CPU)
    batches = many_plans.Batches(torch.from_numpy(rows), WIDTHS, seeds, CPU)
    batches.draw()
    two_updates = many_plans.record(many, batches)
    for _ in range(5):
        two_updates()
    assert many.updates == 10

    for k, agent in enumerate(alone):
        draw = np.random.default_rng(seeds[k % 3])
        for _ in range(10):
            agent.update(torch.from_numpy(rows[k // 3][draw.integers(300, size=256)]).split(WIDTHS, 1))
        written = copy.deepcopy(first[k])
        many.write_to(written, k)
        assert written.updates == 10
        state = written.state_dict()
        for name, learned in agent.state_dict().items():
            assert torch.allclose(state[name], learned, rtol=0, atol=1e-13), name
        for network in ("proposal", "forward_dynamics", "critic.1", "critic_target.1", "proposal_target"):
            name = f"{network}.layers.0.weight"
            assert not torch.allclose(state[name], first[k].state_dict()[name], rtol=0, atol=1e-8), name


def test_draws_ahead_what_is_drawn_one_after_the_other(monkeypatch):
    monkeypatch.setattr(many_plans, "CHUNK", 3)
    rows = torch.arange(2 * 50 * 10, dtype=torch.float32).reshape(2, 50, 10)
    batches = many_plans.Batches(rows, WIDTHS, (7,), CPU)
    alone = [np.random.default_rng(7) for _ in range(2)]
    for k in range(6):
        if k % 3 == 0:
            batches.draw()
        s, a, r, s_next, terminated = batches.next()
        drawn = [data[rng.integers(50, size=256)] for data, rng in zip(rows, alone, strict=True)]
        assert torch.equal(torch.cat((s, a, r, s_next, terminated), -1), torch.stack(drawn))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Random data of InvertedPendulum-v4."""
    file = tmp_path_factory.mktemp("data") / "random.npz"
    d3g_from_obs.train(d3g_from_obs.Args(collect=str(file), dataset_size=500))
    return str(file)


def test_measures_as_plan_quality_does(dataset, tmp_path, monkeypatch):
    """Rows in the order of updates and seeds, towards proposals and halfway."""
    monkeypatch.setattr(many_plans, "CHUNK", 10)
    output = tmp_path / "new" / "plans.csv"
    folder = tmp_path / "many"
    how = {"frequency": 10, "starts": 2, "tries": 3, **PLUS}
    many_plans.main(many_plans.Args((dataset,), output, seeds=(5, 6), updates=20, workers=2, run_dirs=folder, **how))
    with open(output, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    plus = "D3G --standardize --scale-states --clamp-values"
    identities = [(row["algorithm"], row["seed"], row["update"]) for row in rows]
    names = (plus, f"{plus} --aim-halfway")
    assert identities == [(name, seed, update) for update in ("10", "20") for seed in "56" for name in names]
    assert {(row["task"], row["randomness"]) for row in rows} == {("InvertedPendulum-v4", "1.0")}

    env = d3g_from_obs.make_env("InvertedPendulum-v4")
    space = env.action_space
    actions = plan_quality.grid_of_actions(space, 3)
    for seed in (5, 6):
        agent = d3g_from_obs.D3G(4, space.low, space.high, **PLUS)
        checkpoint = torch.load(folder / f"random__{seed}" / "checkpoint.pt", weights_only=True)
        agent.load_state_dict(checkpoint["agent"])
        starts = np.random.SeedSequence((seed, 2)).generate_state(2).tolist()
        for halfway in (False, True):
            agent.aim_halfway = halfway
            returns = plan_quality.measure(agent, env, actions, agent.sigma.numpy(), starts)
            row = rows[identities.index((names[halfway], str(seed), "20"))]
            assert [float(row["return_0"]), float(row["return_1"])] == returns
            assert float(row["return_mean"]) == np.mean(returns)


@pytest.mark.parametrize(("options", "seeds"), [({}, (5, 6)), ({**PLUS, "aim_halfway": True}, (6,))])
def test_d3g_from_obs_goes_on_from_the_checkpoint(options, seeds, dataset, tmp_path, monkeypatch, capfd):
    """The run that the printed command makes, held against the whole run: the same random numbers to the end of the
    offline phase, weights equal but for rounding, and so the same online rounds."""
    monkeypatch.setattr(many_plans, "CHUNK", 10)
    folder = tmp_path / "the runs"
    how = {"frequency": 20, "starts": 1, "tries": 2, "rounds": 2, "inverse_updates": 3, **options}
    many_plans.main(many_plans.Args((dataset,), tmp_path / "a.csv", seeds=seeds, updates=20, run_dirs=folder, **how))
    commands = capfd.readouterr().out.splitlines()
    for seed, command in zip(seeds, commands, strict=True):
        run_dir = folder / f"random__{seed}"
        checkpoint = torch.load(run_dir / "checkpoint.pt", weights_only=True)
        rng = np.random.default_rng(seed)
        for _ in range(20):
            rng.integers(500, size=256)
        assert checkpoint["numpy_rng"] == rng.bit_generator.state
        torch.manual_seed(seed)
        d3g_from_obs.D3G(4, LOW[:1], -LOW[:1])
        assert torch.equal(checkpoint["torch_rng"], torch.get_rng_state())
        assert (checkpoint["updates"], checkpoint["progress"]) == (20, {"step": 0, "episode": 0})

        python, script, *arguments = shlex.split(command)
        assert (python, script) == ("python", "d3g_from_obs.py")
        d3g_from_obs.train(tyro.cli(d3g_from_obs.Args, args=arguments))
        online = {"rounds": 2, "inverse_updates": 3}
        whole = tmp_path / f"whole{seed}"
        args = d3g_from_obs.Args(
            dataset=dataset, seed=seed, offline_updates=20, run_dir=str(whole), **online, **options
        )
        d3g_from_obs.train(args)
        capfd.readouterr()
        assert read(run_dir / "args.json")["data"] == read(whole / "args.json")["data"]
        evaluations = [np.loadtxt(run / "evaluations.csv", delimiter=",", skiprows=1) for run in (run_dir, whole)]
        assert evaluations[0][:, 0].tolist() == [0, 1000]
        np.testing.assert_allclose(evaluations[0][:, :4], evaluations[1][:, :4], rtol=1e-4)
        models = [torch.load(run / "model.pt", weights_only=True) for run in (run_dir, whole)]
        for network in ("critic", "proposal", "forward_dynamics", "inverse_dynamics", "critic_target"):
            # Where a gradient is near 0, rounding alone decides which way Adam goes, by about the learning rate a step
            one, two = (torch.cat([value.flatten() for value in model[network].values()]) for model in models)
            apart = abs(one - two) > 1e-5 + 1e-3 * abs(two)
            assert apart.float().mean() < 0.01, network
            assert abs(one - two).max() < 2 * 3e-4 * 20, network


def read(file: Path) -> dict:
    """The contents of a JSON file."""
    return json.loads(file.read_text())


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"updates": 15_000}, "--updates 15000: must be a multiple of --frequency 10000"),
        ({"updates": 0}, "--updates 0: must be a multiple of --frequency 10000"),
        ({"frequency": 1500}, "--frequency 1500: must be a multiple of 1000"),
        ({"seeds": (1, 1)}, "--seeds 1 1: must be at least one, and none twice"),
        ({"datasets": ()}, "--datasets : must be at least one, and none twice"),
        ({"starts": 0}, "--starts 0: must be at least 1"),
        ({"workers": 0}, "--workers 0: must be at least 1"),
        ({"tries": 1}, "--tries 1: must be at least 2"),
        ({"scale_states": True}, "--scale-states True: must be used with --standardize"),
        ({"env_id": "MountainCarContinuous-v0"}, "--env-id MountainCarContinuous-v0: must be a MuJoCo task"),
        ({"seeds": (1, -1)}, "--seeds -1: must be from 0 to 2**32 - 1"),
        ({"rounds": 10}, "--rounds 10: is of the runs in --run-dirs, must be given with it"),
        ({"aim_halfway": True}, "--aim-halfway True: is of the runs in --run-dirs, must be given with it"),
        ({"rounds": 0}, "--rounds 0: must be at least 1"),
        ({"inverse_updates": 0}, "--inverse-updates 0: must be at least 1"),
        ({"run_dirs": Path("/dev/null/runs")}, "--run-dirs /dev/null/runs: must be a new folder: "),
        ({"run_dirs": Path("/tmp")}, "--run-dirs /tmp: must be a new folder"),
        (
            {"output": Path("/dev/null/plans.csv")},
            "--output /dev/null/plans.csv: must be a new file that can be written",
        ),
    ],
)
def test_refuses(how, error, dataset, tmp_path, capsys):
    output = tmp_path / "plans.csv"
    with pytest.raises(SystemExit) as stop:
        many_plans.main(many_plans.Args(**{"datasets": (dataset,), "output": output, **how}))
    assert stop.value.code == 2
    assert not output.exists()
    *told, said = capsys.readouterr().err.splitlines()
    assert said.startswith(f"error: {error}")
    assert all(line.startswith("data: ") for line in told)


def test_refuses_to_write_over_what_was_measured_before(dataset, tmp_path, capsys):
    earlier = tmp_path / "plans.csv"
    earlier.write_text("measured before\n")
    short = {"updates": 1000, "frequency": 1000}
    with pytest.raises(SystemExit) as stop:
        many_plans.main(many_plans.Args((dataset,), earlier, run_dirs=tmp_path / "runs", **short))
    assert stop.value.code == 2
    assert f"error: --output {earlier}: must be a new file that can be written: " in capsys.readouterr().err
    assert earlier.read_text() == "measured before\n"
    assert not (tmp_path / "runs").exists()


def test_refuses_data_sets_of_several_sizes(dataset, tmp_path, capsys):
    other = str(tmp_path / "other.npz")
    d3g_from_obs.train(d3g_from_obs.Args(collect=other, dataset_size=400))
    with pytest.raises(SystemExit):
        many_plans.main(many_plans.Args((dataset, other), tmp_path / "plans.csv"))
    assert "must have as many transitions as the first one, 500, has 400" in capsys.readouterr().err


def test_refuses_data_sets_of_one_name_where_runs_are_named_after_them(dataset, tmp_path, capsys):
    with pytest.raises(SystemExit):
        many_plans.main(many_plans.Args((dataset, "other/random.npz"), tmp_path / "a.csv", run_dirs=tmp_path / "runs"))
    assert (
        "other/random.npz: must have names that differ, since --run-dirs has folders of them" in capsys.readouterr().err
    )
