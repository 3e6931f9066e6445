"""File names for parts, whose names may contain any characters."""

import hashlib
from collections.abc import Iterable
from urllib.parse import quote

MANIFEST = "manifest.json"
SUFFIX = ".safetensors"
_MAX_SEGMENT = 100  # file systems end at 255 bytes


def file_names(parts: Iterable[str]) -> dict[str, str]:
    """A relative file name for each part: unique also where the case of letters does not count.

    A `/` makes a folder. Characters that a file system may not take are percent-encoded. The manifest
    maps files to parts, so that a name need not be decoded.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for part in parts:
        segments = [_segment(segment) for segment in part.split("/")]
        name = "/".join(segments)
        if name.casefold() in taken or any(len(segment) > _MAX_SEGMENT for segment in segments):
            digest = hashlib.sha256(part.encode("utf-8", "surrogatepass")).hexdigest()[:16]
            name = "/".join(segment[:_MAX_SEGMENT] for segment in segments) + f"-{digest}"
        taken.add(name.casefold())
        names[part] = name + SUFFIX
    return names


def _segment(text: str) -> str:
    # A dot is encoded too: no "..", no hidden files, and no folder that is called like a file.
    return quote(text, safe="", errors="surrogatepass").replace(".", "%2E") or "%"


def is_safe(name: str) -> bool:
    """Whether a name from a manifest stays within the checkpoint's directory."""
    return (
        name.endswith(SUFFIX)
        and not name.startswith("/")
        and "\0" not in name
        and all(segment not in ("", ".", "..") for segment in name.split("/"))
    )
