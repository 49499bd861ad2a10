"""Figure 6: values, distance of the proposals and paths of D3G (top) and D3G- (bottom) in the gridworld.

    python benchmark/figure6.py ROOT --output figure6.png

Reads the complete runs in the root folder of d3g_gridworld.py. Heatmaps are means over seeds, bands 95% bootstrap
intervals of the mean; every seed's path is drawn, up to the goal. Prints what each run has learned in numbers.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from drawing import BLUE, ORANGE, bootstrap_interval, draw_curve, draw_heatmap, fail, plt, write

VARIANTS = {"d3g": ("D3G", BLUE), "d3g_no_cycle": ("D3G\u207b", ORANGE)}


@dataclass
class Args:
    """Draw Figure 6 from the root folder of gridworld runs."""

    root: tyro.conf.Positional[Path]
    """root folder, which has the folders {variant}/seed{k}"""
    output: Path | None = None
    """the PNG to write; by default figure6.png in the root folder"""


def read_run(run_dir: Path) -> dict[str, np.ndarray]:
    """Return the tables of a run's panels and its evaluations, and the optimal values [121] under its discount."""
    try:
        names = ("values", "distances", "path", "evaluations")
        tables = {name: np.loadtxt(run_dir / f"{name}.csv", delimiter=",", skiprows=1, ndmin=2) for name in names}
        gamma = json.loads((run_dir / "args.json").read_text())["args"]["gamma"]
        steps = 20 - tables["values"][:, 0] - tables["values"][:, 1]  # to the goal, each but the last one for -1
    except (OSError, ValueError, LookupError, TypeError) as error:
        fail(f"{run_dir}: must be the folder of a complete run of d3g_gridworld.py: {error!r}")
    optimum = [gamma ** (n - 1) - sum(gamma**k for k in range(int(n) - 1)) for n in steps]
    return tables | {"optimum": np.array(optimum)}


def steps_to_goal(path: np.ndarray) -> int | None:
    """After how many proposals a path [n, 3] of k, row, column is nearest to the goal's cell; None if never."""
    there = np.flatnonzero((np.round(path[:, 1:]) == 10).all(1))
    return int(there[0]) if len(there) else None


def main(args: Args) -> None:
    """Print a line per run, draw a row per variant and write the PNG."""
    figure, axes = plt.subplots(2, 3, figsize=(12, 7), layout="constrained")
    for row, (variant, (label, color)) in zip(axes, VARIANTS.items(), strict=True):
        folders = sorted(args.root.glob(f"{variant}/seed*"), key=lambda folder: (len(folder.name), folder.name))
        complete = [folder for folder in folders if (folder / "model.pt").exists()]
        for folder in folders:
            if folder not in complete:
                print(f"{folder}: not complete, left out")
        if not complete:
            fail(f"{args.root}: must hold complete runs of d3g_gridworld.py in {variant}/, has none")
        runs = [read_run(folder) for folder in complete]
        means = []
        for folder, run in zip(complete, runs, strict=True):
            values, over = run["values"][:, 2], (run["values"][:, 2] - run["optimum"])[:-1]
            last = run["distances"][-(len(run["distances"]) // 10) or None :, 1].mean()
            means.append(last)
            steps = steps_to_goal(run["path"])
            print(f"{folder}: value at the start {values[0]:.4g} (optimum {run['optimum'][0]:.2f}), ", end="")
            print(
                f"next to the goal {values[-2]:.4g} ({run['optimum'][-2]:.2f}), overestimation {over.mean():.4g}, ",
                end="",
            )
            print(
                f"distance {last:.3g}, path {'misses the goal' if steps is None else f'at the goal after {steps}'}, ",
                end="",
            )
            print(f"greedy return {run['evaluations'][-1, 1]:.0f}")
        low, high = bootstrap_interval(np.array(means)[:, None])[:, 0]
        print(f"{label}: mean distance over the last tenth of training {np.mean(means):.3g} [{low:.3g}, {high:.3g}]")
        seeds = f"{len(runs)} seed{'s' if len(runs) > 1 else ''}"
        values = np.mean([run["values"][:, 2] for run in runs], axis=0)
        values[-1] = np.nan  # nothing is ever proposed from the goal
        draw_heatmap(row[0], values, "Q(s, s + \u03c4(s))", cmap="viridis")
        row[0].set_title(f"{label}: value, mean over {seeds}")
        if any(not np.array_equal(run["distances"][:, 0], runs[0]["distances"][:, 0]) for run in runs):
            fail(f"{args.root}: all runs of {variant} must have been evaluated at the same steps")
        distances = np.stack([run["distances"][:, 1] for run in runs])
        draw_curve(row[1], runs[0]["distances"][:, 0], distances, label, color)
        row[1].set(title=f"{label}: distance of the proposal", xlabel="environment steps")
        if distances.max() > 100:
            row[1].set_yscale("symlog", linthresh=1)
        row[1].set_ylim(0, None)
        row[1].set_ylabel("cells from s + \u03c4(s) to N(s), s = start")
        row[1].grid(alpha=0.3)
        for run in runs:
            path = run["path"][: (steps_to_goal(run["path"]) or len(run["path"])) + 1]
            row[2].plot(path[:, 2], path[:, 1], "o-", color=color, markersize=3, linewidth=1, alpha=0.6)
        row[2].add_patch(plt.Rectangle((-0.5, -0.5), 11, 11, fill=False, color="black"))
        row[2].text(10, 10, "G", ha="center", va="center", fontweight="bold")
        row[2].set(title=f"{label}: paths of repeated proposals", xlabel="column", ylabel="row", aspect="equal")
        row[2].set(xlim=(-3, 15), ylim=(15, -3), xticks=range(0, 11, 2), yticks=range(0, 11, 2))
        row[2].grid(alpha=0.3)
    write(figure, args.output or args.root / "figure6.png")


if __name__ == "__main__":
    main(tyro.cli(Args))
