"""Figure 6: values, distance of the proposals and paths of D3G (top) and D3G- (bottom) in the gridworld.

    python benchmark/figure6.py ROOT --output runs/figure6.png

Reads the complete runs in the root folder of d3g_gridworld.py. Heatmaps are means over seeds, bands 95% bootstrap
intervals of the mean; every seed's path is drawn, up to the goal. Prints what each run has learned in numbers.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from drawing import (
    BLUE,
    DAMAGE,
    ORANGE,
    arrange,
    bootstrap_interval,
    check_info,
    draw_curve,
    draw_heatmap,
    fail,
    plt,
    read_json,
    read_table,
    take,
    take_count,
    write,
)
from evaluations import Run, check_equal, check_seeds

VARIANTS = {"d3g": ("D3G", BLUE), "d3g_no_cycle": ("D3G\u207b", ORANGE)}


@dataclass
class Args:
    """Draw Figure 6 from the root folder of gridworld runs."""

    root: tyro.conf.Positional[Path]
    """root folder, which has the folders {variant}/seed{k}"""
    output: Path | None = None
    """the PNG to write; by default figure6.png in the root folder"""


def read_run(run_dir: Path) -> tuple[Run, dict[str, np.ndarray]]:
    """Return a complete run, and the data of its panels: values and their optimum [121], steps and distances, path.

    The optimum is that of the run's discount."""
    try:
        info = read_json(run_dir / "args.json")
        check_info(info)
        args = info["args"]
        steps = range(0, take_count(args, "total_timesteps") + 1, take_count(args, "eval_frequency"))
        gamma = take(args, "gamma", float)
        if not 0 <= gamma <= 1:
            raise ValueError(f"args.json: gamma must be from 0 to 1, is {gamma}")

        file = run_dir / "values.csv"
        values = read_table(file, "row,column,value,proposal_row,proposal_column")
        arrange(file, values, {"row": range(11)}, {"column": range(11)})
        file = run_dir / "distances.csv"
        distances = arrange(file, read_table(file, "step,distance"), {"step": steps})
        file = run_dir / "path.csv"
        path = arrange(file, read_table(file, "k,row,column"), {"k": range(51)})
        file = run_dir / "evaluations.csv"
        evaluations = read_table(file, "step,return_mean,return_std,length_mean,seconds")
        evaluations = arrange(file, evaluations, {"step": steps})

        identity = {"seed": take(args, "seed", int)}
    except DAMAGE as error:
        fail(f"{run_dir}: must be the folder of a complete run of d3g_gridworld.py: {error}")
    curve = np.column_stack((evaluations["step"], evaluations["return_mean"]))
    panels = {
        "values": values["value"],
        "optimum": optimal_values(values["row"], values["column"], gamma),
        "steps": distances["step"],
        "distances": distances["distance"],
        "path": np.column_stack((path["k"], path["row"], path["column"])),
    }
    return Run(str(run_dir), identity, info, curve, steps, complete=True), panels


def optimal_values(row: np.ndarray, column: np.ndarray, gamma: float) -> np.ndarray:
    """The optimal values of cells [n]: every step to the goal costs 1 but for the last one, which gives 1."""
    values = []
    for n in (20 - row - column).astype(int).tolist():
        values.append(gamma ** (n - 1) - sum(gamma**k for k in range(n - 1)) if n > 0 else 0.0)
    return np.array(values)


def steps_to_goal(path: np.ndarray) -> int | None:
    """After how many proposals a path [n, 3] of k, row, column is nearest to the goal's cell; None if never."""
    there = np.flatnonzero((np.round(path[:, 1:]) == 10).all(1))
    return int(there[0]) if len(there) else None


