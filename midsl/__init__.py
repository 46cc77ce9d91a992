"""midsl: a small language with a real compiler for mechanistic interpretability.

``midsl.run(spec)`` runs a text or a file, ``midsl.compile(spec)`` plans it, ``midsl.Session`` keeps models in
memory between texts, and ``%load_ext midsl`` gives a notebook the cell magic ``%%mi``. What is wrong raises
`midsl.MiError`.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from midsl.api import Answer, Plot, Result, Session, compile, run
    from midsl.diagnostics.model import MiError

__all__ = ["Answer", "MiError", "Plot", "Result", "Session", "__version__", "compile", "run"]


def __getattr__(name: str) -> Any:
    """The names above, imported when they are asked for: `midsl check` has no use for torch."""
    if name not in __all__:
        raise AttributeError(f"module 'midsl' has no attribute {name!r}")
    from importlib import import_module

    module = "midsl.diagnostics.model" if name == "MiError" else "midsl.api"
    return getattr(import_module(module), name)


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext midsl``."""
    from midsl.notebook import register

    register(shell)
