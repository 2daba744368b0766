"""Which proposals of the label correction module become automatic corrections (pure)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.sentinels import VOID

__all__ = ["automatic_changes", "class_ranks"]


def class_ranks(classes: NDArray[Any], num_classes: int) -> NDArray[np.int64]:
    """Rank classes from the rarest to the most frequent among a round's answers, in the order of the authors' code.

    Counts ascend; among equal ones, classes that occur come first in the order of descending counts they were
    listed in, then those that do not occur, by index. So among several classes nobody named, the rarest is the
    one of the lowest index.

    Args:
        classes: (n,) class of each answered mask; those without a class are left out.
        num_classes: K.

    Returns:
        (K,) class indices.

    Example:
        >>> class_ranks(np.array([3] * 7 + [0] * 5 + [1] * 5), 6)
        array([2, 4, 5, 0, 1, 3])
    """
    classes = np.asarray(classes)
    counts = np.bincount(classes, minlength=num_classes)
    # A count of first-met order sorted by falling count, then the absent ones: the order equal counts keep.
    met = list(dict.fromkeys(classes.tolist()))
    listed = sorted(met, key=lambda c: -counts[c]) + [c for c in range(num_classes) if counts[c] == 0]
    return np.array(sorted(listed, key=lambda c: counts[c]), dtype=np.int64)


def automatic_changes(
    proposed: NDArray[Any],
    confidences: NDArray[Any],
    current: NDArray[Any],
    asked: NDArray[Any],
    ranks: NDArray[Any],
    *,
    threshold: float,
    tail_fraction: float = 0.5,
) -> NDArray[np.bool_]:
    """Apply A2LC's rule for correcting a mask nobody looked at.

    A mask is changed unless the proposal is what it carries, a person has answered for it, the confidence is below
    the threshold, the proposal is a tail class, or the mask carries the single rarest class.

    Args:
        proposed: (M,) classes the module proposes.
        confidences: (M,) how sure it is, [0, 1].
        current: (M,) classes the masks carry, VOID for none.
        asked: (M,) True where a person, or the oracle, has answered, in this round or before.
        ranks: (K,) classes from the rarest, see `class_ranks`.
        threshold: τ of the round; a confidence equal to it is enough.
        tail_fraction: α: the share of classes, rounded down, that are never proposed.

    Returns:
        (M,) True where the mask is to be changed.

    Source:
        A2LC (arXiv:2506.11599), criteria J1 to J3, as coded.
    """
    tail = ranks[: int(tail_fraction * len(ranks) + 1e-9)]  # 0.29 · 100 is 28.999999999999996
    rarest = ranks[0] if len(ranks) else VOID - 1
    return np.asarray(
        (proposed != current)
        & ~asked
        # In single precision, as coded: 0.9999999 admits the two largest numbers below and at 1 alone.
        & (confidences.astype(np.float32) >= np.float32(threshold))
        & ~np.isin(proposed, tail)
        & (current != rarest)
    )
