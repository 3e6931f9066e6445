"""A scripted module: a player of connect four without parameters, that looks one move ahead."""

import torch
from torch.nn.functional import conv2d

from unison import RLModule

_LINE = torch.eye(4)
FOURS = torch.stack(  # Four in a row, in a column, and on both diagonals: kernels [4, 1, 4, 4].
    [torch.ones(1, 4) * torch.eye(4)[:1].T, torch.ones(4, 1) * torch.eye(4)[:1], _LINE, _LINE.flip(0)]
).unsqueeze(1)


def wins_after(pieces, places):
    """Whether a piece of one's own dropped in each column makes four: `pieces` [B, 6, 7], `places` [B, 7, 6, 7]."""
    boards = torch.nn.functional.pad((pieces.unsqueeze(1) + places).flatten(0, 1).unsqueeze(1), (0, 3, 0, 3))
    return (conv2d(boards, FOURS) == 4).flatten(1).any(1).view(-1, 7)


class Lookahead(RLModule):
    """Wins if one move does it, else prevents the opponent's next move from winning, else moves at random."""

    def forward_inference(self, batch):
        board, legal = batch["obs"]["observation"].float(), batch["obs"]["action_mask"].bool()
        own, other = board[..., 0], board[..., 1]
        height = (5 - (own + other).sum(1)).clamp(min=0).long()  # the row that a piece falls to [B, 7]
        rows, columns = torch.arange(6).view(1, 1, 6, 1), torch.arange(7)
        places = ((rows == height.view(-1, 7, 1, 1)) & (columns.view(1, 7, 1, 1) == columns)).float()
        scores = torch.rand(legal.shape) + 4 * wins_after(own, places) + 2 * wins_after(other, places)
        return {"actions": scores.masked_fill(~legal, -1.0).argmax(1)}
