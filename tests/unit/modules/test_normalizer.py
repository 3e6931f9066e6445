from collections.abc import Callable

import numpy as np
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from unison.modules import ActorCritic, RunningNormalizer
from unison.modules.normalizer import ObservationNormalizer
from unison.types import Tree


@given(st.lists(st.integers(0, 7), min_size=1, max_size=6), st.floats(-1e4, 1e4), st.integers(0, 2**31))
def test_merged_batches_equal_the_statistics_of_all_rows(sizes: list[int], offset: float, seed: int) -> None:
    rows = np.random.default_rng(seed).normal(offset, 3.0, (sum(sizes), 2, 3))
    normalizer = RunningNormalizer((2, 3))
    start = 0
    for size in sizes:
        normalizer.update(torch.from_numpy(rows[start : start + size]))
        start += size
    assert normalizer.count.item() == len(rows)
    if len(rows):
        np.testing.assert_allclose(normalizer.mean.numpy(), rows.mean(0), rtol=1e-10, atol=1e-9)
        np.testing.assert_allclose(normalizer.var.numpy(), rows.var(0), rtol=1e-8, atol=1e-9)
    else:
        assert torch.equal(normalizer.var, torch.ones(2, 3, dtype=torch.float64))


def test_float32_rows_far_from_zero_lose_nothing() -> None:
    rows = (1e6 + torch.arange(1000.0)).unsqueeze(1)
    normalizer = RunningNormalizer((1,))
    for chunk in rows.split(37):
        normalizer.update(chunk)
    np.testing.assert_allclose(normalizer.var.numpy(), rows.double().numpy().var(0), rtol=1e-9)


def test_ranks_that_gather_their_moments_agree_with_one_that_saw_all() -> None:
    shards = [torch.randn(n, 3) for n in (5, 0, 11)]
    alone, together = RunningNormalizer((3,)), RunningNormalizer((3,))
    for normalizer in (alone, together):
        normalizer.update(torch.randn(4, 3, generator=torch.Generator().manual_seed(1)))
    alone.update(torch.cat(shards))
    for moments in [together.moments(shard) for shard in shards]:
        together.merge(moments)
    for name, buffer in alone.named_buffers():
        torch.testing.assert_close(dict(together.named_buffers())[name], buffer)


def test_masked_and_broken_rows_do_not_count() -> None:
    rows = torch.randn(2, 4, 3)
    mask = torch.tensor([[True, True, False, False], [True, False, False, False]])
    valid = rows[mask].clone()
    rows[0, 3] = float("nan")
    normalizer = RunningNormalizer((3,))
    normalizer.update(rows, mask)
    assert normalizer.count.item() == 3
    np.testing.assert_allclose(normalizer.mean.numpy(), valid.double().numpy().mean(0))
    normalizer.update(torch.tensor([[1.0, float("inf"), 0.0]]))
    assert normalizer.count.item() == 3


def test_scalars_have_statistics_too() -> None:
    normalizer = RunningNormalizer(())
    normalizer.update(torch.tensor([1.0, 3.0, float("nan")]))
    assert (normalizer.count.item(), normalizer.mean.item(), normalizer.var.item()) == (2.0, 2.0, 1.0)


def test_output_has_zero_mean_unit_variance_and_is_clipped() -> None:
    normalizer = RunningNormalizer((2,))
    rows = torch.randn(1000, 2) * torch.tensor([5.0, 0.01]) + 3.0
    normalizer.update(rows)
    normalized = normalizer(rows.double())
    assert normalized.dtype is torch.float32
    torch.testing.assert_close(normalized.mean(0), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(normalized.std(0, correction=0), torch.ones(2), atol=1e-3, rtol=0)
    assert normalizer(torch.tensor([[1e6, -1e6]])).tolist() == [[10.0, -10.0]]


def test_nothing_changes_before_the_first_row() -> None:
    torch.testing.assert_close(RunningNormalizer((2,))(torch.tensor([[0.5, -3.0]])), torch.tensor([[0.5, -3.0]]))


def test_only_boxes_of_floats_are_normalized(observe: Callable[..., Tree]) -> None:
    space = spaces.Dict(
        {
            "a/b": spaces.Box(-1, 1, (2,)),
            "a": spaces.Dict({"b": spaces.Box(-1, 1, (3,))}),
            "image": spaces.Box(0, 255, (8, 8, 1), np.uint8),
            "pair": spaces.Tuple((spaces.Discrete(3), spaces.Box(-1, 1, (), np.float64))),
        }
    )
    normalizer = ObservationNormalizer(space)
    observations = observe(space, 6)
    normalizer.update(observations)
    normalized = normalizer(observations)
    assert len(normalizer.normalizers) == 3
    for before, after in (
        (observations["a/b"], normalized["a/b"]),
        (observations["a"]["b"], normalized["a"]["b"]),
        (observations["pair"][1], normalized["pair"][1]),
    ):
        expected = (before - before.double().mean(0)) / before.double().std(0, correction=0)
        torch.testing.assert_close(after, expected.float(), rtol=1e-4, atol=1e-4)
    assert normalized["image"] is observations["image"]
    assert normalized["pair"][0] is observations["pair"][0]


def test_the_module_normalizes_what_its_networks_see() -> None:
    space = spaces.Dict({"action_mask": spaces.MultiBinary(2), "x": spaces.Box(-1, 1, (3,))})
    module = ActorCritic(
        observation_space=space, action_space=spaces.Discrete(2), model_config={"normalize_observations": True}
    )
    mask = torch.ones(8, 2)
    batch = {"obs": {"action_mask": mask, "x": 4 + 2 * torch.randn(8, 3)}, "loss_mask": torch.arange(8) < 6}
    before = module.forward_train(batch)["vf_preds"]
    module.merge_statistics(module.batch_statistics(batch))
    after = module.forward_train(batch)["vf_preds"]
    assert (before != after).all()
    valid = batch["obs"]["x"][:6].double()
    scaled = (batch["obs"]["x"] - valid.mean(0)) / valid.std(0, correction=0)
    plain = ActorCritic(observation_space=space, action_space=spaces.Discrete(2))
    plain.set_state({name: value for name, value in module.get_state().items() if not name.startswith("normalizer.")})
    expected = plain.forward_train({"obs": {"action_mask": mask, "x": scaled.float()}})["vf_preds"]
    torch.testing.assert_close(after, expected, rtol=1e-4, atol=1e-5)


def test_statistics_travel_with_the_state() -> None:
    space = spaces.Box(-1, 1, (3,))
    modules = [
        ActorCritic(
            observation_space=space, action_space=spaces.Discrete(2), model_config={"normalize_observations": True}
        )
        for _ in range(2)
    ]
    modules[0].merge_statistics(modules[0].batch_statistics({"obs": torch.randn(9, 3)}))
    modules[1].set_state(modules[0].get_state(inference_only=True))
    batch = {"obs": torch.randn(4, 3)}
    torch.testing.assert_close(modules[1].forward_inference(batch), modules[0].forward_inference(batch))


def test_a_module_without_normalizer_has_no_statistics() -> None:
    module = ActorCritic(observation_space=spaces.Box(-1, 1, (3,)), action_space=spaces.Discrete(2))
    assert module.batch_statistics({"obs": torch.randn(9, 3)}) == {}
    module.merge_statistics({})
