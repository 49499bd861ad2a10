"""How good the plans of the offline phase are over its updates: the files of plan_quality.py as a figure.

    python benchmark/plan_quality_figure.py FILE.csv [FILE.csv ...] --output runs/plan_quality.png

One panel per randomness of the data, one curve per algorithm: the mean over seeds of the mean return with an exact
inverse dynamics, at the updates at which all seeds were measured, over every seed as a thin line or, of more than five
seeds, over a band, the 95% bootstrap interval of the mean. Beside the picture goes a CSV file of its name with the rows
of all files, which can be given again, alone or beside new ones.
"""

from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import tyro
from drawing import (
    BLUE,
    DAMAGE,
    ORANGE,
    PINK,
    RED,
    WIDTH,
    csv_text,
    draw_curve,
    draw_legend,
    fail,
    pictures,
    read_table,
    thousands,
    write_files,
)

PROPOSAL = "D3G --standardize --scale-states --clamp-values"
PLUS = f"{PROPOSAL} --aim-halfway"  # D3G+ in Table 1
LABELS = {PLUS: "D3G\u207a", PROPOSAL: "D3G\u207a without --aim-halfway"}
HALFWAY = "D3G --aim-halfway"
COLORS = {"D3G": BLUE, HALFWAY: "#7CC0E8", PLUS: RED, PROPOSAL: "#F4A77B"}  # one above the other in this order
DASHED = (HALFWAY, PROPOSAL)  # D3G and D3G+ when each acts as the other does
OTHERS = (PINK, ORANGE)  # of what else there is, in alphabetical order
IDENTITY = ("task", "randomness", "algorithm", "seed")
COLUMNS = (*IDENTITY, "update", "return_mean")


@dataclass
class Args:
    """Draw the quality of plans over offline updates."""

    files: tyro.conf.Positional[tuple[Path, ...]]
    """CSV files of plan_quality.py, or of earlier calls of this script"""
    output: Path
    """the picture to write"""


def read(file: Path) -> dict[tuple[str, ...], np.ndarray]:
    """Return what a file has of each run (task, randomness, algorithm, seed): update and return_mean [n, 2]; fail on
    what is no file of plan_quality.py."""
    try:
        with open(file, encoding="utf-8") as opened:
            header = opened.readline().strip()
        if tuple(header.split(",")[: len(COLUMNS)]) != COLUMNS:
            raise ValueError(f"{file.name}: must begin with the columns {','.join(COLUMNS)}, has {header}")
        table = read_table(file, header, text=IDENTITY)
    except DAMAGE as error:
        fail(f"{file}: must be a file of plan_quality.py: {error}")
    runs = {}
    values = np.column_stack([table[name] for name in COLUMNS[len(IDENTITY) :]])
    for identity, row in zip(zip(*(table[name].tolist() for name in IDENTITY), strict=True), values, strict=True):
        runs.setdefault(identity, []).append(row)
    for identity, rows in runs.items():
        if np.any(np.diff([row[0] for row in rows]) <= 0):
            fail(f"{file}: {', '.join(identity)}: updates must ascend")
    return {identity: np.array(rows) for identity, rows in runs.items()}


def draw(runs: dict[tuple[str, ...], np.ndarray]) -> plt.Figure:
    """Draw one panel per task and randomness, one curve per algorithm where all of its seeds were measured."""
    panels = sorted({identity[:2] for identity in runs})
    size = (WIDTH if len(panels) > 1 else WIDTH * 0.6, 2.8)
    others = sorted({algorithm for _, _, algorithm, _ in runs} - COLORS.keys())
    if len(others) > len(OTHERS):
        fail(f"FILES: must have at most {len(OTHERS)} further algorithms, have {', '.join(others)}")
    colors = {**dict(zip(others, OTHERS, strict=False)), **COLORS}
    figure, axes = plt.subplots(
        1, len(panels), figsize=size, squeeze=False, sharex=True, sharey=True, layout="constrained"
    )
    one_task = len({task for task, _ in panels}) == 1
    if one_task:
        figure.suptitle(panels[0][0])
    for axis, panel in zip(axes.flat, panels, strict=True):
        counts = []
        for algorithm, color in colors.items():
            curves = [curve for identity, curve in runs.items() if identity[:3] == (*panel, algorithm)]
            if not curves:
                continue
            counts.append(len(curves))
            updates = sorted(set.intersection(*(set(curve[:, 0]) for curve in curves)))
            measured = set.union(*(set(curve[:, 0]) for curve in curves))
            if len(updates) < len(measured):
                only = f"drawn at {len(updates)} of {len(measured)} updates, at which all seeds were measured"
                print(f"{algorithm} on {', '.join(panel)}: {only}")
            if not updates:
                fail(f"{algorithm} on {', '.join(panel)}: all seeds must have been measured at a common update")
            returns = [curve[np.isin(curve[:, 0], updates), 1] for curve in curves]
            style = {"linestyle": "--"} if algorithm in DASHED else {}
            draw_curve(axis, np.array(updates), np.stack(returns), LABELS.get(algorithm, algorithm), color, **style)
        seeds = " to ".join(str(count) for count in sorted({min(counts), max(counts)}))
        task = [] if one_task else [panel[0]]
        title = [*task, f"p = {panel[1].removesuffix('.0')}", f"{seeds} seed{'s' if seeds != '1' else ''}"]
        axis.set_title("\n".join(title))
        axis.set_xlabel("offline updates")
        thousands(axis.xaxis)
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("return, exact\ninverse dynamics")
    draw_legend(figure, columnspacing=1.2, handlelength=2)
    return figure


def main(args: Args) -> None:
    """Read the files, and write the picture and all rows."""
    output = args.output.with_suffix(".csv")
    runs = {}
    for file in args.files:
        curves = read(file)
        header = file.read_text(encoding="utf-8").partition("\n")[0]
        if file.resolve() == output.resolve() and header != ",".join(COLUMNS):
            fail(f"--output {args.output}: must have another name than {file}, which would lose its single returns")
        for identity, curve in curves.items():
            if not np.array_equal(runs.setdefault(identity, curve), curve):
                fail(f"{file}: its run {', '.join(identity)} must be equal to that of another file")
    if not runs:
        fail("FILES: must have at least one measurement, have none")
    rows = [list(COLUMNS)]
    for identity in sorted(runs):
        for update, mean in runs[identity].tolist():
            rows.append([*identity, int(update), mean])
    write_files({**pictures(draw(runs), args.output), output: csv_text(rows)})


if __name__ == "__main__":
    main(tyro.cli(Args))
