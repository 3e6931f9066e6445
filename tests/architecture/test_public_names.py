"""What `from unison import ...` offers."""

import unison

API = {
    *("AlgorithmConfig", "PPOConfig", "SACConfig", "Algorithm", "PPO", "SAC"),
    *("Learner", "TorchLearner", "LearnerGroup"),
    *("RLModule", "MultiAgentRLModule", "SingleAgentRLModuleSpec", "MultiAgentRLModuleSpec"),
    *("SampleBatch", "MultiAgentBatch", "SingleAgentEpisode", "MultiAgentEpisode", "Columns"),
    *("ALL_MODULES", "DEFAULT_MODULE_ID"),
}


def test_the_public_names_are_those_of_the_api() -> None:
    assert set(unison.__all__) == API


def test_every_public_name_is_there_and_documented() -> None:
    for name in unison.__all__:
        value = getattr(unison, name)
        assert isinstance(value, str) or value.__doc__


def test_module_ids_are_those_of_the_api() -> None:
    assert unison.ALL_MODULES == "__all_modules__"
    assert unison.DEFAULT_MODULE_ID == "default_policy"
