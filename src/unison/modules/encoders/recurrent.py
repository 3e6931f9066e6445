"""Memory over time: LSTM and GRU."""

import torch
from torch import Tensor, nn

from unison.modules.initialization import orthogonal_gates


class RecurrentLayer(nn.Module):
    """An LSTM (Hochreiter and Schmidhuber 1997) or GRU (Cho et al. 2014) over `[B, T]`.

    The state is `{"h": [B, H]}`, and `"c"` beside it for an LSTM. Rows shorter than T are padded at their end: a step
    sees only those before it, so padding changes no valid output, and the loss masks the rest.
    """

    def __init__(self, input_size: int, hidden_size: int, cell: str) -> None:
        super().__init__()
        self.is_lstm = cell == "lstm"
        self.layer = (nn.LSTM if self.is_lstm else nn.GRU)(input_size, hidden_size, batch_first=True)
        orthogonal_gates(self.layer)
        self.output_size = hidden_size

    def forward(self, features: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Run features `[B, T, input_size]` from a state; return `[B, T, H]` and the state after the last step."""
        hidden = state["h"].unsqueeze(0)
        if self.is_lstm:
            outputs, (hidden, cell) = self.layer(features, (hidden, state["c"].unsqueeze(0)))
            return outputs, {"h": hidden.squeeze(0), "c": cell.squeeze(0)}
        outputs, hidden = self.layer(features, hidden)
        return outputs, {"h": hidden.squeeze(0)}

    def initial_state(self) -> dict[str, Tensor]:
        """The state before the first step of an episode: zeros `[H]`."""
        device = next(self.parameters()).device
        return {key: torch.zeros(self.output_size, device=device) for key in ("h", "c")[: 1 + self.is_lstm]}
