"""The default module: a policy and a value function."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from unison.data import Columns
from unison.errors import BatchError, SpaceError
from unison.modules.action_mask import MASK_KEY, split_action_mask
from unison.modules.distributions import distribution_for, mask_logits
from unison.modules.encoders import Encoder, RecurrentLayer, build_encoder
from unison.modules.initialization import POLICY_GAIN, VALUE_GAIN, linear
from unison.modules.log_std import Segment, head_segments, insert_log_std
from unison.modules.normalizer import Moments, ObservationNormalizer
from unison.modules.rl_module import RLModule
from unison.registry import register
from unison.types import Tree


@register("module", "actor_critic")
class ActorCritic(RLModule):
    """Policy and value networks for every supported space, shaped by `ModelConfig`.

    The path of an observation: `normalizer` (if asked for), `encoder`, `memory` (if `lstm_size` is set), `policy_head`;
    and for the values either the same features (`share_value_layers`), or `value_encoder` and `value_memory`, and then
    `value_head`. Weights are orthogonal (`initialization.py`).

    The state of a module with memory is that of `RecurrentLayer`, or `{"policy": ..., "value": ...}` if the value
    function has a memory of its own.

    Raises:
        SpaceError: a space is missing or of a kind that is not supported; names it.
    """

    encoder: Encoder
    value_encoder: Encoder | None
    memory: RecurrentLayer | None
    value_memory: RecurrentLayer | None
    policy_head: nn.Linear
    value_head: nn.Linear
    normalizer: ObservationNormalizer | None
    log_std: nn.Parameter | None

    def setup(self) -> None:
        """Make the networks."""
        observation_space, action_space, settings = self.observation_space, self.action_space, self.model_config
        if observation_space is None or action_space is None:
            absent = "observation_space" if observation_space is None else "action_space"
            raise SpaceError(f"{type(self).__name__} needs an {absent}; give it to the spec, or as `spaces=`.")
        seen_space, self._masked = split_action_mask(observation_space, action_space)
        self.normalizer = ObservationNormalizer(seen_space) if settings.normalize_observations else None
        self.encoder = build_encoder(seen_space, settings)
        self.value_encoder = None if settings.share_value_layers else build_encoder(seen_space, settings)
        self.memory = self.value_memory = None
        feature_size = self.encoder.output_size
        if settings.lstm_size is not None:
            self.memory = RecurrentLayer(feature_size, settings.lstm_size, settings.cell)
            if self.value_encoder is not None:
                self.value_memory = RecurrentLayer(feature_size, settings.lstm_size, settings.cell)
            feature_size = settings.lstm_size
        self._make_heads(feature_size)

    def _make_heads(self, feature_size: int) -> None:
        assert self.action_space is not None
        output_size = distribution_for(self.action_space).input_size
        self._segments: list[Segment] = head_segments(self.action_space)
        means = sum(segment.size for segment in self._segments if segment.is_mean)
        free = self.model_config.free_log_std and means > 0
        self.log_std = nn.Parameter(torch.zeros(means)) if free else None
        self.policy_head = linear(feature_size, output_size - means if free else output_size, POLICY_GAIN)
        self.value_head = linear(feature_size, 1, VALUE_GAIN)

    def forward_inference(self, batch: Mapping[str, Tree]) -> dict[str, Tree]:
        """Compute `action_dist_inputs`, and `state_out` with a memory."""
        observations, mask = self._observe(batch)
        if self.memory is None:
            return {Columns.ACTION_DIST_INPUTS: self._policy(self.encoder(observations), mask)}
        # Both memories move on: the next step's values need what the value function remembers.
        features, _, state = self._remember(self.memory, observations, batch)
        return {Columns.ACTION_DIST_INPUTS: self._policy(features, mask), Columns.STATE_OUT: state}

    def forward_train(self, batch: Mapping[str, Tree]) -> dict[str, Tree]:
        """Compute `action_dist_inputs` and `vf_preds`, and `state_out` with a memory."""
        observations, mask = self._observe(batch)
        if self.memory is None:
            features = self.encoder(observations)
            value_encoder = self.value_encoder
            value_features = features if value_encoder is None else value_encoder(observations)
            return {
                Columns.ACTION_DIST_INPUTS: self._policy(features, mask),
                Columns.VF_PREDS: self.value_head(value_features).squeeze(-1),
            }
        features, value_features, state = self._remember(self.memory, observations, batch)
        return {
            Columns.ACTION_DIST_INPUTS: self._policy(features, mask),
            Columns.VF_PREDS: self.value_head(value_features).squeeze(-1),
            Columns.STATE_OUT: state,
        }

    def compute_values(self, batch: Mapping[str, Tree]) -> Tensor:
        """The values `[B]` or `[B, T]`, without the policy where it has layers of its own."""
        observations, _ = self._observe(batch)
        if self.memory is None:
            features = (self.value_encoder or self.encoder)(observations)
        elif self.value_memory is None or self.value_encoder is None:
            features, _ = self.memory(self.encoder(observations), self._state_in(batch))
        else:
            features, _ = self.value_memory(self.value_encoder(observations), self._state_in(batch)["value"])
        return self.value_head(features).squeeze(-1)

    def get_initial_state(self) -> dict[str, Tree]:
        """Zeros for each memory; {} without one."""
        if self.memory is None:
            return {}
        if self.value_memory is None:
            return dict(self.memory.initial_state())
        return {"policy": self.memory.initial_state(), "value": self.value_memory.initial_state()}

    def is_stateful(self) -> bool:
        """Whether the module has a memory."""
        return self.memory is not None

    def is_inference_parameter(self, name: str) -> bool:
        """All but the value function; a value function's memory moves on while acting, so it is needed then too."""
        training_only = ("value_head.",) if self.memory is not None else ("value_head.", "value_encoder.")
        return not name.startswith(training_only)

    def batch_statistics(self, batch: Mapping[str, Tree]) -> dict[str, Moments]:
        """The moments of the batch's valid observations, if the module normalizes them."""
        if self.normalizer is None:
            return {}
        return self.normalizer.moments(batch[Columns.OBS], batch.get(Columns.LOSS_MASK))

    def merge_statistics(self, statistics: Mapping[str, Moments]) -> None:
        """Add moments to the observation normalizer."""
        if self.normalizer is not None:
            self.normalizer.merge(statistics)

    def _observe(self, batch: Mapping[str, Tree]) -> tuple[Tree, Tensor | None]:
        """The observations for the encoders (which take no notice of a mask in them), and the action mask."""
        observations = batch[Columns.OBS]
        mask = observations[MASK_KEY] if self._masked else None
        return observations if self.normalizer is None else self.normalizer(observations), mask

    def _policy(self, features: Tensor, mask: Tensor | None) -> Tensor:
        """The distribution's inputs `[..., K]` from features `[..., H]`."""
        outputs = self.policy_head(features)
        if self.log_std is not None:
            outputs = insert_log_std(outputs, self.log_std, self._segments)
        if mask is not None and self.action_space is not None:
            outputs = mask_logits(outputs, mask, self.action_space)
        return outputs

    def _remember(
        self, memory: RecurrentLayer, observations: Tree, batch: Mapping[str, Tree]
    ) -> tuple[Tensor, Tensor, dict[str, Tree]]:
        """Features of the policy and of the values, `[B, T, H]`, and the state after the last step."""
        state = self._state_in(batch)
        features = self.encoder(observations)
        if self.value_memory is None or self.value_encoder is None:
            features, state_out = memory(features, state)
            return features, features, state_out
        features, policy_state = memory(features, state["policy"])
        value_features, value_state = self.value_memory(self.value_encoder(observations), state["value"])
        return features, value_features, {"policy": policy_state, "value": value_state}

    def _state_in(self, batch: Mapping[str, Tree]) -> dict[str, Tree]:
        if Columns.STATE_IN not in batch:
            raise BatchError(
                f"The batch lacks the column '{Columns.STATE_IN}', which a module with a memory needs: the state "
                f"before each row's first step; where an episode starts, that is get_initial_state()."
            )
        return batch[Columns.STATE_IN]
