"""Tasks are drawn so that any beginning of the draw has as many situations as it can have."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from trajtree.experiment.variety import evenly, in_turns, shared, spread

worlds = st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.sampled_from("pqrstu"), min_size=1)


@given(worlds, st.sets(st.sampled_from("pqrstu")), st.dictionaries(st.sampled_from("pqrstu"), st.integers(0, 5)))
def test_any_beginning_is_as_even_as_it_can_be(
    situations: dict[str, str], avoid: set[str], taken: dict[str, int]
) -> None:
    order = in_turns(situations, situations, "draw", avoid=avoid, taken=taken)
    assert sorted(order) == sorted(situations)
    whole = Counter(situations.values())
    for size in range(len(order) + 1):
        got = spread(order[:size], situations)
        avoided = {name for name in got if name in avoid}
        fresh = set(whole) - avoid
        assert not avoided or all(got[name] == whole[name] for name in fresh), "what is to be avoided comes last"
        for part in (fresh, set(whole) & avoid):
            if any(got[name] for name in part):
                most = max(got[name] for name in part)
                assert all(got[name] >= min(most - 1, whole[name]) for name in part)


@given(worlds)
def test_a_draw_repeats_and_does_not_depend_on_the_order_given(situations: dict[str, str]) -> None:
    order = in_turns(sorted(situations), situations, "draw")
    assert order == in_turns(sorted(situations), situations, "draw")


def test_another_name_is_another_draw_and_what_was_taken_least_comes_first() -> None:
    situations = {f"{name}{number}": name for name in "pqrstu" for number in range(9)}
    first, second = (in_turns(situations, situations, draw) for draw in ("plant dev", "animal dev"))
    assert first != second
    taken = spread(first[:4], situations)
    third = in_turns(situations, situations, "animal dev", taken=taken)
    assert not set(spread(third[:2], situations)) & set(taken)


@given(st.lists(st.integers(0, 6), max_size=5), st.integers(0, 30))
def test_some_of_a_split_are_as_many_of_each_type_from_its_beginning(sizes: list[int], number: int) -> None:
    groups = [[f"{kind}/{task}" for task in range(size)] for kind, size in zip("abcde", sizes, strict=False)]
    whole = [task for group in groups for task in group]
    some = evenly(groups, number)
    assert len(some) == min(number, len(whole))
    assert some == [task for task in whole if task in some], "in the order of the split"
    assert set(some) <= set(evenly(groups, number + 1)), "of two such parts, one has all tasks of the other"
    counts = [sum(task in some for task in group) for group in groups]
    for group, count in zip(groups, counts, strict=True):
        assert group[:count] == [task for task in group if task in some], "the first that were drawn"
        assert count >= min(max(counts) - 1, len(group))


def test_what_is_shared_is_counted_by_type() -> None:
    situations = {"a/0": "p", "a/1": "q", "b/0": "r", "c/0": "q"}
    assert shared({"a": ["a/0", "a/1"], "b": ["b/0"]}, ["c/0"], situations) == {"a": (1, 2)}
