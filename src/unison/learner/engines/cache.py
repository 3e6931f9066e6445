"""Where compiled programs are kept between runs."""

import os
from pathlib import Path


def cache_directory() -> Path:
    """The setting of the environment variable UNISON_CACHE_DIR, else a folder in the user's cache."""
    given = os.environ.get("UNISON_CACHE_DIR")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unison"
