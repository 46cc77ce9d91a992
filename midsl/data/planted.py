"""Rows made of known directions, so that what a method should find is in hand (`std.planted`).

A recipe is a record whose `kind` names one of the functions here, `n` how many rows, `d` how wide they are,
and `seed` which. Each gives its rows and its directions; the model of a table (``midsl.models.table``)
embeds the rows, and its unembedding reads the directions.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midsl.diagnostics.model import fail
from midsl.diagnostics.suggest import did_you_mean

Floats = NDArray[np.float64]
SIBLINGS = (0.0, 0.0895, 0.163, 0.226, 0.282, 0.3335, 0.3825, 0.431, 0.482)
TOPS = (0.0, 0.3, 0.44, 0.529, 0.594, 0.6467, 0.692, 0.733, 0.7739)
"""How much siblings, and features at the top of the tree, are mixed for a cosine of 0, .1, .. .8."""


@dataclass(frozen=True)
class Table:
    """Rows [n, d] and the directions [k, d + width] that are to be found in them, or written beside them."""

    rows: Floats
    directions: Floats
    fired: NDArray[np.bool_] | None = None
    """Which targets are on: [n, target]."""


def unit(x: Floats) -> Floats:
    """Rows brought to length 1."""
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))


def sums(n: int, d: int, atoms: int, seed: int, often: float = 0.25, falls: float = 0.7) -> Table:
    """Sums of few of `atoms` random directions: i is on with chance often / (1 + i)^falls, at 1 + .3 N."""
    rng = np.random.default_rng(seed)
    directions = unit(rng.normal(size=(atoms, d)))
    on = rng.random((n, atoms)) < often / (1.0 + np.arange(atoms)) ** falls
    return Table((on * (1.0 + 0.3 * rng.normal(size=on.shape))) @ directions, directions)


def tree(n: int, d: int, seed: int, level: int = 0) -> Table:
    """Twenty features, at 1.5 + .25 N: three parents, of which at most one is on; three children of each, of
    which at most one is on where the parent is; eight on their own.

    Directions: parents (0 to 2), children (3 to 11, by parent), the others. `level` tenths is the cosine
    among siblings, and among parents and the eight; parents are orthogonal to all children.
    """
    if d < 20 or not 0 <= level < len(TOPS):
        raise fail("MI0511", f"a tree of level {level} in {d} dimensions", help="20 or more, levels 0 to 8")
    rng = np.random.default_rng(seed)
    base = np.linalg.qr(rng.normal(size=(d, 20)))[0].T
    groups = [([0, 1, 2, *range(12, 20)], TOPS[level])]
    groups += [([3 + 3 * p + c for c in range(3)], SIBLINGS[level]) for p in range(3)]
    directions = base.copy()
    for members, share in groups:
        whole = base[members].sum(0)
        for i in members:
            directions[i] = (1 - share) * base[i] + share * (whole - base[i]) / (len(members) - 1)
    directions = unit(directions)
    on = np.zeros((n, 20), bool)
    parent = np.searchsorted([0.2, 0.4, 0.6], rng.random(n), side="right")  # 3 is none
    child = np.searchsorted([0.2, 0.4, 0.6], rng.random(n), side="right")
    rows = np.arange(n)
    has = parent < 3
    on[rows[has], parent[has]] = True
    both = has & (child < 3)
    on[rows[both], 3 + 3 * parent[both] + child[both]] = True
    on[:, 12:] = rng.random((n, 8)) < 0.05
    return Table((on * (1.5 + 0.25 * rng.normal(size=on.shape))) @ directions, directions)


def pairs(n: int, d: int, seed: int, each: int = 5, spread: float = 0.1) -> Table:
    """One of `each` shapes and one of as many colours: two random directions, each at 1 + spread N."""
    rng = np.random.default_rng(seed)
    directions = unit(rng.normal(size=(2 * each, d)))
    first, second = rng.integers(each, size=n), each + rng.integers(each, size=n)
    sizes = 1.0 + spread * rng.normal(size=(2, n, 1))
    return Table(sizes[0] * directions[first] + sizes[1] * directions[second], directions)


def factors(n: int, d: int, rank: int, seed: int, share: float = 0.1, noise: float = 0.01) -> Table:
    """Sums of few of `rank` directions at sizes of at least 0, each of `share` of the dimensions."""
    rng = np.random.default_rng(seed)
    directions = np.zeros((rank, d))
    for row in directions:
        some = rng.choice(d, size=max(1, round(share * d)), replace=False)
        row[some] = rng.normal(size=len(some))
    sizes = np.abs(rng.normal(size=(n, rank))) * (rng.random((n, rank)) < 0.3)
    return Table(sizes @ directions + noise * rng.normal(size=(n, d)), unit(directions))


def words(
    n: int, d: int, seed: int, each: int = 1, topics: int = 0, apart: float = 0.5, width: int = 0
) -> Table:
    """A random row for each of `n` words; the directions lie in `width` more dimensions, one for each word.

    The words of a topic, `each` at a time from the first on, share a direction, from which they are `apart`.
    """
    if not width or each * topics > n:
        help = "give the table a `width`, and no more words to topics than there are"
        raise fail("MI0511", "words are read where an MLP writes", help=help)
    rng = np.random.default_rng(seed)
    rows = unit(rng.normal(size=(n, d)))
    for topic, centre in enumerate(unit(rng.normal(size=(topics, d)))):
        of = slice(topic * each, (topic + 1) * each)
        rows[of] = centre + apart * rows[of]
    return Table(rows, np.hstack([np.zeros((n, d)), unit(rng.normal(size=(n, width)))]))


def ands(n: int, d: int, features: int, seed: int, width: int = 0, often: float = 0.1) -> Table:
    """Sums of random directions, each on with chance `often`; target j is on where 2j and 2j + 1 are.

    Half of the rows have a pair of their own besides. Directions: one more dimension for each of `width`
    targets, then those of the features.
    """
    if not 1 <= width <= features // 2:
        raise fail("MI0511", f"{width} pairs of {features} features", help="give `width` the number of pairs")
    rng = np.random.default_rng(seed)
    atoms = unit(rng.normal(size=(features, d)))
    on = rng.random((n, features)) < often
    own, has = rng.integers(width, size=n), rng.random(n) < 0.5
    for side in (0, 1):
        on[np.arange(n)[has], 2 * own[has] + side] = True
    fired = on[:, 0 : 2 * width : 2] & on[:, 1 : 2 * width : 2]
    targets = np.hstack([np.zeros((width, d)), np.eye(width)])
    return Table(on @ atoms, np.vstack([targets, np.hstack([atoms, np.zeros((features, width))])]), fired)


KINDS: dict[str, Callable[..., Table]] = {f.__name__: f for f in (sums, tree, pairs, factors, words, ands)}


def sizes_of(rows: Mapping[str, Any]) -> tuple[int, int]:
    """How many rows a recipe makes and how wide they are; what is wrong with it otherwise.

    Raises:
        MiError: MI0511 for an unknown kind or setting, one that is missing, or sizes below 1.
    """
    given = dict(rows)
    kind = given.pop("kind", "")
    if kind not in KINDS:
        help = did_you_mean(str(kind), KINDS) or f"one of {', '.join(KINDS)}"
        raise fail("MI0511", f"there are no planted rows of kind {kind!r}", help=help)
    known = inspect.signature(KINDS[kind]).parameters
    needed = {k for k, p in known.items() if p.default is inspect.Parameter.empty}
    odd = sorted((given.keys() - known.keys() - {"width"}) | (needed - given.keys()))
    if odd:
        raise fail("MI0511", f"{kind}: `{odd[0]}`", help=f"its settings are {', '.join(known)}")
    n, d = int(given["n"]), int(given["d"])
    if n < 1 or d < 1:
        raise fail("MI0511", f"{n} rows of {d}", help="at least one of each")
    return n, d


def planted(rows: Mapping[str, Any], width: int = 0) -> Table:
    """The rows and directions of a recipe; raises as `sizes_of`."""
    sizes_of(rows)
    known = inspect.signature(KINDS[rows["kind"]]).parameters
    given = {**rows, **({"width": width} if "width" in known else {})}
    return _made(tuple(sorted(given.items())))


@lru_cache(maxsize=16)
def _made(given: tuple[tuple[str, Any], ...]) -> Table:
    settings = dict(given)
    return KINDS[settings.pop("kind")](**settings)


def fired(token: Floats, like: Floats, of: Mapping[str, Any]) -> Floats:
    """Which targets of a recipe of `ands` are on in rows `token` [batch], along `like` [batch, target]: 0, 1.

    Raises:
        MiError: MI0511 for another recipe, or as many targets as it has not.
    """
    found = planted(of, like.shape[1]).fired
    if found is None:
        raise fail("MI0511", f"rows of kind {of['kind']!r} have no targets", help="`ands` has")
    return np.asarray(found[token.astype(np.int64)], float)
