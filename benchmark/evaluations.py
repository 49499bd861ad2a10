"""The runs behind Figure 7 and Table 1, from their folders or from the files that an earlier call wrote.

`X_evaluations.csv` has every evaluation of every complete run, and `X_runs.json` beside it an object per run: what it
is (task, algorithm, seed), in `evaluations` how many it has, and in `info` the contents of its args.json.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from drawing import DAMAGE, check_info, csv_text, fail, read_json, read_table, take

IDENTITY = ("task", "randomness", "algorithm", "seed")  # what tells runs apart; Figure 7's have no randomness


@dataclass
class Run:
    """A run that evaluates as it learns."""

    name: str  # its folder, or the file it comes from
    identity: dict  # its task, algorithm and seed; in Table 1 also the randomness of its data
    info: dict  # its args.json
    curve: np.ndarray  # its evaluations [n, 2]: step, mean return
    steps: range  # the steps of all evaluations that it has when it is complete
    complete: bool

    @property
    def args(self) -> dict:
        """Its arguments."""
        return self.info["args"]


# Tells what a run is, and the steps of its evaluations, from its args.json; raises ValueError for a foreign one
Identify = Callable[[dict], tuple[dict, range]]


def take_task(args: dict) -> str:
    """Return a run's task; raise ValueError where it cannot be the name of one."""
    task = take(args, "env_id", str)
    if not re.fullmatch(r"[\w.:/-]+", task):
        raise ValueError(f"args.json: env_id must be the name of a task, is {task!r}")
    return task


def check_steps(curve: np.ndarray, steps: range, complete: bool) -> None:
    """Raise ValueError unless the evaluations [n, 2] were at the given steps, at all of them if the run is complete."""
    n = len(curve)
    if n > len(steps) or (complete and n < len(steps)):
        raise ValueError(f"evaluations.csv: must have {len(steps)} rows by the run's arguments, has {n}")
    for found, step in zip(curve[:, 0].tolist(), steps, strict=False):
        if found != step:
            raise ValueError(f"evaluations.csv: must have step {step} where it has {found:g}")


def has_begun(run_dir: Path) -> bool:
    """Whether a run has done more than lock its folder, which a script does before it loads its data."""
    try:
        others = [name for name in ("evaluations.csv", "checkpoint.pt", "model.pt") if (run_dir / name).exists()]
        return len(others) > 0 or (run_dir / "args.json").stat().st_size > 0
    except (OSError, ValueError):
        return True  # reading it will tell what is wrong with it


def read_folder(run_dir: Path, identify: Identify) -> Run:
    """Read a run's folder. A run that is not complete may have no evaluation yet."""
    try:
        info = read_json(run_dir / "args.json")
        check_info(info)
        identity, steps = identify(info)
        complete = (run_dir / "model.pt").exists()
        curve = np.empty((0, 2))
        if complete or (run_dir / "evaluations.csv").exists():
            table = read_table(run_dir / "evaluations.csv", "step,return_mean,return_std,length_mean,seconds")
            curve = np.column_stack((table["step"], table["return_mean"]))
        check_steps(curve, steps, complete)
    except DAMAGE as error:
        fail(f"{run_dir}: must be the folder of a run: {error}")
    return Run(str(run_dir), identity, info, curve, steps, complete)


def runs_file(file: Path) -> Path:
    """The name X_runs.json that belongs to a file X_evaluations.csv."""
    return file.with_name(f"{file.name.removesuffix('_evaluations.csv')}_runs.json")


def default_output(run_dirs: tuple[Path, ...], file: Path | None, name: str) -> Path:
    """Where a call without --output writes: `name` in the first run's folder; without folders, what the earlier call
    wrote beside X_evaluations.csv: X, with the ending of `name`."""
    if run_dirs:
        return run_dirs[0] / name
    return file.with_name(file.name.removesuffix("_evaluations.csv") + Path(name).suffix)


def read_file(file: Path, identify: Identify, header: str, option: str = "--evaluations") -> list[Run]:
    """Read the runs of a file X_evaluations.csv with that header, given by `option`, and of X_runs.json beside it."""
    names = [name for name in header.split(",") if name in IDENTITY]
    try:
        if not file.name.endswith("_evaluations.csv"):
            raise ValueError("its name must end with _evaluations.csv")
        entries = read_json(runs_file(file))
        if type(entries) is not list:
            raise ValueError(f"{runs_file(file).name}: must be a list of runs")
        table = read_table(file, header, text=("task", "algorithm"))
        columns = [table[name].tolist() for name in (*names, "step", "return_mean")]
        curves = {}
        for *of_run, step, value in zip(*columns, strict=True):
            curves.setdefault(tuple(of_run), []).append((step, value))
        runs = []
        for k, entry in enumerate(entries, 1):
            runs.append(read_entry(f"{runs_file(file)}, run {k}", entry, names, curves, identify))
        if curves:
            raise ValueError(f"{runs_file(file).name}: must have every run, lacks {next(iter(curves))}")
    except DAMAGE as error:
        fail(f"{option} {file}: must be of an earlier call, and the file of its runs beside it: {error}")
    return runs


