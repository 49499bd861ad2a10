"""Figure 4: greedy returns over training in the gridworld with redundant (a, b, c) and permuted (d) actions.

    python benchmark/figure4.py RUN_DIR [RUN_DIR ...] --output runs/figure4.png

Reads runs of `tabular_qss.py --experiment figure4a`, `figure4b`, `figure4c` and `figure4d`, one of each or fewer.
Curves are means over seeds, bands 95% bootstrap intervals of the mean; the dotted line is the optimum. In (d), where
single evaluations jump up and down, a point is the mean over those within 20% of its episode.
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
    RED,
    WIDTH,
    draw_curve,
    draw_legend,
    fail,
    plt,
    read_curves,
    thousands,
    write,
)

OPTIMUM = -18  # of 20 steps, 19 cost 1 each, and the last one, to the goal, gives 1

TITLES = {
    "figure4a": "(a)  QSA",
    "figure4b": "(b)  QSS, inverse dynamics given",
    "figure4c": "(c)  QSS, inverse dynamics learned",
    "figure4d": "(d)  transfer to permuted actions",
}
STYLES = {  # of (algorithm, setting); a setting is a number of actions, or how (d) begins
    ("QSA", "4"): (GREEN, "-"),
    ("QSA", "40"): (PINK, "--"),
    ("QSA", "400"): (RED, "-."),
    ("QSS", "4"): (GREEN, "-"),
    ("QSS", "40"): (PINK, "--"),
    ("QSS", "400"): (RED, "-."),
    ("QSA", "transfer"): (ORANGE, "-"),
    ("QSA", "scratch"): (ORANGE, "--"),
    ("QSS", "transfer"): (BLUE, "-"),
    ("QSS", "scratch"): (BLUE, "--"),
}


@dataclass
class Args:
    """Draw Figure 4, or the parts that are there, from run folders."""

    run_dirs: tyro.conf.Positional[tuple[Path, ...]]
    """folders of runs"""
    output: Path | None = None
    """the PNG to write; by default figure4.png in the first run's folder"""


def smooth(episodes: np.ndarray, returns: np.ndarray) -> np.ndarray:
    """Of returns [seeds, n], at every episode the mean of those within 20% of it [seeds, n]."""
    smoothed = [returns[:, (episodes >= x / 1.2) & (episodes <= x * 1.2)].mean(1) for x in episodes]
    return np.stack(smoothed, axis=1)


def main(args: Args) -> None:
    """Draw a panel per run and write the PNG."""
    if not args.run_dirs:
        fail("RUN_DIRS: must be at least one folder of a run")
    runs = {}
    for run_dir in args.run_dirs:
        run, episodes, curves = read_curves(run_dir, tuple(TITLES))
        if run["experiment"] in runs:
            fail(f"{run_dir}: must be the only run of {run['experiment']}")
        runs[run["experiment"]] = (run, episodes, curves)
    rows, columns = (2, 2) if len(runs) > 2 else (1, len(runs))
    figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, 2.3 * rows), squeeze=False, layout="constrained")
    for axis, (experiment, (run, episodes, curves)) in zip(axes.flat, sorted(runs.items()), strict=False):
        if experiment == "figure4d":
            curves = {key: smooth(episodes, returns) for key, returns in curves.items()}
            axis.set_xscale("symlog", linthresh=10, linscale=0.3)
        for (algorithm, setting), returns in curves.items():
            color, line = STYLES[algorithm, setting]
            label = f"{setting} actions" if setting.isdigit() else f"{algorithm}, {setting}"
            draw_curve(axis, episodes, returns, label, color, linestyle=line)
        axis.axhline(OPTIMUM, color="black", linestyle=":", linewidth=0.8)
        after = " with the new labels" if experiment == "figure4d" else ""
        axis.set(title=TITLES[experiment], xlabel=f"training episodes{after}", ylim=(-520, 10))
        axis.set_ylabel(f"greedy return ({run['num_seeds']} seeds)")
        thousands(axis.xaxis)
        axis.grid(alpha=0.3)
    draw_legend(figure, ncols=4)
    for axis in list(axes.flat)[len(runs) :]:
        axis.axis("off")
    write(figure, args.output or args.run_dirs[0] / "figure4.png")


if __name__ == "__main__":
    main(tyro.cli(Args))
