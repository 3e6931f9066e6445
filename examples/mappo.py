"""MAPPO: policies see their own observations, one critic those of all (Yu et al. 2022, arXiv:2103.01955)."""

import numpy as np
import torch
from gymnasium.spaces import Box, Dict
from mpe2 import simple_spread_v3
from pettingzoo.utils import BaseParallelWrapper
from torch.nn import Linear, Sequential, Tanh
from torch.nn.functional import huber_loss

from unison import ALL_MODULES, MultiAgentRLModule, MultiAgentRLModuleSpec, PPOConfig, RLModule, SingleAgentRLModuleSpec
from unison.algorithms import PPOLearner
from unison.learner import LOSS_SHARE


class WithState(BaseParallelWrapper):
    """Adds to each agent's observation what only the critic looks at: the observations of all."""

    def observation_space(self, agent):
        size = sum(self.env.observation_space(a).shape[0] for a in self.possible_agents)
        return Dict(observation=self.env.observation_space(agent), state=Box(-np.inf, np.inf, (size,)))

    def reset(self, seed=None, options=None):
        return self.with_state(*self.env.reset(seed, options))

    def step(self, actions):
        return self.with_state(*self.env.step(actions))

    def with_state(self, observations, *rest):
        state = np.concatenate(list(observations.values()))
        return {agent: {"observation": own, "state": state} for agent, own in observations.items()}, *rest


def layers(inputs, outputs, width=128):
    return Sequential(Linear(inputs, width), Tanh(), Linear(width, width), Tanh(), Linear(width, outputs))


class Policy(RLModule):
    def setup(self):
        self.net = layers(self.observation_space["observation"].shape[0], int(self.action_space.n))

    def forward_inference(self, batch):
        return {"action_dist_inputs": self.net(batch["obs"]["observation"])}


class Team(MultiAgentRLModule):
    def setup(self):
        self.critic = layers(next(iter(self.values())).observation_space["state"].shape[0], 1)

    def compute_values(self, batch):
        return {m: self.critic(columns["obs"]["state"]).squeeze(-1) for m, columns in batch.items()}


class MAPPOLearner(PPOLearner):
    """PPO's loss of each policy, and the critic's: Huber's, over the rows of all agents."""

    def compute_loss(self, *, fwd_out, batch):
        values = self.module.compute_values(batch)
        fwd_out = {m: {**out, "vf_preds": values[m]} for m, out in fwd_out.items()}
        losses = super().compute_loss(fwd_out=fwd_out, batch=batch)  # With vf_loss_coeff=0: the policies'.
        for m, columns in batch.items():
            error = huber_loss(values[m], columns["value_targets"], delta=10.0)
            losses[ALL_MODULES] = losses[ALL_MODULES] + error * columns.get(LOSS_SHARE, 1.0)
        return losses


def make_config():
    """Three agents that share out three landmarks, with one policy for all; `policies` could name one for each."""
    team = MultiAgentRLModuleSpec(Team, {"everyone": SingleAgentRLModuleSpec(Policy)})
    config = PPOConfig().environment(lambda settings: WithState(simple_spread_v3.parallel_env(**settings)))
    config.env_runners(num_envs_per_env_runner=16).rl_module(rl_module_spec=team).debugging(seed=0)
    config.training(learner_class=MAPPOLearner, train_batch_size=3200, minibatch_size=2400, num_epochs=10, lr=7e-4)
    return config.training(vf_loss_coeff=0.0, entropy_coeff=0.01)


if __name__ == "__main__":
    torch.set_num_threads(1)
    algorithm = make_config().build()
    for _ in range(30):  # It begins at about -81.
        print(algorithm.train()["env_runners"]["episode_return_mean"])
