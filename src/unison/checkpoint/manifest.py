"""The manifest of a checkpoint: what it holds, and the digest of every file."""

import hashlib
import json
from datetime import UTC, datetime
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from unison.checkpoint.names import MANIFEST, is_safe
from unison.checkpoint.trees import JSON, decode_tree
from unison.errors import CheckpointError

FORMAT = "unison checkpoint"
FORMAT_VERSION = 1
"""The format that this version writes, and the newest that it reads."""
_NO_DIGEST = "0" * 64
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _checked_names(files: "dict[str, FileEntry]") -> "dict[str, FileEntry]":
    unsafe = next((name for name in files if not is_safe(name)), None)
    if unsafe is not None:
        raise ValueError(f"the file name {unsafe!r} leads out of the checkpoint or is not one of its own")
    if len({entry.part for entry in files.values()}) != len(files):
        raise ValueError("two files hold the same part")
    return files


class FileEntry(BaseModel):
    """One file of a checkpoint: the part in it, its size in bytes, and the SHA-256 of each of its blocks.

    A file of one block has one digest, which `sha256sum` prints. For longer ones it is
    `split -b BLOCK_SIZE --filter=sha256sum FILE`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    part: str
    size: Annotated[int, Field(ge=8)]
    block_size: Annotated[int, Field(gt=0)]
    sha256: list[Sha256]

    @model_validator(mode="after")
    def _every_block_has_a_digest(self) -> "FileEntry":
        if len(self.sha256) != -(-self.size // self.block_size):
            raise ValueError("the number of digests does not fit the size")
        return self


class Manifest(BaseModel):
    """What `manifest.json` says.

    `sha256` is the digest of the manifest itself, taken with zeros in place of the digest.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format: Literal["unison checkpoint"] = FORMAT
    format_version: Literal[1] = FORMAT_VERSION
    sha256: Sha256 = _NO_DIGEST
    library_version: str
    created: str
    files: Annotated[dict[str, FileEntry], AfterValidator(_checked_names)]
    encoded_metadata: JsonValue = Field(alias="metadata")

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """What the writer of the checkpoint said about it, with the Python types it had."""
        metadata = decode_tree(cast("JSON", self.encoded_metadata), {})
        if not isinstance(metadata, dict):
            raise ValueError("it is no mapping")
        return cast("dict[str, Any]", metadata)

    @property
    def parts(self) -> dict[str, str]:
        """The file of each part."""
        return {entry.part: name for name, entry in self.files.items()}


def make_manifest(files: dict[str, FileEntry], metadata: JsonValue) -> Manifest:
    """A manifest of this version, dated now."""
    return Manifest(
        library_version=library_version(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        files=files,
        metadata=metadata,
    )


def manifest_to_bytes(manifest: Manifest) -> bytes:
    """The text of `manifest.json`, its own digest filled in."""
    content = manifest.model_copy(update={"sha256": _NO_DIGEST}).model_dump(by_alias=True)
    text = (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()
    return text.replace(_NO_DIGEST.encode(), hashlib.sha256(text).hexdigest().encode(), 1)


def manifest_from_bytes(text: bytes, where: str) -> Manifest:
    """Read and verify the text of a `manifest.json`; `where` names the checkpoint in errors.

    Raises:
        CheckpointError: it is no manifest, is damaged, or is of a newer format.
    """
    file = f"{where}: the file '{MANIFEST}'"
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is damaged or foreign: it is not JSON ({error}). {RESTORE}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} is foreign: no checkpoint of Unison has such a manifest.")
    content = cast("dict[str, Any]", content)
    intact = _has_own_digest(text, content.get("sha256"))
    newer = type(content.get("format_version")) is int and content["format_version"] > FORMAT_VERSION
    if newer and content.get("format") == FORMAT:
        writer = content.get("library_version")
        doubt = "" if intact else " Or it is damaged: its own digest does not match."
        raise CheckpointError(
            f"{file} is of format {content['format_version']}, and this is Unison {library_version()}, which reads "
            f"formats up to {FORMAT_VERSION}. It needs Unison {writer} or newer, which wrote it: upgrade.{doubt}"
        )
    if not intact:
        raise CheckpointError(f"{file} is damaged, edited or foreign: its own SHA-256 does not match. {RESTORE}")
    try:
        manifest = Manifest.model_validate(content)
        _ = manifest.metadata  # decoded once and kept
        return manifest
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(str(step) for step in first["loc"])
        raise CheckpointError(f"{file} is foreign: at '{at}': {first['msg']}.") from error
    except ValueError as error:
        raise CheckpointError(f"{file} is foreign: its metadata: {error}.") from error


RESTORE = "Restore the checkpoint from a copy, or load another one."
"""What to do about damage."""


def _has_own_digest(text: bytes, digest: object) -> bool:
    if not isinstance(digest, str) or len(digest) != len(_NO_DIGEST):
        return False
    blank = text.replace(digest.encode("utf-8", "replace"), _NO_DIGEST.encode(), 1)
    return hashlib.sha256(blank).hexdigest() == digest


@cache
def library_version() -> str:
    """The installed version of Unison."""
    try:
        return version("unison")
    except PackageNotFoundError:  # a source tree that was never installed
        return "unknown"
