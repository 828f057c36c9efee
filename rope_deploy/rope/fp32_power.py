"""The power base ** exponents, in fp32 rounded as PyTorch's CPU kernel rounds it.

Why so much care over one ulp: at position 100 000 an ulp of the fastest frequency changes the angle by 6e-3.
Everything else in a scaling rule is a correctly rounded IEEE operation, equal in numpy and PyTorch; the power
is the one that is not. PyTorch computes it with SLEEF's `powf` in whole blocks of two vector registers and
with the C library's `powf` for what is left over. The first is repeated here in double-float arithmetic, the
second is what numpy does with scalars. Numpy's own vectorised power differs in one value out of five.

The algorithm and its constants are those of SLEEF (https://sleef.org, copyright Naoki Shibata and contributors
2010-2025, Boost Software License 1.0), restricted to a positive finite base and exponents in [0, 1).
"""

from __future__ import annotations

import functools
import platform
from typing import Any

import numpy as np
from numpy.typing import NDArray

F = np.float32
Pair = tuple[Any, Any]  # a double-float: the value is the exact sum of both parts

_LOG_HIGH = tuple(map(F, (0.240320354700088500976562, 0.285112679004669189453125, 0.400007992982864379882812)))
_LOG_LOW: Pair = (F(0.66666662693023681640625), F(3.69183861259614332084311e-09))
_LN2: Pair = (F(0.69314718246459960938), F(-1.904654323148236017e-09))
_LN2_SPLIT = (F(0.693145751953125), F(1.428606765330187045e-06))
_INV_LN2 = F(1.4426950408889634)
_EXP = tuple(
    map(
        F,
        (
            0.00136324646882712841033936,
            0.00836596917361021041870117,
            0.0416710823774337768554688,
            0.166665524244308471679688,
            0.499999850988388061523438,
        ),
    )
)


def power(base: float, exponents: NDArray[Any]) -> NDArray[Any]:
    """`base ** exponents` in the dtype of `exponents`: fp32 as PyTorch on this machine, fp64 as numpy.

    base > 0; exponents: [n], each in [0, 1).
    """
    if exponents.dtype == np.float64:
        return np.power(float(base), exponents)
    blocks = len(exponents) - len(exponents) % _lanes()
    head = _vector_power(F(base), exponents[:blocks])
    tail = [F(base) ** e for e in exponents[blocks:]]
    return np.concatenate([head, np.asarray(tail, dtype=F)])


@functools.cache
def _lanes() -> int:
    """Values in the two vector registers PyTorch's kernel takes at a time (AVX-512, AVX2, or 128 bits)."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return 8
    found = np.show_config(mode="dicts")["SIMD Extensions"]  # X86_V4 is numpy 2.4's name for AVX512_SKX
    avx512 = {"AVX512_SKX", "X86_V4"} & {*found.get("baseline", ()), *found.get("found", ())}
    return 32 if avx512 else 16


def _vector_power(base: np.float32, exponents: NDArray[np.float32]) -> NDArray[np.float32]:
    return _exp(_scale(_log(base), exponents))


def _log(value: np.float32) -> Pair:
    mantissa, exponent = np.frexp(value)  # mantissa in [0.75, 1.5)
    if mantissa < F(0.75):
        mantissa, exponent = mantissa * F(2), exponent - 1
    x = _divide(_two_sum(F(-1), mantissa), _two_sum(F(1), mantissa))
    square = _square(x)
    poly = _LOG_HIGH[0]
    for coefficient in _LOG_HIGH[1:]:
        poly = _fma(poly, square[0], coefficient)
    cubic = _multiply(_multiply(square, x), _add_any(_scale(square, poly), _LOG_LOW))
    return _add(_add(_scale(_LN2, F(exponent)), (x[0] * F(2), x[1] * F(2))), cubic)


def _exp(x: Pair) -> NDArray[np.float32]:
    octave = np.rint((x[0] + x[1]) * _INV_LN2)
    for part in _LN2_SPLIT:
        x = _add_any(x, (octave * -part, F(0)))
    head = x[0] + x[1]
    x = (head, (x[0] - head) + x[1])
    poly: Any = _EXP[0]
    for coefficient in _EXP[1:]:
        poly = _fma(poly, x[0], coefficient)
    total = _add((F(1), F(0)), _add(x, _scale(_square(x), poly)))
    return np.ldexp(total[0] + total[1], octave.astype(np.int32))


def _fma(a: Any, b: Any, c: Any) -> Any:
    """a·b + c with one rounding: the product of two fp32 numbers is exact in fp64."""
    return (np.float64(a) * np.float64(b) + np.float64(c)).astype(F)


def _two_sum(a: Any, b: Any) -> Pair:
    total = a + b
    shadow = total - a
    return total, (a - (total - shadow)) + (b - shadow)


def _add(a: Pair, b: Pair) -> Pair:
    """a + b where |a| >= |b|."""
    total = a[0] + b[0]
    return total, ((a[0] - total) + b[0]) + a[1] + b[1]


def _add_any(a: Pair, b: Pair) -> Pair:
    total, rest = _two_sum(a[0], b[0])
    return total, rest + (a[1] + b[1])


def _scale(a: Pair, factor: Any) -> Pair:
    product = a[0] * factor
    return product, _fma(a[1], factor, _fma(a[0], factor, -product))


def _multiply(a: Pair, b: Pair) -> Pair:
    product = a[0] * b[0]
    return product, _fma(a[0], b[1], _fma(a[1], b[0], _fma(a[0], b[0], -product)))


def _square(a: Pair) -> Pair:
    product = a[0] * a[0]
    return product, _fma(a[0] + a[0], a[1], _fma(a[0], a[0], -product))


def _divide(a: Pair, b: Pair) -> Pair:
    inverse = F(1) / b[0]
    quotient = a[0] * inverse
    error = _fma(-b[1], inverse, _fma(-b[0], inverse, F(1)))
    return quotient, _fma(quotient, error, _fma(a[1], inverse, _fma(inverse, a[0], -quotient)))
