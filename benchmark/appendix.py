"""The tabular figures of the appendix: greedy returns of QSA and QSS where actions slip, and beside a windy cliff.

    python benchmark/appendix.py RUN_DIR [RUN_DIR ...] --output runs/appendix.png

Reads runs of `tabular_qss.py --experiment appendix_stochastic` and `appendix_windy`, both or one. Curves are means over
seeds, bands 95% bootstrap intervals of the mean.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import tyro
from drawing import BLUE, ORANGE, draw_curve, fail, plt, read_curves, write


@dataclass
class Args:
    """Draw the tabular figures of the appendix from run folders."""

    run_dirs: tyro.conf.Positional[tuple[Path, ...]]
    """folders of runs"""
    output: Path | None = None
    """the PNG to write; by default appendix.png in the first run's folder"""


def main(args: Args) -> None:
    """Draw a panel per probability of a slip and one for the windy cliff, and write the PNG."""
    panels = {}
    for run_dir in args.run_dirs:
        run, episodes, curves = read_curves(run_dir, ("appendix_stochastic", "appendix_windy"))
        for (algorithm, setting), returns in curves.items():
            title = "windy cliff" if setting == "windy" else f"slip {float(setting):.0%}"
            panel = panels.setdefault(title, {})
            if algorithm in panel:
                fail(f"{run_dir}: must be the only run of {run['experiment']}")
            panel[algorithm] = (episodes, returns)
    if not panels:
        fail("RUN_DIRS: must be at least one folder of a run")
    columns = min(len(panels), 2)
    rows = math.ceil(len(panels) / columns)
    figure, axes = plt.subplots(rows, columns, figsize=(5 * columns, 3.2 * rows), squeeze=False, layout="constrained")
    for axis, (title, panel) in zip(axes.flat, panels.items(), strict=False):
        for algorithm, color, line in (("QSA", ORANGE, "--"), ("QSS", BLUE, "-")):
            episodes, returns = panel[algorithm]
            draw_curve(axis, episodes, returns, algorithm, color, linestyle=line)
        axis.set(title=title, xlabel="training episodes", ylabel=f"greedy return ({len(returns)} seeds)")
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, loc="center right")
    for axis in list(axes.flat)[len(panels) :]:
        axis.axis("off")
    write(figure, args.output or args.run_dirs[0] / "appendix.png")


if __name__ == "__main__":
    main(tyro.cli(Args))
