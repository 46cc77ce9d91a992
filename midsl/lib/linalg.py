"""Matrices taken apart, with the tolerance in the open (`std.linalg`).

What counts as zero is said by the caller: a singular value (or the size of an eigenvalue) at or below `tol`
times the largest. Signs, which a decomposition leaves open, are fixed: of each vector the entry of largest
size is positive.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from midsl.diagnostics.model import fail

Floats = NDArray[np.float64]


def eigh(x: Floats) -> dict[str, Floats]:
    """Eigenvalues and orthonormal eigenvectors of a symmetric matrix x [d, e]: largest first.

    Returns:
        values [k], vectors [d, k].

    Raises:
        MiError: MI0707 if x differs from its transpose by more than 1e-6 of its largest entry.
    """
    scale = np.abs(x).max(initial=0.0)
    if x.shape[0] != x.shape[1] or np.abs(x - x.T).max(initial=0.0) > 1e-6 * scale:
        raise fail("MI0707", "`eigh` needs a symmetric matrix", help="take `svd` of any other", exit_code=4)
    values, vectors = np.linalg.eigh((x + x.T) / 2)
    return {"values": values[::-1], "vectors": _signed(vectors[:, ::-1])}


def svd(x: Floats, k: int) -> dict[str, Floats]:
    """The `k` largest singular values of x [m, n] with their vectors: u [m, k], s [k], v [n, k].

    Where `k` is more than there are, the rest is 0.
    """
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    top = np.abs(u).argmax(0)
    sign = np.where(u[top, np.arange(len(s))] < 0, -1.0, 1.0)
    more = ((0, 0), (0, max(0, k - len(s))))
    return {
        "u": np.pad(u * sign, more)[:, :k],
        "s": np.pad(s, more[1])[:k],
        "v": np.pad(vt.T * sign, more)[:, :k],
    }


def qr(x: Floats) -> dict[str, Floats]:
    """x [m, n] as orthonormal columns q [m, n] times an upper triangle r [k, n] of positive diagonal.

    Raises:
        MiError: MI0707 if there are more columns than rows.
    """
    if x.shape[0] < x.shape[1]:
        raise fail("MI0707", f"`qr` of {x.shape[0]} x {x.shape[1]}: more columns than rows", exit_code=4)
    q, r = np.linalg.qr(x)
    sign = np.where(np.diag(r) < 0, -1.0, 1.0)
    return {"q": q * sign, "r": sign[:, None] * r}


def pinv(x: Floats, tol: float) -> Floats:
    """The pseudo-inverse of x [m, n], along [n, m] as its axes [m, n]: 1 / s of what is above `tol`."""
    return np.asarray(np.linalg.pinv(x, rcond=tol).T, np.float64)


def rank(x: Floats, tol: float) -> int:
    """How many singular values of x [m, n] are above `tol` times the largest; 0 of zeros."""
    s = np.linalg.svd(x, compute_uv=False)
    return int((s > tol * s.max(initial=0.0)).sum())


def null(x: Floats, tol: float) -> Floats:
    """The projection [n, k] on what x [m, n] maps to zero: all directions but those above `tol`."""
    _, s, vt = np.linalg.svd(x, full_matrices=True)
    live = vt[: len(s)][s > tol * s.max(initial=0.0)]
    return np.asarray(np.eye(x.shape[1]) - live.T @ live)


def _signed(vectors: Floats) -> Floats:
    """Columns with their sign fixed."""
    top = np.abs(vectors).argmax(0)
    found: Floats = vectors * np.where(vectors[top, np.arange(vectors.shape[1])] < 0, -1.0, 1.0)
    return found
