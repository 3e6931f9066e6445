"""Named errors. Each message says what is wrong, where, and what to do about it."""


class UnisonError(Exception):
    """The base of every error that Unison raises on purpose."""


class ConfigError(UnisonError, ValueError):
    """A setting is unknown, of the wrong type or range, or contradicts another."""


class NotBuiltError(UnisonError, RuntimeError):
    """A Learner, LearnerGroup or Algorithm was used before `build()`."""


class BatchError(UnisonError, ValueError):
    """A batch or an episode cannot be trained on; names module, column and shapes."""


class SpaceError(UnisonError, ValueError):
    """An observation or action space that a module cannot handle."""


class ModuleError(UnisonError, ValueError):
    """A module is unknown, exists twice, or returned or logged something of the wrong shape."""


class OptimizerError(UnisonError, ValueError):
    """An optimizer is unknown, registered twice, owns a parameter it may not own, or has a wrong learning rate."""


class NonFiniteError(UnisonError, ArithmeticError):
    """A gradient held NaN or infinity under `nan_policy="raise"`; names module and parameter."""


class StateError(UnisonError, ValueError):
    """A state does not fit what it is loaded into; names the part, both shapes and the module."""


class CheckpointError(UnisonError, RuntimeError):
    """A checkpoint is damaged, foreign, or newer than this version; names file and reason."""


class EnvironmentFailure(UnisonError, RuntimeError):
    """An environment raised, died or broke its API's contract; names the environment and its index."""


class LearnerGroupError(UnisonError, RuntimeError):
    """A Learner of a group died, hung or raised; names the rank and the cause."""


class MissingExtraError(UnisonError, ImportError):
    """An optional dependency is absent; names the extra that installs it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package '{package}'. Install it with: pip install 'unison[{extra}]'")
