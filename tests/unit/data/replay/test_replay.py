"""The replay buffer: what is kept, what is drawn, and what is computed along the way, by cases done by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unison import MultiAgentEpisode, SingleAgentEpisode
from unison.data.replay import Prioritization, ReplayBuffer
from unison.errors import BatchError, StateError
from unison.types import tree_items

M = "default_policy"


def steps(start: int, count: int, *, id_: str = "e", end: str = "cut", first: int = 0, **names: Any) -> Any:
    """A chunk whose observation, action and reward at step t are `start + t`."""
    numbers = np.arange(start, start + count + 1, dtype=np.float32)
    return SingleAgentEpisode(
        id_,
        observations=numbers[:, None],
        actions=numbers[:-1, None],
        rewards=numbers[:-1],
        terminated=end == "terminated",
        truncated=end == "truncated",
        t_started=first,
        **names,
    )


def everything(buffer: ReplayBuffer, **arguments: Any) -> dict[int, dict[str, Any]]:
    """Draws until every row has been seen: by the number in its observation."""
    draws = buffer.sample(4000, **arguments).columns[M]
    found: dict[int, dict[str, Any]] = {}
    for row in range(4000):
        key = int(draws["obs"][row, 0])
        one = {name: float(column[row].reshape(-1)[0]) for name, column in draws.items()}
        assert found.setdefault(key, one) == one
    return found


def test_transitions_come_back_as_they_were() -> None:
    buffer = ReplayBuffer(100, seed=0)
    assert buffer.add([steps(0, 3, end="terminated"), steps(10, 2, id_="f", end="truncated")]) == 5
    found = everything(buffer)
    assert sorted(found) == [0, 1, 2, 10, 11]
    assert {key: row["new_obs"] for key, row in found.items()} == {0: 1, 1: 2, 2: 3, 10: 11, 11: 12}
    assert {key: row["terminateds"] for key, row in found.items()} == {0: 0, 1: 0, 2: 1, 10: 0, 11: 0}
    assert all(row["rewards"] == key == row["actions"] for key, row in found.items())


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 25])
def test_the_oldest_rows_are_overwritten_first(chunk: int) -> None:
    buffer = ReplayBuffer(10, seed=0)
    for start in range(0, 50, chunk):
        buffer.add([steps(start, min(chunk, 50 - start), first=start)])
    assert len(buffer) == 10
    assert sorted(everything(buffer)) == list(range(40, 50))


def test_n_step_returns_by_hand() -> None:
    buffer = ReplayBuffer(100, seed=0)
    buffer.add([steps(0, 4, end="terminated"), steps(10, 3, id_="f", end="truncated"), steps(20, 2, id_="g")])
    found = everything(buffer, n_step=3, gamma=0.5)
    # reward 0 + 1/2 + 2/4, then 1 + 2/2 + 3/4; from step 2 on the episode ends before three rewards.
    assert found[0] | {"obs": 0} == {
        **{"obs": 0, "actions": 0, "rewards": 1.0, "new_obs": 3, "terminateds": 0, "n_steps": 3}
    }
    assert (found[1]["rewards"], found[1]["new_obs"], found[1]["terminateds"], found[1]["n_steps"]) == (2.75, 4, 1, 3)
    assert (found[2]["rewards"], found[2]["new_obs"], found[2]["terminateds"], found[2]["n_steps"]) == (3.5, 4, 1, 2)
    assert (found[3]["rewards"], found[3]["new_obs"], found[3]["terminateds"], found[3]["n_steps"]) == (3.0, 4, 1, 1)
    # A truncated and a cut episode end as well, but are bootstrapped.
    assert (found[11]["rewards"], found[11]["new_obs"], found[11]["terminateds"]) == (17.0, 13, 0)
    assert (found[21]["rewards"], found[21]["new_obs"], found[21]["n_steps"]) == (21.0, 22, 1)


def test_chunks_of_one_episode_are_one_episode() -> None:
    whole, pieces = ReplayBuffer(100, seed=0), ReplayBuffer(100, seed=0)
    whole.add([steps(0, 6, end="terminated"), steps(20, 6, id_="f")])
    for t in range(6):  # two environments, one step of each at a time
        end = "terminated" if t == 5 else "cut"
        pieces.add([steps(t, 1, end=end, first=t), steps(20 + t, 1, id_="f", first=t)])
    for n_step in (1, 2, 5):
        assert everything(whole, n_step=n_step, gamma=0.9) == everything(pieces, n_step=n_step, gamma=0.9)


def test_a_chunk_that_does_not_go_on_from_the_last_is_not_joined_to_it() -> None:
    buffer = ReplayBuffer(100, seed=0)
    buffer.add([steps(0, 2)])
    buffer.add([steps(7, 2, first=7)])  # steps 2 to 6 were lost
    assert everything(buffer, n_step=3, gamma=1.0)[1]["n_steps"] == 1


def test_an_episode_whose_last_step_is_gone_is_joined_to_nothing() -> None:
    buffer = ReplayBuffer(8, seed=0)
    buffer.add([steps(0, 1), steps(20, 8, id_="f"), steps(1, 1, first=1)])
    found = everything(buffer, n_step=2, gamma=1.0)  # step 27 lies where step 0 lay
    assert {key: row["new_obs"] for key, row in found.items() if row["n_steps"] == 1} == {27: 28, 1: 2}


def test_links_survive_overwriting() -> None:
    buffer = ReplayBuffer(8, seed=0)
    for t in range(100):
        buffer.add([steps(t, 1, first=t)])
        for key, row in everything(buffer, n_step=3, gamma=1.0).items():
            expected = min(3, t + 1 - key)
            assert row["n_steps"] == expected
            assert row["new_obs"] == key + expected
        if t > 20:
            break


def test_sequences_are_padded_where_an_episode_ends() -> None:
    buffer = ReplayBuffer(100, seed=0, outputs=["state_in"])
    for chunk in (steps(0, 3), steps(3, 2, first=3, end="terminated"), steps(20, 9, id_="f")):
        state = {"h": chunk.get_observations()[:-1] * 10}
        full = {name: getattr(chunk, f"get_{name}")() for name in ("observations", "actions", "rewards")}
        end = {"terminated": chunk.is_terminated, "t_started": chunk.t_started}
        buffer.add([SingleAgentEpisode(chunk.id_, **full, **end, extra_model_outputs={"state_in": state})])
    columns = buffer.sample_sequences(500, 4).columns[M]
    assert columns["obs"].shape == (500, 4, 1)
    assert columns["state_in"]["h"].shape == (500, 1)
    for row in range(500):
        first = int(columns["obs"][row, 0, 0])
        length = min(4, (5 if first < 20 else 29) - first)
        mask = columns["loss_mask"][row]
        assert mask.tolist() == [t < length for t in range(4)]
        assert columns["obs"][row, mask, 0].tolist() == list(range(first, first + length))
        assert columns["terminateds"][row, mask].tolist() == [first + t == 4 for t in range(length)]
        assert columns["state_in"]["h"][row, 0] == first * 10


def test_draws_are_uniform() -> None:
    buffer = ReplayBuffer(50, seed=1)
    buffer.add([steps(0, 50)])
    counts = np.bincount(buffer.sample(100_000).columns[M]["obs"][:, 0].long().numpy(), minlength=50)
    # The chi-square of 49 degrees of freedom exceeds 85.4 once in a thousand times.
    assert (((counts - 2000) ** 2) / 2000).sum() < 85.4


def test_draws_follow_the_priorities() -> None:
    buffer = ReplayBuffer(64, prioritization=Prioritization(alpha=0.5, beta=0.7), seed=0)
    buffer.add([steps(0, 4)])
    draws = buffer.sample(400)
    errors = torch.tensor([1.0, 4.0, 9.0, 16.0])[draws.columns[M]["obs"][:, 0].long()]
    buffer.update_priorities(draws.numbers, {M: errors})
    columns = buffer.sample(100_000).columns[M]
    counts = np.bincount(columns["obs"][:, 0].long().numpy(), minlength=4) / 100_000
    np.testing.assert_allclose(counts, [0.1, 0.2, 0.3, 0.4], atol=1e-4)  # stratified: far less spread than chance
    weights = {int(k): float(w) for k, w in zip(columns["obs"][:, 0], columns["weights"], strict=True)}
    # (4 P)^-0.7 over the largest, that of P = 0.1.
    np.testing.assert_allclose([weights[i] for i in range(4)], [1.0, 2**-0.7, 3**-0.7, 4**-0.7], rtol=1e-5)


def test_new_rows_have_the_largest_priority() -> None:
    buffer = ReplayBuffer(64, prioritization=Prioritization(alpha=1.0, beta=0.0), seed=0)
    buffer.add([steps(0, 2)])
    draws = buffer.sample(10)
    buffer.update_priorities(draws.numbers, {M: torch.tensor([5.0, 1.0])[draws.columns[M]["obs"][:, 0].long()]})
    buffer.add([steps(2, 1, first=2)])
    counts = np.bincount(buffer.sample(11_000).columns[M]["obs"][:, 0].long().numpy())
    np.testing.assert_allclose(counts, [5000, 1000, 5000], atol=2)


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_rows_whose_error_is_not_finite_are_hardly_drawn(broken: float) -> None:
    buffer = ReplayBuffer(2000, prioritization=Prioritization(alpha=1.0, beta=0.5), seed=0)
    buffer.add([steps(0, 2000)])
    draws = buffer.sample(20_000)
    place = draws.columns[M]["obs"][:, 0].long()
    buffer.update_priorities(draws.numbers, {M: torch.where(place == 3, broken, 2.0)})
    columns = buffer.sample(20_000).columns[M]
    counts = np.bincount(columns["obs"][:, 0].long().numpy(), minlength=2000)
    assert counts[3] == 0
    assert counts[4] > 0
    assert columns["weights"].isfinite().all()
    buffer.add([steps(5000, 1)])  # the largest priority is that of a finite error still
    added = buffer.modules[M].get_state()["sampler"]
    assert added["largest"] == added["priorities"][0] == pytest.approx(2.0, rel=1e-5)


def test_priorities_of_rows_that_are_gone_are_passed_over() -> None:
    buffer = ReplayBuffer(4, prioritization=Prioritization(alpha=1.0), seed=0)
    buffer.add([steps(0, 4)])
    draws = buffer.sample(8)
    buffer.add([steps(4, 4, first=4)])
    before = buffer.modules[M].get_state()["sampler"]["priorities"].copy()
    buffer.update_priorities(draws.numbers, {M: torch.full((8,), 100.0)})
    np.testing.assert_array_equal(buffer.modules[M].get_state()["sampler"]["priorities"], before)


def test_priorities_of_the_oldest_row_that_is_left_are_taken() -> None:
    buffer = ReplayBuffer(4, prioritization=Prioritization(alpha=1.0), seed=0)
    buffer.add([steps(0, 5)])  # row 4 has taken the place of row 0
    buffer.update_priorities({M: torch.arange(4)}, {M: torch.full((4,), 9.0)})
    priorities = buffer.modules[M].get_state()["sampler"]["priorities"]
    np.testing.assert_allclose(priorities[:4], [1.0, 9.0, 9.0, 9.0], rtol=1e-5)


def test_each_module_has_rows_of_its_own() -> None:
    buffer = ReplayBuffer(100, seed=0)
    parts = {"a": steps(0, 3, module_id="left"), "b": steps(10, 2, module_id="right")}
    assert buffer.add([MultiAgentEpisode("e", agent_episodes=parts, env_steps=3)]) == 3
    draws = buffer.sample(64)
    assert set(draws.columns["left"]["obs"][:, 0].tolist()) == {0, 1, 2}
    assert set(draws.columns["right"]["obs"][:, 0].tolist()) == {10, 11}
    assert set(buffer.sample(1, module_ids=["right"]).columns) == {"right"}


@pytest.mark.parametrize("prioritized", [False, True])
def test_a_buffer_from_a_state_goes_on_alike(prioritized: bool) -> None:
    def make() -> ReplayBuffer:
        return ReplayBuffer(20, prioritization=Prioritization() if prioritized else None, seed=3)

    first = make()
    for t in range(27):
        first.add([steps(t, 1, first=t), steps(100 + t, 1, id_="f", first=t)])
    draws = first.sample(16)
    first.update_priorities(draws.numbers, {M: draws.columns[M]["rewards"]})
    second = make()
    second.set_state(first.get_state())
    for buffer in (first, second):
        buffer.add([steps(27, 1, first=27, end="terminated")])
    ours, theirs = first.sample(64, n_step=3, gamma=0.9), second.sample(64, n_step=3, gamma=0.9)
    for (name, mine), (_, other) in zip(tree_items(ours.columns), tree_items(theirs.columns), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("was_prioritized", [False, True])
def test_rows_outlive_another_way_of_drawing(was_prioritized: bool) -> None:
    first = ReplayBuffer(20, prioritization=Prioritization() if was_prioritized else None, seed=0)
    first.add([steps(0, 4)])
    first.update_priorities({M: torch.arange(2)}, {M: torch.tensor([3.0, 0.01])})
    second = ReplayBuffer(20, prioritization=None if was_prioritized else Prioritization(alpha=1.0), seed=0)
    second.set_state(first.get_state())
    counts = np.bincount(second.sample(8000).columns[M]["obs"][:, 0].long())
    np.testing.assert_allclose(counts, 2000, atol=150 if was_prioritized else 2)


def test_a_state_of_another_capacity_is_refused() -> None:
    buffer = ReplayBuffer(20, seed=0)
    buffer.add([steps(0, 3)])
    with pytest.raises(StateError, match=r"for 20 steps, and this one is for 21.*replay_capacity"):
        ReplayBuffer(21).set_state(buffer.get_state())


def test_files_hold_what_memory_would(tmp_path: Path) -> None:
    in_memory, in_files = ReplayBuffer(30, seed=5), ReplayBuffer(30, seed=5, directory=tmp_path)
    for buffer in (in_memory, in_files):
        for t in range(0, 45, 5):
            buffer.add([steps(t, 5, first=t)])
    assert in_files.nbytes == in_memory.nbytes
    ours, theirs = in_memory.sample(64).columns[M], in_files.sample(64).columns[M]
    for name, column in ours.items():
        torch.testing.assert_close(column, theirs[name], rtol=0, atol=0)
    assert not list(tmp_path.iterdir())  # The files have no names.


def test_memory_is_claimed_once() -> None:
    buffer = ReplayBuffer(1000, seed=0)
    buffer.add([steps(0, 1)])
    claimed, columns = buffer.nbytes, dict(buffer.modules[M].ring.columns)
    assert claimed == 1000 * (4 + 4 + 4 + 4 + 1)  # obs, new_obs, actions, rewards, terminateds
    buffer.add([steps(1, 3000, first=1)])
    assert buffer.nbytes == claimed
    assert all(buffer.modules[M].ring.columns[name] is column for name, column in columns.items())


def test_trees_and_images_keep_their_types() -> None:
    buffer = ReplayBuffer(10, seed=0)
    observations = {"image": np.full((3, 4, 4, 1), 200, np.uint8), "place": (np.ones((3, 2)), np.arange(3))}
    buffer.add([SingleAgentEpisode(observations=observations, actions=np.array([1, 0]), rewards=np.zeros(2))])
    columns = buffer.sample(5).columns[M]
    assert columns["obs"]["image"].dtype is torch.uint8
    assert columns["obs"]["place"][0].dtype is torch.float32
    assert columns["new_obs"]["place"][1].dtype is torch.int64
    assert columns["actions"].dtype is torch.int64


def test_rewards_are_floats_even_if_the_first_are_integers() -> None:
    buffer = ReplayBuffer(10, seed=0)
    for rewards in (np.array([1, 2]), np.array([0.5, 0.25])):
        buffer.add([SingleAgentEpisode(observations=np.zeros((3, 1)), actions=np.zeros((2, 1)), rewards=rewards)])
    assert buffer.modules[M].ring.columns["rewards"][:4].tolist() == [1, 2, 0.5, 0.25]


@pytest.mark.parametrize("held", [0, 3])
def test_episodes_of_which_one_does_not_fit_are_added_all_or_none(held: int) -> None:
    buffer = ReplayBuffer(100, prioritization=Prioritization(), seed=0)
    for module_id in ("left", "right") if held else ():
        buffer.add([steps(0, held, module_id=module_id)])
    before = buffer.get_state()["modules"]
    wide = SingleAgentEpisode(observations=np.zeros((2, 2)), actions=np.zeros((1, 1)), rewards=np.zeros(1))
    good = [steps(3, 2, first=3, module_id="left"), steps(3, 4, first=3, module_id="right")]
    for module_id in ("left", "right"):
        wide.module_id = module_id
        with pytest.raises(BatchError, match=rf"Module '{module_id}': Rows of the column 'obs' have the shape \[2\]"):
            buffer.add([*good, wide])
        np.testing.assert_equal(buffer.get_state()["modules"], before)
    assert buffer.add(good) == 6
    assert {module_id: len(module) for module_id, module in buffer.modules.items()} == {
        "left": held + 2,
        "right": held + 4,
    }


def test_mistakes_are_named() -> None:
    buffer = ReplayBuffer(10, seed=0)
    buffer.add([steps(0, 2)])
    wide = SingleAgentEpisode(observations=np.zeros((2, 3)), actions=np.zeros((1, 1)), rewards=np.zeros(1))
    with pytest.raises(BatchError, match=r"column 'obs' have the shape \[3\], but the replay buffer holds \[1\]"):
        buffer.add([wide])
    with pytest.raises(BatchError, match="An episode is"):
        buffer.add([3])  # type: ignore[list-item]
    assert len(buffer) == 2
