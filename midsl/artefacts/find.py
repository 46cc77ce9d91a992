"""Which format a folder or file is in, and reading it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from midsl.artefacts import circuit_tracer, dictionary_learning, gemma_scope, sae_lens, sparsify, tuned_lens
from midsl.artefacts.base import Artefact
from midsl.diagnostics.model import fail
from midsl.reach import may_read

_FILES: tuple[tuple[str, str, Callable[..., Artefact]], ...] = (
    (sae_lens.CONFIG, sae_lens.WEIGHTS, sae_lens.read),
    (sparsify.CONFIG, sparsify.WEIGHTS, sparsify.read),
    (dictionary_learning.CONFIG, dictionary_learning.WEIGHTS, dictionary_learning.read),
    (tuned_lens.CONFIG, tuned_lens.WEIGHTS, tuned_lens.read),
    (gemma_scope.WEIGHTS, gemma_scope.WEIGHTS, gemma_scope.read),
    (circuit_tracer.CONFIG, circuit_tracer.CONFIG, circuit_tracer.read),
)
PER_LAYER = (circuit_tracer.read, tuned_lens.read)
"""Of one layer of a folder; circuit-tracer's may be of all, if none is named."""


def read(path: Path, layer: int | None = None) -> Artefact:
    """Describe a decomposition on disk; `layer` chooses in a folder that has one for each.

    Raises:
        MiError: MI0504 if nothing is there, MI0510 if it is damaged, MI0514 if it is not understood.
    """
    may_read(path)
    if path.is_file() and path.suffix == ".npz":
        return gemma_scope.read(path)
    if not path.is_dir():
        raise fail("MI0504", f"there is no folder {path}", help="paths are relative to the spec")
    for config, weights, reader in _FILES:
        if not ((path / config).is_file() and (path / weights).is_file()):
            continue
        if reader not in PER_LAYER:
            return reader(path)
        return reader(path, layer)
    wanted = sorted({" and ".join(dict.fromkeys((c, w))) for c, w, _ in _FILES})
    raise fail("MI0514", f"{path} is in no known format", help=f"a folder has {'; or '.join(wanted)}")
