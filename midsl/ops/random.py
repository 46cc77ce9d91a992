"""Draws that are functions of what they are for, not of the order in which they are made.

A value depends on (seed, stream, coordinates by axis name) alone: the same row of the same data set
gets the same noise whichever chunk, lane or device it is computed in, and whatever order the axes
are listed in. The generator is Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as
1, 2, 3", 2011), computed with numpy integers, so the bits are equal on every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


def philox(counter: tuple[Words, Words, Words, Words], key: tuple[int, int]) -> tuple[Words, ...]:
    """Return four 32-bit words (held in uint64) for each counter of four 32-bit words.

    >>> zero = np.zeros(1, np.uint64)
    >>> [hex(int(w[0])) for w in philox((zero, zero, zero, zero), (0, 0))]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = (
            (p1 >> _HALF) ^ c1 ^ np.uint64(k0),
            p1 & _LOW,
            (p0 >> _HALF) ^ c3 ^ np.uint64(k1),
            p0 & _LOW,
        )
        k0, k1 = (k0 + _W0) & 0xFFFFFFFF, (k1 + _W1) & 0xFFFFFFFF
    return c0, c1, c2, c3


def _words(seed: int, stream: str | int, coords: Mapping[str, NDArray[np.int64]]) -> tuple[Words, ...]:
    """Four words per combination of coordinates, shaped by the order of `coords`."""
    names = sorted(coords)
    text = "\0".join([str(seed), type(stream).__name__, str(stream), *names])
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    key = int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")
    order = list(coords)
    zero = np.zeros((1,) * len(order), np.uint64)
    words: tuple[Words, ...] = philox((zero, zero, zero, zero), key)
    for name in names:
        at = np.asarray(coords[name], np.int64).astype(np.uint64)
        at = at.reshape([-1 if n == name else 1 for n in order])
        # each axis stirs its coordinate into two words of what came before
        low, high, a, b = np.broadcast_arrays(at & _LOW, at >> _HALF, words[0], words[1])
        words = philox((low, high, a, b), key)
    return words


def _unit(high: Words, low: Words) -> NDArray[np.float64]:
    """53 bits as a number in [0, 1)."""
    bits = ((high << _HALF) | low) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53


def draw(
    kind: str,
    seed: int,
    stream: str | int,
    coords: Mapping[str, NDArray[np.int64]],
) -> NDArray[np.float64]:
    """Draw one number per combination of coordinates: standard "normal", or "uniform" on [0, 1).

    coords: axis name to coordinates, int64 [n]; for ``batch`` the examples' ids. The result has one
    dimension per axis, in the order given; a value depends on its own coordinates only.
    """
    w = _words(seed, stream, coords)
    a = _unit(w[0], w[1])
    if kind == "uniform":
        return a
    if kind == "normal":
        radius = np.sqrt(-2.0 * np.log(1.0 - a))  # 1 - a is never 0
        return np.asarray(radius * np.cos(2.0 * np.pi * _unit(w[2], w[3])), np.float64)
    raise ValueError(f"no distribution named {kind!r}")


def permutation(
    seed: int,
    stream: str | int,
    coords: Mapping[str, NDArray[np.int64]],
    over: str,
    within: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Draw, for each combination of the other coordinates, a permutation along the axis `over`.

    Entry i of the result says which index goes to place i. `within` (int64 [n], groups along `over`)
    keeps every index inside its group.
    """
    axis = list(coords).index(over)
    keys = np.moveaxis(draw("uniform", seed, stream, coords), axis, -1)
    if within is None:
        return np.moveaxis(np.argsort(keys, axis=-1, kind="stable"), -1, axis)
    result = np.empty(keys.shape, np.int64)
    for group in np.unique(within):
        members = np.flatnonzero(within == group)
        inner = np.argsort(keys[..., members], axis=-1, kind="stable")
        result[..., members] = members[inner]
    return np.moveaxis(result, -1, axis)
