"""The networks: modules, their specs, and the parts that the default ones are made of."""

from unison.modules.actor_critic import ActorCritic
from unison.modules.encoders import Encoder, build_encoder
from unison.modules.multi_agent_rl_module import MultiAgentRLModule
from unison.modules.normalizer import Moments, RunningNormalizer
from unison.modules.random_module import RandomModule
from unison.modules.rl_module import RLModule
from unison.modules.spec_builder import SpecFromConfig
from unison.modules.specs import MultiAgentRLModuleSpec, SingleAgentRLModuleSpec

__all__ = [
    "ActorCritic",
    "Encoder",
    "Moments",
    "MultiAgentRLModule",
    "MultiAgentRLModuleSpec",
    "RLModule",
    "RandomModule",
    "RunningNormalizer",
    "SingleAgentRLModuleSpec",
    "SpecFromConfig",
    "build_encoder",
]
