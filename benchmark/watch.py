"""Look at the policy of a run: in a window, or as a GIF where there is no display.

    python benchmark/watch.py RUN_DIR
    python benchmark/watch.py RUN_DIR --output runs/episodes.gif --episodes 3

It plays the model.pt of a complete run of d3g_continuous.py, td3_baseline.py, d3g_from_obs.py or bco_baseline.py, or
the latest checkpoint.pt of one that is still going, and only reads them. The policy acts without noise. Unless `--seed`
is given, the episodes start as those of the run's evaluations do, so that returns compare with evaluations.csv.
"""

import io
import math
import os
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import glfw
import gymnasium as gym
import imageio
import numpy as np
import torch
import tyro
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import bco_baseline  # noqa: E402
import d3g_continuous  # noqa: E402
import d3g_from_obs  # noqa: E402
import td3_baseline  # noqa: E402
from d3g_continuous import fail  # noqa: E402


@dataclass
class Args:
    """Play the policy of a run in a window, or into a GIF."""

    run_dir: tyro.conf.Positional[Path]  # folder of the run
    output: Path | None = None  # the GIF to write, instead of opening a window
    episodes: int = 1  # how many episodes to play, one after the other
    steps: int | None = None  # stop each episode after so many steps, for a GIF of a smaller size
    seed: int | None = None  # play the start states of the evaluations of a run of this seed; by default the run's own


class WindowClosed(Exception):
    """Escape was pressed or the window closed."""


def check_args(args: Args) -> None:
    """Fail, naming the argument, where a value is out of range or cannot be used here."""
    if args.episodes < 1:
        fail(f"--episodes {args.episodes}: must be at least 1")
    if args.steps is not None and args.steps < 1:
        fail(f"--steps {args.steps}: must be at least 1")
    if args.seed is not None and not 0 <= args.seed < 2**32:
        fail(f"--seed {args.seed}: must be from 0 to 2**32 - 1")
    if args.output is None and not has_display():
        fail("--output: must be given where there is no display to open a window on, such as --output episode.gif")
    if args.output is not None:
        is_gif = args.output.suffix == ".gif" and not args.output.is_dir()
        if not is_gif or not args.output.parent.is_dir():
            fail(f"--output {args.output}: must be the name of a .gif file, in a folder that exists")


def has_display() -> bool:
    """Whether a window can be opened: where it cannot, Gymnasium would not raise an error but abort the process."""
    with warnings.catch_warnings(action="ignore"):
        if not glfw.init() or not glfw.get_primary_monitor():
            return False
        glfw.window_hint(glfw.VISIBLE, False)
        window = glfw.create_window(1, 1, "", None, None)
        glfw.default_window_hints()
        if not window:
            return False  # a display without OpenGL
        glfw.destroy_window(window)
        return True


def refuse(run_dir: Path, reason: str) -> None:
    """Fail, since the folder is not that of a run with a policy to look at."""
    scripts = "d3g_continuous.py, td3_baseline.py, d3g_from_obs.py or bco_baseline.py"
    fail(f"RUN_DIR {run_dir}: must be the folder of a run of {scripts}, but {reason}")


def read_run(run_dir: Path) -> tuple[str, dict, dict[str, torch.Tensor]]:
    """Return the name of the file that has the policy, the run's arguments, and its agent's tensors by their names."""
    for name in ("model.pt", "checkpoint.pt", "model.pt"):  # the last if the run became complete between the two
        try:
            contents = torch.load(run_dir / name, map_location="cpu", weights_only=True)
            break
        except FileNotFoundError:
            continue
        except Exception as error:  # a damaged or foreign file may raise anything
            refuse(run_dir, f"its {name} cannot be loaded: {type(error).__name__}: {error}")
    else:
        refuse(run_dir, "it has neither a model.pt nor a checkpoint.pt")

    try:
        if name == "checkpoint.pt":
            args = contents["info"]["args"]
            state = dict(contents["agent"])
        else:
            args = contents["args"]
            state = {}
            for network, weights in contents.items():
                if isinstance(weights, torch.Tensor):
                    state[network] = weights  # the units of D3G+
                elif isinstance(weights, dict) and network != "args":
                    for parameter, tensor in weights.items():
                        state[f"{network}.{parameter}"] = tensor
        if type(args.get("env_id")) is not str:
            raise ValueError("its arguments name no task of Gymnasium")
        if type(args["seed"]) is not int or args["seed"] < 0:
            raise ValueError(f"its seed is {args['seed']!r}")
    except Exception as error:  # a damaged or foreign file may raise anything
        refuse(run_dir, f"its {name} is not of one: {type(error).__name__}: {error}")
    return name, args, state


