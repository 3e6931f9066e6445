"""Distributions over continuous actions: a diagonal Gaussian, and one squashed into [-1, 1]."""

import math
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from unison.modules.distributions.base import Distribution, check_actions, flatten_event, same_class, unflatten_event

_HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)
_QUADRATURE_NODES = 33
_QUADRATURE_REACH = 6.0
"""The entropy of a squashed Gaussian is integrated over this many standard deviations to either side."""


@final
class DiagonalGaussian(Distribution):
    """Independent normal components, from mean and log standard deviation side by side.

    Attributes:
        mean: `[..., A]`.
        log_std: `[..., A]`.
    """

    def __init__(self, inputs: Tensor, event_shape: tuple[int, ...]) -> None:
        """Make the distributions of inputs `[..., 2 * A]`, whose actions have the shape `event_shape`."""
        self.mean, self.log_std = inputs.chunk(2, dim=-1)
        self._event_shape = event_shape
        self._log_normalizer = self.mean.shape[-1] * _HALF_LOG_TWO_PI

    def log_prob(self, actions: Tensor) -> Tensor:
        """The log-density of `actions` `[..., *event_shape]`, `[...]`."""
        flat = flatten_event(actions, self._event_shape).to(self.mean.dtype)
        check_actions(flat, self.mean.shape)
        # mse_loss is one kernel forward and one backward; a difference and a square would be two and four.
        squares = functional.mse_loss(self.mean, flat, reduction="none")
        precision = torch.exp(-2 * self.log_std)
        return -self._log_normalizer - torch.addcmul(self.log_std, squares, precision, value=0.5).sum(-1)

    def entropy(self) -> Tensor:
        """The entropy, `sum(log_std) + A / 2 * (1 + log(2 pi))`."""
        return self.log_std.sum(-1) + (0.5 * self.mean.shape[-1] + self._log_normalizer)

    def kl(self, other: Distribution) -> Tensor:
        """The divergence, in closed form, summed over the components."""
        other = same_class(self, other)
        log_std_ratio = self.log_std - other.log_std
        squares = functional.mse_loss(self.mean, other.mean, reduction="none")
        # expm1, for between close policies the terms cancel to less than the rounding error of 1.
        terms = torch.addcmul(torch.expm1(2 * log_std_ratio), squares, torch.exp(-2 * other.log_std))
        return 0.5 * torch.sub(terms, log_std_ratio, alpha=2).sum(-1)

    def mode(self) -> Tensor:
        """The mean, `[..., *event_shape]`."""
        return unflatten_event(self.mean, self._event_shape)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw actions, `[..., *event_shape]`."""
        return unflatten_event(self._moved(self._noise(generator)), self._event_shape).detach()

    def sample_with_log_prob(self, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Draw actions `mean + std * noise`, reparametrized, and give their log-density `[...]`."""
        actions, log_prob = self.actions_of(self._noise(generator))
        return unflatten_event(actions, self._event_shape), log_prob

    def actions_of(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The flat actions `mean + std * noise` for standard normal `noise` `[..., A]`, with log-density `[...]`."""
        # (a - mean) / std is the noise itself: exact, and it carries no gradient.
        log_prob = -self._log_normalizer - torch.add(self.log_std, noise.square(), alpha=0.5).sum(-1)
        return self._moved(noise), log_prob

    def _noise(self, generator: torch.Generator | None) -> Tensor:
        # Not randn, which with a generator takes no symbolic shapes and so would not compile for varying batches.
        return torch.empty_like(self.mean).normal_(generator=generator)

    def _moved(self, noise: Tensor) -> Tensor:
        return torch.addcmul(self.mean, torch.exp(self.log_std), noise)


@final
class SquashedGaussian(Distribution):
    """A diagonal Gaussian pushed through tanh, so that actions lie in [-1, 1].

    The density is that of the Gaussian over the slope of tanh (Haarnoja et al. 2018, "Soft Actor-Critic", appendix C).
    A float of exactly 1 stands for all that rounds to it; its density is taken at the nearest float below.
    """

    def __init__(self, inputs: Tensor, event_shape: tuple[int, ...]) -> None:
        """Make the distributions of inputs `[..., 2 * A]`: mean and log standard deviation before tanh."""
        self._gaussian = DiagonalGaussian(inputs, (inputs.shape[-1] // 2,))
        self._event_shape = event_shape

    def log_prob(self, actions: Tensor) -> Tensor:
        """The log-density of `actions` `[..., *event_shape]` in [-1, 1], `[...]`."""
        flat = flatten_event(actions, self._event_shape).to(self._gaussian.mean.dtype)
        limit = 1 - 0.5 * torch.finfo(flat.dtype).eps
        flat = flat.clamp(-limit, limit)
        # 1 - a^2 as a product: each factor is exact near its zero, the square is not.
        log_slope = torch.log((1 - flat) * (1 + flat)).sum(-1)
        return self._gaussian.log_prob(torch.atanh(flat)) - log_slope

    def entropy(self) -> Tensor:
        """The entropy: the Gaussian's, plus the expected log-slope of tanh, which has no closed form.

        It is a smooth one-dimensional integral for each component, so a trapezoid sum is accurate (to 1e-6 for
        standard deviations up to 1, 1e-3 up to 5) without any sampling.
        """
        mean, log_std = self._gaussian.mean, self._gaussian.log_std
        nodes = torch.linspace(
            -_QUADRATURE_REACH, _QUADRATURE_REACH, _QUADRATURE_NODES, dtype=mean.dtype, device=mean.device
        )
        weights = torch.softmax(-0.5 * nodes.square(), dim=0)
        points = mean.unsqueeze(-1) + torch.exp(log_std).unsqueeze(-1) * nodes
        return self._gaussian.entropy() + (_log_slope(points) * weights).sum((-2, -1))

    def kl(self, other: Distribution) -> Tensor:
        """The divergence of the Gaussians, for tanh is one-to-one and changes none."""
        return self._gaussian.kl(same_class(self, other)._gaussian)

    def mode(self) -> Tensor:
        """The image of the mean, `tanh(mean)`, `[..., *event_shape]`."""
        return unflatten_event(torch.tanh(self._gaussian.mean), self._event_shape)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw actions in [-1, 1], `[..., *event_shape]`."""
        return unflatten_event(torch.tanh(self._gaussian.sample(generator)), self._event_shape)

    def sample_with_log_prob(self, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Draw actions in [-1, 1], reparametrized, and give their log-density `[...]`, exact at the bounds too."""
        return self._squashed(*self._gaussian.sample_with_log_prob(generator))

    def actions_of(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """As `sample_with_log_prob`, from given standard normal `noise` `[..., A]`."""
        return self._squashed(*self._gaussian.actions_of(noise))

    def _squashed(self, unsquashed: Tensor, log_prob: Tensor) -> tuple[Tensor, Tensor]:
        actions = unflatten_event(torch.tanh(unsquashed), self._event_shape)
        return actions, log_prob - _log_slope(unsquashed).sum(-1)


def _log_slope(unsquashed: Tensor) -> Tensor:
    """`log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2 u))`, without the cancellation of the left side."""
    return 2 * (math.log(2) - unsquashed - functional.softplus(-2 * unsquashed))
