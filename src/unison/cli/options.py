"""The options of the commands, each with its help."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

_GOAL, _RUN, _MEASURE = "When to stop", "The run", "Evaluation and checkpoints"

Algorithm: TypeAlias = Annotated[str | None, typer.Argument(help="The algorithm, such as ppo.", show_default=False)]
Env: TypeAlias = Annotated[
    str | None,
    typer.Option(help="An id of Gymnasium or PettingZoo, or module:Class of your own.", rich_help_panel=_RUN),
]
StopReturn: TypeAlias = Annotated[
    float | None,
    typer.Option(help="Stop when evaluation reaches this mean return, and does so again.", rich_help_panel=_GOAL),
]
StopSteps: TypeAlias = Annotated[
    int | None, typer.Option(help="Stop after this many environment steps.", min=1, rich_help_panel=_GOAL)
]
Seed: TypeAlias = Annotated[
    int | None, typer.Option(help="The seed; default: a random one.", min=0, rich_help_panel=_RUN)
]
Out: TypeAlias = Annotated[
    Path | None, typer.Option(help="The run's folder; default: a new one in runs/.", rich_help_panel=_RUN)
]
Settings: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="A setting, such as training.lr=3e-4; repeatable.", rich_help_panel=_RUN
    ),
]
Config: TypeAlias = Annotated[
    Path | None, typer.Option(help="Settings in a YAML, TOML or JSON file.", rich_help_panel=_RUN)
]
NumEnvs: TypeAlias = Annotated[
    int | None, typer.Option(help="Environment copies that are stepped together.", min=1, rich_help_panel=_RUN)
]
Tuned: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--tuned/--no-tuned",
        help="Start from settings tuned for the environment, where there are any; default: yes without --config.",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]
Resume: TypeAlias = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Go on with the run in this folder.", rich_help_panel=_RUN)
]
EvalInterval: TypeAlias = Annotated[
    int | None,
    typer.Option(
        help="Iterations between evaluations, 0 for none; default: about 10,000 steps.",
        min=0,
        rich_help_panel=_MEASURE,
    ),
]
EvalEpisodes: TypeAlias = Annotated[
    int | None, typer.Option(help="Episodes of an evaluation.", min=1, rich_help_panel=_MEASURE)
]
CheckpointInterval: TypeAlias = Annotated[
    int | None,
    typer.Option(
        help="Iterations between checkpoints, 0 for none but the last; default: about 50,000 steps.",
        min=0,
        rich_help_panel=_MEASURE,
    ),
]
TensorBoard: TypeAlias = Annotated[
    bool, typer.Option("--tensorboard", help="Write TensorBoard events too.", rich_help_panel=_MEASURE)
]
Trained: TypeAlias = Annotated[
    Path, typer.Argument(metavar="DIR", help="A run's folder (its last checkpoint) or a checkpoint.")
]
Best: TypeAlias = Annotated[bool, typer.Option("--best", help="The run's best checkpoint instead of the last.")]
