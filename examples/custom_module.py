"""A network of one's own: any torch module that returns distribution inputs and values.

`action_dist_inputs` are what the action space's distribution is made from: logits for Discrete, means and
log standard deviations side by side for Box. `vf_preds` is what PPO's value loss trains.
"""

import torch
from torch import nn

from unison import Columns, PPOConfig, RLModule, SingleAgentRLModuleSpec
from unison.registry import register


@register("module", "residual")  # the name by which a module's checkpoint finds its class again
class ResidualModule(RLModule):
    """One shared trunk with residual blocks; its own settings come in `custom_model_config`."""

    def setup(self):
        width = self.model_config.custom_model_config["width"]
        self.first = nn.Linear(self.observation_space.shape[0], width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.policy_head = nn.Linear(width, self.action_distribution.input_size)
        self.value_head = nn.Linear(width, 1)

    def trunk(self, batch):
        hidden = torch.tanh(self.first(batch[Columns.OBS]))
        for block in self.blocks:
            hidden = hidden + torch.tanh(block(hidden))
        return hidden

    def forward_inference(self, batch):
        return {Columns.ACTION_DIST_INPUTS: self.policy_head(self.trunk(batch))}

    def forward_train(self, batch):
        hidden = self.trunk(batch)
        values = self.value_head(hidden).squeeze(-1)
        return {Columns.ACTION_DIST_INPUTS: self.policy_head(hidden), Columns.VF_PREDS: values}


def main(iterations: int = 30) -> float:
    """Train on CartPole and return the mean return of the last episodes."""
    spec = SingleAgentRLModuleSpec(module_class=ResidualModule, model_config={"custom_model_config": {"width": 32}})
    config = (
        PPOConfig()
        .environment("CartPole-v1")
        .env_runners(num_envs_per_env_runner=8)
        .rl_module(rl_module_spec=spec)
        .training(train_batch_size=1024, lr=1e-3)
        .debugging(seed=0)
    )
    algorithm = config.build()
    for iteration in range(iterations):
        results = algorithm.train()
        if iteration % 10 == 9:
            print(f"iteration {iteration + 1}: return {results['env_runners']['episode_return_mean']:.1f}")
    algorithm.stop()
    return results["env_runners"]["episode_return_mean"]


if __name__ == "__main__":
    main()