def read_variant(root: Path, variant: str) -> tuple[list[Run], list[dict]]:
    """Return the complete runs of a variant and the data of their panels; fail unless they belong together."""
    folders = sorted(root.glob(f"{variant}/seed*"), key=lambda folder: (len(folder.name), folder.name))
    complete = [folder for folder in folders if (folder / "model.pt").exists()]
    for folder in folders:
        if folder not in complete:
            print(f"{folder}: not complete, left out")
    if not complete:
        fail(f"{root}: must hold complete runs of d3g_gridworld.py in {variant}/, has none")
    runs, panels = zip(*[read_run(folder) for folder in complete], strict=True)
    check_equal(runs, free=("num_seeds",))
    check_seeds(runs)
    return runs, panels


def last_tenth(distances: np.ndarray) -> float:
    """The mean of the last tenth of the distances, of fewer than ten the mean of all."""
    n = len(distances) // 10
    return float(distances[-n:].mean())


def say(run: Run, panel: dict[str, np.ndarray]) -> None:
    """Print in a line what a run has learned."""
    values, optimum = panel["values"], panel["optimum"]
    steps = steps_to_goal(panel["path"])
    where = "misses the goal" if steps is None else f"at the goal after {steps}"
    print(
        f"{run.name}: value at the start {values[0]:.4g} (optimum {optimum[0]:.2f}), "
        f"next to the goal {values[-2]:.4g} ({optimum[-2]:.2f}), "
        f"overestimation {(values - optimum)[:-1].mean():.4g}, distance {last_tenth(panel['distances']):.3g}, "
        f"path {where}, greedy return {run.curve[-1, 1]:.0f}"
    )


def draw(row: np.ndarray, variant: str, panels: list[dict]) -> None:
    """Draw the three panels of a variant."""
    label, color = VARIANTS[variant]
    seeds = f"{len(panels)} seed{'s' if len(panels) > 1 else ''}"
    values = np.mean([panel["values"] for panel in panels], axis=0)
    values[-1] = np.nan  # nothing is ever proposed from the goal
    draw_heatmap(row[0], values, "Q(s, s + \u03c4(s))", cmap="viridis")
    row[0].set_title(f"{label}: value, mean over {seeds}")

    distances = np.stack([panel["distances"] for panel in panels])
    draw_curve(row[1], panels[0]["steps"], distances, label, color)
    row[1].set(title=f"{label}: distance of the proposal", xlabel="environment steps")
    if distances.max() > 100:
        row[1].set_yscale("symlog", linthresh=1)
    row[1].set_ylim(0, None)
    row[1].set_ylabel("cells from s + \u03c4(s) to N(s), s = start")
    row[1].grid(alpha=0.3)

    for panel in panels:
        path = panel["path"]
        steps = steps_to_goal(path)
        if steps:
            path = path[: steps + 1]
        row[2].plot(path[:, 2], path[:, 1], "o-", color=color, markersize=3, linewidth=1, alpha=0.6)
    row[2].add_patch(plt.Rectangle((-0.5, -0.5), 11, 11, fill=False, color="black"))
    row[2].text(10, 10, "G", ha="center", va="center", fontweight="bold")
    row[2].set(title=f"{label}: paths of repeated proposals", xlabel="column", ylabel="row", aspect="equal")
    row[2].set(xlim=(-3, 15), ylim=(15, -3), xticks=range(0, 11, 2), yticks=range(0, 11, 2))
    row[2].grid(alpha=0.3)


def main(args: Args) -> None:
    """Print a line per run, draw a row per variant and write the PNG."""
    variants = {variant: read_variant(args.root, variant) for variant in VARIANTS}
    figure, axes = plt.subplots(2, 3, figsize=(12, 7), layout="constrained")
    for row, (variant, (runs, panels)) in zip(axes, variants.items(), strict=True):
        for run, panel in zip(runs, panels, strict=True):
            say(run, panel)
        means = np.array([last_tenth(panel["distances"]) for panel in panels])
        low, high = bootstrap_interval(means[:, None])[:, 0]
        label = VARIANTS[variant][0]
        print(f"{label}: mean distance over the last tenth of training {means.mean():.3g} [{low:.3g}, {high:.3g}]")
        draw(row, variant, panels)
    write(figure, args.output or args.root / "figure6.png")


if __name__ == "__main__":
    main(tyro.cli(Args))
