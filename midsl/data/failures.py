"""What can go wrong while text becomes rows, for one row or for all of them.

A row that cannot be used is no error: whoever makes rows raises `Unusable`, and the builder counts it.
"""

from __future__ import annotations

from pathlib import Path

from midsl.diagnostics.model import Diagnostic, MiError, fail
from midsl.reach import may_read


class Unusable(Exception):
    """This row cannot be used, and why; the others can."""


class Unencodable(MiError):
    """A text that a tokenizer has no tokens for (MI0511); a data set leaves such a row out."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            Diagnostic("MI0511", reason, help="use a tokenizer that knows it, or one with an unknown token")
        )


def read_text(path: str | Path) -> str:
    """Return the text of a UTF-8 file, line ends as they are.

    Raises:
        MiError: MI0504 if it cannot be read, or is not UTF-8; MI0516 if it is outside the spec's reach.
    """
    may_read(path)
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            return file.read()
    except OSError as error:
        raise fail("MI0504", f"cannot read {path}: {error.strerror}", help="check the path") from error
    except UnicodeDecodeError as error:
        raise fail("MI0504", f"{path} is not UTF-8 text", help="convert it to UTF-8") from error
