"""Where the grammar, the standard library and the examples live.

In a wheel they are package data under ``midsl/_data``; in a checkout (and an editable install)
they stand at the top of the repository. Everything that reads them asks here.
"""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def resource_dir(name: str) -> Path:
    """Return the folder ``grammar``, ``stdlib`` or ``examples``, wherever this install keeps it.

    Raises:
        FileNotFoundError: if neither the wheel's data folder nor the checkout has it.
    """
    for base in (_PACKAGE / "_data", _PACKAGE.parent):
        folder = base / name
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"midsl was installed without its {name}/ folder")
