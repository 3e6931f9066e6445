"""Checkpoints: directories of safetensors files and a manifest, written in one step, verified when read.

    checkpoint_000012/
        manifest.json                                   format version, metadata, SHA-256 of every file
        modules/default_policy.safetensors              one file per part
        optimizers/default_policy/default_optimizer.safetensors
        rng.safetensors

There is no pickle anywhere, and nothing in a checkpoint is ever executed. A part is a tree; its arrays
are the tensors of its file, named by their path, and the rest of the tree stands in the file's header.
The tensors of a module are named like its parameters, so that the weights load without Unison:

    import torch
    from safetensors.torch import load_file

    network = torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.Tanh(), torch.nn.Linear(64, 2))
    network.load_state_dict(load_file("checkpoint_000012/modules/default_policy.safetensors"))

`sha256sum` verifies a file against the manifest by hand.
"""

from unison.checkpoint.background import BackgroundWriter
from unison.checkpoint.keeper import RESULTS, CheckpointKeeper
from unison.checkpoint.likeness import check_like
from unison.checkpoint.manifest import FORMAT_VERSION, FileEntry, Manifest
from unison.checkpoint.reader import Checkpoint, checkpoint_size, is_whole, read_checkpoint, read_manifest
from unison.checkpoint.rng import capture_rng, check_rng, restore_rng
from unison.checkpoint.writer import write_checkpoint

__all__ = [
    "FORMAT_VERSION",
    "RESULTS",
    "BackgroundWriter",
    "Checkpoint",
    "CheckpointKeeper",
    "FileEntry",
    "Manifest",
    "capture_rng",
    "check_like",
    "check_rng",
    "checkpoint_size",
    "is_whole",
    "read_checkpoint",
    "read_manifest",
    "restore_rng",
    "write_checkpoint",
]
