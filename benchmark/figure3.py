"""Figure 3: what QSA and QSS learn in the gridworld where every action slips, and their distance over slip.

    python benchmark/figure3.py RUN_DIR --output runs/figure3.png

Reads a run of `tabular_qss.py --experiment figure3`. The heatmaps are means over its seeds; the band is the 95%
bootstrap interval of the mean distance.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from drawing import BLUE, SLIPS, draw_curve, draw_heatmap, plt, read_results, write


@dataclass
class Args:
    """Draw Figure 3 from a run folder."""

    run_dir: tyro.conf.Positional[Path]
    """folder of the run"""
    output: Path | None = None
    """the PNG to write; by default figure3.png in the run's folder"""


def main(args: Args) -> None:
    """Draw the two heatmaps and the curve, and write the PNG."""
    run, columns = read_results(args.run_dir, ("figure3",))
    qsa = columns["qsa_value"][-1].mean(0)
    qss = columns["qss_value"][-1].mean(0)
    distance = columns["distance"][:, :, 0, 0]  # one per slip and seed, in the rows of all its states
    slips = np.array(SLIPS)
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    draw_heatmap(axes[0], qsa, "value (discounted return)", cmap="viridis")
    axes[0].set_title("(a)  max$_a$ Q(s, a), 100% slip")
    draw_heatmap(axes[1], qss, "value (discounted return)", cmap="viridis")
    axes[1].set_title("(b)  max$_{s'}$ Q(s, s'), 100% slip")
    draw_curve(axes[2], slips, distance.T, "distance", BLUE, marker="o")
    axes[2].set(title="(c)  distance of the values", xlabel="probability of a slip", xticks=slips)
    axes[2].set(ylabel="Euclidean distance over 121 states", ylim=(0, None))
    axes[2].grid(alpha=0.3)
    figure.suptitle(f"gridworld with slips, mean over {run['num_seeds']} seeds, band: 95% interval")
    write(figure, args.output or args.run_dir / "figure3.png")


if __name__ == "__main__":
    main(tyro.cli(Args))
