"""What the figures and tables of this folder share: errors, colours, reading runs, intervals, and writing."""

import csv
import json
import sys
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.patheffects import withStroke  # noqa: E402

# Okabe and Ito's colours, which colour-blind people can tell apart
BLUE, ORANGE, GREEN, PINK, SKY, RED = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"


def fail(message: str):
    """Print one line on standard error and exit with status 2."""
    print("error:", *message.split(), file=sys.stderr)
    sys.exit(2)


def bootstrap_interval(returns: np.ndarray, resamples: int = 10_000) -> np.ndarray:
    """The 95% percentile bootstrap interval of the mean over runs: [runs, n] -> [2, n]."""
    chosen = np.random.default_rng(0).integers(len(returns), size=(resamples, len(returns)))
    means = np.stack([returns[runs].mean(0) for runs in chosen])
    return np.percentile(means, [2.5, 97.5], axis=0)


def interquartile_mean(values: np.ndarray) -> float:
    """The mean without the lowest and the highest quarter [runs], rounded down: of three runs or fewer, the mean."""
    trimmed = len(values) // 4
    return float(np.sort(values)[trimmed : len(values) - trimmed].mean())


def read_run(run_dir: Path) -> tuple[dict, np.ndarray, bool]:
    """Return a run's args.json, its evaluations [n, 2] (step, mean return), and whether the run is complete.

    A run that is not complete may have no evaluation yet."""
    complete = (run_dir / "model.pt").exists()
    try:
        info = json.loads((run_dir / "args.json").read_text())
        {**info["args"], **info["versions"]}  # both must be there
        if not complete and not (run_dir / "evaluations.csv").exists():
            return info, np.empty((0, 2)), False
        with open(run_dir / "evaluations.csv") as file:
            names, *rows = csv.reader(file)
        if names != ["step", "return_mean", "return_std", "length_mean", "seconds"]:
            raise ValueError(f"evaluations.csv has the columns {names}")
        curve = np.array(rows, dtype=np.float64).reshape(-1, len(names))[:, :2]
        if not (np.isfinite(curve).all() and (np.diff(curve[:, 0]) > 0).all()):
            raise ValueError("evaluations.csv must have rising steps and finite returns")
    except (OSError, ValueError, LookupError, TypeError) as error:
        fail(f"{run_dir}: must be the folder of a run: {error!r}")
    if complete and len(curve) == 0:
        fail(f"{run_dir}: must have an evaluation in evaluations.csv, has none")
    return info, curve, complete


def check_equal(runs: dict[Path, dict], free: tuple[str, ...] = ()) -> None:
    """Fail unless the arguments of all runs {run_dir: args} are equal, but for `free` ones and where or how it ran."""
    free += ("seed", "exp_name", "run_dir", "resume", "checkpoint_frequency", "cuda", "capture_video", "num_threads")
    (first, args), *others = runs.items()
    for run_dir, other in others:
        for name in (name for name in args | other if name not in free and args.get(name) != other.get(name)):
            fail(
                f"{run_dir}: must have --{name.replace('_', '-')} {args.get(name)} like {first}, has {other.get(name)}"
            )


def check_seeds(runs: dict[Path, dict]) -> None:
    """Fail if two runs {run_dir: args} have the same seed."""
    seen = {}
    for run_dir, args in runs.items():
        if args["seed"] in seen:
            fail(f"{run_dir}: must be of another seed than {seen[args['seed']]}, has {args['seed']} too")
        seen[args["seed"]] = run_dir


def describe_versions(infos: list[dict]) -> str:
    """The versions behind runs, from their args.json, in words."""
    found = {}
    for name, version in sorted({pair for info in infos for pair in info["versions"].items()}):
        found.setdefault(name, []).append(version)
    return ", ".join(f"{name} {' and '.join(versions)}" for name, versions in found.items())


def write_table(output: Path, caption: str, rows: list[list[str]]) -> None:
    """Write rows, the first of them the names of the columns, as a Markdown table under its caption."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, "|---" * len(rows[0]) + "|")
    write_text(output, "\n".join([caption, "", *lines, ""]))


def write_csv(output: Path, rows: list[list]) -> None:
    """Write rows, the first of them the names of the columns."""
    write_text(output, "".join(",".join(map(str, row)) + "\n" for row in rows))


def write_text(output: Path, text: str) -> None:
    """Write a text, and say where."""
    try:
        output.write_text(text)
    except OSError as error:
        fail(f"--output {output}: must be a file that can be written: {error}")
    print(f"table: {output}")


def read_results(run_dir: Path, experiments: tuple[str, ...]) -> tuple[dict, dict[str, np.ndarray]]:
    """Return the arguments and the columns of results.csv of a run of tabular_qss.py; fail if it is another one."""
    try:
        args = json.loads((run_dir / "args.json").read_text())["args"]
        if args["experiment"] not in experiments:
            fail(f"{run_dir}: must be a run of {' or '.join(experiments)}, is one of {args['experiment']}")
        with open(run_dir / "results.csv") as file:
            names, *rows = csv.reader(file)
        columns = dict(zip(names, map(np.array, zip(*rows, strict=True)), strict=True))
        text = ("algorithm", "setting")
        return args, {name: x if name in text else x.astype(np.float64) for name, x in columns.items()}
    except (OSError, ValueError, LookupError, TypeError) as error:
        fail(f"{run_dir}: must be the folder of a complete run of tabular_qss.py: {error!r}")


def read_curves(run_dir: Path, experiments: tuple[str, ...]) -> tuple[dict, np.ndarray, dict]:
    """Return the arguments, the episodes of the evaluations, and {(algorithm, setting): returns [seeds, episodes]}."""
    args, columns = read_results(run_dir, experiments)
    episodes = np.unique(columns["episode"])
    curves = {}
    for key in dict.fromkeys(zip(columns["algorithm"].tolist(), columns["setting"].tolist(), strict=True)):
        chosen = (columns["algorithm"] == key[0]) & (columns["setting"] == key[1])
        curves[key] = columns["return"][chosen].reshape(-1, len(episodes))
    return args, episodes, curves


def draw_heatmap(axis, values: np.ndarray, label: str, **style) -> None:
    """Draw the values of the grid's states [121] with a colour bar of that label; S and G mark start and goal."""
    image = axis.imshow(values.reshape(11, 11), **style)
    axis.figure.colorbar(image, ax=axis, label=label, shrink=0.85)
    for name, place in (("S", 0), ("G", 10)):
        outline = [withStroke(linewidth=2, foreground="black")]
        axis.text(place, place, name, ha="center", va="center", color="white", fontweight="bold", path_effects=outline)
    axis.set(xlabel="column", ylabel="row", xticks=(0, 5, 10), yticks=(0, 5, 10))


def draw_curve(axis, x: np.ndarray, runs: np.ndarray, label: str, color: str, **style) -> None:
    """Draw the mean over runs [runs, n] at x [n] and, of two runs or more, its 95% bootstrap interval."""
    axis.plot(x, runs.mean(0), label=label, color=color, **style)
    if len(runs) > 1:
        axis.fill_between(x, *bootstrap_interval(runs), color=color, alpha=0.25, linewidth=0)


def write(figure, output: Path) -> None:
    """Write a figure as a picture, and say where."""
    if not output.suffix:
        fail(f"--output {output}: must be the name of a picture with its ending, such as {output.name}.png")
    try:
        figure.savefig(output, dpi=120)
    except (OSError, ValueError) as error:
        fail(f"--output {output}: must be a picture that can be written, such as {output.stem}.png: {error}")
    plt.close(figure)
    print(f"figure: {output}")
