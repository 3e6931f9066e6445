"""A scripted policy that acts at random."""

from collections.abc import Mapping

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from unison.data import Columns
from unison.errors import SpaceError
from unison.modules.action_mask import MASK_KEY, split_action_mask
from unison.modules.rl_module import RLModule
from unison.modules.spaces import Box, Space, choices_of, is_box, is_discrete, is_multi_binary, parts_of
from unison.registry import register
from unison.types import Tree, tree_leaves


@register("module", "random")
class RandomModule(RLModule):
    """Draws actions uniformly from the action space, among those that an action mask allows. It has no parameters.

    It returns `actions` rather than `action_dist_inputs`. Where a Box has no bound, it draws from a normal
    distribution, or from an exponential one from the only bound on.

    Raises:
        SpaceError: the action space is missing or of a kind that cannot be drawn from.
    """

    def setup(self) -> None:
        """Check the spaces."""
        if self.action_space is None:
            raise SpaceError("RandomModule needs an action_space; give it to the spec, or as `spaces=`.")
        self._masked = False
        if self.observation_space is not None:
            self._masked = split_action_mask(self.observation_space, self.action_space)[1]
        self._actions: Space = self.action_space
        _draw(self._actions, 1, torch.device("cpu"))

    def forward_inference(self, batch: Mapping[str, Tree]) -> dict[str, Tree]:
        """Draw `actions` `[B, ...]`, of the action space's structure."""
        observations = batch[Columns.OBS]
        first: Tensor = tree_leaves(observations)[0]
        mask = observations[MASK_KEY] if self._masked else None
        return {Columns.ACTIONS: _draw(self._actions, len(first), first.device, mask)}


def _draw(space: Space, rows: int, device: torch.device, mask: Tensor | None = None) -> Tree:
    """Random actions `[rows, ...]`."""
    parts = parts_of(space)
    if parts is not None:
        drawn = {key: _draw(part, rows, device) for key, part in parts}
        return tuple(drawn.values()) if isinstance(space, spaces.Tuple) else drawn
    choices = choices_of(space)
    if choices is not None:
        values = draw_choices(choices, rows, device, mask)
        return values.squeeze(-1) if is_discrete(space) else values.reshape(rows, *(space.shape or ()))
    if is_multi_binary(space):
        return torch.randint(2, (rows, *space.shape), dtype=torch.int8, device=device)
    if is_box(space):
        return _draw_box(space, rows, device)
    raise SpaceError(f"RandomModule cannot draw from the action space {space}, of type {type(space).__name__}.")


def draw_choices(
    choices: list[tuple[int, int]],
    rows: int,
    device: torch.device,
    mask: Tensor | None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """A value for each choice, `[rows, number of choices]`, among those that `mask` allows."""
    columns: list[Tensor] = []
    used = 0
    for size, start in choices:
        scores = torch.rand(rows, size, device=device, generator=generator)
        if mask is not None:
            scores = scores.masked_fill(~mask[:, used : used + size].bool(), -1.0)
        # The largest of independent uniform scores is equally likely to be any of them.
        columns.append(scores.argmax(-1) + start)
        used += size
    return torch.stack(columns, dim=-1)


def _draw_box(space: Box, rows: int, device: torch.device) -> Tensor:
    low, high = (torch.as_tensor(bound.astype(np.float64), device=device) for bound in (space.low, space.high))
    integral = space.dtype.kind in "iub"
    shape = (rows, *space.shape)
    uniform = torch.rand(shape, dtype=torch.float64, device=device)
    tail = torch.empty(shape, dtype=torch.float64, device=device).exponential_()
    normal = torch.randn(shape, dtype=torch.float64, device=device)
    has_low, has_high = torch.isfinite(low), torch.isfinite(high)
    # Infinite bounds would make NaN of the products, even where they are not chosen.
    span = torch.where(has_low & has_high, high - low + integral, 0.0)
    values = torch.where(has_low, low + tail, torch.where(has_high, high - tail, normal))
    values = torch.where(has_low & has_high, low + uniform * span, values)
    values = values.floor() if integral else values
    return torch.minimum(torch.maximum(values, low), high).to(torch.as_tensor(space.low).dtype)
