"""The command `train`: a run, shown while it trains."""

import re
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from unison.algorithms.run_folder import StopReason, TrainingRun
from unison.cli.display import Display
from unison.cli.live_display import LiveDisplay
from unison.cli.plain_display import PlainDisplay
from unison.cli.settings import TrainOptions, build_config
from unison.config import AlgorithmConfig
from unison.errors import ConfigError, UnisonError

_MAY_CHANGE = ("stop_return", "stop_steps")
"""What may be given together with --resume."""
INTERRUPTED = 130
"""The exit code of a process that Ctrl-C ended."""


def run_training(given: TrainOptions, resume: Path | None) -> int:
    """Train; returns the exit code.

    Raises:
        UnisonError: a mistake in the options, or a failure on the way.
    """
    console = Console(highlight=False, soft_wrap=True)
    displays: list[Display] = []

    def announce_stop() -> None:
        for display in displays:
            display.announce_stop()

    run = _resumed(given, resume, announce_stop) if resume is not None else _begun(given, console, announce_stop)
    _introduce(console, run, resumes=resume is not None)
    has_trained = False
    try:
        with LiveDisplay(console) if console.is_terminal else PlainDisplay() as display:
            displays.append(display)
            for progress in run:
                has_trained = True
                display.show(progress)
    except UnisonError as error:
        if not has_trained or run.folder.latest_checkpoint() is None:
            raise
        error.args = (f"{error} To go on from the last checkpoint: unison train --resume {run.folder.path}",)
        raise
    return _conclude(console, run)


def _begun(given: TrainOptions, console: Console, on_interrupt: Callable[[], None]) -> TrainingRun:
    config, tuned = build_config(given)
    if tuned is not None:
        console.print(f"Settings tuned for {tuned.stem} are in use ([dim]--no-tuned leaves them out[/]).")
    out = given.out if given.out is not None else _new_folder(given, config)
    return TrainingRun(
        config, out, stop_return=given.stop_return, stop_steps=given.stop_steps, on_interrupt=on_interrupt
    )


def _resumed(given: TrainOptions, folder: Path, on_interrupt: Callable[[], None]) -> TrainingRun:
    for field in fields(given):
        if field.name not in _MAY_CHANGE and getattr(given, field.name) != field.default:
            name = "the algorithm" if field.name == "algorithm" else f"--{_option(field.name)}"
            raise ConfigError(
                f"A resumed run keeps its settings: leave out {name}. Only --stop-return and --stop-steps may change."
            )
    return TrainingRun.resume(
        folder, stop_return=given.stop_return, stop_steps=given.stop_steps, on_interrupt=on_interrupt
    )


def _option(field: str) -> str:
    return {"settings": "set"}.get(field, field.replace("_", "-"))


def _new_folder(given: TrainOptions, config: AlgorithmConfig) -> Path:
    env = config.env if isinstance(config.env, str) else getattr(config.env, "__name__", "env")
    name = re.sub(r"[^\w.-]+", "_", f"{given.algorithm}-{env}-seed{config.seed}")
    candidates = [Path("runs") / name, *(Path("runs") / f"{name}-{number}" for number in range(2, 1000))]
    return next(path for path in candidates if not path.exists())


def _introduce(console: Console, run: TrainingRun, *, resumes: bool) -> None:
    config = run.config
    env = config.env if isinstance(config.env, str) else getattr(config.env, "__name__", str(config.env))
    begin = f"[bold]{str(config.algorithm_name).upper()} on {escape(env)}[/], seed {config.seed}, in {run.folder.path}"
    if resumes:
        begin += f", from {run.resumed_from.name if run.resumed_from else 'the start, as it had no checkpoint yet'}"
    console.print(begin)
    if run.stop.stop_return is None and run.stop.stop_steps is None:
        console.print("There is no --stop-return and no --stop-steps: it trains until Ctrl-C.")


def _conclude(console: Console, run: TrainingRun) -> int:
    outcome, folder = run.outcome, run.folder
    colour = {StopReason.RETURN_REACHED: "green", StopReason.INTERRUPTED: "yellow"}.get(outcome.reason, "default")
    console.print(f"[bold {colour}]{outcome.sentence()}[/]")
    checkpoint = folder.latest_checkpoint()
    if checkpoint is not None:
        console.print(f"[dim]checkpoint[/]  {checkpoint}")
    if folder.curve_file.exists():
        console.print(f"[dim]curve[/]       {folder.curve_file}")
    else:
        console.print("[dim]curve[/]       none: pip install 'unison\\[plots]', then unison plot " + str(folder.path))
    if outcome.reason is StopReason.INTERRUPTED:
        console.print(f"[dim]go on[/]       unison train --resume {folder.path}")
        sys.stdout.flush()
        return INTERRUPTED
    console.print(f"[dim]try it[/]      unison evaluate {folder.path}")
    return 0
