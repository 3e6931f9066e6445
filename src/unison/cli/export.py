"""The command `export`: what acting needs, in files that need no Unison."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]  (its stub leaves types open)

from unison.algorithms.run_folder.rows import replace_file
from unison.checkpoint.manifest import library_version
from unison.cli.loading import Trained, load_trained
from unison.errors import ConfigError
from unison.modules.description import describe

HOW_TO_LOAD = (
    "from safetensors.numpy import load_file; weights = load_file(FILE): arrays by parameter name, as in the "
    "state_dict of the module's class."
)


def export_modules(path: Path, *, out: Path | None, best: bool) -> Path:
    """Write the weights that acting needs, one file a module, and `export.json`; returns the folder.

    Raises:
        CheckpointError: there is no checkpoint, or it is damaged.
        ConfigError: the folder is there already.
    """
    trained = load_trained(path, best=best)
    folder = out if out is not None else _beside(path)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is there already; remove it, or choose another folder: --out DIR.")
    folder.mkdir(parents=True, exist_ok=True)
    states = trained.modules.get_state(inference_only=True)
    files = {module_id: f"{quote(module_id, safe='')}.safetensors" for module_id in states}
    for module_id, state in states.items():
        save_file(state, folder / files[module_id])
    replace_file(folder / "export.json", json.dumps(_description(trained, files), indent=2) + "\n")
    for name in sorted(each.name for each in folder.iterdir()):
        print(folder / name)
    return folder


def _beside(path: Path) -> Path:
    """`export/` in the run's folder, or beside a checkpoint."""
    return path / "export" if not (path / "manifest.json").exists() else path.with_name(f"{path.name}_export")


def _description(trained: Trained, files: dict[str, str]) -> dict[str, Any]:
    modules: dict[str, Any] = {}
    for module_id, module in trained.modules.items():
        state = module.get_state(inference_only=True)
        modules[module_id] = {
            "file": files.get(module_id),
            **describe(type(module), module.observation_space, module.action_space, module.model_config),
            "parameters": {name: {"shape": list(a.shape), "dtype": str(a.dtype)} for name, a in state.items()},
        }
    return {
        "library_version": library_version(),
        "checkpoint": trained.checkpoint.name,
        "counters": trained.counters,
        "how_to_load": HOW_TO_LOAD,
        "modules": modules,
        "config": trained.config.to_dict(),
    }
