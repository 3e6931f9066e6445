"""The C++ compiler of this machine, and the libraries that it makes of the sources beside this file."""

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from shutil import which

from unison.learner.engines.cache import cache_directory

_SOURCES = Path(__file__).parent
_TIMEOUT_S = 120


@cache
def find_compiler() -> str | None:
    """The C++ compiler that inductor would use on this machine; looked for once."""
    return next(
        (path for name in (os.environ.get("CXX"), "g++", "c++", "clang++") if name and (path := which(name))), None
    )


def compiled(source: str, options: Sequence[str], headers: Path) -> Path:
    """The shared library of a source file, from the cache if it was made before.

    Args:
        source: the name of a file beside this one.
        options: of the compiler.
        headers: the folder of another library's headers.

    Raises:
        OSError: there is no compiler, or the cache can't be written.
        subprocess.SubprocessError: the compiler refuses, or takes two minutes.
    """
    compiler = find_compiler()
    if compiler is None:
        raise FileNotFoundError("there is no C++ compiler")
    command = [compiler, "-O3", "-std=c++17", "-w", "-fPIC", "-shared", f"-I{headers}", *options]
    key = hashlib.sha256(repr(command).encode())
    for file in sorted([*_SOURCES.glob("*.?pp"), *headers.rglob("*.h")]):
        key.update(file.read_bytes())
    library = cache_directory() / "kernels" / f"{Path(source).stem}-{key.hexdigest()[:16]}.so"
    digest = library.with_suffix(".sha256")
    if not _is_whole(library, digest):
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            made = Path(folder) / library.name
            run = [*command, str(_SOURCES / source), "-o", str(made)]
            subprocess.run(run, check=True, capture_output=True, text=True, timeout=_TIMEOUT_S)
            note = made.with_suffix(".sha256")
            note.write_text(_digest(made))
            made.replace(library)  # at once, for other processes compile it too
            note.replace(digest)
    return library


def _is_whole(library: Path, digest: Path) -> bool:
    """Whether a library is as it was made: to load a damaged one can end the process."""
    return library.is_file() and digest.is_file() and digest.read_text() == _digest(library)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
