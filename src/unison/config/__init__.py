"""Settings as validated data."""

from unison.config.agents import ShouldUpdate, checked_should_update, names_policies, policy_mapping
from unison.config.algorithm_config import AlgorithmConfig
from unison.config.building import make_module_spec
from unison.config.contradictions import Contradiction
from unison.config.differences import differing_settings
from unison.config.environment import make_environment, spaces_of
from unison.config.fluent import UnknownSettingError
from unison.config.model import ModelConfig
from unison.config.schedule import Schedule, Scheduled
from unison.config.sections import TrainingSection, check_module_id
from unison.config.setter import Setter

__all__ = [
    "AlgorithmConfig",
    "Contradiction",
    "ModelConfig",
    "Schedule",
    "Scheduled",
    "Setter",
    "ShouldUpdate",
    "TrainingSection",
    "UnknownSettingError",
    "check_module_id",
    "checked_should_update",
    "differing_settings",
    "make_environment",
    "make_module_spec",
    "names_policies",
    "policy_mapping",
    "spaces_of",
]
