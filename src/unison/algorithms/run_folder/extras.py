"""Optional packages, imported when first needed."""

import importlib
from importlib.util import find_spec
from typing import Any

from unison.errors import MissingExtraError


def require(module: str, extra: str, purpose: str) -> Any:
    """Import an optional module; where it is absent, the error names the extra that installs it.

    Raises:
        MissingExtraError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or module).partition(".")[0]
        raise MissingExtraError(missing, extra, purpose) from error


def is_installed(module: str) -> bool:
    """Whether a top-level module can be imported; it is not imported."""
    return find_spec(module) is not None
