"""Table 1: what D3G and BCO reach from observations of ever more random behaviour, beside the paper's numbers.

    python benchmark/table1.py RUN_DIR [RUN_DIR ...] --output runs/table1.md

Reads args.json, which says what the data were, and evaluations.csv of each run's folder. A seed's score is its highest
evaluation; a cell is mean ± population standard deviation over seeds, and their interquartile mean. A maximum over 10
evaluations is not one over 100: every run is cut to the number of evaluations that all have, and the caption gives the
budget. Beside the Markdown table go three files: `table1.csv`, with a row per task, randomness and algorithm;
`table1_evaluations.csv`, every evaluation; and `table1_runs.json`, the args.json of every run. From the last two
`--evaluations table1_evaluations.csv` takes the runs again where their folders are not at hand.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from drawing import csv_text, fail, interquartile_mean, table_text, take, take_count, write_files
from evaluations import (
    Run,
    check_equal,
    check_seeds,
    default_output,
    describe_versions,
    evaluations_text,
    read_runs,
    runs_text,
    take_task,
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
PLUS = "D3G\u207a"  # with these four options, which the paper has not
OPTIONS = ("standardize", "scale_states", "clamp_values", "aim_halfway")
HEADER = "task,randomness,algorithm,seed,evaluation,step,return_mean"


@dataclass
class Args:
    """Write Table 1 from the folders of runs of d3g_from_obs.py and bco_baseline.py."""

    run_dirs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """folders of runs; what else a pattern such as runs/table1/* finds is an error"""
    evaluations: Path | None = None
    """the X_evaluations.csv of an earlier call, X_runs.json beside it, whose runs are taken as well"""
    output: Path | None = None
    """the Markdown file to write, the others beside it; by default table1.md in the first run's folder, or
    without folders X.md, where those evaluations are"""


def identify(info: dict) -> tuple[dict, range]:
    """Return what a run is and the steps of its evaluations, from its args.json.

    Raises ValueError for one that is not of d3g_from_obs.py or bco_baseline.py, or of whose data nothing is known."""
    args = info["args"]
    if "offline_updates" in args:
        take_count(args, "offline_updates")
        options = [name in args and take(args, name, bool) for name in OPTIONS]
        if any(options) != all(options):
            names = ", ".join(f"--{name.replace('_', '-')}" for name in OPTIONS)
            raise ValueError(f"must have all of {names}, as D3G+, or none, as D3G")
        algorithm = PLUS if all(options) else "D3G"
    elif "policy_updates" in args:
        take_count(args, "policy_updates")
        algorithm = "BCO"
    else:
        raise ValueError(f"must be of d3g_from_obs.py or bco_baseline.py, is of {args.get('exp_name')}")
    take_count(args, "inverse_updates")
    task = take_task(args)
    about = about_data(info)
    if about.get("env_id") != task:
        raise ValueError(f"args.json: must be of data of {task}, are of {about.get('env_id')}")
    seed = take(args, "seed", int)
    identity = {"task": task, "randomness": about["randomness"], "algorithm": algorithm, "seed": seed}
    per_round = take_count(args, "steps_per_round")
    return identity, range(0, per_round * take_count(args, "rounds"), per_round)


def about_data(info: dict) -> dict:
    """Return what args.json says of the data set, its numbers checked; raise ValueError where it says nothing."""
    data = info.get("data")
    if type(data) is not dict or type(data.get("about")) is not dict:
        raise ValueError("args.json: must say what the data are, which had no JSON file of d3g_from_obs.py --collect")
    if type(data.get("sha256")) not in (str, type(None)):
        raise ValueError(f"args.json: sha256 must be that of the data, is {data['sha256']!r}")
    about = dict(data["about"])
    for name in ("randomness", "score", "mean_return"):
        about[name] = take(about, name, float)
    if not 0 <= about["randomness"] <= 1:
        raise ValueError(f"args.json: randomness must be from 0 to 1, is {about['randomness']}")
    return about


def describe(runs: list[Run], n: int) -> str:
    """The caption: the budget and the versions of the runs, which must have one budget per algorithm."""
    budget = []
    for algorithm in ("D3G", PLUS, "BCO"):
        mine = [run for run in runs if run.identity["algorithm"] == algorithm]
        if not mine:
            continue
        check_equal(mine, free=("env_id", "dataset", "randomness", "demonstrator", "rounds"))
        args = mine[0].args
        if algorithm == "BCO":
            updates = f"{args['policy_updates']:,} updates of the policy a round"
        else:
            updates = f"{args['offline_updates']:,} updates offline"
        budget.append(
            f"{algorithm} {updates}, rounds of {args['steps_per_round']:,} steps and "
            f"{args['inverse_updates']:,} updates of the inverse dynamics"
        )
    return (
        f"The highest of {n} evaluations (the paper: of 100): mean ± population standard deviation over seeds (the "
        "paper: 10); in brackets the interquartile mean (IQM), of three seeds or fewer the mean, and the seeds. "
        f"Budget: {'; '.join(budget)}. The paper: 1,000,000 updates offline; 100 rounds, each network 10,000 updates. "
        "Data: the highest of 100 evaluations of the policy that acted, in brackets the mean return of the data. "
        f"Versions: {describe_versions(runs)}."
    )


def check_data(runs: list[Run]) -> dict:
    """Return what is known of the one data set that all runs of a cell have learned from; fail where it is not one."""
    first = about_data(runs[0].info)
    known = {}  # digests, of which runs of before there was one have none
    for run in runs:
        about = about_data(run.info)
        for name in ("score", "mean_return"):
            if about[name] != first[name]:
                fail(f"{run.name}: must be of the same data as {runs[0].name}, {name} {first[name]}, has {about[name]}")
        digest = run.info["data"].get("sha256")
        if digest is not None:
            known.setdefault(digest, run)
    if len(known) > 1:
        one, other = list(known.values())[:2]
        fail(f"{other.name}: must be of the same data as {one.name}, by their sha256 in args.json they are not")
    return first


def tabulate(runs: list[Run], n: int) -> tuple[list[list], list[list[str]]]:
    """Return the rows of the CSV file and those of the Markdown table, a seed's score being the highest of n."""
    names = "task,randomness,algorithm,seeds,evaluations,mean,std,iqm,data_score,data_mean_return"
    numbers = [names.split(",")]
    words = [["task", "% random", "data (mean return)", "data, paper"]]
    words[0] += ["BCO (IQM; seeds)", "BCO, paper", "D3G (IQM; seeds)", "D3G, paper"]
    algorithms = ["BCO", "D3G"]
    if any(run.identity["algorithm"] == PLUS for run in runs):
        words[0].append(f"{PLUS} (IQM; seeds)")
        algorithms.append(PLUS)
    for task, randomness in sorted({(run.identity["task"], run.identity["randomness"]) for run in runs}):
        cell = [run for run in runs if (run.identity["task"], run.identity["randomness"]) == (task, randomness)]
        data = check_data(cell)
        paper = PAPER.get((task.rpartition("-v")[0], randomness), ("", "", ""))
        theirs = dict(zip(("BCO", "D3G"), paper[1:], strict=True))
        words.append([task, f"{100 * randomness:g}", f"{data['score']:.1f} ({data['mean_return']:.1f})", paper[0]])
        for algorithm in algorithms:
            mine = [run for run in cell if run.identity["algorithm"] == algorithm]
            check_seeds(mine)
            ours = ""
            if mine:
                scores = np.array([run.curve[:n, 1].max() for run in mine])
                mean, std, iqm = float(scores.mean()), float(scores.std()), float(interquartile_mean(scores))
                ours = f"{mean:.1f} ± {std:.1f} ({iqm:.1f}; {len(scores)})"
                row = [task, randomness, algorithm, len(scores), n, mean, std, iqm, data["score"], data["mean_return"]]
                numbers.append(row)
            words[-1].append(ours)
            if algorithm in theirs:
                words[-1].append(theirs[algorithm])
    return numbers, words


def main(args: Args) -> None:
    """Read the runs, and write the Markdown table and the files beside it."""
    if args.output and args.output.suffix != ".md":
        fail(f"--output {args.output}: must end in .md")
    runs = read_runs(args.run_dirs, args.evaluations, identify, HEADER)
    for run in runs:
        if not run.complete:
            print(f"{run.name}: not complete, {len(run.curve)} of {len(run.steps)} evaluations: left out")
    runs = [run for run in runs if run.complete]
    if not runs:
        fail("RUN_DIRS: must be at least one complete run, all are incomplete")
    n = min(len(run.curve) for run in runs)
    if any(len(run.curve) > n for run in runs):
        print(f"all runs: cut to {n} evaluations, which all have")
    caption = describe(runs, n)
    numbers, words = tabulate(runs, n)
    output = args.output or default_output(args.run_dirs, args.evaluations, "table1.md")
    write_files(
        {
            output: table_text(caption, words),
            output.with_suffix(".csv"): csv_text(numbers),
            output.with_name(f"{output.stem}_evaluations.csv"): evaluations_text(runs, HEADER),
            output.with_name(f"{output.stem}_runs.json"): runs_text(runs),
        }
    )


if __name__ == "__main__":
    main(tyro.cli(Args))
