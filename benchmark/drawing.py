"""What the figures and tables of this folder share: errors, colours, intervals, reading files, drawing and writing."""

import io
import json
import math
import sys
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.patheffects import withStroke  # noqa: E402

# Figures are drawn at the size at which they are shown, and the same data give the same file
WIDTH = 7.6  # inches
STYLE = {"font.size": 8, "axes.titlesize": 9, "lines.linewidth": 1.3, "savefig.dpi": 200, "svg.hashsalt": "qss"}
plt.rcParams.update(STYLE)
FEW = 5  # of so many runs or fewer every one is drawn, since the bootstrap interval of three is but their range

# Okabe and Ito's colours, which colour-blind people can tell apart
BLUE, ORANGE, GREEN, PINK, RED = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00"

DAMAGE = (OSError, ValueError, OverflowError, RecursionError)  # what reading a damaged or foreign file may raise
LARGEST = 1e100  # of numbers in files; sums of larger ones may not be finite, and cannot be drawn

SLIPS = [0.0, 0.25, 0.5, 0.75, 1.0]  # of Figure 3
CURVES = {  # of the tabular experiments: (algorithm, setting), in the order of results.csv
    "figure4a": [("QSA", "4"), ("QSA", "40"), ("QSA", "400")],
    "figure4b": [("QSS", "4"), ("QSS", "40"), ("QSS", "400")],
    "figure4c": [("QSS", "4"), ("QSS", "40"), ("QSS", "400")],
    "figure4d": [("QSA", "transfer"), ("QSA", "scratch"), ("QSS", "transfer"), ("QSS", "scratch")],
    "appendix_stochastic": [(x, slip) for slip in ("0.25", "0.5", "0.75") for x in ("QSA", "QSS")],
    "appendix_windy": [("QSA", "windy"), ("QSS", "windy")],
}


def fail(message: str):
    """Print one line on standard error and exit with status 2."""
    one_line = " ".join(message.split())
    print(f"error: {one_line}", file=sys.stderr)
    sys.exit(2)


def bootstrap_interval(returns: np.ndarray, resamples: int = 10_000) -> np.ndarray:
    """The 95% percentile bootstrap interval of the mean over runs: [runs, n] -> [2, n]."""
    chosen = np.random.default_rng(0).integers(len(returns), size=(resamples, len(returns)))
    means = sum(returns[runs] for runs in chosen.T) / len(returns)
    return np.percentile(means, [2.5, 97.5], axis=0)


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """The mean over the runs without the lowest and the highest quarter, rounded down: of three or fewer, the mean.

    Takes [..., runs] and returns [...].
    """
    runs = values.shape[-1]
    trimmed = runs // 4
    return np.sort(values)[..., trimmed : runs - trimmed].mean(-1)


def read_json(file: Path):
    """Return the contents of a JSON file; raise ValueError, with its name, where it is none."""

    def refuse(constant: str):
        raise ValueError(f"must have finite numbers, has {constant}")

    try:
        return json.loads(file.read_text(encoding="utf-8"), parse_constant=refuse)
    except ValueError as error:
        raise ValueError(f"{file.name}: {error}") from error


def take(args: dict, name: str, kind: type):
    """Return a value by its name; raise ValueError unless it is there and of its type, a number finite."""
    value = args.get(name)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise ValueError(f"args.json: {name} must be of type {kind.__name__}, is {value!r}")
    if kind is float and not np.isfinite(value):
        raise ValueError(f"args.json: {name} must be finite, is {value}")
    return value


def take_count(args: dict, name: str) -> int:
    """Return a whole number by its name; raise ValueError unless it is there and at least 1."""
    value = take(args, name, int)
    if value < 1:
        raise ValueError(f"args.json: {name} must be at least 1, is {value}")
    return value


def check_info(info) -> None:
    """Raise ValueError unless `info` is the contents of an args.json, with arguments and versions."""
    if type(info) is not dict:
        raise ValueError(f"args.json: must be an object, is {info!r}")
    take(info, "args", dict)
    versions = take(info, "versions", dict)
    for name in versions:
        take(versions, name, str)


