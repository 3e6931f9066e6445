"""The sum tree against plain sums."""

import numpy as np
import pytest

from unison.data.replay.sum_tree import SumTree


def test_by_hand() -> None:
    tree = SumTree(5)
    tree.set(np.arange(5), np.array([1.0, 0.0, 2.0, 3.0, 4.0]))
    assert tree.total == 10
    masses = np.array([0.0, 0.99, 1.0, 2.99, 3.0, 5.99, 6.0, 9.99])
    np.testing.assert_array_equal(tree.find(masses), [0, 0, 2, 2, 3, 3, 4, 4])


@pytest.mark.parametrize("capacity", [1, 2, 3, 64, 1000])
def test_against_cumulative_sums(capacity: int) -> None:
    rng = np.random.default_rng(capacity)
    tree, plain = SumTree(capacity), np.zeros(capacity)
    for _ in range(20):
        places = rng.integers(0, capacity, 50)
        priorities = rng.integers(0, 5, 50).astype(float)
        tree.set(places, priorities)
        for place, priority in zip(places, priorities, strict=True):
            plain[place] = priority
        assert tree.total == plain.sum()
        np.testing.assert_array_equal(tree.get(np.arange(capacity)), plain)
        if tree.total:
            masses = rng.random(200) * tree.total
            np.testing.assert_array_equal(tree.find(masses), np.searchsorted(plain.cumsum(), masses, side="right"))


def test_a_mass_beyond_all_priorities_finds_one_that_is_there() -> None:
    tree = SumTree(8)
    tree.set(np.array([0, 1]), np.array([0.1, 0.2]))
    assert tree.find(np.array([tree.total, 1.0])).tolist() == [1, 1]
