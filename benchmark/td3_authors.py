"""td3_baseline.py beside the learning curves that the authors of TD3 published: is our baseline as good as theirs?

    git clone https://github.com/sfujim/TD3
    python benchmark/td3_authors.py TD3 runs/anchor/* --output runs/td3_authors.png

Their clone has in `learning_curves` ten seeds per task, evaluated every 5,000 steps as ours are, by 10 episodes without
noise. RUN_DIRS are runs with their settings, which are not the defaults: benchmark/README.md has the commands. One
panel per task: the ten seeds in grey under their mean, those runs in purple, and in green the published runs of
Figure 7, whose settings are those of D3G's authors. Beside the picture go a table, and as for Figure 7 the evaluations
and the args.json of RUN_DIRS, which `--evaluations` takes again.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from drawing import (
    GREEN,
    WIDTH,
    draw_curve,
    draw_legend,
    fail,
    pictures,
    plt,
    table_text,
    thousands,
    write_files,
)
from evaluations import Run, describe_versions, evaluations_text, read_file, read_runs, runs_text
from figure7 import HEADER, cut, group, identify, measure

SEEDS = 10  # of the authors, for every task
STEP = 5_000  # between two of their evaluations, the first one at step 0
PURPLE = "#7B3294"


@dataclass
class Args:
    """Draw runs of td3_baseline.py beside the curves of TD3's authors."""

    authors_folder: tyro.conf.Positional[Path]
    """a clone of github.com/sfujim/TD3"""
    run_dirs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """folders of runs of td3_baseline.py"""
    evaluations: Path | None = None
    """the evaluations of an earlier call, the file of its runs beside it, which are drawn as well"""
    figure7: Path = Path(__file__).parent / "results" / "figure7_evaluations.csv"
    """the evaluations of Figure 7, whose runs of TD3 on these tasks are drawn in green"""
    output: Path = Path("runs/td3_authors.png")
    """the PNG to write, the tables beside it"""


def read_authors(folder: Path, task: str) -> np.ndarray:
    """Return the authors' evaluations on a task of any version [seeds, evaluations]; fail where they are not there."""
    name = re.sub(r"-v\d+$", "-v1", task)
    curves = []
    try:
        for seed in range(SEEDS):
            files = list(folder.glob(f"learning_curves/*/TD3_{name}_{seed}.npy"))
            if len(files) != 1:
                raise ValueError(f"must have one TD3_{name}_{seed}.npy in learning_curves, has {len(files)}")
            curves.append(np.load(files[0], allow_pickle=False))
        curves = np.stack(curves).astype(float)
        if curves.ndim != 2 or not np.isfinite(curves).all():
            raise ValueError(f"must have finite returns [evaluations] in a file, has {curves.shape[1:]}")
    except Exception as error:  # a damaged or foreign file may raise anything
        fail(f"{folder}: must be a clone of github.com/sfujim/TD3 with {SEEDS} curves of {name}: {error}")
    return curves


def describe(values: np.ndarray) -> str:
    """The mean of values [seeds] and, of more than one, their range."""
    words = f"{values.mean():.0f}"
    return words if len(values) == 1 else f"{words} ({values.min():.0f} to {values.max():.0f})"


def compare(axis, task: str, ours: list[Run], paper: list[Run], authors_folder: Path) -> list[list[str]]:
    """Draw the panel of a task and return its rows of the table."""
    mine = cut(f"TD3 on {task}", ours)
    steps = mine[0, :, 0]
    if np.any(steps != np.arange(len(steps)) * STEP):
        fail(f"{ours[0].name}: must have --eval-frequency {STEP}, as the authors' evaluations")
    authors = read_authors(authors_folder, task)[:, : len(steps)]
    if authors.shape[1] < len(steps):
        fail(f"{ours[0].name}: must not be longer than the authors' {authors.shape[1]} evaluations")
    axis.plot(steps, authors.T, color="0.75", linewidth=0.5)
    axis.plot(steps, authors.mean(0), color="0.3", label="TD3 of its authors")
    draw_curve(axis, steps, mine[:, :, 1], "td3_baseline.py, their settings", PURPLE, zorder=4)
    curves = {
        "its authors": np.stack([np.broadcast_to(steps, authors.shape), authors], axis=2),
        "`td3_baseline.py`, their settings": mine,
    }
    if paper:
        other = cut(f"TD3 on {task} in Figure 7", paper)[:, : len(steps)]
        draw_curve(axis, other[0, :, 0], other[:, :, 1], "td3_baseline.py, D3G's settings", GREEN, zorder=3)
        curves["`td3_baseline.py`, D3G's settings"] = other

    rows = []
    for name, found in curves.items():
        measured = measure(found)
        numbers = [describe(measured["final"]), describe(measured["area"])]
        rows.append([task, f"{found[0, -1, 0]:,.0f}", name, str(len(found)), *numbers])
    axis.set_title(f"{task}\nseeds, in the legend's order: {', '.join(str(len(found)) for found in curves.values())}")
    axis.set_xlabel("environment steps")
    thousands(axis.xaxis)
    axis.grid(alpha=0.3)
    return rows


def main(args: Args) -> None:
    """Read all curves, and write the picture and the tables."""
    runs = read_runs(args.run_dirs, args.evaluations, identify, HEADER)
    for run in runs:
        if not run.complete:
            print(f"{run.name}: not complete, {len(run.curve)} of {len(run.steps)} evaluations: left out")
    runs = [run for run in runs if run.complete]
    if not runs:
        fail("RUN_DIRS: must be at least one complete run, all are incomplete")
    for run in runs:
        if run.identity["algorithm"] != "TD3":
            fail(f"{run.name}: must be a run of TD3, is one of {run.identity['algorithm']}")
    tasks = group(runs)
    published = group(read_file(args.figure7, identify, HEADER, "--figure7"))
    figure, axes = plt.subplots(1, len(tasks), figsize=(WIDTH, 2.6), squeeze=False, layout="constrained")
    rows = [["task", "step", "TD3 of", "seeds", "final: mean (range)", "area: mean (range)"]]
    for axis, (task, algorithms) in zip(axes[0], tasks.items(), strict=True):
        paper = published.get(task, {}).get("TD3", [])
        rows += compare(axis, task, algorithms["TD3"], paper, args.authors_folder)
    axes[0, 0].set_ylabel("return")
    draw_legend(figure)
    caption = (
        "TD3 of its authors (their curves on Gym's -v1 tasks, from github.com/sfujim/TD3), ours with their settings, "
        "and ours with those of D3G's authors, as in Figure 7: the last evaluation, and the area under the curve "
        f"divided by the steps; means over seeds and their range. Versions of ours: {describe_versions(runs)}."
    )
    write_files(
        {
            **pictures(figure, args.output),
            args.output.with_suffix(".md"): table_text(caption, rows),
            args.output.with_name(f"{args.output.stem}_evaluations.csv"): evaluations_text(runs, HEADER),
            args.output.with_name(f"{args.output.stem}_runs.json"): runs_text(runs),
        }
    )


if __name__ == "__main__":
    main(tyro.cli(Args))
