"""Figure 7: evaluation returns over environment steps, a panel per task, a curve per algorithm; and a table of them.

    python benchmark/figure7.py RUN_DIR [RUN_DIR ...] --output runs/figure7.png

Reads args.json and evaluations.csv of each run's folder. A curve is the mean over the runs (seeds) of one algorithm on
one task, cut to the steps that all of them have reached. Up to five runs are drawn as thin lines under it; of more, a
band is the 95% bootstrap interval of their mean. Reacher's axis is cut at -15, Ant's at -600. The picture is written as
PNG and SVG, and beside it go four files, of the complete runs: `figure7.md` and `figure7.csv`, per task and algorithm
the final evaluation, the best one and the area under the curve, up to the last step that all of these have (the first
also with a score over all tasks); `figure7_evaluations.csv`, every evaluation; and `figure7_runs.json`, the args.json
of every run. From the last two `--evaluations figure7_evaluations.csv` takes the runs again where their folders are not
at hand.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from drawing import (
    BLUE,
    GREEN,
    ORANGE,
    PINK,
    RED,
    WIDTH,
    bootstrap_interval,
    csv_text,
    draw_curve,
    draw_legend,
    fail,
    interquartile_mean,
    pictures,
    plt,
    table_text,
    take,
    take_count,
    thousands,
    write_files,
)
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
from random_policy import read_random_returns

# In the order of legends and tables
COLORS = {"TD3": GREEN, "DDPG": PINK, "D3G": BLUE, "D3G\u207b": ORANGE, "D3G\u207a": RED}
FROM_BELOW = ("D3G\u207b", "DDPG", "TD3", "D3G\u207a", "D3G")  # in which they are drawn, the last one on top
# Where an axis is cut, since the returns of random policies and of runs that diverge would take most of it
LOWEST = {"Reacher": -15.0, "Ant": -600.0}
MEASURES = ("final", "best", "area")
HEADER = "task,algorithm,seed,step,return_mean"


@dataclass
class Args:
    """Draw evaluation curves from run folders, and write their tables."""

    run_dirs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """folders of runs; what else a pattern such as runs/figure7/* finds is an error"""
    evaluations: Path | None = None
    """the X_evaluations.csv of an earlier call, X_runs.json beside it, whose runs are drawn as well"""
    random: Path = Path(__file__).parent / "results" / "random_policy.csv"
    """the returns of the random policy, from benchmark/random_policy.py: the zero of the scores over tasks"""
    output: Path | None = None
    """the PNG to write, the tables beside it; by default figure7.png in the first run's folder, or without
    folders X.png, where those evaluations are"""


def identify(info: dict) -> tuple[dict, range]:
    """Return what a run is and the steps of its evaluations, from its args.json.

    Raises ValueError for one that is not of d3g_continuous.py or td3_baseline.py."""
    args = info["args"]
    if "algorithm" in args:
        algorithm = {"td3": "TD3", "ddpg": "DDPG"}.get(take(args, "algorithm", str))
    elif "cycle" in args:
        variant = (take(args, "cycle", bool), "standardize" in args and take(args, "standardize", bool))
        algorithm = {(True, False): "D3G", (False, False): "D3G\u207b", (True, True): "D3G\u207a"}.get(variant)
    else:
        raise ValueError(f"must be of d3g_continuous.py or td3_baseline.py, is of {args.get('exp_name')}")
    if algorithm is None:
        raise ValueError("args.json: must be of td3, ddpg, d3g, d3g_no_cycle or d3g_plus of benchmark/figure7.sh")
    identity = {"task": take_task(args), "algorithm": algorithm, "seed": take(args, "seed", int)}
    return identity, range(0, take_count(args, "total_timesteps") + 1, take_count(args, "eval_frequency"))


def cut(name: str, runs: list[Run]) -> np.ndarray:
    """Return the runs' evaluations up to the last step that all have [runs, n, 2], and say so where some have more."""
    n = min(len(run.curve) for run in runs)
    if any(len(run.curve) > n for run in runs):
        print(f"{name}: cut to step {runs[0].curve[n - 1, 0]:.0f}, which all its runs have reached")
    return np.stack([run.curve[:n] for run in runs])


def measure(curves: np.ndarray) -> dict[str, np.ndarray]:
    """Of evaluations [runs, n, 2], each [runs]: the last, the highest, and the mean under the curve by trapezoids."""
    steps, returns = curves[0, :, 0], curves[:, :, 1]
    area = returns[:, 0]
    if len(steps) > 1:
        area = np.trapezoid(returns, steps) / (steps[-1] - steps[0])
    return {"final": returns[:, -1], "best": returns.max(1), "area": area}


def group(runs: list[Run]) -> dict[str, dict[str, list[Run]]]:
    """Sort runs by task and algorithm; fail where those of one algorithm on one task do not belong together."""
    tasks = {}
    for task in dict.fromkeys(run.identity["task"] for run in runs):
        tasks[task] = {}
        for algorithm in COLORS:
            mine = [run for run in runs if run.identity["task"] == task and run.identity["algorithm"] == algorithm]
            if mine:
                check_equal(mine, free=("total_timesteps",))
                check_seeds(mine)
                tasks[task][algorithm] = mine
    return tasks


def tabulate(tasks: dict[str, dict[str, list[Run]]]) -> tuple[list[list], list[list[str]]]:
    """Return the rows of the CSV file and those of the Markdown table, of the complete runs."""
    numbers = [["task", "algorithm", "seeds", "step"]]
    words = [["task", "step", "algorithm", "seeds"]]
    for name in MEASURES:
        numbers[0] += [f"{name}_mean", f"{name}_low", f"{name}_high", f"{name}_iqm"]
        words[0] += [f"{name}: mean [95%]", "IQM"]
    for task, algorithms in tasks.items():
        for algorithm, runs in algorithms.items():
            complete = [run for run in runs if run.complete]
            if not complete:
                continue
            curves = cut(f"table, {algorithm} on {task}", complete)
            step = int(curves[0, -1, 0])
            numbers.append([task, algorithm, len(complete), step])
            words.append([task, f"{step:,}", algorithm, str(len(complete))])
            for values in measure(curves).values():
                low, high = bootstrap_interval(values[:, None])[:, 0].tolist()
                mean, iqm = float(values.mean()), float(interquartile_mean(values))
                numbers[-1] += [mean, low, high, iqm]
                interval = f" [{low:.1f}, {high:.1f}]" if len(complete) > 1 else ""
                words[-1] += [f"{mean:.1f}{interval}", f"{iqm:.1f}"]
    return numbers, words


def scale(tasks: dict[str, dict[str, list[Run]]], random: dict[str, float]) -> dict[str, dict[str, np.ndarray]]:
    """Return of every algorithm, by task, the scaled scores of its complete runs [runs]; say what is left out.

    A score is the last evaluation that all runs of the algorithm have, 0 being the return of the random policy and 1
    the mean of TD3's complete runs at the same step."""
    scores = {algorithm: {} for algorithm in COLORS}
    for task, algorithms in tasks.items():
        td3 = [run for run in algorithms.get("TD3", []) if run.complete]
        if task not in random or not td3:
            print(f"scores: {task} left out, without {'a complete run of TD3' if task in random else 'random returns'}")
            continue
        for algorithm, runs in algorithms.items():
            complete = [run for run in runs if run.complete]
            if not complete:
                continue
            n = min(len(run.curve) for run in complete)
            final = np.array([run.curve[n - 1, 1] for run in complete])
            step = complete[0].curve[n - 1, 0]
            of_td3 = np.concatenate([run.curve[run.curve[:, 0] == step, 1] for run in td3])
            if len(of_td3) < len(td3):
                print(f"scores: {algorithm} on {task} left out, not every run of TD3 has one at step {step:.0f}")
                continue
            one = of_td3.mean()
            if one <= random[task]:
                print(f"scores: {algorithm} on {task} left out, TD3 is not above random actions at step {step:.0f}")
                continue
            scores[algorithm][task] = (final - random[task]) / (one - random[task])
    return {algorithm: of for algorithm, of in scores.items() if of}


def interquartile_mean_over_tasks(scores: list[np.ndarray]) -> np.ndarray:
    """The interquartile mean over the scores of all tasks, [..., runs] of each: [...].

    Every task counts as much as any other: where one has more runs, the scores of the others are repeated. With as many
    runs of each task this is the IQM of rliable (Agarwal et al., NeurIPS 2021)."""
    most = math.lcm(*(of.shape[-1] for of in scores))
    as_many = [np.repeat(of, most // of.shape[-1], axis=-1) for of in scores]
    return interquartile_mean(np.concatenate(as_many, axis=-1))


def stratified_interval(scores: list[np.ndarray], resamples: int = 10_000) -> np.ndarray:
    """The 95% bootstrap interval [2] of the interquartile mean over tasks, the runs [runs] of each task resampled among
    themselves: the percentile method of rliable."""
    rng = np.random.default_rng(0)
    drawn = [of[rng.integers(len(of), size=(resamples, len(of)))] for of in scores]
    return np.percentile(interquartile_mean_over_tasks(drawn), [2.5, 97.5])


def score_table(scores: dict[str, dict[str, np.ndarray]]) -> list[list[str]]:
    """Return the rows of the Markdown table of scores over tasks."""
    rows = [["algorithm", "tasks", "runs", "IQM", "95% interval"]]
    for algorithm, of in scores.items():
        low, high = stratified_interval(list(of.values()))
        interval = f"[{low:.2f}, {high:.2f}]"
        if min(map(len, of.values())) <= 3:
            interval += " (a range)"
        iqm = f"{interquartile_mean_over_tasks(list(of.values())):.2f}"
        rows.append([algorithm, ", ".join(of), str(sum(map(len, of.values()))), iqm, interval])
    return rows


def count_seeds(algorithms: dict[str, list[Run]]) -> str:
    """How many seeds the curves of a task have, such as `3 seeds` or `1 to 3 seeds`."""
    counts = sorted({len(runs) for runs in algorithms.values()})
    number = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{number} seed{'s' if counts[-1] > 1 else ''}"


def draw(tasks: dict[str, dict[str, list[Run]]]) -> plt.Figure:
    """Draw one panel per task, one curve per algorithm."""
    columns = len(tasks) if len(tasks) <= 4 else min(math.ceil(len(tasks) / 2), 4)
    figure_rows = math.ceil(len(tasks) / columns)
    width = WIDTH if columns > 1 else WIDTH * 0.6
    height = 2.0 if columns > 2 else 2.8
    size = (width, height * figure_rows + 0.4)
    figure, axes = plt.subplots(figure_rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axis, (task, algorithms) in zip(axes.flat, tasks.items(), strict=False):
        title = f"{task}\n{count_seeds(algorithms)}"
        for algorithm, runs in algorithms.items():
            curves = cut(f"{algorithm} on {task}", runs)
            below = 2 + 0.1 * FROM_BELOW.index(algorithm)
            draw_curve(axis, curves[0, :, 0], curves[:, :, 1], algorithm, COLORS[algorithm], zorder=below)
        lowest = LOWEST.get(task.split("-")[0], -math.inf)
        if axis.get_ylim()[0] < lowest < axis.get_ylim()[1]:
            axis.set_ylim(bottom=lowest)
            title += f", cut at {lowest:g}"
        axis.set_title(title)
        thousands(axis.xaxis)
        axis.grid(alpha=0.3)
    for axis in axes[:, 0]:
        axis.set_ylabel("return")
    for k, axis in enumerate(axes.flat):
        if k >= len(tasks):
            axis.axis("off")
        elif k + columns >= len(tasks):
            axis.set_xlabel("environment steps")
    draw_legend(figure)
    return figure


def say(run: Run) -> None:
    """Print a line about a run."""
    what = f"{run.name}: {run.identity['algorithm']} on {run.identity['task']}"
    if len(run.curve) == 0:
        print(f"{what}, not complete, no evaluation yet: left out")
        return
    best = run.curve[run.curve[:, 1].argmax()]
    state = "" if run.complete else f"; not complete, at step {run.curve[-1, 0]:.0f}: in no table"
    print(f"{what}, best evaluation {best[1]:.1f} at step {best[0]:.0f}{state}")


def main(args: Args) -> None:
    """Read the runs, and write the PNG and the tables."""
    runs = read_runs(args.run_dirs, args.evaluations, identify, HEADER)
    for run in runs:
        say(run)
    runs = [run for run in runs if len(run.curve) > 0]
    if not runs:
        fail("RUN_DIRS: must be at least one run with an evaluation, none has one yet")
    tasks = group(runs)
    numbers, words = tabulate(tasks)
    output = args.output or default_output(args.run_dirs, args.evaluations, "figure7.png")
    files = pictures(draw(tasks), output)
    complete = [run for run in runs if run.complete]
    if complete:
        files[output.with_name(f"{output.stem}_evaluations.csv")] = evaluations_text(complete, HEADER)
        files[output.with_name(f"{output.stem}_runs.json")] = runs_text(complete)
        caption = (
            "Evaluations of complete runs up to the given step: the last, the highest, and the area under the curve "
            "divided by the steps. Mean over seeds with its 95% bootstrap interval and interquartile mean (IQM); of "
            "three seeds or fewer the interval is no more than their range, and the IQM is the mean. "
            f"Versions: {describe_versions(complete)}."
        )
        files[output.with_suffix(".md")] = table_text(caption, words)
        scores = scale(tasks, read_random_returns(args.random))
        if scores:
            caption = (
                "Over tasks: the interquartile mean (IQM) of the last evaluations, each scaled so that the random "
                "policy is 0 and the mean of TD3 at the same step 1, with its stratified bootstrap interval over runs; "
                "where a task has three seeds or fewer, that is no more than a range. Every task counts as much as any "
                "other, however many runs it has. The rows are over different tasks and steps and do not rank the "
                "algorithms; the IQM leaves out the lowest and the highest quarter, so that a task on which an "
                "algorithm fails may not show in it."
            )
            files[output.with_suffix(".md")] += "\n" + table_text(caption, score_table(scores))
        files[output.with_suffix(".csv")] = csv_text(numbers)
    write_files(files)
    if not complete:
        print("no table: no run is complete")


if __name__ == "__main__":
    main(tyro.cli(Args))
