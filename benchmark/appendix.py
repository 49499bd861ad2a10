"""The tabular figures of the appendix: greedy returns of QSA and QSS where actions slip, and beside a windy cliff.

    python benchmark/appendix.py RUN_DIR [RUN_DIR ...] --output runs/appendix.png

Reads runs of `tabular_qss.py --experiment appendix_stochastic` and `appendix_windy`, both or one. Curves are means over
seeds, bands 95% bootstrap intervals of the mean; the dotted line is the highest return that any policy has in
expectation. Below each panel the last third of training is drawn again, enlarged.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import tyro
from drawing import BLUE, ORANGE, WIDTH, draw_curve, draw_legend, fail, plt, read_curves, thousands, write


@dataclass
class Args:
    """Draw the tabular figures of the appendix from run folders."""

    run_dirs: tyro.conf.Positional[tuple[Path, ...]]
    """folders of runs"""
    output: Path | None = None
    """the PNG to write; by default appendix.png in the first run's folder"""


@cache  # both algorithms have the same ones
def optimum(setting: str) -> float:
    """The highest expected undiscounted return from the start, with slips within the 500 steps of an episode.

    Beside the windy cliff the first step, taken from the bottom row, ends half of all episodes, and no other need be
    taken from there. With slips it is computed backwards from the last step, cell by cell.
    """
    if setting == "windy":
        return 0.5
    slip = float(setting)
    values = np.zeros((11, 11))
    for _ in range(500):
        walled = np.pad(values, 1, mode="edge")  # a move into a wall stays
        reached = np.stack((walled[:-2, 1:-1], walled[2:, 1:-1], walled[1:-1, :-2], walled[1:-1, 2:]))
        rewards = np.full((4, 11, 11), -1.0)
        rewards[1, 9, 10] = rewards[3, 10, 9] = 1.0  # down and right, onto the goal
        q = rewards + reached
        values = (1 - slip) * q.max(0) + slip * q.mean(0)
        values[10, 10] = 0.0  # the episode is over
    return float(values[0, 0])


def main(args: Args) -> None:
    """Draw a column per probability of a slip and one for the windy cliff, and write the PNG."""
    panels = {}
    optima = {}
    for run_dir in args.run_dirs:
        run, episodes, curves = read_curves(run_dir, ("appendix_stochastic", "appendix_windy"))
        for (algorithm, setting), returns in curves.items():
            title = "windy cliff" if setting == "windy" else f"slip {float(setting):.0%}"
            panel = panels.setdefault(title, {})
            if algorithm in panel:
                fail(f"{run_dir}: must be the only run of {run['experiment']}")
            panel[algorithm] = (episodes, returns)
            optima[title] = optimum(setting)
    if not panels:
        fail("RUN_DIRS: must be at least one folder of a run")
    columns = len(panels)
    figure, axes = plt.subplots(2, columns, figsize=(WIDTH, 3.8), squeeze=False, layout="constrained")
    for (top, bottom), (title, panel) in zip(axes.T, panels.items(), strict=True):
        shown = [optima[title]]  # in the lower panel
        for algorithm, color, line in (("QSA", ORANGE, "--"), ("QSS", BLUE, "-")):
            episodes, returns = panel[algorithm]
            for axis in (top, bottom):
                draw_curve(axis, episodes, returns, algorithm, color, linestyle=line)
            shown.extend(returns.mean(0)[episodes >= episodes[-1] * 2 / 3])
        for axis in (top, bottom):
            axis.axhline(optima[title], color="black", linestyle=":", linewidth=0.8)
            thousands(axis.xaxis)
            axis.grid(alpha=0.3)
        margin = 0.1 * (max(shown) - min(shown))
        top.set_title(f"{title}, {len(returns)} seeds")
        if title != "windy cliff":
            top.set_ylim(-520, 20)
        bottom.set(xlabel="training episodes", xlim=(episodes[-1] * 2 / 3, episodes[-1]))
        bottom.set_ylim(min(shown) - margin, max(shown) + margin)
    axes[0, 0].set_ylabel("greedy return")
    axes[1, 0].set_ylabel("the last third")
    draw_legend(figure)
    write(figure, args.output or args.run_dirs[0] / "appendix.png")


if __name__ == "__main__":
    main(tyro.cli(Args))
