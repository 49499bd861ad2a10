"""Small tasks that the tests train on, by `custom_envs:Name-v0`, as a user's own tasks would be."""

import gymnasium as gym
import numpy as np


class Walk(gym.Env):
    """A point moved by its actions; asserts that they are in bounds, remembers them, and never terminates."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gym.spaces.Box(np.array([-1.0, 0.5]), np.array([2.0, 0.75]), dtype=np.float64)
    actions: list = []
    seeds: list = []

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.position = self.np_random.normal(size=2)
        return self.position.copy(), {}

    def step(self, action):
        assert not ((action < self.action_space.low) | (action > self.action_space.high)).any()
        self.actions.append(action)
        self.position = self.position + 0.1 * action
        return self.position.copy(), self.reward(), False, False, {}

    def reward(self):
        return -float(np.abs(self.position).sum())


class NaN(Walk):
    """Walk, in which something is NaN: the reward or the observation of the 45th step, or the third reset's."""

    def __init__(self, where):
        self.where = where
        self.steps = 0
        self.resets = 0

    def reset(self, seed=None, options=None):
        observation, info = super().reset(seed=seed)
        self.resets += 1
        if self.where == "reset" and self.resets == 3:
            observation[1] = np.nan
        return observation, info

    def step(self, action):
        observation, reward, *rest = super().step(action)
        self.steps += 1
        if self.where == "observation" and self.steps == 45:
            observation[1] = np.nan
        if self.where == "reward" and self.steps == 45:
            reward = float("nan")
        return observation, reward, *rest


class ImageObservations(Walk):
    observation_space = gym.spaces.Box(0, 255, (4, 4), np.uint8)


class DictObservations(Walk):
    observation_space = gym.spaces.Dict({"position": Walk.observation_space})


class UnboundedActions(Walk):
    action_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float64)


class Broken(Walk):
    def __init__(self):
        raise KeyError("nothing")


class ReusesItsArray(Walk):
    """Walk, whose observations are all the same array, changed in place."""

    shared = np.zeros(2)

    def reset(self, seed=None, options=None):
        self.shared[:] = super().reset(seed=seed)[0]
        return self.shared, {}

    def step(self, action):
        observation, *rest = super().step(action)
        self.shared[:] = observation
        return self.shared, *rest


for env in (Broken, ReusesItsArray, Walk, ImageObservations, DictObservations, UnboundedActions):
    gym.register(f"{env.__name__}-v0", env, max_episode_steps=20)
for where in ("reward", "observation", "reset"):
    gym.register(f"NaN{where.capitalize()}-v0", NaN, max_episode_steps=20, kwargs={"where": where})
gym.register("tests/Walk-v0", Walk, max_episode_steps=20)
