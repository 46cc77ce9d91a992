"""The name of a range of positions; apart from `spans`, so that `check` need not load numpy for it."""

from __future__ import annotations


def range_text(lo: int | None, hi: int | None, step: int = 1) -> str:
    """Return the name of a range, with the two common ones in their short form.

    >>> range_text(2, -1), range_text(0, None), range_text(None, -1), range_text(0, 9, 3)
    ('2..-1', '', 'predicted', '0..9 by 3')
    """
    if step == 1 and lo in (None, 0) and hi in (None, -1):
        return "" if hi is None else "predicted"
    text = f"{'' if lo is None else lo}..{'' if hi is None else hi}"
    return text + (f" by {step}" if step != 1 else "")
