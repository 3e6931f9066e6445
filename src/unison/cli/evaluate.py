"""The command `evaluate`: whole episodes with a trained policy, and films of some."""

import os
import secrets
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from unison.algorithms.run_folder.extras import require
from unison.cli.loading import Trained, load_trained
from unison.config import AlgorithmConfig, make_environment
from unison.config.pettingzoo_environments import is_environment
from unison.config.values import thaw
from unison.errors import ConfigError
from unison.sampling import evaluate
from unison.sampling.making import environment_name

_MOST_TOGETHER = 10
_MOST_FILMED = 3
_NO_SCREEN = {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy", "PYGAME_HIDE_SUPPORT_PROMPT": "1"}
"""What keeps pygame, which many environments draw with, from looking for a screen and from greeting."""


def run_evaluation(
    path: Path, *, episodes: int, best: bool, explore: bool, seed: int | None, video: bool
) -> dict[str, Any]:
    """Evaluate, print the returns, those of each agent and module where there are many, and return them."""
    trained = load_trained(path, best=best)
    if video:
        require("moviepy", "video", "Filming episodes")
        own = trained.config
        _drawn_environment(own.env, {**own.env_config, **own.evaluation_env_config}).close()
    seed = secrets.randbelow(2**31) if seed is None else seed
    config = trained.config.copy()
    config.evaluation(evaluation_num_envs=min(episodes, _MOST_TOGETHER), evaluation_explore=explore)
    config.debugging(seed=seed)
    results = evaluate(config, trained.modules, num_episodes=episodes)
    console = Console(highlight=False, soft_wrap=True)
    env = config.env if isinstance(config.env, str) else getattr(config.env, "__name__", str(config.env))
    console.print(f"[bold]{escape(env)}[/], {trained.checkpoint}")
    console.print(
        f"[dim]return[/]    [bold]{results['episode_return_mean']:.1f}[/] mean, "
        f"{results['episode_return_min']:.1f} to {results['episode_return_max']:.1f}"
    )
    for label, whose in (("agents ", "agent"), ("modules", "module")):
        if means := results.get(f"{whose}_return_mean"):
            console.print(
                f"[dim]{label}[/]   {', '.join(f'{escape(name)} {mean:.1f}' for name, mean in means.items())}"
            )
    console.print(f"[dim]length[/]    {results['episode_len_mean']:.1f} steps on average")
    kind = "drawn actions" if explore else "likeliest actions"
    console.print(f"[dim]episodes[/]  {results['num_episodes']}, with {kind}, seed {seed}")
    if video:
        films, mean = _film(trained, config, path, min(episodes, _MOST_FILMED))
        console.print(f"[dim]video[/]     {films} ({min(episodes, _MOST_FILMED)} episodes, return {mean:.1f})")
    return results


def _film(trained: Trained, config: AlgorithmConfig, path: Path, episodes: int) -> tuple[Path, float]:
    """Film the first episodes; returns the folder, and their mean return."""
    folder = path / "videos" if not (path / "manifest.json").exists() else Path("videos")
    iteration = trained.counters.get("training_iteration", 0)
    filmed = config.copy().environment(
        env=partial(_filmed_environment, config.env, folder, f"iteration{iteration}", episodes),
    )
    filmed.evaluation(evaluation_num_envs=1).env_runners(vectorization="sync")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Overwriting existing videos")
        results = evaluate(filmed, trained.modules, num_episodes=episodes)
    return folder, results["episode_return_mean"]


def _filmed_environment(env: Any, folder: Path, prefix: str, episodes: int, env_config: Mapping[str, Any]) -> Any:
    from gymnasium.wrappers import RecordVideo

    made = _drawn_environment(env, env_config)
    return RecordVideo(
        made, str(folder), episode_trigger=lambda number: number < episodes, name_prefix=prefix, disable_logger=True
    )


def _drawn_environment(env: Any, env_config: Mapping[str, Any]) -> Any:
    """An environment that draws its frames.

    Raises:
        ConfigError: it cannot.
    """
    for name, value in _NO_SCREEN.items():
        os.environ.setdefault(name, value)
    made = make_environment(env, {**thaw(env_config), "render_mode": "rgb_array"})
    reason = None
    if is_environment(made):
        reason = "it is PettingZoo's, of many agents"
    elif getattr(made, "render_mode", None) != "rgb_array":
        reason = "it has no render_mode 'rgb_array'"
    if reason is not None:
        made.close()
        raise ConfigError(f"'{environment_name(env)}' cannot be filmed: {reason}. Leave out --video.")
    return made