def make_env(run_dir: Path, env_id: str, render_mode: str) -> gym.Env:
    """Make a run's task and draw it once; fail where this cannot be done."""
    if sys.platform == "linux" and not has_display():
        os.environ.setdefault("MUJOCO_GL", "egl")  # before MuJoCo is imported, with its first task
    try:
        with warnings.catch_warnings(action="ignore"):  # what a renderer warns of before it fails, and old tasks
            env = gym.make(env_id, render_mode=render_mode)
            env.reset(seed=0)  # not any: where the camera stands may depend on it
            frame = env.render()
        follow_with_camera(env)
        if render_mode == "rgb_array":
            check_frame(frame)
    except Exception as error:  # the task and its renderer may raise anything
        sys.unraisablehook = ignore_unraisable
        why = f"{env_id} cannot (MUJOCO_GL={os.environ.get('MUJOCO_GL')}): {type(error).__name__}: {error}"
        fail(f"RUN_DIR {run_dir}: must be of a task that can be drawn here, {why}")
    return env


def check_frame(frame) -> None:
    """Raise ValueError unless a frame is a picture."""
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError("its frames must be arrays of bytes [height, width, 3]")


def ignore_unraisable(_unraisable) -> None:
    """Say nothing of what Gymnasium's viewer raises when it is deleted half made: why it was not made has been said."""


def follow_with_camera(env: gym.Env) -> None:
    """Look through the camera that goes along with MuJoCo's robots, where they have one: some walk out of sight."""
    renderer = getattr(env.unwrapped, "mujoco_renderer", None)
    if renderer is None:
        return  # not a task of MuJoCo's
    import mujoco  # not at the top: as it is imported, it reads MUJOCO_GL

    camera = mujoco.mj_name2id(renderer.model, mujoco.mjtObj.mjOBJ_CAMERA, "track")
    if camera >= 0:
        renderer.camera_id = camera  # of the frames of a GIF
        renderer.viewer.cam.type = mujoco.mjtCamera.mjCAMERA_FIXED  # of a window
        renderer.viewer.cam.fixedcamid = camera


def make_agent(args: dict, state: dict[str, torch.Tensor], env: gym.Env) -> nn.Module:
    """Return the agent that has these tensors; raise ValueError where no script has such an agent for this task."""
    obs_dim = env.observation_space.shape[0]
    low = env.action_space.low
    high = env.action_space.high
    sizes = args["hidden_sizes"]
    networks = {name.split(".")[0] for name in state}
    plus = "sigma" in state
    if "actor" in networks:
        agent = td3_baseline.TD3(obs_dim, low, high, hidden_sizes=sizes, num_critics=args["num_critics"])
    elif "policy" in networks:
        agent = bco_baseline.BCO(obs_dim, low, high, hidden_sizes=sizes)
    elif "proposal" in networks and "offline_updates" in args:
        agent = d3g_from_obs.D3G(
            obs_dim,
            low,
            high,
            hidden_sizes=sizes,
            standardize=plus,
            scale_states="state_scale" in state,
            clamp_values="value_low" in state,
            aim_halfway=args.get("aim_halfway", False),
        )
    elif "proposal" in networks:
        agent = d3g_continuous.D3G(obs_dim, low, high, hidden_sizes=sizes, standardize=plus, cycle=args["cycle"])
    else:
        raise ValueError(f"none of them has the networks {sorted(networks)}")
    agent.load_state_dict(state)
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            raise ValueError(f"{name} is NaN or infinite")
    return agent


def watch_for_closing() -> None:
    """Raise WindowClosed as MuJoCo's window is closed; Gymnasium closes it and then draws into it, which crashes."""
    window = glfw.get_current_context()
    if not window:
        return  # a window of another kind

    def on_close(_window) -> None:
        raise WindowClosed

    def on_key(window, key: int, scancode: int, action: int, mods: int) -> None:
        if key == glfw.KEY_ESCAPE:
            raise WindowClosed
        gymnasiums_on_key(window, key, scancode, action, mods)

    glfw.set_window_close_callback(window, on_close)
    gymnasiums_on_key = glfw.set_key_callback(window, on_key)


