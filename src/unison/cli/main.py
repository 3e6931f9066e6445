"""Entry point of the command line: every mistake becomes one line that says what to do."""

import os
import sys
from collections.abc import Sequence
from typing import Any

import typer

from unison.cli.app import app
from unison.errors import UnisonError

# The base of what typer raises for misuse; where it lies depends on typer's version.
_UsageMistake: Any = typer.BadParameter.__mro__[2]
_DEBUG = "--debug"


def main() -> None:
    """Run the command line of this process and exit: 0 well, 2 a mistake, 1 a failure, 130 interrupted."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code; with `--debug` errors are raised instead."""
    given = [argument for argument in arguments if argument != _DEBUG]
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # where --env my_module:MyEnv is looked for
    try:
        command: Any = typer.main.get_command(app)
        code = command.main(args=given or ["--help"], prog_name="unison", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except _UsageMistake as error:
        return _complain(error.format_message(), 2)
    except BrokenPipeError:  # `unison ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (KeyboardInterrupt, typer.Abort):
        if _DEBUG in arguments:
            raise
        return _complain("stopped", 130)
    except UnisonError as error:
        if _DEBUG in arguments:
            raise
        return _complain(str(error), 2)
    except Exception as error:
        if _DEBUG in arguments:
            raise
        return _complain(f"{type(error).__name__}: {error} (add {_DEBUG} to see where)", 1)


def _complain(message: str, code: int) -> int:
    print(f"unison: {' '.join(message.split())}", file=sys.stderr)
    return code
