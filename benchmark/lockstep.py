"""Every update held against the authors' published classes: equal weights, equal batches, float64, step by step.

    git clone https://github.com/uber-research/D3G authors
    python benchmark/lockstep.py authors

Runs the code in that folder, which must be a clone of the authors' repository. For each of their agents one of theirs
and one of ours start from the same random weights and learn from the same random batches. What is printed is the
largest relative difference of any parameter after the last update: of a tensor, the largest difference of an element
over the largest size of one. Rounding alone makes about 1e-15. Exits with status 1 where one is above 1e-12.
"""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import numpy as np
import torch
import tyro
from drawing import fail
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import bco_baseline  # noqa: E402
import d3g_continuous  # noqa: E402
import d3g_from_obs  # noqa: E402
import td3_baseline  # noqa: E402

OBS_DIM = 11  # as Hopper's
ACTION_DIM = 3
BOUND = 1.5  # of every action; not 1, so that one that is forgotten shows
HIGH = np.full(ACTION_DIM, BOUND, np.float32)
BATCH = 256
TOLERANCE = 1e-12

# Their classes, by file, and the networks of theirs and ours that must stay equal
CLASSES = {"D3G": "D3G", "ObservationalD3G": "D3G", "TD3": "TD3", "OurDDPG": "DDPG", "bco": "BCO"}
D3G_NETWORKS = {
    "critic": "critic",
    "critic_target": "critic_target",
    "model": "proposal",
    "model_target": "proposal_target",
    "actor": "inverse_dynamics",
    "forward_model": "forward_dynamics",
}
TD3_NETWORKS = {name: name for name in ("critic", "critic_target", "actor", "actor_target")}
BCO_NETWORKS = {"actor": "inverse_dynamics", "bc": "policy"}


@dataclass
class Args:
    """Hold every update against the authors' classes."""

    authors_folder: tyro.conf.Positional[Path]  # a clone of github.com/uber-research/D3G
    updates: int = 300  # updates of each agent


class FromBatch:
    """Stands in for the authors' replay buffers: whatever is sampled, it is this."""

    def __init__(self, *batch: torch.Tensor):
        self.batch = batch

    def sample(self, batch_size: int) -> tuple[torch.Tensor, ...]:
        return self.batch


def load_authors(folder: Path) -> dict[str, ModuleType]:
    """Import the authors' five files; fail where the folder is not a clone of their repository."""
    modules = {}
    for name, agent in CLASSES.items():
        file = folder / "D3G" / f"{name}.py"
        if not file.is_file():
            fail(f"AUTHORS_FOLDER {folder}: must be a clone of github.com/uber-research/D3G, has no D3G/{name}.py")
        spec = importlib.util.spec_from_file_location(f"authors_{name}", file)
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except Exception as error:  # someone else's file may raise anything
            fail(f"AUTHORS_FOLDER {folder}: D3G/{name}.py cannot be imported: {type(error).__name__}: {error}")
        if not hasattr(module, agent):
            fail(f"AUTHORS_FOLDER {folder}: D3G/{name}.py must be that of the authors, has no class {agent}")
        module.device = torch.device("cpu")
        modules[name] = module
    return modules


