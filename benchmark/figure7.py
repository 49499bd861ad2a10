"""Figure 7: evaluation returns over environment steps, a panel per task, a curve per algorithm.

    python benchmark/figure7.py RUN_DIR [RUN_DIR ...] --output figure7.png

Reads args.json and evaluations.csv of each run's folder. A curve is the mean over the runs (seeds) of one algorithm on
one task, cut to the steps that all of them have reached; its band is the 95% bootstrap interval of that mean.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from drawing import BLUE, GREEN, ORANGE, PINK, draw_curve, fail, plt, write

COLORS = {"D3G": BLUE, "D3G\u207b": ORANGE, "TD3": GREEN, "DDPG": PINK}


@dataclass
class Args:
    """Draw evaluation curves from run folders."""

    run_dirs: tyro.conf.Positional[tuple[Path, ...]]
    """folders of runs"""
    output: Path | None = None
    """the PNG to write; by default figure7.png in the first run's folder"""


def read_run(run_dir: Path) -> tuple[str, str, np.ndarray]:
    """Return a run's task, its algorithm, and its evaluations [n, 2]: step, mean return."""
    try:
        args = json.loads((run_dir / "args.json").read_text())["args"]
        rows = (run_dir / "evaluations.csv").read_text().splitlines()[1:]
        curve = np.array([row.split(",")[:2] for row in rows], dtype=np.float64)
        algorithm = args["algorithm"].upper() if "algorithm" in args else "D3G" if args["cycle"] else "D3G\u207b"
        task = args["env_id"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        fail(f"{run_dir}: must be the folder of a run: {error!r}")
    if len(curve) == 0:
        fail(f"{run_dir}: must have an evaluation in evaluations.csv, has none yet")
    return task, algorithm, curve


def main(args: Args) -> None:
    """Draw one panel per task and write the PNG."""
    if not args.run_dirs:
        fail("RUN_DIRS: must be at least one folder of a run")
    curves: dict[str, dict[str, list[np.ndarray]]] = {}
    for run_dir in args.run_dirs:
        task, algorithm, curve = read_run(run_dir)
        curves.setdefault(task, {}).setdefault(algorithm, []).append(curve)
        best = curve[curve[:, 1].argmax()]
        print(f"{run_dir}: {algorithm} on {task}, best evaluation {best[1]:.1f} at step {best[0]:.0f}")

    columns = min(len(curves), 4)
    rows = -(-len(curves) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4.2 * columns, 3.2 * rows), squeeze=False, layout="constrained")
    for axis, (task, algorithms) in zip(axes.flat, curves.items(), strict=False):
        for algorithm, runs in algorithms.items():
            n = min(len(run) for run in runs)
            if any(not np.array_equal(run[:n, 0], runs[0][:n, 0]) for run in runs):
                fail(f"{algorithm} on {task}: all its runs must have been evaluated at the same steps")
            if any(len(run) > n for run in runs):
                print(f"{algorithm} on {task}: cut to step {runs[0][n - 1, 0]:.0f}, which all its runs have reached")
            steps, returns = runs[0][:n, 0], np.stack([run[:n, 1] for run in runs])
            label = f"{algorithm} ({len(runs)} seed{'s' if len(runs) > 1 else ''})"
            draw_curve(axis, steps, returns, label, COLORS[algorithm])
        axis.set_title(task)
        axis.set_xlabel("environment steps")
        axis.set_ylabel("mean return of an evaluation")
        axis.ticklabel_format(axis="x", style="sci", scilimits=(0, 4), useMathText=True)
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    for axis in list(axes.flat)[len(curves) :]:
        axis.axis("off")
    write(figure, args.output or args.run_dirs[0] / "figure7.png")


if __name__ == "__main__":
    main(tyro.cli(Args))
