"""What a Learner builds itself from: modules, a device, a generator, optimizers."""

import inspect
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from unison.config import AlgorithmConfig, check_module_id, make_module_spec
from unison.errors import ConfigError, ModuleError
from unison.modules import MultiAgentRLModule, MultiAgentRLModuleSpec, RLModule, SingleAgentRLModuleSpec
from unison.types import DEFAULT_MODULE_ID, ModuleID

_OPTIMIZERS: dict[str, type[Any]] = {  # Options differ by class.
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
}


def build_modules(
    config: AlgorithmConfig,
    module: RLModule | MultiAgentRLModule | None,
    spec: SingleAgentRLModuleSpec | MultiAgentRLModuleSpec | None,
) -> MultiAgentRLModule:
    """The modules of a Learner: those given, else those of `spec`, else those of the config.

    Weights are drawn from the config's seed; the global random state stays as it was.
    """
    if module is None:
        with torch.random.fork_rng(devices=()):  # pyright: ignore[reportUnknownMemberType]  # untyped
            if config.seed is not None:
                torch.manual_seed(config.seed)  # pyright: ignore[reportUnknownMemberType]  # untyped
            module = (spec or make_module_spec(config)).build()
    if isinstance(module, MultiAgentRLModule):
        return module
    wrapped = MultiAgentRLModule()
    wrapped.add_module(DEFAULT_MODULE_ID, module)
    return wrapped


def check_addition(module_id: ModuleID, module_spec: Any, known: Collection[ModuleID]) -> None:
    """Raise `ModuleError` unless a module of this id and spec can be added to those `known`."""
    check_module_id(module_id)
    if module_id in known:
        raise ModuleError(f"Module '{module_id}' exists already; remove it first, or choose another id.")
    if not isinstance(module_spec, SingleAgentRLModuleSpec):
        raise ModuleError(f"The spec of module '{module_id}' must be a SingleAgentRLModuleSpec, not {module_spec!r}.")


def check_exists(module_id: ModuleID, known: Collection[ModuleID]) -> None:
    """Raise `ModuleError` unless there is a module of this id."""
    if module_id not in known:
        raise ModuleError(f"There is no module '{module_id}'. Known: {sorted(known)}.")


def find_device(config: AlgorithmConfig) -> torch.device:
    """The GPU that the config asks for, else the CPU.

    Raises:
        ConfigError: a GPU is asked for but there is none.
    """
    if not config.num_gpus_per_learner:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError(
            f"num_gpus_per_learner={config.num_gpus_per_learner}, but torch sees no GPU. "
            "Set resources(num_gpus_per_learner=0), or install a CUDA build of torch."
        )
    if config.local_gpu_idx >= torch.cuda.device_count():
        raise ConfigError(f"local_gpu_idx={config.local_gpu_idx}, but there are {torch.cuda.device_count()} GPUs.")
    return torch.device("cuda", config.local_gpu_idx)


def seed_generator(seed: int | None) -> torch.Generator:
    """The generator that draws the order of rows; on the CPU, so that every engine and device sees one order."""
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator


def construct(kind: type[Any], params: list[torch.nn.Parameter], options: dict[str, Any]) -> torch.optim.Optimizer:
    """`kind(params, lr=0.0, **options)`, less the second in which a decorator of torch's would import its compiler."""
    optimizer: Any = object.__new__(kind)
    optimizer.add_param_group = partial(inspect.unwrap(torch.optim.Optimizer.add_param_group), optimizer)
    try:
        optimizer.__init__(params, lr=0.0, **options)
    finally:
        del optimizer.add_param_group
    return optimizer


def make_optimizer(params: Sequence[torch.nn.Parameter], setting: str | Mapping[str, Any]) -> torch.optim.Optimizer:
    """The optimizer that the setting `optimizer` names, over `params`; its learning rate is set on registration.

    Raises:
        ConfigError: an option that the optimizer doesn't know.
    """
    options = {"name": setting} if isinstance(setting, str) else dict(setting)
    name = options.pop("name")
    try:
        return construct(_OPTIMIZERS[name], list(params), options)
    except TypeError as error:
        raise ConfigError(f"optimizer '{name}': {error}. Options are those of {_OPTIMIZERS[name].__name__}.") from error
