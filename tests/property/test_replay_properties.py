"""Replay and undo: the same whichever way the rows come in."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from a2lc.classes.sentinels import FIRST, VOID
from a2lc.ledger import UndoRecord
from a2lc.ledger.layers import apply_to_labels
from a2lc.ledger.replay import SOURCES, CorrectionRows, replay
from a2lc.ledger.undo import undo_rows
from a2lc.statistics.keys import mask_keys

KEYS = mask_keys(np.repeat([0, 1, 2], 4), np.tile([1, 2, 7, 65535], 3))


def make_rows(entries) -> CorrectionRows:
    """Corrections from (round, mask, class, source), of falling rounds put in order; the old class is what stood."""
    entries = sorted(entries, key=lambda e: e[0])
    standing: dict[int, int] = {}
    old = []
    for _, mask, new, _ in entries:
        old.append(standing.get(mask, FIRST))
        standing[mask] = new
    return CorrectionRows(
        ids=np.arange(1, len(entries) + 1, dtype=np.int64),
        rounds=np.array([e[0] for e in entries], dtype=np.int32),
        keys=KEYS[[e[1] for e in entries]] if entries else np.empty(0, dtype=np.uint64),
        old=np.array(old, dtype=np.int32),
        new=np.array([e[2] for e in entries], dtype=np.int32),
        source=np.array([SOURCES.index(e[3]) for e in entries], dtype=np.int8),
    )


def join(a: CorrectionRows, b: CorrectionRows) -> CorrectionRows:
    names = ("ids", "rounds", "keys", "old", "new", "source")
    return CorrectionRows(**{n: np.concatenate([getattr(a, n), getattr(b, n)]) for n in names})


entry = st.tuples(
    st.integers(1, 3), st.integers(0, len(KEYS) - 1), st.integers(VOID, 4), st.sampled_from(["manual", "automatic"])
)
many = st.lists(entry, max_size=25).map(make_rows)


def plain_replay(rows):
    classes = dict.fromkeys(KEYS.tolist(), FIRST)
    for key, new in zip(rows.keys.tolist(), rows.new.tolist(), strict=True):
        classes[key] = new
    return [classes[key] for key in KEYS.tolist()]


@given(rows=many)
def test_the_last_correction_of_a_mask_decides(rows):
    state = replay(rows, KEYS)
    assert state.classes.tolist() == plain_replay(rows)
    for i, winner in enumerate(state.winner.tolist()):
        if winner < 0:
            assert (state.classes[i], state.source[i]) == (FIRST, 0)
        else:
            assert rows.keys[winner] == KEYS[i]
            assert rows.new[winner] == state.classes[i]
            assert state.source[i] == rows.source[winner]


@given(rows=many)
def test_replay_twice_equals_once(rows):
    once, twice = replay(rows, KEYS), replay(join(rows, rows), KEYS)
    np.testing.assert_array_equal(once.classes, twice.classes)
    np.testing.assert_array_equal(once.source, twice.source)


@given(rows=many, cut=st.integers(0, 25))
def test_prefix_then_suffix_equals_the_whole(rows, cut):
    cut = min(cut, len(rows))
    before, after = replay(rows.take(slice(None, cut)), KEYS), replay(rows.take(slice(cut, None)), KEYS)
    whole = replay(rows, KEYS)
    np.testing.assert_array_equal(whole.classes, np.where(after.winner >= 0, after.classes, before.classes))
    np.testing.assert_array_equal(whole.source, np.where(after.winner >= 0, after.source, before.source))


@given(rows=many, keep=st.sets(st.integers(0, len(KEYS) - 1)))
def test_other_masks_have_no_effect(rows, keep):
    chosen = np.array(sorted(keep), dtype=int)
    np.testing.assert_array_equal(replay(rows, KEYS[chosen]).classes, replay(rows, KEYS).classes[chosen])


def undo(rows, taken_back, undone, source):
    """Rows with those of an undo behind them."""
    earlier = [UndoRecord(undone=number, source=what, round=3, after=len(rows)) for number, what in taken_back]
    keys, old, new = undo_rows(rows, earlier, undone, source)
    n = len(keys)
    added = CorrectionRows(
        ids=np.arange(1, n + 1, dtype=np.int64) + len(rows),
        rounds=np.full(n, 3, dtype=np.int32),
        keys=keys,
        old=old,
        new=new,
        source=np.full(n, SOURCES.index("undo"), dtype=np.int8),
    )
    return join(rows, added), n


wanted = st.tuples(st.integers(1, 3), st.sampled_from(["all", "manual", "automatic"]))


@given(rows=many, undone=wanted)
def test_undo_leaves_what_a_replay_without_the_round_gives(rows, undone):
    number, source = undone
    after, _ = undo(rows, [], number, source)
    named = rows.rounds == number
    if source != "all":
        named &= rows.source == SOURCES.index(source)
    np.testing.assert_array_equal(replay(after, KEYS).classes, replay(rows.take(~named), KEYS).classes)


@given(rows=many, undone=wanted)
def test_undo_again_changes_nothing(rows, undone):
    after, _ = undo(rows, [], *undone)
    again, changed = undo(after, [undone], *undone)
    assert changed == 0
    assert len(again) == len(after)


@given(rows=many, first=wanted, second=wanted)
def test_undoing_two_rounds_in_either_order_is_the_same(rows, first, second):
    one = undo(undo(rows, [], *first)[0], [first], *second)[0]
    other = undo(undo(rows, [], *second)[0], [second], *first)[0]
    np.testing.assert_array_equal(replay(one, KEYS).classes, replay(other, KEYS).classes)


@given(seed=st.integers(0, 2**16), classes=st.lists(st.integers(FIRST, 5), min_size=4, max_size=4), wide=st.booleans())
def test_apply_to_labels_leaves_other_pixels(seed, classes, wide):
    rng = np.random.default_rng(seed)
    dtype, ignore = (np.uint16, 65535) if wide else (np.uint8, 255)
    first = rng.integers(0, 6, size=(5, 8)).astype(dtype)
    first[0, 0] = ignore
    ids = np.array([1, 2, 9, 4000])  # the last is not in the map
    masks = rng.choice([0, 1, 2, 9, 30], size=(5, 8)).astype(np.uint16)
    before = first.copy()
    found = apply_to_labels(first, masks, ids, np.array(classes), ignore)
    np.testing.assert_array_equal(first, before, err_msg="first labels are never changed")
    assert found.dtype == dtype
    touched = np.zeros((5, 8), dtype=bool)
    for mask, now in zip(ids.tolist(), classes, strict=True):
        if now != FIRST:
            inside = masks == mask
            touched |= inside
            assert (found[inside] == (ignore if now == VOID else now)).all()
    np.testing.assert_array_equal(found[~touched], first[~touched])
    assert found is not first
