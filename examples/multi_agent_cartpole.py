"""An environment of one's own for many agents: poles side by side, each balanced by a module of its own."""

import torch
from gymnasium.envs.classic_control import CartPoleEnv
from pettingzoo import ParallelEnv

from unison import PPOConfig


class MultiAgentCartPole(ParallelEnv):
    """One pole for each agent; an agent whose pole falls is out, and the others go on."""

    def __init__(self, num_agents=4, max_steps=500):
        self.possible_agents = [f"pole_{number}" for number in range(num_agents)]
        self.agents = []
        self.max_steps = max_steps
        self.poles = {agent: CartPoleEnv() for agent in self.possible_agents}

    def observation_space(self, agent):
        return self.poles[agent].observation_space

    def action_space(self, agent):
        return self.poles[agent].action_space

    def reset(self, seed=None, options=None):
        self.agents, self.steps = list(self.possible_agents), 0
        seeds = {agent: None if seed is None else seed + 1000 * n for n, agent in enumerate(self.agents)}
        observations = {agent: self.poles[agent].reset(seed=seeds[agent])[0] for agent in self.agents}
        return observations, {agent: {} for agent in self.agents}

    def step(self, actions):
        self.steps += 1
        answers = {agent: self.poles[agent].step(int(actions[agent])) for agent in self.agents}
        observations = {agent: answer[0] for agent, answer in answers.items()}
        rewards = {agent: float(answer[1]) for agent, answer in answers.items()}
        fallen = {agent: answer[2] for agent, answer in answers.items()}
        cut = {agent: self.steps >= self.max_steps and not fallen[agent] for agent in answers}
        self.agents = [agent for agent in self.agents if not fallen[agent] and not cut[agent]]
        return observations, rewards, fallen, cut, {agent: {} for agent in answers}


def make_config(num_agents=4):
    """A module for each pole: by default the one of the agent's name acts for it."""
    return (
        PPOConfig()
        .environment(MultiAgentCartPole, env_config={"num_agents": num_agents})
        .multi_agent(policies=[f"pole_{number}" for number in range(num_agents)])
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size=1024, minibatch_size=256, num_epochs=10, lr=1e-3, gamma=0.98, lambda_=0.9)
        .framework(engine="eager")  # Poles fall when they like: every batch has other shapes.
        .debugging(seed=0)
    )


def main(iterations=60):
    """Train until every pole stands for 450 steps in the mean."""
    torch.set_num_threads(1)
    algorithm = make_config().build()
    for _ in range(iterations):
        returns = algorithm.train()["env_runners"]["agent_return_mean"]
        print({agent: round(value) for agent, value in returns.items()})
        if min(returns.values()) >= 450:
            break
    return returns


if __name__ == "__main__":
    main()
