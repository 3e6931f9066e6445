"""From the options of `train` to a config: tuned settings, a file, options and `--set`, in this order."""

import inspect
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from unison.algorithms.run_folder import iterations_for
from unison.cli.environments import resolve_environment
from unison.cli.threads import has_small_networks
from unison.config import AlgorithmConfig
from unison.config.describe import describe_setting
from unison.config.files import read_file
from unison.config.setter import catalog
from unison.errors import ConfigError
from unison.registry import lookup
from unison.suggest import nearest

STEPS_BETWEEN_EVALUATIONS = 10_000
EVALUATIONS_PER_CHECKPOINT = 5
_DEFAULTS: dict[str, dict[str, Any]] = {
    "evaluation": {"evaluation_num_envs": 10},
    "checkpointing": {"keep_last": 3},
}
"""Where the command line starts from, instead of the config's own defaults."""
_INTERVALS = ("evaluation_interval", "checkpoint_interval")


@dataclass(frozen=True)
class TrainOptions:
    """What was given to `unison train`; None where nothing was."""

    algorithm: str | None = None
    env: str | None = None
    stop_return: float | None = None
    stop_steps: int | None = None
    seed: int | None = None
    out: Path | None = None
    settings: tuple[str, ...] = ()
    config: Path | None = None
    num_envs: int | None = None
    tuned: bool | None = None
    eval_interval: int | None = None
    eval_episodes: int | None = None
    checkpoint_interval: int | None = None
    tensorboard: bool = False


def config_class(algorithm: str) -> type[AlgorithmConfig]:
    """The config of an algorithm by its name.

    Raises:
        ConfigError: there is none; names the nearest.
    """
    lookup("algorithm", algorithm)  # the error that speaks of algorithms
    return lookup("config", algorithm)


def build_config(given: TrainOptions) -> tuple[AlgorithmConfig, Path | None]:
    """The config, and the file of tuned settings that it started from, if it did.

    Raises:
        ConfigError: a setting or an environment is unknown or wrong, or something is missing.
    """
    if given.algorithm is None:
        raise ConfigError("Which algorithm? Name it: unison train ppo --env CartPole-v1.")
    made_by = config_class(given.algorithm)
    file = read_file(given.config) if given.config is not None else {}
    env = given.env if given.env is not None else file.get("environment", {}).get("env")
    tuned = _tuned_file(made_by, given, env)
    data = _merged(_DEFAULTS, read_file(tuned) if tuned else {}, file)
    config = made_by.from_dict(data)
    config.change(_of_options(given))
    _set_all(config, given.settings)
    if config.env is None:
        raise ConfigError("Which environment? Name it: --env CartPole-v1.")
    if isinstance(config.env, str):
        config.environment(resolve_environment(config.env))
    said = _said(given, data)
    _schedule_evaluation(config, given, said)
    if "num_threads" not in said and has_small_networks(config):
        config.framework(num_threads=1)
    if config.seed is None:
        config.debugging(seed=secrets.randbelow(2**31))  # drawn here, so that config.yaml can repeat the run
    config.validate()
    return config, tuned


def show_settings(algorithm: str, word: str | None) -> None:
    """Print the settings of an algorithm by section, or those that mention a word.

    Raises:
        ConfigError: the algorithm is unknown, or no setting mentions the word; names the nearest.
    """
    console = Console(highlight=False)
    names, found = list[str](), False
    for setter, section in catalog(config_class(algorithm)).sections.items():
        for name, field in section.field_names().items():
            info = section.model_fields[field]
            said = f"{info.description} Takes {describe_setting(info)}."
            names += [name, setter]
            if word is not None and word.lower() not in f"{setter}.{name} {said}".lower():
                continue
            found = True
            default = info.get_default(call_default_factory=True)
            console.print(f"[bold]{setter}.{name}[/] [dim]={escape(f' {default!r}')}[/]")
            console.print(Padding(escape(said), (0, 0, 0, 4)))
    if word is not None and not found:
        close = nearest(word, names)
        hint = f"Did you mean '{close}'?" if close else f"unison settings {algorithm} lists them all."
        raise ConfigError(f"No setting of {algorithm} mentions '{word}'. {hint}")


