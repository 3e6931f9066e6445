"""Plans: every row once per pass, steps agreed beforehand, shares that differ by at most one row."""

from collections import Counter

import torch
from hypothesis import given
from hypothesis import strategies as st

from unison.data.plan import MinibatchPlan, rank_share

SIZES = st.dictionaries(st.sampled_from("abc"), st.integers(1, 50), min_size=1)


@given(rows=SIZES, size=st.integers(1, 60), iters=st.integers(1, 3), accumulate=st.integers(1, 4))
def test_every_row_is_in_one_minibatch_of_each_pass(
    rows: dict[str, int], size: int, iters: int, accumulate: int
) -> None:
    plan = MinibatchPlan(rows, dict.fromkeys(rows, size), num_iters=iters, accumulation_steps=accumulate)
    used: dict[str, Counter[int]] = {m: Counter() for m in rows}
    orders = list(plan.permutations(torch.Generator().manual_seed(0)))
    assert len(orders) == iters
    steps = 0
    for order in orders:
        for slot in plan.slots():
            steps += slot.closes_step
            for m, (start, stop) in slot.ranges.items():
                given_order = order[m]
                indices = torch.arange(rows[m]) if given_order is None else given_order
                used[m].update(indices[start:stop].tolist())
    assert steps == plan.optimizer_steps
    for m, n in rows.items():
        assert used[m] == Counter(dict.fromkeys(range(n), iters))


@given(rows=SIZES, size=st.integers(1, 20), accumulate=st.integers(1, 4))
def test_windows_hold_the_rows_of_their_minibatches(rows: dict[str, int], size: int, accumulate: int) -> None:
    plan = MinibatchPlan(rows, dict.fromkeys(rows, size), accumulation_steps=accumulate)
    window: dict[str, int] = {}
    for slot in plan.slots():
        for m, (start, stop) in slot.ranges.items():
            window[m] = window.get(m, 0) + stop - start
        if slot.closes_step:
            assert plan.window_rows(slot) == window
            window = {}
    assert window == {}


@given(start=st.integers(0, 100), rows=st.integers(0, 40), world=st.integers(1, 8))
def test_ranks_share_all_rows(start: int, rows: int, world: int) -> None:
    shares = [rank_share(start, start + rows, rank, world) for rank in range(world)]
    covered = [row for a, b in shares for row in range(a, b)]
    assert covered == list(range(start, start + rows))
    sizes = [b - a for a, b in shares]
    assert max(sizes) - min(sizes) <= 1
