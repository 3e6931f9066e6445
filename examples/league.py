"""A league of connect four: a policy against itself, scripted players, and a growing pool of its own snapshots."""

from itertools import combinations

import numpy as np
import torch
from connect_four import Lookahead
from tournament import elo, play, players, points

from unison import PPOConfig, SingleAgentRLModuleSpec
from unison.modules.random_module import RandomModule

MAIN = "main"
SCRIPTED = {"random": RandomModule, "lookahead": Lookahead}
SHARES = {MAIN: 0.3, "random": 0.1, "lookahead": 0.25}
"""The shares of games against itself and against scripted players; the rest are against snapshots."""


class Matchmaking:
    """Who plays whom: `main` against itself, a scripted player, or most often the snapshots that it beats least."""

    def __init__(self, win_rates):
        snapshots = [name for name in win_rates if name not in SHARES]
        hard = np.asarray([(1.02 - win_rates[name]) ** 2 for name in snapshots])
        chances = np.asarray([*SHARES.values(), *(1 - sum(SHARES.values())) * hard / hard.sum()])
        self.names, self.chances = [*SHARES, *snapshots], chances / chances.sum()

    def __call__(self, agent_id, episode):
        opponent = str(episode.rng.choice(self.names, p=self.chances))
        if not episode.module_ids:  # The first seat is main's in half of the games.
            return MAIN if episode.rng.random() < 0.5 else opponent
        return opponent if MAIN in episode.module_ids.values() else MAIN


def make_config(seed=0, iterations=420):
    network = {"conv_layers": [[128, 4, 1]], "hidden_sizes": [256], "activation": "relu", "share_value_layers": True}
    config = PPOConfig().environment("classic/connect_four-v3").rl_module(model_config=network)
    scripted = {name: SingleAgentRLModuleSpec(player) for name, player in SCRIPTED.items()}
    config.multi_agent(policies={MAIN: None, **scripted}, policy_mapping_fn=Matchmaking({}))
    config.env_runners(num_envs_per_env_runner=128).framework(engine="eager").debugging(seed=seed)
    config.training(train_batch_size=4096, minibatch_size=512, num_epochs=6, entropy_coeff=0.01, lambda_=0.9)
    return config.training(lr=[[0, 7e-4], [4096 * iterations, 1e-4]])


def train(iterations, every=10, pool=10, stop=print):
    """Train, to the end or until `stop(...)`; snapshots join the pool, and the one beaten most leaves a full one."""
    algorithm, win_rates = make_config(iterations=iterations).build(), dict.fromkeys(SCRIPTED, 0.5)
    for iteration in range(iterations):
        if iteration % every == 0:
            if len(win_rates) == pool:
                beaten = max(list(win_rates)[len(SCRIPTED) : -1], key=win_rates.get)
                del win_rates[beaten]
                algorithm.remove_module(beaten, policy_mapping_fn=Matchmaking(win_rates))
            win_rates[f"snapshot_{iteration}"] = 0.5
            algorithm.add_snapshot(f"snapshot_{iteration}", of=MAIN, policy_mapping_fn=Matchmaking(win_rates))
        returns = algorithm.train()["env_runners"]["module_return_mean"]
        win_rates |= {name: (1 - returns[name]) / 2 for name in win_rates if name in returns}
        algorithm.set_policy_mapping_fn(Matchmaking(win_rates))
        if stop(algorithm, {name: round(rate, 2) for name, rate in win_rates.items()}):
            break
    return algorithm, [MAIN, *list(win_rates)[len(SCRIPTED) :]]


def main(iterations=420, games=20, **settings):
    """Train (about ten minutes on one core), let everyone play everyone, and rate them."""
    torch.set_num_threads(1)
    everyone = players(*train(iterations, **settings))
    names, table = list(everyone), np.full((len(everyone), len(everyone)), np.nan)
    for i, j in combinations(range(len(names)), 2):
        table[i, j] = points(play([everyone[names[i]], everyone[names[j]]], games))
        table[j, i] = 1 - table[i, j]
    return dict(zip(names, elo(table, games), strict=True))


if __name__ == "__main__":
    for name, rating in sorted(main().items(), key=lambda pair: -pair[1]):
        print(f"{rating:6.0f}  {name}")
