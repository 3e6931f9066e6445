"""An environment that outlives its own crashes."""

import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, cast

import gymnasium as gym
import numpy as np

from unison.types import Tree, tree_map

FAILED_STEP: Final = "unison_failed_step"
"""The key under which a reset's info carries the traceback of a step that failed before it."""
FAILED_RESET: Final = "unison_failed_reset"
"""The same for the reset itself, of the old environment."""


class GuardedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """Makes its environment anew after a crash; who steps it decides whether that is allowed.

    A step that crashes ends the episode as truncated, with the last observation again. The next reset makes
    a new environment, seeds it from the old seed and the number of crashes, and reports the crash.

    Args:
        make: makes the environment.
    """

    def __init__(self, make: Callable[[], gym.Env[Any, Any]]) -> None:
        super().__init__(make())
        self._make = make
        self._seed = 0
        self._restarts = 0
        self._last_observation: Tree = None
        self.failure: Exception | None = None
        """What the environment raised; until the next reset it is unusable."""
        self.crash: Exception | None = None
        """What made the last reset use a new environment, if it did."""

    def step(self, action: Tree) -> tuple[Tree, Any, bool, bool, dict[str, Any]]:
        """Step the environment; a crash becomes a truncation. Infos are left out, for sampling keeps none."""
        try:
            observation, reward, terminated, truncated, _ = self.env.step(action)
        except Exception as error:
            self.failure = error
            return self._last_observation, 0.0, False, True, {}
        if terminated or truncated:
            # The reset that follows may write its observation into the same array.
            observation = tree_map(np.array, observation)
        self._last_observation = observation
        return observation, reward, terminated, truncated, {}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tree, dict[str, Any]]:
        """Reset the environment, or make it anew if it has crashed or does so now.

        Raises:
            Exception: whatever a new environment raises at once.
        """
        if seed is not None:
            self._seed, self._restarts = seed, 0
            self.env.action_space.seed(seed)
        report = FAILED_STEP
        if self.failure is None:
            report = FAILED_RESET
            try:
                self._last_observation = first_observation(self.env.reset(seed=seed, options=options))
            except Exception as error:
                self.failure = error
        self.crash = self.failure
        if self.crash is None:
            return self._last_observation, {}
        self._replace()
        self.failure = None
        return self._last_observation, {report: "".join(traceback.format_exception(self.crash))}

    def _replace(self) -> None:
        with suppress(Exception):
            self.env.close()
        self.env = self._make()
        self._restarts += 1
        seed = int(np.random.SeedSequence([self._seed, self._restarts]).generate_state(1)[0])
        self.env.action_space.seed(seed)
        self._last_observation = first_observation(self.env.reset(seed=seed))


def first_observation(returned: Any) -> Tree:
    """Of what `reset` returned; an array of two entries would pass for a pair.

    Raises:
        TypeError: it is no pair.
    """
    kind = type(returned).__name__
    values = cast("tuple[Any, ...]", returned) if isinstance(returned, tuple) else ()
    if len(values) != 2:
        raise TypeError(f"reset() returned a {kind} instead of 2 values: observation, info")
    return values[0]
