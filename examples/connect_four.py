"""Connect four: a player that looks one move ahead, and matches between any two modules."""

import numpy as np
import torch
from pettingzoo.classic.connect_four import connect_four
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


def play(choose, games, seed=0):
    """The share of games that `choose[0]` wins against `choose[1]`, draws by half; they take turns at the first move.

    Args:
        choose: two functions from an observation to an action.
        games: how many.
        seed: of torch's random numbers, which players may draw.
    """
    env, won = connect_four.env(), 0.0
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        for game in range(games):
            env.reset()
            for agent in env.agent_iter():
                observation, reward, terminated, truncated, _ = env.last()
                player = (env.possible_agents.index(agent) + game) % 2
                if player == 0 and (terminated or truncated):
                    won += (reward + 1) / 2
                env.step(None if terminated or truncated else choose[player](observation))
    return won / games


def elo(shares, games, anchor=0):
    """Ratings that explain the shares of points [n, n] best (Bradley and Terry 1952), `anchor`'s being 0."""
    points = games * np.nan_to_num(shares) + 0.5 * ~np.isnan(shares)  # Half a point each, so that all are finite.
    strength = np.ones(len(shares))
    met = ~np.isnan(shares)
    for _ in range(2000):
        pairs = met * (games + 1) / (strength[:, None] + strength[None])
        strength = points.sum(1) / pairs.sum(1)
        strength /= strength[anchor]
    return 400 * np.log10(strength)