def play(agent: nn.Module, env: gym.Env, seed: int, steps: int | None, fps: int, gif=None) -> tuple[float, int]:
    """Act for one episode, or `steps` of it, without noise; return its undiscounted return and its length.

    With `gif`, a writer of imageio's, append frames to it, of every second pixel and at most 25 a second: browsers slow
    down GIFs that are faster. Without, the task draws its window itself, and a step lasts at least as long as it would.
    """
    skip = math.ceil(fps / 25)
    episode_return = 0.0
    length = 0
    observation, _ = env.reset(seed=seed)
    if gif:
        gif.append_data(env.render()[::2, ::2])
    done = False
    while not done and length != steps:
        started = time.perf_counter()
        observation, reward, terminated, truncated, _ = env.step(agent.act(observation))
        episode_return += reward
        length += 1
        done = terminated or truncated
        if gif and length % skip == 0:
            gif.append_data(env.render()[::2, ::2])
        if not gif:
            time.sleep(max(0, started + 1 / fps - time.perf_counter()))
    return episode_return, length


def play_all(agent: nn.Module, env: gym.Env, seeds: list[int], steps: int | None, fps: int, gif=None) -> None:
    """Play an episode per seed and print what they returned and how long they were."""
    returns = []
    lengths = []
    for number, seed in enumerate(seeds, 1):
        episode_return, length = play(agent, env, seed, steps, fps, gif)
        print(f"episode {number}: return {episode_return:.2f}, length {length}", flush=True)
        returns.append(episode_return)
        lengths.append(length)
    print(f"mean: return {np.mean(returns):.2f}, length {np.mean(lengths):.1f}")


def play_in_window(agent: nn.Module, env: gym.Env, seeds: list[int], steps: int | None, fps: int) -> None:
    """Play an episode per seed, or until the window is closed."""
    watch_for_closing()
    try:
        play_all(agent, env, seeds, steps, fps)
    except WindowClosed:
        print("window closed")


def play_into_gif(agent: nn.Module, env: gym.Env, seeds: list[int], steps: int | None, fps: int) -> bytes:
    """Play an episode per seed and return the GIF of all, one after the other."""
    buffer = io.BytesIO()
    milliseconds = 1000 * math.ceil(fps / 25) / fps
    with imageio.get_writer(buffer, format="GIF", mode="I", duration=milliseconds, loop=0) as gif:
        play_all(agent, env, seeds, steps, fps, gif)
    return buffer.getvalue()


def write_gif(content: bytes, output: Path) -> None:
    """Write to a temporary file that then replaces `output`."""
    partial = output.with_name(f"{output.name}.tmp")
    try:
        partial.write_bytes(content)
        os.replace(partial, output)
    except OSError as error:
        partial.unlink(missing_ok=True)
        fail(f"--output {output}: must be a file that can be written: {error}")
    print(f"GIF: {output}")


def main(args: Args) -> None:
    """Play the policy of the run that `args` name."""
    check_args(args)
    torch.set_num_threads(1)
    name, run_args, state = read_run(args.run_dir)
    with make_env(args.run_dir, run_args["env_id"], "human" if args.output is None else "rgb_array") as env:
        try:
            agent = make_agent(run_args, state, env)
        except Exception as error:  # a damaged or foreign file may raise anything
            refuse(args.run_dir, f"its {name} is not of one: {type(error).__name__}: {error}")
        seed = run_args["seed"] if args.seed is None else args.seed
        seeds = np.random.SeedSequence((seed, 2)).generate_state(args.episodes).tolist()  # as a run's evaluations
        fps = env.metadata.get("render_fps") or 30
        print(f"{args.run_dir / name}: {type(agent).__name__} on {run_args['env_id']}", flush=True)
        if args.output is None:
            play_in_window(agent, env, seeds, args.steps, fps)
        else:
            write_gif(play_into_gif(agent, env, seeds, args.steps, fps), args.output)


if __name__ == "__main__":
    try:
        main(tyro.cli(Args))
    except KeyboardInterrupt:
        sys.exit(130)
