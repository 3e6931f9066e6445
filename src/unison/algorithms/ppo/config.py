"""PPO's settings, with defaults that the field uses for a first try."""

from typing import ClassVar

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from unison.config import AlgorithmConfig, Scheduled, Setter, TrainingSection
from unison.config.sections import Fraction, OptimizerSetting
from unison.registry import register


class PPOTraining(TrainingSection):
    """The update of PPO (Schulman et al., 2017, arXiv:1707.06347). Batch sizes are global, over all Learners.

    Sources of the defaults: [S] Schulman et al. 2017, Table 3 (continuous control); [E] Engstrom et al. 2020
    (arXiv:2005.12729), section 3; [A] Andrychowicz et al. 2021 (arXiv:2006.05990), section 3; [H] Huang et al. 2022
    ("The 37 Implementation Details of PPO"); [R] Raffin et al. 2021 (Stable-Baselines3, JMLR 22).
    """

    lr: Scheduled[NonNegativeFloat] = Field(3e-4, description="The learning rate. [S, A]")
    grad_clip: PositiveFloat | None = Field(
        0.5, description="The bound that gradients are clipped to; None for none. [E, A]"
    )
    train_batch_size: PositiveInt = Field(
        2048, description="Environment steps that one training iteration learns from. [S]"
    )
    minibatch_size: PositiveInt | None = Field(
        64, description="Rows of one gradient step; None for the whole batch. [S]"
    )
    num_epochs: PositiveInt = Field(10, description="Passes over each train batch. [S]")
    optimizer: OptimizerSetting = Field(
        {"name": "adam", "eps": 1e-5},
        description="The optimizer; as a dict, with options beside its name. [H: Adam with eps 1e-5]",
    )
    lambda_: Fraction = Field(
        0.95, description="The decay of generalized advantage estimation (Schulman et al., 2016). [S]"
    )
    clip_param: PositiveFloat = Field(
        0.2, description="How far the probability ratio may move from 1 before the objective is clipped. [S]"
    )
    vf_clip_param: PositiveFloat | None = Field(
        None, description="How far a value may move from its old one before its loss is clipped; None: no clipping. [A]"
    )
    vf_loss_coeff: NonNegativeFloat = Field(0.5, description="The weight of the value loss, a mean square error. [R]")
    entropy_coeff: Scheduled[NonNegativeFloat] = Field(0.0, description="The weight of the entropy bonus. [S]")
    use_kl_loss: bool = Field(False, description="Whether to add the penalty on the KL divergence. [S: clipping alone]")
    kl_coeff: NonNegativeFloat = Field(
        0.2, description="The penalty's first weight; it adapts, so the start matters little. [S, section 4]"
    )
    kl_target: PositiveFloat = Field(0.01, description="The KL divergence that the weight adapts to. [S, Table 1]")
    normalize_advantages: bool = Field(
        True, description="Whether advantages get zero mean and unit variance over the whole batch. [H]"
    )


@register("config", "ppo")
class PPOConfig(AlgorithmConfig):
    """The settings of a PPO run."""

    algorithm_name: ClassVar[str | None] = "ppo"

    training = Setter(PPOTraining)
