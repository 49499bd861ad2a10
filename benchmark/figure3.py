"""Figure 3: what QSA and QSS learn in the gridworld where every action slips, and their distance over slip.

    python benchmark/figure3.py RUN_DIR --output runs/figure3.png

Reads a run of `tabular_qss.py --experiment figure3`. All heatmaps are means over its seeds and on one scale, which is
logarithmic below -20; the first is that of Figure 2b, QSS without a slip. The distance is given per state, as the root
of the mean squared difference: the Euclidean distance over all 121 states divided by 11. Its band is the 95% bootstrap
interval of the mean.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from drawing import BLUE, SLIPS, WIDTH, draw_curve, draw_heatmap, plt, read_results, write
from matplotlib.colors import SymLogNorm


@dataclass
class Args:
    """Draw Figure 3 from a run folder."""

    run_dir: tyro.conf.Positional[Path]
    """folder of the run"""
    output: Path | None = None
    """the PNG to write; by default figure3.png in the run's folder"""


def main(args: Args) -> None:
    """Draw the three heatmaps and the curve, and write the PNG."""
    run, columns = read_results(args.run_dir, ("figure3",))
    heatmaps = {
        "(Figure 2b)  QSS, no slip": columns["qss_value"][0].mean(0),
        "(a)  QSA, 100% slip": columns["qsa_value"][-1].mean(0),
        "(b)  QSS, 100% slip": columns["qss_value"][-1].mean(0),
    }
    distance = columns["distance"][:, :, 0, 0]  # one per slip and seed, in the rows of all its states
    slips = np.array(SLIPS)
    figure, axes = plt.subplots(1, 4, figsize=(WIDTH, 2.4), layout="constrained", width_ratios=(1, 1, 1, 1.1))
    lowest = min(values.min() for values in heatmaps.values())
    highest = max(values.max() for values in heatmaps.values())
    scale = SymLogNorm(linthresh=20, linscale=2, vmin=lowest, vmax=highest)
    for axis, (title, values) in zip(axes, heatmaps.items(), strict=False):
        image = draw_heatmap(axis, values, norm=scale, cmap="viridis")
        axis.set_title(title)
    bar = figure.colorbar(image, ax=axes[:3], label="value", location="bottom", shrink=0.6, aspect=40)
    ticks = [-80, -40, -20, -15, -10, -5, 0]
    bar.set_ticks(ticks, labels=map(str, ticks))
    for axis in axes[1:3]:
        axis.set_ylabel(None)
    draw_curve(axes[3], slips, distance.T / np.sqrt(121), "distance", BLUE, marker="o", markersize=3)
    axes[3].set(title="(c)  distance of QSA and QSS", xlabel="probability of a slip", xticks=slips)
    axes[3].set(ylabel="RMS over states", ylim=(0, None))
    axes[3].grid(alpha=0.3)
    figure.suptitle(f"gridworld with slips, mean over {run['num_seeds']} seeds")
    write(figure, args.output or args.run_dir / "figure3.png")


if __name__ == "__main__":
    main(tyro.cli(Args))
