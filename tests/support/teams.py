"""Modules that depend on each other: a shared encoder, a centralized critic and its Learner."""

from collections.abc import Mapping
from typing import Any

import torch

from unison import ALL_MODULES, MultiAgentRLModule
from unison.algorithms import PPOLearner
from unison.learner import LOSS_SHARE


class SharedEncoder(MultiAgentRLModule):
    """Modules "a" and "b" share an encoder; "c" has its own."""

    def setup(self) -> None:
        self["b"].encoder = self["a"].encoder


class CentralCritic(MultiAgentRLModule):
    """One critic for all modules, in place of their own."""

    def setup(self) -> None:
        self.critic = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))

    def compute_values(self, batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        return {m: self.critic(columns["obs"]).squeeze(-1) for m, columns in batch.items()}

    def forward_train(self, batch: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        values = self.compute_values(batch)
        return {m: {**out, "vf_preds": values[m]} for m, out in super().forward_train(batch).items()}


class CentralLearner(PPOLearner):
    """The policies' losses, and the critic's over the rows of all."""

    def compute_loss(self, *, fwd_out: Any, batch: Any) -> dict[str, Any]:
        losses = super().compute_loss(fwd_out=fwd_out, batch=batch)
        for m, columns in batch.items():
            error = torch.nn.functional.huber_loss(fwd_out[m]["vf_preds"], columns["value_targets"])
            losses[ALL_MODULES] = losses[ALL_MODULES] + error * columns.get(LOSS_SHARE, 1.0)
        return losses


def by_team(agent_id: str, episode: Any) -> str:
    """In simple_tag: the module "hunters" acts for the adversaries, "hunted" for their prey."""
    return "hunters" if agent_id.startswith("adversary") else "hunted"


def by_heirs(agent_id: str, episode: Any) -> str:
    """As `by_team`, with "heirs" in place of "hunted", and one hunter that is frozen."""
    named = {"adversary_0": "ancestors", "agent_0": "heirs"}
    return named.get(agent_id, "hunters")


def by_side(agent_id: str, episode: Any) -> str:
    """In a board game: who begins, and who answers."""
    return {"player_1": "first", "player_2": "second"}[agent_id]
