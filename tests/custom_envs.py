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


class NaNReward(Walk):
    """Walk, with a reward that is not a number some way from the start."""

    def reward(self):
        return float("nan") if self.position[1] > 2.5 else 0.0


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


for env in (Broken, ReusesItsArray, Walk, NaNReward, ImageObservations, DictObservations, UnboundedActions):
    gym.register(f"{env.__name__}-v0", env, max_episode_steps=20)
