"""The cell magic ``%%mi``: a cell holds a spec, and its result goes to a name; see ``%load_ext midsl``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

from midsl.api import Result, Session
from midsl.diagnostics.model import MiError
from midsl.diagnostics.render import render_text
from midsl.show.results import DEFAULT_STORE

_SESSIONS: dict[Path, Session] = {}
USAGE = "%%mi [NAME] [-p PARAM=VALUE]... [--store DIR]"


def mi(line: str, cell: str, namespace: dict[str, Any]) -> Result | None:
    """Run a cell's spec: models of earlier cells stay in memory; what is wrong is told, not raised."""
    name, params, store = "result", {}, DEFAULT_STORE
    words = iter(shlex.split(line))
    for word in words:
        if word == "-p" and (pair := next(words, "").partition("="))[1]:
            params[pair[0]] = pair[2]
        elif word == "--store" and (folder := next(words, "")):
            store = Path(folder)
        elif word.isidentifier():
            name = word
        else:
            print(f"{word!r} is not understood: {USAGE}", file=sys.stderr)
            return None
    session = _SESSIONS.setdefault(store.resolve(), Session(store))
    try:
        done = session.run(cell, params, name="notebook")
    except MiError as err:
        print(render_text(list(err.diagnostics)), file=sys.stderr, end="")
        return None
    if done.diagnostics:
        print(render_text(done.diagnostics), file=sys.stderr, end="")
    namespace[name] = done
    return done


def register(shell: Any) -> None:
    """Give an IPython shell the magic."""
    shell.register_magic_function(lambda line, cell: mi(line, cell, shell.user_ns), "cell", "mi")
