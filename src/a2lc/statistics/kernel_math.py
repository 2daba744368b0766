"""Fast base-2 logarithms and exponentials for the kernel, by tables and polynomials."""

from __future__ import annotations

import math

import numpy as np

__all__ = [
    "BASE",
    "E1",
    "E2",
    "E3",
    "E4",
    "E5",
    "LN2",
    "LOG2",
    "MANTISSA",
    "P0",
    "P1",
    "P2",
    "P3",
    "P4",
    "P5",
    "P6",
    "SHIFT",
]


# log2(1+t) = t·P(t) for t in [√½−1, √2−1]: least squares at Chebyshev nodes, largest error 2e-7 relative.
LOG2 = tuple(
    float(c)
    for c in (
        np.polynomial.chebyshev.Chebyshev.interpolate(
            lambda t: np.log2(1 + t) / np.where(t == 0, 1, t) + (t == 0) / math.log(2), 6, [0.5**0.5 - 1, 2**0.5 - 1]
        )
        .convert(kind=np.polynomial.Polynomial)
        .coef
    )
)


P0, P1, P2, P3, P4, P5, P6 = (np.float32(c) for c in LOG2)


LN2 = math.log(2)


SHIFT = np.int32(0x3F800000 - 0x3F3504F3)  # moves the cut of the exponent from 1 to √½, so that log2(1) is exact


MANTISSA = np.int32(0x007FFFFF)


BASE = np.int32(0x3F3504F3)


# 2^t for t in [0, 1), the same way.
_EXP2 = np.polynomial.chebyshev.Chebyshev.interpolate(np.exp2, 5, [0, 1]).convert(kind=np.polynomial.Polynomial).coef


E1, E2, E3, E4, E5 = (np.float32(c) for c in _EXP2[1:])
