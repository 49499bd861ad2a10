"""Figure 2: the values that QSA and QSS learn in the deterministic gridworld, and their fractional difference.

    python benchmark/figure2.py RUN_DIR --output runs/figure2.png

Reads a run of `tabular_qss.py --experiment figure2`. Every panel is the mean over its seeds.
"""

from dataclasses import dataclass
from pathlib import Path

import tyro
from drawing import WIDTH, draw_heatmap, plt, read_results, write

LEAST_SCALE = 0.01  # of the fractional difference: what is far below 1% must not look like something


@dataclass
class Args:
    """Draw Figure 2 from a run folder."""

    run_dir: tyro.conf.Positional[Path]
    """folder of the run"""
    output: Path | None = None
    """the PNG to write; by default figure2.png in the run's folder"""


def main(args: Args) -> None:
    """Draw the three heatmaps and write the PNG."""
    run, columns = read_results(args.run_dir, ("figure2",))
    qsa = columns["qsa_value"].mean(0)
    qss = columns["qss_value"].mean(0)
    fraction = columns["fraction"].mean(0)
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 2.4), layout="constrained")
    scale = {"vmin": min(qsa.min(), qss.min()), "vmax": max(qsa.max(), qss.max()), "cmap": "viridis"}
    draw_heatmap(axes[0], qsa, **scale)
    image = draw_heatmap(axes[1], qss, **scale)
    figure.colorbar(image, ax=axes[:2], label="value")
    most = max(abs(fraction).max(), LEAST_SCALE)
    image = draw_heatmap(axes[2], fraction, vmin=-most, vmax=most, cmap="PuOr")
    bar = figure.colorbar(image, ax=axes[2], ticks=(-most, 0, most), format="{x:.0%}")
    bar.set_label("(QSS \u2212 QSA) / max(|QSA|, 0.1)")
    axes[0].set_title("(a)  max$_a$ Q(s, a)")
    axes[1].set_title("(b)  max$_{s'}$ Q(s, s')")
    axes[2].set_title(f"(c)  at most {abs(fraction).max():.0e}")
    for axis in axes[1:]:
        axis.set_ylabel(None)
    figure.suptitle(f"deterministic gridworld, mean over {run['num_seeds']} seeds")
    write(figure, args.output or args.run_dir / "figure2.png")


if __name__ == "__main__":
    main(tyro.cli(Args))
