"""Which format a file of a graph is in, and reading it; a `.pt` needs torch, and is for `tracer`."""

from __future__ import annotations

from pathlib import Path

from midsl.artefacts.base import not_understood, read_json
from midsl.artefacts.graphs import graphml, mib, neuronpedia
from midsl.artefacts.graphs.base import GraphFile

KNOWN = "Neuronpedia and EAP-IG (MIB) JSON, GraphML, and `.pt` of circuit-tracer"


def read(path: Path) -> GraphFile:
    """The graph of a file that is no `.pt`.

    Raises:
        MiError: MI0504 if it cannot be read, MI0510 if it is damaged, MI0514 if it is not understood.
    """
    if path.suffix == ".graphml":
        return graphml.read(path).checked(path)
    if path.suffix != ".json":
        raise not_understood("is in no known format of graphs", path, KNOWN)
    found = read_json(path)
    reader = neuronpedia.read if neuronpedia.reads(found) else mib.read if mib.reads(found) else None
    if reader is not None:
        try:
            return reader(found, path).checked(path)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise not_understood(f"{type(error).__name__}: {error}", path) from None
    raise not_understood("is in no known format of graphs", path, KNOWN)
