"""Sampling with many agents: PettingZoo environments, and the modules that act in them."""

from unison.sampling.multi_agent.env_runner import MultiAgentEnvRunner

__all__ = ["MultiAgentEnvRunner"]
