"""SingleAgentEpisode: growing, chunks, arrays, and its state."""

import numpy as np
import pytest

from unison.data import SingleAgentEpisode
from unison.errors import BatchError, StateError


def grown(steps: int = 3, *, infos: bool = False) -> SingleAgentEpisode:
    episode = SingleAgentEpisode("e1")
    episode.add_env_reset(np.array([0.0]), {"start": True} if infos else None)
    for step in range(steps):
        episode.add_env_step(
            np.array([step + 1.0]),
            step,
            step + 0.5,
            {"step": step} if infos else None,
            extra_model_outputs={"action_logp": -float(step)},
        )
    return episode


def test_grows_in_lists_and_stacks_to_arrays() -> None:
    episode = grown()
    assert len(episode) == 3
    assert not episode.is_numpy
    assert episode.get_return() == 0.5 + 1.5 + 2.5
    assert episode.to_numpy() is episode
    assert episode.get_observations().tolist() == [[0], [1], [2], [3]]
    assert episode.get_actions().tolist() == [0, 1, 2]
    assert episode.get_rewards().dtype == np.float32
    assert episode.get_rewards(slice(1, None)).tolist() == [1.5, 2.5]
    assert episode.get_extra_model_outputs("action_logp", -1) == -2
    assert episode.get_infos() == [{}, {}, {}, {}]


def test_keeps_infos_aligned_with_observations() -> None:
    assert grown(2, infos=True).get_infos() == [{"start": True}, {"step": 0}, {"step": 1}]
    late = grown(1)
    late.add_env_step(np.array([2.0]), 1, 0.0, {"late": 1}, extra_model_outputs={"action_logp": 0.0})
    assert late.get_infos() == [{}, {}, {"late": 1}]


def test_ready_arrays_are_not_copied() -> None:
    obs, actions, rewards = np.zeros((4, 2)), np.zeros(3, np.int64), np.zeros(3, np.float32)
    logp = np.zeros(3, np.float32)
    episode = SingleAgentEpisode(
        "e", observations=obs, actions=actions, rewards=rewards, extra_model_outputs={"action_logp": logp}
    )
    assert episode.is_numpy
    assert len(episode) == 3
    assert episode.get_observations() is obs
    assert episode.get_actions() is actions
    assert episode.get_rewards() is rewards
    assert episode.get_extra_model_outputs("action_logp") is logp


def test_trees_of_observations_and_actions() -> None:
    episode = SingleAgentEpisode()
    episode.add_env_reset({"a": np.zeros(2), "b": 0})
    episode.add_env_step({"a": np.ones(2), "b": 1}, (0, np.zeros(3)), 1.0)
    episode.to_numpy()
    assert episode.get_observations()["a"].shape == (2, 2)
    assert episode.get_observations(-1)["b"] == 1
    assert episode.get_actions()[1].shape == (1, 3)


@pytest.mark.parametrize("as_arrays", [False, True])
def test_cut_continues_the_episode(as_arrays: bool) -> None:
    first = grown(3, infos=True)
    if as_arrays:
        first.to_numpy()
    second = first.cut()
    assert (second.id_, second.t_started, len(second)) == ("e1", 3, 0)
    assert second.get_observations()[0] == first.get_observations(-1)
    assert second.get_infos() == [{"step": 2}]
    second.add_env_step(np.array([4.0]), 1, 2.0, terminated=True)
    assert second.is_done
    assert second.is_terminated
    assert not second.is_truncated
    with pytest.raises(BatchError, match="is over; it can't be cut"):
        second.cut()


@pytest.mark.parametrize("first", ["terminated", "truncated"])
def test_an_episode_that_is_both_terminated_and_truncated_is_terminated(first: str) -> None:
    episode = grown()
    episode.amend_last(**{first: True})
    episode.amend_last(terminated=True, truncated=True)
    assert episode.is_terminated
    assert not episode.is_truncated


def test_made_up_ids_differ() -> None:
    assert SingleAgentEpisode().id_ != SingleAgentEpisode().id_


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"observations": np.zeros((3, 2)), "actions": np.zeros(3), "rewards": np.zeros(3)}, "3 observations with"),
        ({"observations": np.zeros((4, 2)), "actions": np.zeros(2), "rewards": np.zeros(3)}, "'actions': 2"),
        (
            {
                "observations": np.zeros((2, 2)),
                "actions": np.zeros(1),
                "rewards": np.zeros(1),
                "extra_model_outputs": {"action_logp": np.zeros(2)},
            },
            "'action_logp': 2",
        ),
        ({"observations": np.zeros((2, 2)), "actions": [0], "rewards": [0], "infos": [{}]}, "1 infos with 2"),
    ],
)
def test_lengths_that_do_not_fit_raise(parts: dict[str, object], message: str) -> None:
    with pytest.raises(BatchError, match=message):
        SingleAgentEpisode("e", **parts)


def test_misuse_raises() -> None:
    with pytest.raises(BatchError, match="needs add_env_reset"):
        SingleAgentEpisode("e").add_env_step(0, 0, 0.0)
    with pytest.raises(BatchError, match="has begun already"):
        grown().add_env_reset(0)
    with pytest.raises(BatchError, match="is in arrays"):
        grown().to_numpy().add_env_step(0, 0, 0.0)
    with pytest.raises(BatchError, match="extra model outputs"):
        grown().add_env_step(np.zeros(1), 0, 0.0)
    with pytest.raises(BatchError, match="no 'vf_preds'"):
        grown().get_extra_model_outputs("vf_preds")
    with pytest.raises(BatchError, match="no step"):
        SingleAgentEpisode("e").to_numpy()
    over = SingleAgentEpisode("e")
    over.add_env_reset(0)
    over.add_env_step(1, 0, 0.0, truncated=True)
    with pytest.raises(BatchError, match="is over"):
        over.add_env_step(1, 0, 0.0)


@pytest.mark.parametrize("as_arrays", [False, True])
def test_state_round_trip(as_arrays: bool) -> None:
    episode = grown(2, infos=True)
    episode.t_started, episode.module_id, episode.is_truncated = 7, "m", True
    if as_arrays:
        episode.to_numpy()
    twin = SingleAgentEpisode.from_state(episode.get_state())
    assert repr(twin) == repr(episode) == "SingleAgentEpisode('e1', steps 7 to 9, truncated)"
    assert twin.module_id == "m"
    assert twin.is_numpy == as_arrays
    assert np.array_equal(twin.get_observations(), episode.get_observations())
    with pytest.raises(StateError, match="lacks"):
        SingleAgentEpisode.from_state({"id_": "e"})


def test_a_state_and_its_episode_grow_apart() -> None:
    episode = grown(2, infos=True)
    state = episode.get_state()
    twin = SingleAgentEpisode.from_state(state)
    for each in (episode, twin):
        each.add_env_step(np.array([3.0]), 2, 2.5, {"step": 2}, extra_model_outputs={"action_logp": -2.0})
    untouched = SingleAgentEpisode.from_state(state)
    assert (len(untouched), len(untouched.get_infos()), len(twin)) == (2, 3, 3)
