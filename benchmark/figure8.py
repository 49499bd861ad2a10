"""Figure 8: the plan that D3G imagines after learning from observations, and what its policy then does.

    python benchmark/figure8.py RUN_DIR --output runs/figure8.png

Reads a complete run of d3g_from_obs.py. From a start state it follows the plan s <- C(s, s + tau(s)), for 200 steps at
most. Of InvertedPendulum and Reacher it draws eight of the imagined states with MuJoCo's renderer, above eight of an
episode that the learned policy acts, and the angle of the pole or the distance to the target (which is ringed) of both
over time; the dotted line is where a plan ends. It also writes a GIF of the plan. Of other tasks it draws the imagined
observations over time.
"""

import io
import math
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import imageio
import numpy as np
import torch
import tyro
from drawing import BLUE, ORANGE, WIDTH, draw_legend, fail, pictures, plt, write_files
from watch import has_display

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import d3g_from_obs  # noqa: E402

STEPS = 200  # of a plan, at most
FRAMES = 8  # drawn of a plan and of an episode
MOST_ANGLE = 0.2  # beyond which InvertedPendulum is over, and so is a plan
LEAST_DISTANCE = 0.02  # of Reacher's fingertip from its target, at which a plan is over
CAMERA_HEIGHT = 0.75  # above Reacher
CAMERA_DISTANCE = 2.9  # from InvertedPendulum, so that the picture shows its whole rail


@dataclass
class Args:
    """Draw Figure 8 from a run folder."""

    run_dir: tyro.conf.Positional[Path]
    """folder of the run"""
    output: Path | None = None
    """the PNG to write; by default figure8.png in the run's folder"""
    seed: int = 0
    """seed of the start state"""

    def __post_init__(self):
        if self.seed < 0:
            fail(f"--seed {self.seed}: must be at least 0")
        if self.output and (self.output.suffix != ".png" or not self.output.parent.is_dir()):
            fail(f"--output {self.output}: must be a PNG to write in a folder that exists")


def load(run_dir: Path) -> tuple[d3g_from_obs.D3G, str]:
    """Return a run's agent and its task."""
    try:
        model = torch.load(run_dir / "model.pt", map_location="cpu", weights_only=True)
        args = model["args"]
        if "offline_updates" not in args:
            raise ValueError("it is a run of another script")
        env_id = args["env_id"]
        low = np.array(model["action_low"], np.float32)
        high = np.array(model["action_high"], np.float32)
        agent = d3g_from_obs.D3G(
            model["obs_dim"],
            low,
            high,
            hidden_sizes=args["hidden_sizes"],
            standardize="sigma" in model,
            scale_states="state_scale" in model,
            clamp_values="value_low" in model,
            aim_halfway=args.get("aim_halfway", False),
        )
        for name, network in agent.named_children():
            network.load_state_dict(model[name])
        for name, units in agent.named_buffers(recurse=False):  # of D3G+
            units.copy_(model[name])
    except Exception as error:  # a damaged or foreign file may raise anything
        fail(f"{run_dir}: must be the folder of a complete run of d3g_from_obs.py: {error!r}")
    return agent, env_id


def set_pose(env: gym.Env, observation: np.ndarray, target: np.ndarray | None) -> np.ndarray:
    """Put the simulator into the state that an observation shows; return the observation that belongs to it.

    Of InvertedPendulum that is qpos and qvel. Of Reacher the angles of the joints come from their cosines and sines,
    the velocities from theirs; the target stays where it is, and where the fingertip is follows from the joints.
    """
    simulator = env.unwrapped
    if target is None:
        simulator.set_state(observation[:2].astype(np.float64), observation[2:].astype(np.float64))
        return observation
    joints = np.arctan2(observation[2:4], observation[:2])
    simulator.set_state(np.concatenate((joints, target)), np.concatenate((observation[6:8], np.zeros(2))))
    corrected = observation.copy()
    corrected[4:6], corrected[8:] = target, simulator._get_obs()[8:]
    return corrected


def imagine(agent: d3g_from_obs.D3G, start: np.ndarray, correct=lambda s: s, stop=lambda s: False) -> np.ndarray:
    """The plan from a start state [obs_dim], each state corrected, until `stop` or 200 steps: [steps + 1, obs_dim]."""
    plan = [correct(start.astype(np.float32))]
    while len(plan) <= STEPS and not stop(plan[-1]):
        imagined = agent.imagine(torch.from_numpy(plan[-1]).unsqueeze(0), steps=1)
        plan.append(correct(imagined[0, 0].numpy()))
    return np.array(plan)


def make_viewed(env_id: str) -> gym.Env:
    """Make InvertedPendulum or Reacher of 240 x 240 pixels, under a camera that shows what the episode is about."""
    if sys.platform == "linux" and not has_display():
        os.environ.setdefault("MUJOCO_GL", "egl")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # the paper's tasks are not the newest
        env = gym.make(env_id, render_mode="rgb_array", width=240, height=240)
    camera = {"azimuth": 90.0}
    if env_id.startswith("Reacher"):  # from above, and near
        camera |= {"distance": CAMERA_HEIGHT, "elevation": -90.0, "lookat": np.zeros(3)}
    else:  # from the height of the pole, for an upright one to be drawn upright wherever the cart is, and well lit
        camera |= {"distance": CAMERA_DISTANCE, "elevation": 0.0, "lookat": np.array((0.0, 0.0, 0.25))}
        env.unwrapped.model.vis.headlight.ambient[:] = 0.5
        env.unwrapped.model.vis.headlight.diffuse[:] = 0.7
    env.unwrapped.mujoco_renderer.default_cam_config = camera
    return env


