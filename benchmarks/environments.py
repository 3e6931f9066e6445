"""Small environments that learning is measured on."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


class Catch(gym.Env[Pixels, np.int64]):
    """Catch a falling ball with a paddle of three pixels; seen as an image of 1x16x16 bytes.

    The ball starts in any column of the top row and falls one row a step; the paddle stays, or moves one
    column to the left or right. An episode lasts 15 steps; its return is 1 if the ball was caught, else
    -1. Random play gets about -0.7.
    """

    size = 16
    observation_space = spaces.Box(0, 255, (1, size, size), np.uint8)
    action_space = spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Pixels, dict[str, Any]]:
        """Put a ball into the top row."""
        super().reset(seed=seed)
        self._row, self._column = 0, int(self.np_random.integers(self.size))
        self._paddle = self.size // 2
        return self._image(), {}

    def step(self, action: np.int64) -> tuple[Pixels, float, bool, bool, dict[str, Any]]:
        """Move the paddle by `action - 1`, the ball down."""
        self._paddle = min(max(self._paddle + int(action) - 1, 1), self.size - 2)
        self._row += 1
        landed = self._row == self.size - 1
        caught = abs(self._column - self._paddle) <= 1
        return self._image(), (1.0 if caught else -1.0) if landed else 0.0, landed, False, {}

    def _image(self) -> Pixels:
        image = np.zeros((1, self.size, self.size), np.uint8)
        image[0, self._row, self._column] = 255
        image[0, -1, self._paddle - 1 : self._paddle + 2] = 255
        return image


class WithoutVelocities(gym.ObservationWrapper[Any, Any, Any]):
    """CartPole that shows positions alone: what moves where must be remembered."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        bounds: Any = env.observation_space
        self.observation_space = spaces.Box(bounds.low[[0, 2]], bounds.high[[0, 2]], dtype=np.float32)

    def observation(self, observation: Any) -> Any:
        """The cart's place and the pole's angle."""
        return observation[[0, 2]]


def catch(_: dict[str, Any]) -> gym.Env[Any, Any]:
    """The image environment, as a config's `env`."""
    return Catch()


def cartpole_without_velocities(_: dict[str, Any]) -> gym.Env[Any, Any]:
    """The partially observed environment, as a config's `env`."""
    return WithoutVelocities(gym.make("CartPole-v1"))
