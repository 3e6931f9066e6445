"""The commands and their options. What they do is imported when they run, so that help comes at once."""

from pathlib import Path
from typing import Annotated

import typer

from unison.cli import options

app = typer.Typer(
    help="Train reinforcement-learning policies: N Learners that behave as one.",
    epilog="Errors are one line; add --debug to any command to see where they come from.",
    no_args_is_help=False,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"unison {version('unison')}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Train reinforcement-learning policies: N Learners that behave as one."""


@app.command()
def train(
    algorithm: options.Algorithm = None,
    env: options.Env = None,
    stop_return: options.StopReturn = None,
    stop_steps: options.StopSteps = None,
    seed: options.Seed = None,
    out: options.Out = None,
    settings: options.Settings = None,
    config: options.Config = None,
    num_envs: options.NumEnvs = None,
    tuned: options.Tuned = None,
    resume: options.Resume = None,
    eval_interval: options.EvalInterval = None,
    eval_episodes: options.EvalEpisodes = None,
    checkpoint_interval: options.CheckpointInterval = None,
    tensorboard: options.TensorBoard = False,
) -> int:
    """Train an algorithm, and keep all of it in a folder.

    Ctrl-C ends the run with a checkpoint; --resume goes on from there.

    Example: unison train ppo --env CartPole-v1 --stop-return 475 --stop-steps 200000 --seed 0
    """
    from unison.cli.train import TrainOptions, run_training

    given = TrainOptions(
        algorithm=algorithm,
        env=env,
        stop_return=stop_return,
        stop_steps=stop_steps,
        seed=seed,
        out=out,
        settings=tuple(settings or ()),
        config=config,
        num_envs=num_envs,
        tuned=tuned,
        eval_interval=eval_interval,
        eval_episodes=eval_episodes,
        checkpoint_interval=checkpoint_interval,
        tensorboard=tensorboard,
    )
    return run_training(given, resume)


@app.command()
def evaluate(
    path: options.Trained,
    episodes: Annotated[int, typer.Option(help="Whole episodes to run.", min=1)] = 20,
    best: options.Best = False,
    explore: Annotated[bool, typer.Option("--explore", help="Draw actions instead of taking the likeliest.")] = False,
    seed: Annotated[int | None, typer.Option(help="The environments' seed; default: a random one.")] = None,
    video: Annotated[bool, typer.Option("--video", help="Film up to three episodes as well.")] = False,
) -> None:
    """Run a trained policy for whole episodes, and show its returns."""
    from unison.cli.evaluate import run_evaluation

    run_evaluation(path, episodes=episodes, best=best, explore=explore, seed=seed, video=video)


@app.command()
def inspect(path: options.Trained) -> None:
    """Verify a checkpoint and show what is in it: modules, optimizers, counters, settings, sizes."""
    from unison.cli.inspect import show_checkpoint

    show_checkpoint(path)


@app.command()
def plot(
    paths: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Run folders, or folders of run folders.")],
    out: Annotated[Path | None, typer.Option(help="The picture; default: learning_curve.png.")] = None,
    title: Annotated[str | None, typer.Option(help="The title above the curves.")] = None,
) -> None:
    """Draw learning curves; runs that differ only by their seed become one curve with its spread."""
    from unison.cli.plot import draw

    draw(paths, out=out, title=title)


@app.command()
def export(
    path: options.Trained,
    out: Annotated[Path | None, typer.Option(help="A new folder; default: export/ beside the checkpoints.")] = None,
    best: options.Best = False,
) -> None:
    """Write what acting needs without Unison: plain safetensors, and the spaces and settings as JSON."""
    from unison.cli.export import export_modules

    export_modules(path, out=out, best=best)


@app.command()
def settings(
    algorithm: Annotated[str, typer.Argument(help="The algorithm, such as ppo.")],
    word: Annotated[str | None, typer.Argument(help="Show only the settings that mention this word.")] = None,
) -> None:
    """List every setting, with what it takes, its default and its meaning."""
    from unison.cli.settings import show_settings

    show_settings(algorithm, word)
