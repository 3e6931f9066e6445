"""The multilayer perceptron: alone for vectors, or on top of other features."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unison.modules.encoders.base import Encoder
from unison.modules.initialization import HIDDEN_GAIN, linear
from unison.types import Tree

# Functions, not modules: a call of nn.Tanh costs as much again as the tanh of a small network.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "elu": F.elu,
    "gelu": F.gelu,
    "silu": F.silu,
    "leaky_relu": F.leaky_relu,
}


class MLPEncoder(Encoder):
    """Linear layers with an activation after each.

    Args:
        input_size: the numbers per observation, or per row of `features`' output.
        hidden_sizes: the width of each layer; none at all passes the input on.
        activation: a name of `ACTIVATIONS`.
        features: an encoder that runs first; None where observations are vectors already.

    Inputs of other types than float32 are cast to the type of the weights.
    """

    def __init__(
        self,
        input_size: int,
        hidden_sizes: Sequence[int],
        activation: str,
        features: Encoder | None = None,
    ) -> None:
        super().__init__()
        self.features = features
        sizes = [input_size, *hidden_sizes]
        self.layers = nn.ModuleList(linear(a, b, HIDDEN_GAIN) for a, b in pairwise(sizes))
        self.activation = ACTIVATIONS[activation]
        self.output_size = sizes[-1]

    def forward(self, observations: Tree) -> Tensor:
        """Encode observations as features `[..., output_size]`."""
        features: Tensor = observations if self.features is None else self.features(observations)
        layers, activation = self.layers, self.activation
        if features.dtype is not torch.float32:
            features = features.to(_weight_dtype(layers))
        for layer in layers:
            features = activation(layer(features))
        return features


def _weight_dtype(layers: nn.ModuleList) -> torch.dtype:
    return next((layer.weight.dtype for layer in layers if isinstance(layer, nn.Linear)), torch.float32)
