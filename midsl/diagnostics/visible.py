"""Text of others, as a terminal may have it: no character of it moves the cursor or changes colours."""

from __future__ import annotations

import re

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    r"""Return a text with its control characters written out; tabs and line ends stay.

    Those that turn the direction of writing count as such: what is read is what is there.

    >>> visible("a\x1b[31mb\n")
    'a\\x1b[31mb\n'
    """
    return _CONTROLS.sub(lambda m: ascii(m[0])[1:-1], text)
