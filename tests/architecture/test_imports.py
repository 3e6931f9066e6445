"""One direction of imports, and a cheap `import unison`."""

import json
import subprocess
import sys
from typing import Any

FOUNDATION = ["types", "errors", "suggest", "registry"]
BENEATH = ["data", "checkpoint"]
LAYERS = ["config", "modules", "losses", "learner", "learner_group", "sampling", "algorithms", "cli"]
MAY_IMPORT = (
    {place: {place, *FOUNDATION} for place in [*FOUNDATION, *BENEATH]}
    | {place: {*FOUNDATION, *BENEATH, *LAYERS[: LAYERS.index(place) + 1]} for place in LAYERS}
    | {"": {"__init__", *LAYERS, *BENEATH, *FOUNDATION}, "__main__": {"cli"}}
)
MESSAGES = ("unison.learner_group.codec", "unison.learner_group.complaint", "unison.learner_group.processes.")
PICKLERS = {"pickle", "cloudpickle", "dill", "shelve", "marshal", "joblib"}


def test_imports_go_one_way_only(sources: list[Any]) -> None:
    wrong = [
        f"{source.module}:{line} imports {name}"
        for source in sources
        for line, name in source.imports()
        if name.split(".")[0] == "unison" and [*name.split("."), ""][1] not in MAY_IMPORT[source.place]
    ]
    assert wrong == []


def test_every_folder_has_a_place_in_the_order(sources: list[Any]) -> None:
    assert {source.place for source in sources} <= MAY_IMPORT.keys()


def test_config_needs_no_torch(sources: list[Any]) -> None:
    wrong = [
        f"{source.module}:{line}"
        for source in sources
        for line, name in source.imports()
        if source.place == "config" and name.split(".")[0] == "torch"
    ]
    assert wrong == []


def test_nothing_is_pickled_but_messages_between_living_processes(sources: list[Any]) -> None:
    wrong = [
        f"{source.module}:{line} imports {name}"
        for source in sources
        for line, name in source.imports()
        if name.split(".")[0] in PICKLERS and not source.module.startswith(MESSAGES)
    ]
    calls = [source.module for source in sources if "torch.load(" in source.text or "torch.save(" in source.text]
    assert wrong + calls == []


def test_ray_is_imported_in_one_file(sources: list[Any]) -> None:
    users = {source.module for source in sources for _, name in source.imports() if name.split(".")[0] == "ray"}
    assert users == {"unison.learner_group.ray.cluster"}


def test_neither_unison_nor_its_public_names_import_an_optional_package() -> None:
    optional = ["ray", "jax", "torchax", "matplotlib", "tensorboard", "pettingzoo", "moviepy", "imageio", "pygame"]
    for_the_command_line = ["typer", "rich"]
    code = """
import json, sys, unison
names = [getattr(unison, name) for name in unison.__all__]
print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))
"""
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert set(json.loads(output)) & {*optional, *for_the_command_line} == set()
