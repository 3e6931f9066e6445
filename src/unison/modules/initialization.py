"""How the weights of the default networks start."""

import math

from torch import nn

HIDDEN_GAIN = math.sqrt(2.0)
POLICY_GAIN = 0.01
VALUE_GAIN = 1.0


def orthogonal(layer: nn.Linear | nn.Conv2d, gain: float) -> None:
    """Give a layer orthogonal weights times `gain`, and biases of zero.

    Every singular value of the weight (flattened to two dimensions) is then `gain`. The gains of this module follow
    Engstrom et al. 2020, "Implementation Matters in Deep RL", and Andrychowicz et al. 2021, section 3.2: sqrt(2) for
    hidden layers, 1 for the value head, and 0.01 for the policy head, so that the first policy is close to uniform.
    """
    nn.init.orthogonal_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def orthogonal_gates(layer: nn.RNNBase) -> None:
    """Give each gate of a recurrent layer orthogonal weights of gain 1, and biases of zero.

    A gate's recurrent matrix [H, H] then keeps the length of what it carries from step to step.
    """
    for name, parameter in layer.named_parameters():
        if name.startswith("bias"):
            nn.init.zeros_(parameter)
        else:
            for gate in parameter.detach().view(-1, layer.hidden_size, parameter.shape[1]).unbind():
                nn.init.orthogonal_(gate)


def linear(in_size: int, out_size: int, gain: float) -> nn.Linear:
    """A linear layer with orthogonal weights."""
    layer = nn.Linear(in_size, out_size)
    orthogonal(layer, gain)
    return layer