def read_table(file: Path, header: str, text: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """Return the columns of a CSV file by name, as numbers but for those in `text`; raise ValueError unless it has that
    header, every row is whole and every number finite."""
    content = file.read_text(encoding="utf-8")
    if not content.endswith("\n"):
        raise ValueError(f"{file.name}: must end with a whole row")
    found, *lines = content[:-1].split("\n")
    if found != header:
        raise ValueError(f"{file.name}: must have the columns {header}, has {found}")
    names = header.split(",")
    rows = [line.split(",") for line in lines]
    for k, row in enumerate(rows, 1):
        if len(row) != len(names):
            raise ValueError(f"{file.name}: must have {len(names)} values in row {k}, has {len(row)}")
    table = {}
    for k, name in enumerate(names):
        column = [row[k] for row in rows]
        if name in text:
            table[name] = np.array(column, dtype=str)
        else:
            table[name] = read_numbers(file, name, column)
    return table


def read_numbers(file: Path, name: str, column: list[str]) -> np.ndarray:
    """Return a column of a CSV file as numbers; raise ValueError where one is none, or not finite."""
    try:
        numbers = np.array([float(x) for x in column])
    except ValueError as error:
        raise ValueError(f"{file.name}: column {name}: {error}") from error
    if np.any(~np.isfinite(numbers) | (abs(numbers) > LARGEST)):
        raise ValueError(f"{file.name}: column {name} must have finite numbers, of {LARGEST:g} at most")
    return numbers


def arrange(file: Path, table: dict[str, np.ndarray], *axes: dict[str, list]) -> dict[str, np.ndarray]:
    """Give the columns of a table one dimension per axis, the last one changing fastest from row to row.

    An axis has the columns that count along it, with their values. Raises ValueError unless the rows are those."""
    shape = [len(next(iter(axis.values()))) for axis in axes]
    rows = len(next(iter(table.values())))
    if rows != math.prod(shape):
        raise ValueError(f"{file.name}: must have {math.prod(shape)} rows by the run's arguments, has {rows}")
    arranged = {name: column.reshape(shape) for name, column in table.items()}
    for k, axis in enumerate(axes):
        for name, values in axis.items():
            if np.any(np.moveaxis(arranged[name], k, -1) != np.array(values)):
                raise ValueError(f"{file.name}: column {name} must be what the run's arguments say")
    return arranged


def read_results(run_dir: Path, experiments: tuple[str, ...]) -> tuple[dict, dict[str, np.ndarray]]:
    """Return the arguments and the columns of results.csv of a run of tabular_qss.py; fail if it is another one.

    Columns are [slips, seeds, rows, columns], without slips for Figure 2; of learning curves [curves, seeds, points].
    """
    try:
        info = read_json(run_dir / "args.json")
        check_info(info)
        args = info["args"]
        experiment = take(args, "experiment", str)
        if experiment not in experiments:
            fail(f"{run_dir}: must be a run of {' or '.join(experiments)}, is one of {experiment}")
        file = run_dir / "results.csv"
        first = take(args, "seed", int)
        seeds = {"seed": range(first, first + take_count(args, "num_seeds"))}
        if experiment == "figure2":
            table = read_table(file, "seed,row,column,qsa_value,qss_value,fraction,absolute_difference")
            return args, arrange(file, table, seeds, {"row": range(11)}, {"column": range(11)})
        if experiment == "figure3":
            table = read_table(file, "slip,seed,row,column,qsa_value,qss_value,distance")
            return args, arrange(file, table, {"slip": SLIPS}, seeds, {"row": range(11)}, {"column": range(11)})
        table = read_table(file, "episode,algorithm,setting,seed,return", text=("algorithm", "setting"))
        episodes = take_count(args, "transfer_episodes" if experiment == "figure4d" else "episodes")
        points = {"episode": range(0, episodes + 1, take_count(args, "eval_frequency"))}
        algorithms, settings = zip(*CURVES[experiment], strict=True)
        return args, arrange(file, table, {"algorithm": algorithms, "setting": settings}, seeds, points)
    except DAMAGE as error:
        fail(f"{run_dir}: must be the folder of a complete run of tabular_qss.py: {error}")


def read_curves(run_dir: Path, experiments: tuple[str, ...]) -> tuple[dict, np.ndarray, dict]:
    """Return the arguments, the episodes of the evaluations, and {(algorithm, setting): returns [seeds, episodes]}."""
    args, columns = read_results(run_dir, experiments)
    curves = dict(zip(CURVES[args["experiment"]], columns["return"], strict=True))
    return args, columns["episode"][0, 0], curves


def draw_heatmap(axis, values: np.ndarray, **style):
    """Draw the values of the grid's states [121] and return the image; S and G mark start and goal."""
    image = axis.imshow(values.reshape(11, 11), **style)
    for name, place in (("S", 0), ("G", 10)):
        outline = [withStroke(linewidth=2, foreground="black")]
        axis.text(place, place, name, ha="center", va="center", color="white", fontweight="bold", path_effects=outline)
    axis.set(xlabel="column", ylabel="row", xticks=(0, 5, 10), yticks=(0, 5, 10))
    return image


def draw_curve(axis, x: np.ndarray, runs: np.ndarray, label: str, color: str, **style) -> None:
    """Draw the mean over runs [runs, n] at x [n], over the runs as thin lines or, of more than five, over a band, the
    95% bootstrap interval of the mean."""
    (line,) = axis.plot(x, runs.mean(0), label=label, color=color, **style)
    if len(runs) > FEW:
        band = bootstrap_interval(runs)
        axis.fill_between(x, *band, color=color, alpha=0.25, linewidth=0, zorder=line.get_zorder())
    elif len(runs) > 1:
        axis.plot(x, runs.T, color=color, alpha=0.4, linewidth=0.5, zorder=line.get_zorder())


def draw_legend(figure, **style) -> None:
    """Draw one legend below the panels, with every label of theirs once, in the order in which they come."""
    entries = {}
    for axis in figure.axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    style = {"loc": "outside lower center", "ncols": len(entries), "frameon": False, **style}
    figure.legend(entries.values(), entries.keys(), **style)


def thousands(axis) -> None:
    """Write the ticks of an axis as 10k for 10,000."""
    axis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if abs(x) >= 1000 else f"{x:g}")