def read_entry(name: str, entry, names: list[str], curves: dict[tuple, list], identify: Identify) -> Run:
    """Return a run from its entry in X_runs.json, its evaluations taken out of `curves`; raise ValueError if they do
    not belong together."""
    try:
        if type(entry) is not dict:
            raise ValueError(f"must be an object, is {entry!r}")
        info = entry.get("info")
        check_info(info)
        identity, steps = identify(info)
        if {key: entry.get(key) for key in names} != identity:
            raise ValueError(f"must be {identity} by its info")
        curve = np.array(curves.pop(tuple(identity.values()), np.empty((0, 2))))
        if len(curve) == 0:
            raise ValueError(f"must have evaluations that no other run has: {identity}")
        if len(curve) != entry.get("evaluations"):
            raise ValueError(f"must have as many evaluations as are there, {len(curve)}: {entry.get('evaluations')!r}")
        check_steps(curve, steps, complete=False)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    return Run(name, identity, info, curve, steps, len(curve) == len(steps))


def read_runs(run_dirs: tuple[Path, ...], file: Path | None, identify: Identify, header: str) -> list[Run]:
    """Read all runs, in the order of their tasks; fail where two are the same run and yet differ."""
    if not run_dirs and file is None:
        fail("RUN_DIRS: must be at least one folder of a run, or --evaluations FILE")
    runs = read_file(file, identify, header) if file else []
    of_file = {tuple(run.identity.values()): run for run in runs}
    for run_dir in dict.fromkeys(run_dirs):
        if not has_begun(run_dir):
            print(f"{run_dir}: has not begun yet: left out")
            continue
        run = read_folder(run_dir, identify)
        other = of_file.get(tuple(run.identity.values()))
        if other is None:
            runs.append(run)
        elif without_folders(run.info) != without_folders(other.info) or not np.array_equal(run.curve, other.curve):
            fail(f"{run_dir}: must be the same run as {other.name} with its task, algorithm and seed, but differs")
    return sorted(runs, key=by_task)


def by_task(run: Run) -> str:
    """What to sort runs by."""
    return run.identity["task"]


def evaluations_text(runs: list[Run], header: str) -> str:
    """The text of X_evaluations.csv."""
    names = header.split(",")
    rows = [names]
    for run in runs:
        for k, (step, value) in enumerate(run.curve.tolist(), 1):
            row = run.identity | {"evaluation": k, "step": f"{step:.0f}", "return_mean": value}
            rows.append([row[name] for name in names])
    return csv_text(rows)


def without_folders(info: dict) -> dict:
    """What args.json says, of the preloaded libraries their names alone: their folders are of one machine."""
    preloaded = info.get("ld_preload")
    if type(preloaded) is not str:
        return info
    return info | {"ld_preload": ":".join(Path(library).name for library in preloaded.split(":"))}


def runs_text(runs: list[Run]) -> str:
    """The text of X_runs.json, a line per run."""
    lines = []
    for run in runs:
        lines.append(json.dumps(run.identity | {"evaluations": len(run.curve), "info": without_folders(run.info)}))
    return "[\n" + ",\n".join(lines) + "\n]\n"


def check_equal(runs: list[Run], free: tuple[str, ...] = ()) -> None:
    """Fail unless the arguments of all runs are equal, but for `free` ones and where or how it ran.

    An argument that some do not have, being of another commit, is no difference."""
    free += ("seed", "exp_name", "run_dir", "resume", "checkpoint_frequency", "cuda", "num_threads")
    first = {}  # that has the argument
    for run in runs:
        for name, value in run.args.items():
            if name in free:
                continue
            other = first.setdefault(name, run)
            if value != other.args[name]:
                option = f"--{name.replace('_', '-')}"
                fail(f"{run.name}: must have {option} {other.args[name]} like {other.name}, has {value}")


def check_seeds(runs: list[Run]) -> None:
    """Fail if two runs have the same seed."""
    seen = {}
    for run in runs:
        seed = run.identity["seed"]
        if seed in seen:
            fail(f"{run.name}: must be of another seed than {seen[seed].name}, has {seed} too")
        seen[seed] = run


def describe_versions(runs: list[Run]) -> str:
    """The versions behind runs in words."""
    found = {}
    for name, version in sorted({pair for run in runs for pair in run.info["versions"].items()}):
        found.setdefault(name, []).append(version)
    return ", ".join(f"{name} {' and '.join(versions)}" for name, versions in found.items())
