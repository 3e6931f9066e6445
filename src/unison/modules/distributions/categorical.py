"""Distributions over discrete choices: Categorical, MultiCategorical, Bernoulli."""

from itertools import groupby
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from unison.errors import BatchError
from unison.modules.distributions.base import Distribution, check_actions, flatten_event, same_class, unflatten_event


@final
class Categorical(Distribution):
    """One of n choices, from logits `[..., n]`.

    One log-softmax serves log-probability, entropy and divergence alike.

    Attributes:
        log_probs: `[..., n]`, the log-probability of each choice.
    """

    def __init__(self, inputs: Tensor, start: int = 0) -> None:
        """Make the distribution of `start + {0, ..., n - 1}` from logits."""
        self.log_probs = torch.log_softmax(inputs, dim=-1)
        self._start = start

    def log_prob(self, actions: Tensor) -> Tensor:
        """The log-probability of integer `actions` `[...]`, which count from `start`."""
        if actions.dtype.is_floating_point:
            raise BatchError(f"Discrete actions must be integers, not {actions.dtype}. Check the column 'actions'.")
        check_actions(actions, self.log_probs.shape[:-1])
        index = actions.long() - self._start if self._start else actions.long()
        return self.log_probs.gather(-1, index.unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        """The entropy, `-sum p log p`."""
        return -(self.log_probs.exp() * self.log_probs).sum(-1)

    def kl(self, other: Distribution) -> Tensor:
        """The divergence, `sum p (log p - log q)`."""
        return (self.log_probs.exp() * (self.log_probs - same_class(self, other).log_probs)).sum(-1)

    def mode(self) -> Tensor:
        """The most probable choice, `[...]`, the first of equals."""
        return self._from_index(self.log_probs.argmax(-1))

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw choices `[...]` by a race of exponential clocks: argmax of p / Exp(1).

        Choice i wins with probability p_i, as the clock that rings first of those with rates p does.
        """
        probs = self.log_probs.detach().exp()
        clocks = torch.empty_like(probs).exponential_(generator=generator)
        # A clock at exactly 0 would make 0 / 0 of a choice of probability 0.
        return self._from_index((probs / clocks.clamp(min=torch.finfo(probs.dtype).tiny)).argmax(-1))

    def sample_with_log_prob(self, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Draw choices `[...]` and give their log-probabilities."""
        actions = self.sample(generator)
        return actions, self.log_prob(actions)

    def _from_index(self, index: Tensor) -> Tensor:
        return index + self._start if self._start else index


@final
class MultiCategorical(Distribution):
    """Several independent choices, from their logits side by side."""

    def __init__(
        self, inputs: Tensor, nvec: tuple[int, ...], start: tuple[int, ...], event_shape: tuple[int, ...]
    ) -> None:
        """Make the distributions of `[..., sum(nvec)]` logits.

        Args:
            inputs: Logits of the first choice, then of the second, and so on.
            nvec: The number of options of each choice, flattened.
            start: The first option of each choice, flattened.
            event_shape: The shape of one action.
        """
        # Neighbouring choices of one size are one batched Categorical: few kernels in the common case of equal sizes.
        runs = [(n, first, len(list(run))) for (n, first), run in groupby(zip(nvec, start, strict=True))]
        self._event_shape = event_shape
        self._counts = [count for _, _, count in runs]
        parts = torch.split(inputs, [n * count for n, _, count in runs], dim=-1)
        self._parts = [
            Categorical(part.reshape(*part.shape[:-1], count, n), first)
            for part, (n, first, count) in zip(parts, runs, strict=True)
        ]

    def log_prob(self, actions: Tensor) -> Tensor:
        """The log-probability of integer `actions` `[..., *event_shape]`, `[...]`."""
        flat = flatten_event(actions, self._event_shape)
        pieces = torch.split(flat, self._counts, dim=-1)
        return _total([part.log_prob(piece) for part, piece in zip(self._parts, pieces, strict=True)])

    def entropy(self) -> Tensor:
        """The entropy, summed over the choices."""
        return _total([part.entropy() for part in self._parts])

    def kl(self, other: Distribution) -> Tensor:
        """The divergence, summed over the choices."""
        return _total(
            [part.kl(theirs) for part, theirs in zip(self._parts, same_class(self, other)._parts, strict=True)]
        )

    def mode(self) -> Tensor:
        """The most probable option of each choice, `[..., *event_shape]`."""
        return self._join([part.mode() for part in self._parts])

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw one option of each choice, `[..., *event_shape]`."""
        return self._join([part.sample(generator) for part in self._parts])

    def sample_with_log_prob(self, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Draw options `[..., *event_shape]` and give the log-probability of all together."""
        actions = self.sample(generator)
        return actions, self.log_prob(actions)

    def _join(self, pieces: list[Tensor]) -> Tensor:
        flat = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=-1)
        return unflatten_event(flat, self._event_shape)


@final
class Bernoulli(Distribution):
    """Independent yes-or-no choices, from one logit each."""

    def __init__(self, inputs: Tensor, event_shape: tuple[int, ...]) -> None:
        """Make the distributions of logits `[..., A]`, the log-odds of 1."""
        self._logits = inputs
        self._event_shape = event_shape

    def log_prob(self, actions: Tensor) -> Tensor:
        """The log-probability of `actions` `[..., *event_shape]` of zeros and ones, `a * logit - softplus(logit)`."""
        flat = flatten_event(actions, self._event_shape)
        check_actions(flat, self._logits.shape)
        return (flat.to(self._logits.dtype) * self._logits - functional.softplus(self._logits)).sum(-1)

    def entropy(self) -> Tensor:
        """The entropy, `softplus(logit) - p * logit`, summed over the choices."""
        return (functional.softplus(self._logits) - torch.sigmoid(self._logits) * self._logits).sum(-1)

    def kl(self, other: Distribution) -> Tensor:
        """The divergence, summed over the choices."""
        ours, theirs = self._logits, same_class(self, other)._logits
        log_ratio_of_zero = functional.softplus(theirs) - functional.softplus(ours)
        return (log_ratio_of_zero + torch.sigmoid(ours) * (ours - theirs)).sum(-1)

    def mode(self) -> Tensor:
        """1 where it is the more probable, `[..., *event_shape]`, int8."""
        return unflatten_event((self._logits > 0).to(torch.int8), self._event_shape)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw zeros and ones, `[..., *event_shape]`, int8."""
        logits = self._logits.detach()
        uniform = torch.empty_like(logits).uniform_(generator=generator)
        return unflatten_event((uniform < torch.sigmoid(logits)).to(torch.int8), self._event_shape)

    def sample_with_log_prob(self, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Draw zeros and ones and give the log-probability of all together."""
        actions = self.sample(generator)
        return actions, self.log_prob(actions)


def _total(terms: list[Tensor]) -> Tensor:
    """The sum of terms `[..., choices of one run]` over all choices."""
    total = terms[0].sum(-1)
    for term in terms[1:]:
        total = total + term.sum(-1)
    return total
