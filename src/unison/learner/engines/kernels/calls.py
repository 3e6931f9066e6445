"""Functions in C++ that programs of XLA call."""

import ctypes
import logging
import subprocess
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from unison.learner.engines.kernels.compiler import compiled, find_compiler

logger = logging.getLogger("unison")


def make_call(source: str, symbol: str, options: Sequence[str] = ()) -> tuple[str, ctypes.CDLL] | None:
    """Compile a source file and make its function known to XLA; the first time on a machine this takes 2 seconds.

    Args:
        source: the name of a file beside this one.
        symbol: of the function.
        options: of the compiler.

    Returns:
        The name under which XLA knows the function, and the library; None if there is no compiler, or with a warning
        if it fails. The name is the library's, so that no program kept on disk calls another.
    """
    if find_compiler() is None:
        return None
    jax: Any = import_module("jax")
    try:
        path = compiled(source, options, Path(jax.ffi.include_dir()))
        library = ctypes.CDLL(str(path))
        jax.ffi.register_ffi_target(path.stem, jax.ffi.pycapsule(getattr(library, symbol)), platform="cpu")
    except (OSError, subprocess.SubprocessError, RuntimeError) as error:
        said = str(getattr(error, "stderr", None) or error).strip()[:300]
        logger.warning("Programs run without %s, which makes them faster, for it could not be made: %s", source, said)
        return None
    return path.stem, library
