"""From what the policy says to what the environment takes."""

from typing import Any, final

import numpy as np
from gymnasium.spaces import Dict

from unison.modules.spaces import Box, Space, is_box, parts_of
from unison.types import Tree


@final
class ActionTransform:
    """Scales the policy's Box actions from [-1, 1] to the space's bounds, and clips them to these.

    Components without two finite bounds are not scaled. Other spaces' actions only get the space's dtype.

    Args:
        space: one environment's action space.
        scale: whether [-1, 1] is scaled to [low, high]; this clips too.
        clip: whether actions are clipped to the bounds.
    """

    def __init__(self, space: Space, *, scale: bool, clip: bool) -> None:
        parts = parts_of(space)
        self._parts: list[tuple[str | int, ActionTransform]] | None = None
        if parts is not None:
            self._parts = [(key, ActionTransform(part, scale=scale, clip=clip)) for key, part in parts]
        self._is_dict = isinstance(space, Dict)
        self._dtype = space.dtype
        self._box: Box | None = None
        if is_box(space) and (scale or clip):
            self._box = space
            bounded = np.isfinite(space.low) & np.isfinite(space.high) & scale
            low, high = space.low.astype(np.float64), space.high.astype(np.float64)
            with np.errstate(invalid="ignore"):
                self._factor = np.where(bounded, high / 2 - low / 2, 1.0).astype(np.float32)
                self._offset = np.where(bounded, high / 2 + low / 2, 0.0).astype(np.float32)

    def __call__(self, actions: Tree) -> Tree:
        """What the environments take, [E, ...], for the policy's `actions` [E, ...], which stay as they are."""
        if self._parts is not None:
            return self._joined([part(actions[key]) for key, part in self._parts])
        if self._box is None:
            return actions if actions.dtype == self._dtype else actions.astype(self._dtype)
        taken = actions * self._factor
        taken += self._offset
        np.minimum(taken, self._box.high, out=taken)
        np.maximum(taken, self._box.low, out=taken)
        return taken if taken.dtype == self._dtype else taken.astype(self._dtype)

    def invert(self, actions: Tree) -> Tree:
        """What the policy would have said for the environments to take `actions`."""
        if self._parts is not None:
            return self._joined([part.invert(actions[key]) for key, part in self._parts])
        if self._box is None:
            return actions
        # Bounds that are one point leave nothing to say: their factor is 0.
        factor = np.where(self._factor == 0, 1, self._factor)
        return ((actions - self._offset) / factor).astype(np.float32)

    def _joined(self, values: list[Any]) -> Tree:
        if not self._is_dict:
            return tuple(values)
        return {key: value for (key, _), value in zip(self._parts or (), values, strict=True)}
