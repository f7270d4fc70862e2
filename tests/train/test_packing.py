"""What a pack must be, on random sets of sequences, against brute force."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from trajtree.train.packing import common_prefix, pack, packs

Sequences = list[tuple[int, ...]]

flat = st.lists(st.integers(0, 2), min_size=1, max_size=8).map(tuple)
"""Two or three letters: beginnings are shared by chance, sequences repeat, some are prefixes of others."""


@st.composite
def grown(draw: st.DrawFn) -> Sequences:
    """Sequences that go on from the beginnings of earlier ones, which shares deeply; some are such beginnings."""
    found = [draw(flat)]
    for _ in range(draw(st.integers(0, 7))):
        base = draw(st.sampled_from(found))
        start = base[: draw(st.integers(1, len(base)))]
        found.append(start + tuple(draw(st.lists(st.integers(0, 3), max_size=6))))
    return found


sets = st.one_of(st.lists(flat, min_size=1, max_size=8), grown())
thorough = settings(max_examples=60, deadline=None)


def beginnings(sequences: Sequence[tuple[int, ...]]) -> int:
    return len({s[:n] for s in sequences for n in range(1, len(s) + 1)})


@thorough
@given(sets, st.booleans())
def test_every_sequence_is_read_back(sequences: Sequences, share: bool) -> None:
    forest = pack(sequences, share=share)
    assert len(forest.paths) == len(sequences)
    for sequence, path in zip(sequences, forest.paths, strict=True):
        assert tuple(forest.ids[path].tolist()) == sequence
        assert forest.position[path].tolist() == list(range(len(sequence)))


@thorough
@given(sets)
def test_each_beginning_stands_once(sequences: Sequences) -> None:
    forest = pack(sequences)
    assert len(forest.ids) == len(forest.position) == beginnings(sequences)
    assert forest.token_ratio == sum(map(len, sequences)) / beginnings(sequences)
    ways = {(i, s[: depth + 1]) for s, p in zip(sequences, forest.paths, strict=True) for depth, i in enumerate(p)}
    assert len(ways) == len({i for i, _ in ways}) == len({way for _, way in ways}) == len(forest.ids)


@thorough
@given(sets)
def test_without_sharing_each_stands_alone(sequences: Sequences) -> None:
    forest = pack(sequences, share=False)
    assert forest.ids.tolist() == [token for sequence in sequences for token in sequence]
    assert [c.length for c in forest.chains] == [len(s) for s in sequences]
    assert forest.token_ratio == 1


@thorough
@given(sets, st.booleans())
def test_segments_and_chains_cover_the_pack(sequences: Sequences, share: bool) -> None:
    forest = pack(sequences, share=share)
    assert min(forest.segments) > 0 and sum(forest.segments) == len(forest.ids)
    assert min(c.length for c in forest.chains) > 0 and sum(c.length for c in forest.chains) == len(forest.ids)


@thorough
@given(sets, st.booleans())
def test_a_chains_segments_are_its_tokens_path(sequences: Sequences, share: bool) -> None:
    """For the sequence that a chain ends, and for any other that runs through the chain's end."""
    forest = pack(sequences, share=share)
    starts = list(itertools.accumulate(forest.segments, initial=0))
    through = {int(token): path[: depth + 1].tolist() for path in forest.paths for depth, token in enumerate(path)}
    end = 0
    for chain in forest.chains:
        end += chain.length
        walked = [token for segment in chain.path for token in range(starts[segment], starts[segment + 1])]
        assert walked == through[end - 1]
        assert walked[-chain.length :] == list(range(end - chain.length, end))


@thorough
@given(sets, st.randoms(use_true_random=False))
def test_the_order_of_input_does_not_change_the_pack(sequences: Sequences, random: object) -> None:
    mixed = list(sequences)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    first, second = pack(sequences), pack(mixed)
    assert first.ids.tolist() == second.ids.tolist()
    assert first.segments == second.segments and first.chains == second.chains
    by_text = {s: p.tolist() for s, p in zip(sequences, first.paths, strict=True)}
    assert all(by_text[s] == p.tolist() for s, p in zip(mixed, second.paths, strict=True))


@thorough
@given(flat, flat)
def test_common_prefix(one: tuple[int, ...], two: tuple[int, ...]) -> None:
    expected = sum(1 for _ in itertools.takewhile(lambda both: both[0] == both[1], zip(one, two, strict=False)))
    assert common_prefix(one, two) == common_prefix(two, one) == expected


@pytest.mark.parametrize("nothing", [[], [()], [(1, 2), ()]])
@pytest.mark.parametrize("share", [True, False])
def test_nothing_is_not_packed(nothing: Sequences, share: bool) -> None:
    with pytest.raises(ValueError, match="nothing to pack"):
        pack(nothing, share=share)