def draw_strips(agent: d3g_from_obs.D3G, env_id: str, seed: int) -> tuple[plt.Figure, bytes]:
    """Draw the strip of the plan, that of a real episode, and what both are about over time; return the figure, and
    the plan as a GIF."""
    env = make_viewed(env_id)
    reacher = env_id.startswith("Reacher")
    start, _ = env.reset(seed=seed)
    target = env.unwrapped.data.qpos[2:].copy() if reacher else None
    frames = []

    def pose(observation: np.ndarray) -> np.ndarray:
        corrected = set_pose(env, observation, target)
        frames.append(env.render())
        return corrected

    def quantity(s: np.ndarray) -> np.ndarray:
        return np.linalg.norm(s[..., 8:10], axis=-1) if reacher else s[..., 1]

    def end(s: np.ndarray) -> bool:
        return quantity(s) <= LEAST_DISTANCE if reacher else abs(quantity(s)) > MOST_ANGLE

    plan = imagine(agent, start, pose, end)
    gif = io.BytesIO()
    imageio.mimsave(gif, frames, format="GIF", duration=40, loop=0)
    observation, _ = env.reset(seed=seed)
    episode = [observation.copy()]
    acted = [env.render()]
    done = False
    while not done and len(acted) <= STEPS:
        observation, _, terminated, truncated, _ = env.step(agent.act(observation))
        done = terminated or truncated
        episode.append(observation.copy())
        acted.append(env.render())
    print(f"plan: {len(plan) - 1} steps, episode: {len(acted) - 1} steps, start state of seed {seed}")

    figure = plt.figure(figsize=(WIDTH, 4.0), layout="constrained")
    strips, curves = figure.subfigures(2, 1, height_ratios=(2.3, 1.4))
    axes = strips.subplots(2, FRAMES)
    for row, images, name in zip(axes, (frames, acted), ("imagined plan", "learned policy"), strict=True):
        shown = np.linspace(0, len(images) - 1, FRAMES).round().astype(int)
        for axis, step in zip(row, shown, strict=True):
            axis.imshow(images[step])
            axis.set(xticks=(), yticks=(), title=f"step {step}")
            if reacher:
                x, y = 120 * target / (math.tan(math.radians(env.unwrapped.model.vis.global_.fovy / 2)) * CAMERA_HEIGHT)
                axis.add_patch(plt.Circle((119.5 + x, 119.5 - y), 16, fill=False, color="white", linewidth=1.5))
        row[0].set_ylabel(name)
    axis = curves.subplots()
    axis.plot(quantity(plan), color=ORANGE, linestyle="--", label="imagined plan")
    axis.plot(quantity(np.array(episode)), color=BLUE, label="learned policy")
    for limit in (LEAST_DISTANCE,) if reacher else (-MOST_ANGLE, MOST_ANGLE):
        axis.axhline(limit, color="black", linestyle=":", linewidth=0.8)
    axis.set(xlabel=f"step of {env_id}", ylabel="distance (m)" if reacher else "angle (rad)")
    axis.grid(alpha=0.3)
    draw_legend(curves)
    return figure, gif.getvalue()


def draw_components(agent: d3g_from_obs.D3G, env_id: str, seed: int) -> plt.Figure:
    """Draw the components of the imagined observations over time."""
    start, _ = d3g_from_obs.make_env(env_id).reset(seed=seed)
    plan = imagine(agent, start)
    figure, axis = plt.subplots(figsize=(WIDTH, 3.2), layout="constrained")
    axis.plot(plan, linewidth=1, label=[str(k) for k in range(plan.shape[1])])
    axis.set(title=f"{env_id}: the imagined plan", xlabel="imagined step", ylabel="component of the observation")
    axis.grid(alpha=0.3)
    if plan.shape[1] <= 20:
        axis.legend(frameon=False, ncols=2, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def main(args: Args) -> None:
    """Draw what the task allows, and write the PNG and the GIF."""
    agent, env_id = load(args.run_dir)
    numbers = [*agent.state_dict().values(), torch.as_tensor(agent.action_low), torch.as_tensor(agent.action_high)]
    if not all(tensor.isfinite().all() for tensor in numbers):
        fail(f"{args.run_dir}: must be the folder of a run with finite weights and bounds, has others")
    output = args.output or args.run_dir / "figure8.png"
    files = {}
    try:
        if env_id.startswith(("InvertedPendulum-", "Reacher-")):
            figure, gif = draw_strips(agent, env_id, args.seed)
            files[output.with_suffix(".gif")] = gif
        else:
            figure = draw_components(agent, env_id, args.seed)
    except Exception as error:  # the task and its renderer may raise anything, and so does a model of another task
        fail(f"{args.run_dir}: must be of a task that can be drawn here, {env_id} is not: {error!r}")
    files |= pictures(figure, output)
    write_files(files)


if __name__ == "__main__":
    main(tyro.cli(Args))
