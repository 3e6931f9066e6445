"""Which distribution fits which action space, and how action masks apply."""

from functools import partial
from typing import Any, cast

import torch
from gymnasium import spaces
from torch import Tensor

from unison.errors import BatchError, SpaceError
from unison.modules.distributions.base import DistributionType, full_precision
from unison.modules.distributions.categorical import Bernoulli, Categorical, MultiCategorical
from unison.modules.distributions.gaussian import DiagonalGaussian, SquashedGaussian
from unison.modules.distributions.product import Product

_MASKED_LOGIT = -1e9
"""exp of it is 0 next to any logit, yet its product with a gradient, scaled for float16 or not, stays finite."""


def distribution_for(space: spaces.Space[Any], *, squashed: bool = False) -> DistributionType:
    """The type of distribution for an action space, and with it the size of a policy's output.

    Discrete: logits. MultiDiscrete: logits side by side. MultiBinary: one logit each. Box: means, then log standard
    deviations. Dict and Tuple: the parts side by side in the space's order.

    Args:
        space: The action space.
        squashed: Whether Box actions are squashed into [-1, 1] (all Boxes then need finite bounds to be scaled to), or
            unbounded Gaussians.

    Returns:
        The type; its `input_size` is K.

    Raises:
        SpaceError: No distribution fits the space.
    """
    match space:
        case spaces.Discrete():
            return DistributionType(int(space.n), partial(Categorical, start=int(space.start)))
        case spaces.MultiDiscrete():
            nvec = tuple(int(n) for n in space.nvec.flatten())
            start = tuple(int(first) for first in space.start.flatten())
            make = partial(MultiCategorical, nvec=nvec, start=start, event_shape=tuple(space.nvec.shape))
            return DistributionType(sum(nvec), make)
        case spaces.MultiBinary():
            event_shape = tuple(int(n) for n in space.shape)
            return DistributionType(_size(event_shape), partial(Bernoulli, event_shape=event_shape))
        case spaces.Box():
            return _for_box(space, squashed)
        case spaces.Dict():
            types = tuple(distribution_for(part, squashed=squashed) for part in space.spaces.values())
            return _joint(space, types, tuple(space.spaces))
        case spaces.Tuple():
            joint = cast("spaces.Tuple[Any]", space)
            types = tuple(distribution_for(part, squashed=squashed) for part in joint.spaces)
            return _joint(joint, types, None)
        case _:
            raise SpaceError(
                f"No action distribution fits the space {space}. Use Discrete, MultiDiscrete, MultiBinary, Box, or a "
                "Dict or Tuple of these; or override the module's 'action_distribution'."
            )


def _for_box(space: spaces.Box, squashed: bool) -> DistributionType:
    """A Gaussian for real-valued Boxes."""
    if space.dtype.kind != "f":
        raise SpaceError(
            f"The action space {space} holds integers, and a Gaussian draws reals. Use Discrete or MultiDiscrete, or a "
            "Box of floats."
        )
    if squashed and not space.is_bounded():
        raise SpaceError(
            f"The action space {space} is unbounded, so squashed actions in [-1, 1] cannot be scaled to it. Give it "
            "finite bounds, or use an unsquashed Gaussian."
        )
    event_shape = tuple(int(n) for n in space.shape)
    make = partial(SquashedGaussian if squashed else DiagonalGaussian, event_shape=event_shape)
    return DistributionType(2 * _size(event_shape), make)


def _joint(
    space: spaces.Space[Any], types: tuple[DistributionType, ...], keys: tuple[str, ...] | None
) -> DistributionType:
    """The product of at least one part."""
    if not types:
        raise SpaceError(f"The action space {space} has no parts. Give it at least one.")
    return DistributionType(sum(part.input_size for part in types), partial(Product, types=types, keys=keys))


def mask_logits(inputs: Tensor, mask: Tensor, space: spaces.Space[Any]) -> Tensor:
    """Distribution inputs under which the actions that are not allowed have probability 0.

    Log-probabilities, entropy and gradients stay finite, also if a single action is allowed. If none is, all are
    equally probable.

    Args:
        inputs: Logits `[..., K]` of a Discrete or MultiDiscrete space.
        mask: `[..., K]`, true or nonzero where an action is allowed; masks of a MultiDiscrete's choices side by side.
        space: The action space.

    Returns:
        Logits `[..., K]`, of float32 if the inputs were of half precision.

    Raises:
        SpaceError: The space is neither Discrete nor MultiDiscrete.
        BatchError: The mask's shape is not that of the inputs.
    """
    if not isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        raise SpaceError(f"Action masks need a Discrete or MultiDiscrete action space, not {space}.")
    if mask.shape != inputs.shape:
        raise BatchError(
            f"The action mask has the shape {list(mask.shape)}, but the logits {list(inputs.shape)}. A mask has one "
            "entry per option, those of a MultiDiscrete's choices side by side. Check the column 'action_mask'."
        )
    return torch.where(mask.bool(), full_precision(inputs), _MASKED_LOGIT)


def _size(shape: tuple[int, ...]) -> int:
    """The number of entries of a shape."""
    size = 1
    for extent in shape:
        size *= extent
    return size