def test_by_hand() -> None:
    """A duplicate, a strict prefix, a branch in the middle of a segment, and a stranger."""
    forest = pack([(5, 6, 7, 8), (5, 6), (5, 6, 7, 9), (5, 6, 7, 8), (1,), (5, 6, 3)])
    assert forest.ids.tolist() == [1, 5, 6, 3, 7, 8, 9]
    assert forest.position.tolist() == [0, 0, 1, 2, 2, 3, 3]
    assert [p.tolist() for p in forest.paths] == [[1, 2, 4, 5], [1, 2], [1, 2, 4, 6], [1, 2, 4, 5], [0], [1, 2, 3]]
    assert forest.segments == (1, 2, 1, 1, 1, 1)
    assert [(c.length, c.path) for c in forest.chains] == [
        (1, (0,)),
        (2, (1,)),
        (1, (1, 2)),
        (2, (1, 3, 4)),
        (1, (1, 3, 5)),
    ]


# --- packs ---


Example = tuple[int, Sequences]
"""A number, so that equal examples are told apart, and the example's sequences."""


@st.composite
def example_sets(draw: st.DrawFn) -> list[Example]:
    """Pairs over a few trees: two sides that begin alike."""
    trunks = draw(st.lists(grown(), min_size=1, max_size=3))
    found = []
    for number in range(draw(st.integers(1, 9))):
        trunk = draw(st.sampled_from(draw(st.sampled_from(trunks))))
        sides = [trunk + tuple(draw(st.lists(st.integers(0, 2), min_size=1, max_size=4))) for _ in range(2)]
        found.append((number, sides))
    return found


def cut(examples: list[Example], tokens: int, seed: int = 0) -> list[list[Example]]:
    return packs(examples, lambda example: example[1], tokens, seed=seed)


def size(examples: Sequence[Example]) -> int:
    return beginnings([sequence for _, sequences in examples for sequence in sequences])


@thorough
@given(example_sets(), st.integers(1, 60))
def test_packs_keep_every_example_once_and_the_budget(examples: list[Example], tokens: int) -> None:
    found = cut(examples, tokens)
    assert Counter(number for one in found for number, _ in one) == Counter(range(len(examples)))
    assert all(size(one) <= tokens or len(one) == 1 for one in found)
    assert all(size(one) == len(pack([s for _, sides in one for s in sides]).ids) for one in found)


@thorough
@given(example_sets(), st.integers(1, 60))
def test_packs_repeat_no_more_than_one_example_each(examples: list[Example], tokens: int) -> None:
    """Lower bound: all in one pack. Upper bound: nothing shared between examples."""
    together = sum(map(size, cut(examples, tokens)))
    assert size(examples) <= together <= sum(size([example]) for example in examples)


@thorough
@given(example_sets(), st.integers(1, 60))
def test_a_pack_is_full_before_the_next_begins(examples: list[Example], tokens: int) -> None:
    """No pack could have taken the first example of its successor, in the order in which they are filled."""
    filled = sorted(cut(examples, tokens), key=lambda one: one[0][1][0])
    heads = [one[0][1][0] for one in filled]
    assume(len(set(heads)) == len(heads))  # equal ones do not show which pack came first
    for one, after in itertools.pairwise(filled):
        assert size([*one, after[0]]) > tokens


@thorough
@given(example_sets())
def test_what_fits_is_one_pack(examples: list[Example]) -> None:
    assert len(cut(examples, size(examples))) == 1


@thorough
@given(example_sets(), st.integers(1, 60), st.integers(0, 5))
def test_packs_are_those_of_the_seed(examples: list[Example], tokens: int, seed: int) -> None:
    first, again = cut(examples, tokens, seed), cut(examples, tokens, seed)
    assert first == again
    assert sorted(first) == sorted(cut(examples, tokens, seed + 1))


def test_the_seed_draws_the_order_of_packs() -> None:
    examples = [(number, [(number, 1), (number, 2)]) for number in range(12)]
    assert len({str(cut(examples, 3, seed)) for seed in range(5)}) > 1


def test_trees_are_not_mixed_where_each_fills_a_pack() -> None:
    """Two trees of four pairs each, given alternately: a pack takes one whole tree, at its packed size."""
    trees = [
        [(tree * 4 + pair, [(tree, 9, 9, 9, pair, 1), (tree, 9, 9, 9, pair, 2)]) for pair in range(4)]
        for tree in (0, 1)
    ]
    mixed = [example for both in zip(*trees, strict=True) for example in both]
    found = cut(mixed, 4 + 4 * 3)
    assert sorted(sorted(number for number, _ in one) for one in found) == [[0, 1, 2, 3], [4, 5, 6, 7]]