def pictures(figure, output: Path) -> dict[Path, bytes]:
    """Return a figure as a picture in the format that the ending of `output` names, of a PNG with curves an SVG as
    well, by the file's name; fail where there is none such."""
    if not output.suffix:
        fail(f"--output {output}: must be the name of a picture with its ending, such as {output.name}.png")
    names = [output]
    if output.suffix == ".png" and not any(axis.images for axis in figure.axes):
        names.append(output.with_suffix(".svg"))
    files = {}
    for file in names:
        buffer = io.BytesIO()
        try:
            figure.savefig(buffer, format=file.suffix[1:], metadata={"Date": None} if file.suffix == ".svg" else None)
        except ValueError as error:
            fail(f"--output {output}: must be a picture that can be written, such as {output.stem}.png: {error}")
        files[file] = buffer.getvalue()
    plt.close(figure)
    return files


def table_text(caption: str, rows: list[list[str]]) -> str:
    """Rows, the first of them the names of the columns, as a Markdown table under its caption."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, "|---" * len(rows[0]) + "|")
    return "\n".join([caption, "", *lines, ""])


def csv_text(rows: list[list]) -> str:
    """Rows, the first of them the names of the columns, as a CSV file."""
    return "".join(",".join(map(str, row)) + "\n" for row in rows)


def write_files(files: dict[Path, bytes | str]) -> None:
    """Write pictures and texts, and say where; fail, before any is written, where one of them cannot be."""
    for output in files:
        if output.name in ("args.json", "evaluations.csv", "results.csv"):
            fail(f"--output: must have another name, {output} is a file that runs write")
        if not output.parent.is_dir() or output.is_dir():
            fail(f"--output: must be in a folder that exists, and {output} a file")
    for output, content in files.items():
        if type(content) is str:
            content = content.encode()
        try:
            output.write_bytes(content)
        except OSError as error:
            fail(f"--output {output}: must be a file that can be written: {error}")
        kind = {".md": "table", ".csv": "table", ".json": "runs"}.get(output.suffix, "figure")
        print(f"{kind}: {output}")


def write(figure, output: Path) -> None:
    """Write a figure as a picture, or two, and say where."""
    write_files(pictures(figure, output))
