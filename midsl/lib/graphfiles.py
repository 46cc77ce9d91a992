"""The numbers of a graph's file, as columns along nodes and pairs of nodes (`std.graphs.graph_file`)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midsl.artefacts.base import content
from midsl.artefacts.graphs.base import GraphFile
from midsl.artefacts.graphs.find import read
from midsl.diagnostics.model import fail


@lru_cache(2)
def columns(path: str, sha256: str) -> dict[str, NDArray[Any]]:
    """All columns of a file: ``edges.weight`` [src, dst], ``nodes.kept`` [node]; 0 where there is no edge.

    Raises:
        MiError: MI0504 if the file was changed since it was looked at, and what reading it finds.
    """
    file = Path(path)
    if not file.is_file() or content(file) != sha256:
        raise fail("MI0504", f"{path} was changed while it was in use", help="run again")
    graph = _read(file)
    found: dict[str, NDArray[Any]] = {f"nodes.{n}": np.array(v) for n, v in graph.nodes.items()}
    size = len(graph.names)
    for name, values in graph.edges.items():
        column = np.array(values)
        matrix = np.zeros((size, size), column.dtype if len(values) else np.float64)
        matrix[list(graph.src), list(graph.dst)] = column
        found[f"edges.{name}"] = matrix if len(values) or name != "kept" else matrix > 0
    return found


def _read(file: Path) -> GraphFile:
    if file.suffix != ".pt":
        return read(file)
    from midsl.artefacts.graphs import tracer

    return tracer.read(file).checked(file)
