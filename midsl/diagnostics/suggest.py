"""Did you mean: the nearest of the names that would have been right."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher

_NEAR = 0.6  # similarity from which a name counts as a slip of another


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return "did you mean `x`?" for the nearest candidate, or "" if none is near.

    Equal similarity goes to the name that sorts first, so the answer never depends on an order.

    >>> did_you_mean("resid_pots", ["resid_pre", "resid_post"])
    'did you mean `resid_post`?'
    >>> did_you_mean("x", ["resid_pre"])
    ''
    """
    matcher = SequenceMatcher(b=name, autojunk=False)
    best, score = "", _NEAR
    for candidate in sorted(set(candidates) - {name}):
        matcher.set_seq1(candidate)
        if candidate.lower() == name.lower():
            return f"did you mean `{candidate}`?"
        if (
            matcher.real_quick_ratio() >= score
            and (ratio := matcher.ratio()) >= score
            and (ratio > score or not best)
        ):
            best, score = candidate, ratio
    return f"did you mean `{best}`?" if best else ""