def _tuned_file(made_by: type[AlgorithmConfig], given: TrainOptions, env: Any) -> Path | None:
    wanted = given.config is None if given.tuned is None else given.tuned
    if not wanted or not isinstance(env, str):
        return None
    folder = Path(inspect.getfile(made_by)).parent / "tuned"
    path = folder / f"{env.replace('/', '_').replace(':', '_')}.yaml"
    if path.exists():
        return path
    if given.tuned:
        known = sorted(each.stem for each in folder.glob("*.yaml"))
        raise ConfigError(f"There are no tuned settings for '{env}'; leave out --tuned. There are for: {known}.")
    return None


def _merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Sections of settings laid over one another; the last one that says something counts."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for section, values in layer.items():
            before = merged.get(section)
            both = isinstance(before, dict) and isinstance(values, Mapping)
            merged[section] = {**cast("dict[str, Any]", before), **values} if both else values
    return merged


def _of_options(given: TrainOptions) -> dict[str, Any]:
    named = {
        "env": given.env,
        "seed": given.seed,
        "num_envs_per_env_runner": given.num_envs,
        "evaluation_duration": given.eval_episodes,
        "evaluation_interval": given.eval_interval,
        "checkpoint_interval": given.checkpoint_interval,
        "loggers": ("jsonl", "csv", "tensorboard") if given.tensorboard else None,
    }
    said = {name: value for name, value in named.items() if value is not None}
    return said | {name: None for name in _INTERVALS if said.get(name) == 0}  # which a file may have turned on


def _set_all(config: AlgorithmConfig, assignments: Sequence[str]) -> None:
    """Apply `--set`; what contradicts a later assignment is tried again after it."""
    pending = [_assignment(text) for text in assignments]
    while pending:
        errors: list[ConfigError] = []
        failed: list[tuple[str, str]] = []
        for path, value in pending:
            try:
                config.set_path(path, value)
            except ConfigError as error:
                errors.append(error)
                failed.append((path, value))
        if len(failed) == len(pending):
            raise errors[0]
        pending = failed


def _assignment(text: str) -> tuple[str, str]:
    path, separator, value = text.partition("=")
    if not separator or not path:
        raise ConfigError(f"--set takes NAME=VALUE, such as --set training.lr=3e-4; it got '{text}'.")
    return path.strip(), value


def _said(given: TrainOptions, data: Mapping[str, Any]) -> set[str]:
    """The settings that files and `--set` say something about, if only that they are none."""
    sections = [cast("Mapping[str, Any]", section) for section in data.values() if isinstance(section, Mapping)]
    return {name for section in sections for name in section} | {
        text.partition("=")[0].strip().rpartition(".")[2] for text in given.settings
    }


def _schedule_evaluation(config: AlgorithmConfig, given: TrainOptions, said: Collection[str]) -> None:
    """Turn on evaluation and checkpoints, where nothing was said about them.

    Raises:
        ConfigError: the run's end depends on evaluations, and they are turned off.
    """
    if given.eval_interval is None and "evaluation_interval" not in said:
        config.evaluation(evaluation_interval=iterations_for(config, STEPS_BETWEEN_EVALUATIONS))
    if given.stop_return is not None and config.evaluation_interval is None:
        raise ConfigError(
            "--stop-return goes by evaluations, and there are none: evaluation_interval is None (--eval-interval 0). "
            "Leave out one of the two, or end the run by --stop-steps."
        )
    if given.checkpoint_interval is None and "checkpoint_interval" not in said:
        every = config.evaluation_interval or iterations_for(config, STEPS_BETWEEN_EVALUATIONS)
        config.checkpointing(checkpoint_interval=EVALUATIONS_PER_CHECKPOINT * every)
    if "keep_best_by" not in said and config.evaluation_interval is not None:
        config.checkpointing(keep_best_by="evaluation/episode_return_mean")
