"""Figure 7: evaluation returns over environment steps, a panel per task, a curve per algorithm; and a table of them.

    python benchmark/figure7.py RUN_DIR [RUN_DIR ...] --output figure7.png

Reads args.json and evaluations.csv of each run's folder. A curve is the mean over the runs (seeds) of one algorithm on
one task, cut to the steps that all of them have reached; its band is the 95% bootstrap interval of that mean. Beside
the picture go three files: `figure7.md` and `figure7.csv`, per task and algorithm the final evaluation, the best one
and the area under the curve, of complete runs and up to the last step that all of a task have; and
`figure7_evaluations.csv`, every evaluation of every run.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from drawing import (
    BLUE,
    GREEN,
    ORANGE,
    PINK,
    bootstrap_interval,
    check_equal,
    check_seeds,
    describe_versions,
    draw_curve,
    fail,
    interquartile_mean,
    plt,
    read_run,
    write,
    write_csv,
    write_table,
)

COLORS = {"TD3": GREEN, "DDPG": PINK, "D3G": BLUE, "D3G\u207b": ORANGE}  # in the order of legends and tables
MEASURES = ("final", "best", "area")


@dataclass
class Args:
    """Draw evaluation curves from run folders, and write their tables."""

    run_dirs: tyro.conf.Positional[tuple[Path, ...]]
    """folders of runs; what else a pattern such as runs/figure7/* finds is an error"""
    output: Path | None = None
    """the PNG to write, the tables beside it; by default figure7.png in the first run's folder"""


def algorithm_of(run_dir: Path, args: dict) -> str:
    """The algorithm of a run of d3g_continuous.py or td3_baseline.py."""
    if "algorithm" not in args and "cycle" not in args:
        fail(f"{run_dir}: must be a run of d3g_continuous.py or td3_baseline.py, is one of {args['exp_name']}")
    return args["algorithm"].upper() if "algorithm" in args else "D3G" if args["cycle"] else "D3G\u207b"


def stack(name: str, curves: dict[Path, np.ndarray]) -> np.ndarray:
    """Cut the runs' evaluations to the steps that all have [runs, n, 2], and say so; fail where the steps differ."""
    n = min(map(len, curves.values()))
    first = next(iter(curves.values()))[:n, 0]
    if any(not np.array_equal(curve[:n, 0], first) for curve in curves.values()):
        fail(f"{name}: all its runs must have been evaluated at the same steps")
    if any(len(curve) > n for curve in curves.values()):
        print(f"{name}: cut to step {first[-1]:.0f}, which all its runs have reached")
    return np.stack([curve[:n] for curve in curves.values()])


def measure(runs: np.ndarray) -> dict[str, np.ndarray]:
    """Of evaluations [runs, n, 2], each [runs]: the last, the highest, and the mean under the curve by trapezoids."""
    steps, returns = runs[0, :, 0], runs[:, :, 1]
    area = np.trapezoid(returns, steps) / (steps[-1] - steps[0]) if len(steps) > 1 else returns[:, 0]
    return {"final": returns[:, -1], "best": returns.max(1), "area": area}


def tabulate(tasks: dict, complete: set[Path]) -> tuple[list[list], list[list[str]]]:
    """Return the rows of the CSV file and those of the Markdown table, of the complete runs of each task."""
    measures = [f"{name}_{x}" for name in MEASURES for x in ("mean", "low", "high", "iqm")]
    numbers = [["task", "algorithm", "seeds", "step", *measures]]
    words = [["task", "step", "algorithm", "seeds", *(x for m in MEASURES for x in (f"{m}: mean [95%]", "IQM"))]]
    for task, algorithms in tasks.items():
        curves = {run_dir: x for of in algorithms.values() for run_dir, x in of.items() if run_dir in complete}
        cut = dict(zip(curves, stack(f"table of {task}", curves), strict=True)) if curves else {}
        for algorithm in (name for name in COLORS if cut.keys() & algorithms.get(name, {}).keys()):
            runs = np.stack([cut[run_dir] for run_dir in algorithms[algorithm] if run_dir in cut])
            step = f"{runs[0, -1, 0]:.0f}"
            numbers.append([task, algorithm, len(runs), step])
            words.append([task, f"{int(step):,}", algorithm, str(len(runs))])
            for values in measure(runs).values():
                low, high = bootstrap_interval(values[:, None])[:, 0].tolist()
                mean, iqm = float(values.mean()), interquartile_mean(values)
                numbers[-1] += [mean, low, high, iqm]
                words[-1] += [f"{mean:.1f} [{low:.1f}, {high:.1f}]" if len(runs) > 1 else f"{mean:.1f}", f"{iqm:.1f}"]
    return numbers, words


def draw(tasks: dict) -> plt.Figure:
    """Draw one panel per task, one curve with its band per algorithm."""
    columns = min(len(tasks), 4)
    figure_rows = -(-len(tasks) // columns)
    size = (4.2 * columns, 3.2 * figure_rows)
    figure, axes = plt.subplots(figure_rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axis, (task, algorithms) in zip(axes.flat, tasks.items(), strict=False):
        for algorithm in (name for name in COLORS if name in algorithms):
            runs = stack(f"{algorithm} on {task}", algorithms[algorithm])
            label = f"{algorithm} ({len(runs)} seed{'s' if len(runs) > 1 else ''})"
            draw_curve(axis, runs[0, :, 0], runs[:, :, 1], label, COLORS[algorithm])
        axis.set_title(task)
        axis.set_xlabel("environment steps")
        axis.set_ylabel("mean return of an evaluation")
        axis.ticklabel_format(axis="x", style="sci", scilimits=(0, 4), useMathText=True)
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    for axis in list(axes.flat)[len(tasks) :]:
        axis.axis("off")
    return figure


def main(args: Args) -> None:
    """Read the runs, and write the PNG and the tables."""
    if not args.run_dirs:
        fail("RUN_DIRS: must be at least one folder of a run")
    output = args.output or args.run_dirs[0] / "figure7.png"
    infos, tasks, complete = {}, {}, set()
    evaluations = [["task", "algorithm", "seed", "step", "return_mean"]]
    for run_dir in dict.fromkeys(args.run_dirs):
        info, curve, is_complete = read_run(run_dir)
        of = info["args"]
        algorithm = algorithm_of(run_dir, of)
        if len(curve) == 0:
            print(f"{run_dir}: {algorithm} on {of['env_id']}, not complete, no evaluation yet: left out")
            continue
        infos[run_dir] = info
        tasks.setdefault(of["env_id"], {}).setdefault(algorithm, {})[run_dir] = curve
        complete |= {run_dir} if is_complete else set()
        best = curve[curve[:, 1].argmax()]
        state = "" if is_complete else f"; not complete, at step {curve[-1, 0]:.0f}: in no table"
        print(f"{run_dir}: {algorithm} on {of['env_id']}, best evaluation {best[1]:.1f} at step {best[0]:.0f}{state}")
        evaluations += [[of["env_id"], algorithm, of["seed"], f"{step:.0f}", value] for step, value in curve.tolist()]
    if not infos:
        fail("RUN_DIRS: must be at least one run with an evaluation, none has one yet")
    for algorithms in tasks.values():
        for curves in algorithms.values():
            check_equal({run_dir: infos[run_dir]["args"] for run_dir in curves}, ("total_timesteps",))
            check_seeds({run_dir: infos[run_dir]["args"] for run_dir in curves})

    numbers, words = tabulate(tasks, complete)
    write(draw(tasks), output)
    write_csv(output.with_name(f"{output.stem}_evaluations.csv"), evaluations)
    if not complete:
        print("no table: no run is complete")
        return
    versions = describe_versions([infos[run_dir] for run_dir in infos if run_dir in complete])
    caption = (
        "Evaluations of complete runs up to the given step: the last, the highest, and the area under the curve "
        "divided by the steps. Mean over seeds with its 95% bootstrap interval, and interquartile mean (IQM), which of "
        f"three seeds or fewer is the mean. Versions: {versions}."
    )
    write_table(output.with_suffix(".md"), caption, words)
    write_csv(output.with_suffix(".csv"), numbers)


if __name__ == "__main__":
    main(tyro.cli(Args))
