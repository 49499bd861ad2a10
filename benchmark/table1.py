"""Table 1: what D3G and BCO reach from observations of ever more random behaviour, beside the paper's numbers.

    python benchmark/table1.py RUN_DIR [RUN_DIR ...] --output table1.md

Reads args.json and evaluations.csv of each run's folder, and beside the data sets the JSON files with their scores, so
it is to be called from the folder where the runs were started. A seed's score is its highest evaluation; a cell is mean
± population standard deviation over seeds, and their interquartile mean. A maximum over 10 evaluations is not one over
100: every run is cut to the number of evaluations that all have, and the caption gives the budget. Beside the Markdown
table goes a CSV file with a row per task, randomness and algorithm; and `table1_evaluations.csv`, every evaluation.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from drawing import (
    check_equal,
    check_seeds,
    describe_versions,
    fail,
    interquartile_mean,
    read_run,
    write_csv,
    write_table,
)

PAPER = {  # by task and randomness: data, BCO, D3G
    ("Reacher", 0.0): ("-4.1 ± 0.7", "-4.2 ± 0.6", "-14.7 ± 30.5"),
    ("Reacher", 0.25): ("-12.5 ± 1.0", "-4.3 ± 0.6", "-4.2 ± 0.6"),
    ("Reacher", 0.5): ("-22.6 ± 0.9", "-4.9 ± 0.7", "-4.2 ± 0.6"),
    ("Reacher", 0.75): ("-32.6 ± 0.4", "-6.6 ± 1.3", "-4.6 ± 0.6"),
    ("Reacher", 1.0): ("-40.6 ± 0.5", "-9.7 ± 0.8", "-6.4 ± 0.7"),
    ("InvertedPendulum", 0.0): ("1000 ± 0", "1000 ± 0", "3.0 ± 0.9"),
    ("InvertedPendulum", 0.25): ("52.3 ± 3.7", "1000 ± 0", "602.1 ± 487.4"),
    ("InvertedPendulum", 0.5): ("18.0 ± 2.4", "12.1 ± 8.3", "900.2 ± 299.2"),
    ("InvertedPendulum", 0.75): ("11.4 ± 1.3", "12.1 ± 8.3", "1000 ± 0"),
    ("InvertedPendulum", 1.0): ("8.6 ± 0.3", "31.0 ± 4.7", "1000 ± 0"),
}
ALGORITHMS = ("BCO", "D3G")


@dataclass
class Args:
    """Write Table 1 from the folders of runs of d3g_from_obs.py and bco_baseline.py."""

    run_dirs: tyro.conf.Positional[tuple[Path, ...]]
    """folders of runs; what else a pattern such as runs/table1/* finds is an error"""
    output: Path | None = None
    """the Markdown file to write, the CSV files beside it; by default table1.md in the first run's folder"""
    datasets: Path = Path("datasets")
    """the folder of the data sets that were collected"""


def algorithm_of(run_dir: Path, args: dict) -> str:
    """The algorithm of a run; fail if its data were not collected with a given randomness."""
    if "rounds" not in args:
        fail(f"{run_dir}: must be a run of d3g_from_obs.py or bco_baseline.py, is one of {args['exp_name']}")
    if args["dataset"] is not None:
        fail(f"{run_dir}: must have learned from a collected data set, not from --dataset {args['dataset']}")
    return "D3G" if "offline_updates" in args else "BCO"


def read_data(folder: Path, args: dict) -> dict[str, float] | None:
    """Return `score` and `mean_return` of the data set that a run's arguments determine, None if there is no such file.

    It has the name that d3g_from_obs.py gave it."""
    name = "{}__random{randomness}__{dataset_size}__{dataset_seed}".format(args["env_id"].replace("/", "_"), **args)
    try:
        if args["randomness"] < 1:
            name += f"__{hashlib.sha256(Path(args['demonstrator']).read_bytes()).hexdigest()[:12]}"
        data = json.loads((folder / f"{name}.json").read_text())
        return {"score": float(data["score"]), "mean_return": float(data["mean_return"])}
    except OSError as error:
        print(f"{args['env_id']}, randomness {args['randomness']}: no score of the data: {error}")
        return None
    except (ValueError, LookupError, TypeError) as error:
        fail(f"{folder / name}.json: must have the score and the mean return of a data set: {error!r}")


def describe(infos: dict[Path, dict], n: int) -> str:
    """The caption: the budget and the versions of the runs, which must have one budget per algorithm."""
    where = ("env_id", "randomness", "demonstrator", "rounds")
    budget = []
    for algorithm, kind in (("D3G", "offline_updates"), ("BCO", "policy_updates")):
        if runs := {run_dir: info["args"] for run_dir, info in infos.items() if kind in info["args"]}:
            check_equal(runs, where)
            of = next(iter(runs.values()))
            what = "updates offline" if algorithm == "D3G" else "updates of the policy a round"
            budget.append(
                f"{algorithm} {of[kind]:,} {what}, rounds of {of['steps_per_round']:,} steps and "
                f"{of['inverse_updates']:,} updates of the inverse dynamics"
            )
    return (
        f"The highest of {n} evaluations (the paper: of 100): mean ± population standard deviation over seeds (the "
        "paper: 10); in brackets the interquartile mean (IQM), of three seeds or fewer the mean, and the seeds. "
        f"Budget: {'; '.join(budget)}. The paper: 1,000,000 updates offline; 100 rounds, each network 10,000 updates. "
        "Data: the highest of 100 evaluations of the policy that acted, in brackets the mean return of the data. "
        f"Versions: {describe_versions(list(infos.values()))}."
    )


def tabulate(cells: dict, infos: dict[Path, dict], n: int, datasets: Path) -> tuple[list[list], list[list[str]]]:
    """Return the rows of the CSV file and those of the Markdown table, a seed's score being the highest of n."""
    numbers = [
        [
            "task",
            "randomness",
            "algorithm",
            "seeds",
            "evaluations",
            "mean",
            "std",
            "iqm",
            "data_score",
            "data_mean_return",
        ]
    ]
    words = [["task", "% random", "data (mean return)", "data, paper"]]
    words[0] += [x for name in ALGORITHMS for x in (f"{name} (IQM; seeds)", f"{name}, paper")]
    for (task, randomness), algorithms in sorted(cells.items()):
        of_cell = [run_dir for runs in algorithms.values() for run_dir in runs]
        kept = ("demonstrator", "dataset_size", "dataset_seed")  # one data set for all of them
        check_equal({run_dir: {name: infos[run_dir]["args"][name] for name in kept} for run_dir in of_cell})
        first = of_cell[0]
        data = read_data(datasets, infos[first]["args"])
        paper = PAPER.get((task.rpartition("-v")[0], randomness), ("",) * 3)
        words.append([task, f"{100 * randomness:g}", "", paper[0]])
        if data:
            words[-1][2] = f"{data['score']:.1f} ({data['mean_return']:.1f})"
        for algorithm, theirs in zip(ALGORITHMS, paper[1:], strict=True):
            if not (runs := algorithms.get(algorithm)):
                words[-1] += ["", theirs]
                continue
            check_seeds({run_dir: infos[run_dir]["args"] for run_dir in runs})
            scores = np.array([curve[:n, 1].max() for curve in runs.values()])
            mean, std, iqm = float(scores.mean()), float(scores.std()), interquartile_mean(scores)
            words[-1] += [f"{mean:.1f} ± {std:.1f} ({iqm:.1f}; {len(scores)})", theirs]
            numbers.append([task, randomness, algorithm, len(scores), n, mean, std, iqm])
            numbers[-1] += [data["score"], data["mean_return"]] if data else ["", ""]
    return numbers, words


def main(args: Args) -> None:
    """Write the Markdown table and the CSV files."""
    if args.output and args.output.suffix != ".md":
        fail(f"--output {args.output}: must end in .md")
    if not args.run_dirs:
        fail("RUN_DIRS: must be at least one folder of a run")
    infos, cells = {}, {}
    evaluations = [["task", "randomness", "algorithm", "seed", "evaluation", "step", "return_mean"]]
    for run_dir in dict.fromkeys(args.run_dirs):
        info, curve, is_complete = read_run(run_dir)
        of = info["args"]
        algorithm = algorithm_of(run_dir, of)
        if not is_complete:
            print(f"{run_dir}: not complete, {len(curve)} of {of['rounds']} evaluations: left out")
            continue
        infos[run_dir] = info
        cells.setdefault((of["env_id"], of["randomness"]), {}).setdefault(algorithm, {})[run_dir] = curve
        key = [of["env_id"], of["randomness"], algorithm, of["seed"]]
        evaluations += [[*key, k, f"{step:.0f}", value] for k, (step, value) in enumerate(curve.tolist(), 1)]
    if not infos:
        fail("RUN_DIRS: must be at least one complete run, all are incomplete")

    rounds = {run_dir: info["args"]["rounds"] for run_dir, info in infos.items()}
    n = min(rounds.values())
    if max(rounds.values()) > n:
        print(f"all runs: cut to {n} evaluations, which all have")
    caption = describe(infos, n)
    numbers, words = tabulate(cells, infos, n, args.datasets)
    output = args.output or args.run_dirs[0] / "table1.md"
    write_table(output, caption, words)
    write_csv(output.with_suffix(".csv"), numbers)
    write_csv(output.with_name(f"{output.stem}_evaluations.csv"), evaluations)


if __name__ == "__main__":
    main(tyro.cli(Args))
