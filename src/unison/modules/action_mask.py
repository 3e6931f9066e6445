"""Action masks that come with the observation."""

from typing import Final

from gymnasium import spaces

from unison.errors import SpaceError
from unison.modules.spaces import Space, choices_of, parts_of

MASK_KEY: Final = "action_mask"


def split_action_mask(observation_space: Space, action_space: Space | None) -> tuple[Space, bool]:
    """The observation space without its action mask, and whether there was one.

    A Dict observation with the key "action_mask" brings a mask `[B, n]`, 1 for each action allowed; for MultiDiscrete
    actions the masks of the choices side by side, `[B, sum of nvec]`. The other keys are the observation.

    Raises:
        SpaceError: the actions cannot be masked, the mask has the wrong size, or there is nothing but a mask.
    """
    parts = parts_of(observation_space) or []
    mask_space = dict(parts).get(MASK_KEY)
    if mask_space is None:
        return observation_space, False
    choices = choices_of(action_space)
    if choices is None:
        raise SpaceError(
            f"The observation space {observation_space} holds an action mask, but the action space is {action_space}. "
            f"Masks exist for Discrete and MultiDiscrete actions; rename the key '{MASK_KEY}' if it is no mask."
        )
    size = sum(count for count, _ in choices)
    if mask_space.shape != (size,):
        raise SpaceError(
            f"The action mask must have shape ({size},) for the action space {action_space}, but its space is "
            f"{mask_space}."
        )
    rest = {str(key): space for key, space in parts if key != MASK_KEY}
    if not rest:
        raise SpaceError(f"The observation space {observation_space} holds nothing but an action mask.")
    return spaces.Dict(rest), True
