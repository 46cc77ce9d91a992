"""Where derived files live that can always be made again: grammar tables, model info, trained toys."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """Return the cache folder: ``$MIDSL_CACHE_DIR``, ``$XDG_CACHE_HOME/midsl`` or ``~/.cache/midsl``.

    The folder need not exist yet; whoever writes makes it.
    """
    if own := os.environ.get("MIDSL_CACHE_DIR"):
        return Path(own)
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg) / "midsl"
    return Path.home() / ".cache" / "midsl"