def read_commit(folder: Path) -> str:
    """The commit of a clone, or `unknown commit` where the folder is only its files."""
    command = ["git", "-C", str(folder.resolve()), "rev-parse", "--short=12", "--show-toplevel", "HEAD"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    except (OSError, subprocess.CalledProcessError):
        return "unknown commit"
    return lines[1] if Path(lines[0]) == folder.resolve() else "unknown commit"


def batches(rng: np.random.Generator, n: int) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yield n batches (s, a, r, s', terminated) of random transitions, each [batch, width]."""
    for _ in range(n):
        s = rng.normal(size=(BATCH, OBS_DIM))
        a = rng.uniform(-BOUND, BOUND, (BATCH, ACTION_DIM))
        r = rng.normal(size=(BATCH, 1))
        s_next = s + 0.1 * rng.normal(size=(BATCH, OBS_DIM))
        terminated = rng.random((BATCH, 1)) < 0.1
        yield tuple(torch.as_tensor(x, dtype=torch.float64) for x in (s, a, r, s_next, terminated))


def copy_weights(theirs, ours: nn.Module, networks: dict[str, str]) -> None:
    """Give the authors' networks the weights of ours; both list their layers from input to output, critic by critic."""
    for their_name, our_name in networks.items():
        their_parameters = list(getattr(theirs, their_name).parameters())
        our_parameters = list(getattr(ours, our_name).parameters())
        with torch.no_grad():
            for their_parameter, our_parameter in zip(their_parameters, our_parameters, strict=True):
                their_parameter.copy_(our_parameter)


@torch.no_grad()
def difference(theirs, ours: nn.Module, networks: dict[str, str]) -> float:
    """The largest relative difference of any parameter, NaN where one is NaN."""
    differences = []
    for their_name, our_name in networks.items():
        their_parameters = getattr(theirs, their_name).parameters()
        our_parameters = getattr(ours, our_name).parameters()
        for their_parameter, our_parameter in zip(their_parameters, our_parameters, strict=True):
            size = their_parameter.abs().max()
            differences.append(float((their_parameter - our_parameter).abs().max() / size))
    return float(np.max(differences))  # unlike Python's max, NumPy's is NaN where one is


def d3g(authors: dict[str, ModuleType], updates: int, rng: np.random.Generator) -> dict[str, float]:
    """Section 2's update, from transitions with actions."""
    theirs = authors["D3G"].D3G(OBS_DIM, ACTION_DIM, BOUND)
    ours = d3g_continuous.D3G(OBS_DIM, -HIGH, HIGH)
    copy_weights(theirs, ours, D3G_NETWORKS)
    for s, a, r, s_next, terminated in batches(rng, updates):
        theirs.train(FromBatch(s, a, s_next, r, 1 - terminated), BATCH)
        ours.update((s, a, r, s_next, terminated))
    return {"D3G, d3g_continuous.py": difference(theirs, ours, D3G_NETWORKS)}


def d3g_from_observations(authors: dict[str, ModuleType], updates: int, rng: np.random.Generator) -> dict[str, float]:
    """The offline update, that of the inverse dynamics, and a step of the imagined plan."""
    theirs = authors["ObservationalD3G"].D3G(OBS_DIM, ACTION_DIM, BOUND, "summary", batch_size=BATCH)
    ours = d3g_from_obs.D3G(OBS_DIM, -HIGH, HIGH)
    copy_weights(theirs, ours, D3G_NETWORKS)
    for s, a, r, s_next, terminated in batches(rng, updates):
        theirs.train(FromBatch(s, a, s_next, s_next, r, r, 1 - terminated))  # two of the seven are not used
        theirs.train_actor(FromBatch(s, a, s_next, r, 1 - terminated))
        ours.update((s, a, r, s_next, terminated))
        ours.update_inverse_dynamics((s, a, r, s_next, terminated))

    starts = torch.as_tensor(rng.normal(size=(BATCH, OBS_DIM)))
    with patch.object(torch, "FloatTensor", torch.DoubleTensor):  # their plan turns states into float32
        their_plan = np.stack([theirs.select_goal(s.numpy()) for s in starts])
    our_plan = ours.imagine(starts, steps=1)[-1].numpy()
    return {
        "D3G from observations, d3g_from_obs.py": difference(theirs, ours, D3G_NETWORKS),
        "its imagined plan, a step": float(abs(their_plan - our_plan).max() / abs(their_plan).max()),
    }


def td3(authors: dict[str, ModuleType], updates: int, rng: np.random.Generator) -> dict[str, float]:
    """TD3, whose smoothing noise is drawn from torch's generator, set alike before both."""
    noise = {"policy_noise": 0.2 * BOUND, "noise_clip": 0.5 * BOUND}  # as the authors' main.py multiplies them
    theirs = authors["TD3"].TD3(OBS_DIM, ACTION_DIM, BOUND, **noise)
    ours = td3_baseline.TD3(OBS_DIM, -HIGH, HIGH)
    copy_weights(theirs, ours, TD3_NETWORKS)
    for update, (s, a, r, s_next, terminated) in enumerate(batches(rng, updates)):
        torch.manual_seed(update)
        theirs.train(FromBatch(s, a, s_next, r, 1 - terminated), BATCH)
        torch.manual_seed(update)
        ours.update((s, a, r, s_next, terminated))
    return {"TD3, td3_baseline.py": difference(theirs, ours, TD3_NETWORKS)}


def ddpg(authors: dict[str, ModuleType], updates: int, rng: np.random.Generator) -> dict[str, float]:
    """DDPG, with the settings that `--algorithm ddpg` gives."""
    theirs = authors["OurDDPG"].DDPG(OBS_DIM, ACTION_DIM, BOUND)
    ours = td3_baseline.TD3(OBS_DIM, -HIGH, HIGH, **td3_baseline.DEFAULTS["ddpg"])
    copy_weights(theirs, ours, TD3_NETWORKS)
    for s, a, r, s_next, terminated in batches(rng, updates):
        theirs.train(FromBatch(s, a, s_next, r, 1 - terminated), BATCH)
        ours.update((s, a, r, s_next, terminated))
    return {"DDPG, td3_baseline.py": difference(theirs, ours, TD3_NETWORKS)}


def bco(authors: dict[str, ModuleType], updates: int, rng: np.random.Generator) -> dict[str, float]:
    """BCO's two updates."""
    theirs = authors["bco"].BCO(OBS_DIM, ACTION_DIM, BOUND, batch_size=BATCH)
    ours = bco_baseline.BCO(OBS_DIM, -HIGH, HIGH)
    copy_weights(theirs, ours, BCO_NETWORKS)
    for s, a, r, s_next, terminated in batches(rng, updates):
        theirs.train_actor(FromBatch(s, a, s_next, r, 1 - terminated))
        theirs.train_bc(FromBatch(s, s_next))
        ours.update_inverse_dynamics((s, a, r, s_next, terminated))
        ours.update_policy((s, a, r, s_next, terminated))
    return {"BCO, bco_baseline.py": difference(theirs, ours, BCO_NETWORKS)}


def main(args: Args) -> None:
    """Print a line per comparison; exit with status 1 where one is too large."""
    if args.updates < 1:
        fail(f"--updates {args.updates}: must be at least 1")
    authors = load_authors(args.authors_folder)
    print(f"{args.updates} updates beside {args.authors_folder} at {read_commit(args.authors_folder)}, float64")
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)  # several mostly wait for each other, above all on a busy machine
    largest = 0.0
    for compare in (d3g, d3g_from_observations, td3, ddpg, bco):
        torch.manual_seed(0)
        try:
            differences = compare(authors, args.updates, np.random.default_rng(0))
        except Exception as error:  # someone else's classes may raise anything
            fail(
                f"AUTHORS_FOLDER {args.authors_folder}: must have the authors' classes, but with ours "
                f"{compare.__name__} ends in {type(error).__name__}: {error}"
            )
        for what, value in differences.items():
            print(f"{what}: {value:.1e}", flush=True)
            largest = max(largest, value) if np.isfinite(value) else np.inf
    if largest > TOLERANCE:
        print(f"error: the largest relative difference, {largest:.1e}, is above {TOLERANCE:g}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main(tyro.cli(Args))
