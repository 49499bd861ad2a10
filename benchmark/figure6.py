"""Figure 6: values, distance of the proposals and paths of D3G and D3G- in the gridworld.

    python benchmark/figure6.py ROOT --output runs/figure6.png

Reads the complete runs in the root folder of d3g_gridworld.py. Every seed is drawn: its heatmap, all on the scale of
D3G's own values, beyond which D3G-'s are cut off; the distance of its proposal at the start, from which the agent's
random steps are shaded, under their mean; and its path, up to the goal. Prints what each run has learned in numbers,
and writes them and the distances beside the picture as CSV.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from drawing import (
    BLUE,
    DAMAGE,
    LARGEST,
    ORANGE,
    WIDTH,
    arrange,
    bootstrap_interval,
    check_info,
    csv_text,
    draw_curve,
    draw_heatmap,
    draw_legend,
    fail,
    pictures,
    plt,
    read_json,
    read_table,
    take,
    take_count,
    thousands,
    write_files,
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
        path = read_path(run_dir / "path.csv")
        file = run_dir / "evaluations.csv"
        evaluations = read_table(file, "step,return_mean,return_std,length_mean,seconds")
        evaluations = arrange(file, evaluations, {"step": steps})

        take(args, "learning_starts", int)
        identity = {"seed": take(args, "seed", int)}
    except DAMAGE as error:
        fail(f"{run_dir}: must be the folder of a complete run of d3g_gridworld.py: {error}")
    curve = np.column_stack((evaluations["step"], evaluations["return_mean"]))
    panels = {
        "values": values["value"],
        "optimum": optimal_values(values["row"], values["column"], gamma),
        "steps": distances["step"],
        "distances": distances["distance"],
        "path": path,
    }
    return Run(str(run_dir), identity, info, curve, steps, complete=True), panels


def read_path(file: Path) -> np.ndarray:
    """Return k, row and column of a path [n, 3]; of one that diverges, up to where it leaves the range of numbers."""
    table = arrange(file, read_table(file, "k,row,column", text=("row", "column")), {"k": range(51)})
    path = np.column_stack([table[name].astype(float) for name in ("k", "row", "column")])
    within = (abs(path) <= LARGEST).all(axis=1)  # not where one is NaN
    n = within.sum()
    if n == 0 or not within[:n].all():
        raise ValueError(f"{file.name}: must have finite numbers, of {LARGEST:g} at most, up to its end or a last one")
    return path[:n]


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
    if n == 0:
        return float(distances.mean())
    return float(distances[-n:].mean())


def measure(run: Run, panel: dict[str, np.ndarray]) -> dict[str, float | int | None]:
    """What a run has learned: its value at the start, how much its values are above the optimal ones on average, the
    distance of its proposal, after how many proposals its path is at the goal, and the return of its greedy policy."""
    return {
        "value_at_start": panel["values"][0],
        "overestimation": (panel["values"] - panel["optimum"])[:-1].mean(),
        "distance": last_tenth(panel["distances"]),
        "steps_to_goal": steps_to_goal(panel["path"]),
        "return": run.curve[-1, 1],
    }


def say(run: Run, panel: dict[str, np.ndarray], found: dict[str, float | int | None]) -> None:
    """Print in a line what a run has learned, as `measure` found it."""
    values, optimum = panel["values"], panel["optimum"]
    steps = found["steps_to_goal"]
    where = "misses the goal" if steps is None else f"at the goal after {steps}"
    print(
        f"{run.name}: value at the start {values[0]:.4g} (optimum {optimum[0]:.2f}), "
        f"next to the goal {values[-2]:.4g} ({optimum[-2]:.2f}), "
        f"overestimation {found['overestimation']:.4g}, distance {found['distance']:.3g}, "
        f"path {where}, greedy return {found['return']:.0f}"
    )


def draw(variants: dict[str, tuple[list[Run], list[dict]]]) -> plt.Figure:
    """Draw a row of heatmaps per variant, one per seed, and below them the distances and the paths."""
    figure = plt.figure(figsize=(WIDTH, 5.6), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.15, 1))
    columns = max(len(panels) for _, panels in variants.values())
    axes = top.subplots(len(variants), columns, squeeze=False)
    own = np.concatenate([panel["values"][:-1] for panel in variants["d3g"][1]])
    scale = {"vmin": own.min(), "vmax": own.max(), "cmap": "viridis"}
    for row, (variant, (runs, panels)) in zip(axes, variants.items(), strict=True):
        for axis in row[len(panels) :]:
            axis.axis("off")
        for axis, run, panel in zip(row, runs, panels, strict=False):
            values = panel["values"].copy()
            values[-1] = np.nan  # nothing is ever proposed from the goal
            image = draw_heatmap(axis, values, **scale)
            axis.set(title=f"{VARIANTS[variant][0]}, seed {run.identity['seed']}", xlabel=None, ylabel=None)
            axis.tick_params(labelbottom=False, labelleft=False)
    top.colorbar(image, ax=axes, label="(a)  Q(s, s + \u03c4(s))", extend="both", aspect=30)

    distance, *paths = bottom.subplots(1, 1 + len(variants))
    for axis, (variant, (_, panels)) in zip(paths, variants.items(), strict=True):
        label, color = VARIANTS[variant]
        distances = np.stack([panel["distances"] for panel in panels])
        draw_curve(distance, panels[0]["steps"], distances, label, color)
        for panel in panels:
            path = panel["path"]
            steps = steps_to_goal(path)
            if steps:
                path = path[: steps + 1]
            axis.plot(path[:, 2], path[:, 1], "o-", color=color, markersize=2, linewidth=0.8, alpha=0.6)
        axis.add_patch(plt.Rectangle((-0.5, -0.5), 11, 11, fill=False, color="black"))
        axis.text(10, 10, "G", ha="center", va="center", fontweight="bold")
        axis.set(title=f"(c)  {label}: paths", xlabel="column", ylabel="row", aspect="equal")
        axis.set(xlim=(-3, 15), ylim=(15, -3), xticks=range(0, 11, 5), yticks=range(0, 11, 5))
        axis.grid(alpha=0.3)
    distance.set_yscale("symlog", linthresh=1)
    distance.axvspan(0, variants["d3g"][0][0].info["args"]["learning_starts"], color="0.9", zorder=0)
    distance.set(title="(b)  distance of the proposal", xlabel="environment steps", ylim=(0, None))
    distance.set_ylabel("cells from s + \u03c4(s) to N(s)")
    distance.grid(alpha=0.3)
    thousands(distance.xaxis)
    draw_legend(bottom)
    return figure


def main(args: Args) -> None:
    """Print a line per run, draw the figure, and write it and the runs' numbers."""
    variants = {variant: read_variant(args.root, variant) for variant in VARIANTS}
    rows = []
    for variant, (runs, panels) in variants.items():
        for run, panel in zip(runs, panels, strict=True):
            found = measure(run, panel)
            say(run, panel, found)
            rows.append({"variant": variant, "seed": run.identity["seed"], **found})
        means = np.array([last_tenth(panel["distances"]) for panel in panels])
        low, high = bootstrap_interval(means[:, None])[:, 0]
        label = VARIANTS[variant][0]
        print(f"{label}: mean distance over the last tenth of training {means.mean():.3g} [{low:.3g}, {high:.3g}]")
    output = args.output or args.root / "figure6.png"
    numbers = [list(rows[0])] + [["" if x is None else x for x in row.values()] for row in rows]
    distances = [["variant", "seed", "step", "distance"]]
    for variant, (runs, panels) in variants.items():
        for run, panel in zip(runs, panels, strict=True):
            for step, distance in zip(panel["steps"].astype(int), panel["distances"], strict=True):
                distances.append([variant, run.identity["seed"], step, distance])
    tables = {
        output.with_suffix(".csv"): csv_text(numbers),
        output.with_name(f"{output.stem}_distances.csv"): csv_text(distances),
    }
    write_files({**pictures(draw(variants), output), **tables})


if __name__ == "__main__":
    main(tyro.cli(Args))
