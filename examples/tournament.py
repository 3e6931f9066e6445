"""Games of connect four between any two players, and ratings that explain who won."""

import numpy as np
import torch
from connect_four import Lookahead
from pettingzoo.classic.connect_four import connect_four

from unison.modules.random_module import RandomModule


def play(choose, games, seed=0):
    """How many games `choose[0]` wins, draws and loses against `choose[1]`; they take turns at the first move.

    Args:
        choose: two functions from an observation to an action.
        games: how many.
        seed: of torch's random numbers, which players may draw.
    """
    env, counts = connect_four.env(), {1: 0, 0: 0, -1: 0}
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        for game in range(games):
            env.reset()
            for agent in env.agent_iter():
                observation, reward, terminated, truncated, _ = env.last()
                player = (env.possible_agents.index(agent) + game) % 2
                if player == 0 and (terminated or truncated):
                    counts[reward] += 1
                env.step(None if terminated or truncated else choose[player](observation))
    return list(counts.values())


def points(won_drawn_lost):
    """The share of points: one for a game won, half a one for a draw."""
    won, drawn, lost = won_drawn_lost
    return (won + drawn / 2) / (won + drawn + lost)


def players(algorithm, names, explore=True):
    """Functions from an observation to an action: the league's modules, and two that follow a script."""
    main = algorithm.env_runner.modules[names[0]]
    scripted = {"random": RandomModule, "one-move lookahead": Lookahead}
    made = {n: c(observation_space=main.observation_space, action_space=main.action_space) for n, c in scripted.items()}

    def choose(module):
        def act(observation):
            rows = {name: torch.as_tensor(part).unsqueeze(0) for name, part in observation.items()}
            return int(module.forward_inference({"obs": rows})["actions"])

        return act

    league = {n: lambda o, n=n: int(algorithm.compute_actions(o, module_id=n, explore=explore)) for n in names}
    return {name: choose(module) for name, module in made.items()} | league


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
