"""A league on PettingZoo's connect four: `examples/league.py` for as long as it is given, its Elo table and plot.

    python benchmarks/league.py [--iterations 420] [--minutes 60]

One policy trains by PPO against itself (30% of the games), against a player that moves at random (10%), against one
that looks one move ahead (25%: it wins if it can, prevents a win if it must, else moves at random), and against a
growing pool of its own frozen snapshots; one joins every ten iterations of 4,096 moves. In the end its most likely
moves are played 100 times against each of the two scripted players, with the first move in every other game. A share
of points counts a game won 1 and a draw half. The Elo ratings come from 20 games between any two of the league, whose
players draw their moves, by the method of Bradley and Terry (1952); the random player's is 0.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness.report import Report, finish

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import league
import tournament

GAMES = 20
RIVALS = ("random", "one-move lookahead")


def main() -> None:
    """Train, play, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=420)
    parser.add_argument("--minutes", type=float, default=60.0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    start = time.monotonic()
    progress: list[dict[str, Any]] = []

    def stop(algorithm: Any, win_rates: dict[str, float]) -> bool:
        minutes = (time.monotonic() - start) / 60
        over = minutes > arguments.minutes or algorithm.iteration == arguments.iterations
        if algorithm.iteration % 10 == 0 or over:
            everyone = tournament.players(algorithm, [league.MAIN], explore=False)
            games = 100 if over else 40
            found = {
                rival: tournament.play([everyone[league.MAIN], everyone[rival]], games, seed=algorithm.iteration)
                for rival in RIVALS
            }
            moves = algorithm.num_env_steps_sampled_lifetime
            progress.append({"moves": moves, "minutes": minutes, "games": games, "won_drawn_lost": found})
            print(f"{moves:,} moves, {minutes:.1f} min: {found}; pool {win_rates}", flush=True)
        return over

    algorithm, names = league.train(arguments.iterations, stop=stop)
    everyone = tournament.players(algorithm, names)
    table = round_robin(everyone)
    report = make_report(progress, list(everyone), tournament.elo(table, GAMES), table)
    report.show()
    print(*report.write(), sep="\n")


def round_robin(everyone: dict[str, Any]) -> np.ndarray[Any, Any]:
    """The share of points of each player against each other [n, n]; NaN against itself."""
    chosen = list(everyone.values())
    table = np.full((len(chosen), len(chosen)), np.nan)
    for i, player in enumerate(chosen):
        for j in range(i):
            table[i, j] = tournament.points(tournament.play([player, chosen[j]], GAMES, seed=1000 * i + j))
            table[j, i] = 1 - table[i, j]
    return table


def make_report(progress: list[dict[str, Any]], names: list[str], ratings: Any, table: Any) -> Report:
    """The tables and the picture."""
    about = " ".join((__doc__ or "").split("\n\n")[2].split())
    report = Report("league", "A league of connect four", about)
    last = progress[-1]
    header = ["against", "games", "won", "drawn", "lost", "share of points"]
    results = last["won_drawn_lost"]
    rows = [[r, str(last["games"]), *map(str, results[r]), f"{tournament.points(results[r]):.3f}"] for r in RIVALS]
    report.add_table(f"The trained policy after {last['moves']:,} moves", header, rows)
    order = np.argsort(-ratings)
    ranks = [[names[i], f"{ratings[i]:.0f}", f"{np.nanmean(table[i]):.2f}"] for i in order]
    report.add_table("Elo", ["player", "rating", "mean share of points"], ranks)
    report.data |= {"progress": progress, "names": names, "ratings": ratings.tolist(), "shares": table.tolist()}
    report.add_picture("", lambda figure: draw(figure, progress, names, ratings))
    return report


def draw(figure: Any, progress: list[dict[str, Any]], names: list[str], ratings: Any) -> None:
    """Shares of points during training, and the rating of each snapshot by its age."""
    figure.set_size_inches(9, 3.4)
    left, right = figure.subplots(1, 2)
    for rival in RIVALS:
        shares = [tournament.points(p["won_drawn_lost"][rival]) for p in progress]
        left.plot([p["moves"] / 1000 for p in progress], shares, label=f"against {rival}")
    left.axhline(0.5, color="gray", linewidth=0.8)
    left.set_xlabel("thousand moves", fontsize=8)
    left.set_title("share of points", fontsize=10)
    age = {n: 4.096 * int(n.rpartition("_")[2]) for n in names if n.startswith("snapshot")}
    points = sorted([(moves, ratings[names.index(n)]) for n, moves in age.items()])
    points.append((progress[-1]["moves"] / 1000, ratings[names.index(league.MAIN)]))
    right.plot(*zip(*points, strict=True), marker="o", markersize=3, label="snapshots and the trained policy")
    for rival, colour in (("random", "tab:red"), ("one-move lookahead", "tab:green")):
        right.axhline(ratings[names.index(rival)], color=colour, linestyle="--", linewidth=1, label=rival)
    right.set_xlabel("thousand moves of training", fontsize=8)
    right.set_title("Elo", fontsize=10)
    finish(figure)


if __name__ == "__main__":
    main()
