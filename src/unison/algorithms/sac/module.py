"""SAC's networks: a policy, two critics, and a slowly moving copy of each critic."""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.func import functional_call

from unison.config import ModelConfig
from unison.data import Columns
from unison.errors import SpaceError
from unison.modules import RLModule
from unison.modules.action_mask import MASK_KEY, split_action_mask
from unison.modules.distributions import DistributionType, distribution_for, mask_logits
from unison.modules.encoders import build_encoder
from unison.modules.initialization import POLICY_GAIN, VALUE_GAIN, linear
from unison.modules.normalizer import Moments, ObservationNormalizer
from unison.modules.spaces import Space
from unison.registry import register
from unison.types import Tree

LOG_STD_RANGE = (-20.0, 2.0)
"""Bounds of a policy's log standard deviation, as in the code of Haarnoja et al. 2018a."""
QS = "qs"
"""The output [2, B] of both critics for the actions that were taken; for discrete ones [2, B, n], of every action."""
NEXT_ACTION_DIST_INPUTS = "next_action_dist_inputs"
NOT_FOR_ACTING = ("critics.", "target_critics.", "log_alpha")


class Critic(nn.Module):
    """The value of an action [B], or of every discrete action [B, n].

    Args:
        observation_space: what it sees.
        action_space: a Box, whose actions it takes in beside the observation, or a Discrete.
        settings: of its hidden layers.
    """

    def __init__(self, observation_space: Space, action_space: Space, settings: ModelConfig) -> None:
        super().__init__()
        self._values_all = isinstance(action_space, spaces.Discrete)
        seen: Any = observation_space
        outputs = 1
        if isinstance(action_space, spaces.Discrete):
            outputs = int(action_space.n)
        else:
            seen = spaces.Tuple((observation_space, spaces.Box(-1.0, 1.0, action_space.shape, np.float32)))
        self.encoder = build_encoder(seen, settings)
        self.head = linear(self.encoder.output_size, outputs, VALUE_GAIN)

    def forward(self, observations: Tree, actions: Tensor | None = None) -> Tensor:
        """The values of `actions` [B, ...], or of all actions."""
        if self._values_all:
            return self.head(self.encoder(observations))
        return self.head(self.encoder((observations, actions))).squeeze(-1)


def _is_discrete(action_space: Space) -> bool:
    if not isinstance(action_space, spaces.Box | spaces.Discrete):
        raise SpaceError(f"SAC takes Box and Discrete actions, not {action_space}.")
    return isinstance(action_space, spaces.Discrete)


@register("module", "sac")
class SACModule(RLModule):
    """Policy, twin critics, target critics and temperature, for Box and Discrete actions.

    The policy of a Box is a Gaussian squashed into [-1, 1]; sampling scales its actions to the bounds. The target
    critics begin as copies and are no parameters that train: they are saved, and follow by `Learner` alone.

    Raises:
        SpaceError: a space is missing or of a kind that is not supported; names it.
    """

    def setup(self) -> None:
        """Make the networks."""
        observation_space, settings = self.observation_space, self.model_config
        action_space: Any = self.action_space  # Gymnasium leaves the types of its own classes open.
        if observation_space is None or action_space is None:
            absent = "observation_space" if observation_space is None else "action_space"
            raise SpaceError(f"{type(self).__name__} needs an {absent}; give it to the spec, or as `spaces=`.")
        self._is_discrete = _is_discrete(action_space)
        self._distribution = distribution_for(action_space, squashed=True)
        seen, self._masked = split_action_mask(observation_space, action_space)
        self.normalizer = ObservationNormalizer(seen) if settings.normalize_observations else None
        self.encoder = build_encoder(seen, settings)
        self.policy_head = linear(self.encoder.output_size, self._distribution.input_size, POLICY_GAIN)
        self.critics = nn.ModuleList(Critic(seen, action_space, settings) for _ in range(2))
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        self.log_alpha = nn.Parameter(torch.zeros(()))

    @property
    def is_discrete(self) -> bool:
        """Whether the actions are discrete."""
        return self._is_discrete

    @property
    def action_distribution(self) -> DistributionType:
        """A squashed Gaussian, or a categorical."""
        return self._distribution

    def forward_inference(self, batch: Mapping[str, Tree]) -> dict[str, Tree]:
        """Compute `action_dist_inputs` [B, K]."""
        return {Columns.ACTION_DIST_INPUTS: self._policy(batch[Columns.OBS])}

    def forward_train(self, batch: Mapping[str, Tree]) -> dict[str, Tree]:
        """Compute `action_dist_inputs` [B, K], those of the next observations without gradient, and `qs`."""
        with torch.no_grad():
            following = self._policy(batch[Columns.NEXT_OBS])
        return {
            Columns.ACTION_DIST_INPUTS: self._policy(batch[Columns.OBS]),
            NEXT_ACTION_DIST_INPUTS: following,
            QS: self.values(batch[Columns.OBS], batch[Columns.ACTIONS]),
        }

    def values(self, observations: Tree, actions: Tensor | None) -> Tensor:
        """What both critics say of actions [2, B]; of discrete ones [2, B, n]."""
        seen = self._seen(observations)
        return torch.stack([critic(seen, actions) for critic in self.critics])

    def values_held(self, observations: Tree, actions: Tensor | None) -> Tensor:
        """As `values`, but gradients reach the actions alone, not the critics."""
        seen = self._seen(observations)
        found = [
            functional_call(c, {n: p.detach() for n, p in c.named_parameters()}, (seen, actions)) for c in self.critics
        ]
        return torch.stack(found)

    def target_values(self, observations: Tree, actions: Tensor | None) -> Tensor:
        """As `values`, by the target critics."""
        seen = self._seen(observations)
        return torch.stack([critic(seen, actions) for critic in self.target_critics])

    @torch.no_grad()
    def move_targets(self, tau: float) -> None:
        """Move the target critics towards the critics: `target += tau * (critic - target)`."""
        for target, critic in zip(self.target_critics.parameters(), self.critics.parameters(), strict=True):
            target.lerp_(critic, tau)

    def is_inference_parameter(self, name: str) -> bool:
        """The policy and the normalizer."""
        return not name.startswith(NOT_FOR_ACTING)

    def batch_statistics(self, batch: Mapping[str, Tree]) -> dict[str, Moments]:
        """The moments of the batch's observations, if the module normalizes them."""
        if self.normalizer is None:
            return {}
        return self.normalizer.moments(batch[Columns.OBS], batch.get(Columns.LOSS_MASK))

    def merge_statistics(self, statistics: Mapping[str, Moments]) -> None:
        """Add moments to the observation normalizer."""
        if self.normalizer is not None:
            self.normalizer.merge(statistics)

    def _seen(self, observations: Tree) -> Tree:
        return observations if self.normalizer is None else self.normalizer(observations)

    def _policy(self, observations: Tree) -> Tensor:
        outputs = self.policy_head(self.encoder(self._seen(observations)))
        if self._is_discrete:
            assert self.action_space is not None
            return mask_logits(outputs, observations[MASK_KEY], self.action_space) if self._masked else outputs
        mean, log_std = outputs.chunk(2, dim=-1)
        return torch.cat([mean, log_std.clamp(*LOG_STD_RANGE)], dim=-1)
