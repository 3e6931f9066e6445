"""The bare PyTorch loop: what a careful user writes by hand, without a library."""

from typing import Any

import torch
from protocol import Contender, Update
from torch import nn
from torch.distributions import Categorical, Distribution, Independent, Normal
from work import ADAM_EPS, CLIP, ENTROPY_WEIGHT, LR, MAX_NORM, VALUE_WEIGHT, Work


def tanh_network(work: Work, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    size = work.observation
    for width in work.hidden:
        layers += [nn.Linear(size, width), nn.Tanh()]
        size = width
    return nn.Sequential(*layers, nn.Linear(size, outputs))


class ActorCritic(nn.Module):
    """Two networks and a free log standard deviation."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self.is_discrete = work.is_discrete
        self.policy, self.value = tanh_network(work, work.num_actions), tanh_network(work, 1)
        self.log_std = nn.Parameter(torch.zeros(work.num_actions))

    def forward(self, observations: torch.Tensor) -> tuple[Distribution, torch.Tensor]:
        """The distribution of actions, and the values."""
        outputs = self.policy(observations)
        distribution: Distribution
        if self.is_discrete:
            distribution = Categorical(logits=outputs)
        else:
            distribution = Independent(Normal(outputs, self.log_std.exp()), 1)
        return distribution, self.value(observations).squeeze(-1)


def ppo_loss(network: ActorCritic, rows: dict[str, torch.Tensor]) -> torch.Tensor:
    distribution, values = network(rows["obs"])
    ratio = torch.exp(distribution.log_prob(rows["actions"]) - rows["action_logp"])
    advantages = rows["advantages"]
    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    surrogate = torch.min(advantages * ratio, advantages * ratio.clamp(1 - CLIP, 1 + CLIP)).mean()
    value_error = (values - rows["value_targets"]).pow(2).mean()
    return VALUE_WEIGHT * value_error - surrogate - ENTROPY_WEIGHT * distribution.entropy().mean()


def build(data: dict[str, Any]) -> Update:
    work = Work.from_dict(data)
    torch.set_num_threads(work.threads)
    networks = [ActorCritic(work) for _ in range(work.modules)]
    optimizers = [torch.optim.Adam(n.parameters(), lr=LR, eps=ADAM_EPS) for n in networks]
    batches = [{k: torch.as_tensor(v) for k, v in work.columns(i).items()} for i in range(work.modules)]

    def update() -> None:
        for _ in range(work.passes):
            order = torch.randperm(work.batch)
            for chosen in order.split(work.minibatch):
                for network, optimizer, batch in zip(networks, optimizers, batches, strict=True):
                    loss = ppo_loss(network, {name: column[chosen] for name, column in batch.items()})
                    optimizer.zero_grad()
                    loss.backward()
                    nn.utils.clip_grad_norm_(network.parameters(), MAX_NORM)
                    optimizer.step()

    return update


if __name__ == "__main__":
    Contender(build, lambda: {"versions": {"torch": torch.__version__}}).serve()
