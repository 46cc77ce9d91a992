"""Checkpoints of the llama2.c format (version 0): seven integers, then every matrix in float32.

The header says all there is to know of the architecture, so a spec can be checked from 28 bytes.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

from midsl.diagnostics.model import fail
from midsl.models.config import TinyConfig, tiny_config
from midsl.models.facts import Facts
from midsl.models.tokens import plain_tokenizer
from midsl.models.toy import tiny_facts
from midsl.reach import may_read

if TYPE_CHECKING:
    from torch import Tensor

    from midsl.models.loaded import LoadedModel

_HEADER = struct.Struct("<7i")


def _shapes(config: TinyConfig) -> list[tuple[str, tuple[int, ...]]]:
    """Return the tensors of the file in order; those of all layers are stacked on a first axis."""
    layers, d, hidden = config.layers, config.d_model, config.d_mlp
    q, kv = config.heads * config.d_head, config.kv_heads * config.d_head
    tensors: list[tuple[str, tuple[int, ...]]] = [
        ("embed.weight", (config.vocab, d)),
        ("blocks.*.ln1.weight", (layers, d)),
        ("blocks.*.attn.q.weight", (layers, q, d)),
        ("blocks.*.attn.k.weight", (layers, kv, d)),
        ("blocks.*.attn.v.weight", (layers, kv, d)),
        ("blocks.*.attn.o.weight", (layers, d, q)),
        ("blocks.*.ln2.weight", (layers, d)),
        ("blocks.*.mlp.gate.weight", (layers, hidden, d)),
        ("blocks.*.mlp.down.weight", (layers, d, hidden)),
        ("blocks.*.mlp.up.weight", (layers, hidden, d)),
        ("ln_final.weight", (d,)),
        ("", (config.ctx, config.d_head)),  # rotary tables: computed, not read
    ]
    return tensors if config.tied else [*tensors, ("unembed.weight", (config.vocab, d))]


def _config(path: Path) -> TinyConfig:
    """Read and check the header.

    Raises:
        MiError: MI0504 if the file cannot be read, MI0510 if its header or length is not of this format.
    """
    try:
        size = may_read(path).stat().st_size
        with path.open("rb") as file:
            head = file.read(_HEADER.size)
    except OSError as error:
        raise fail(
            "MI0504",
            f"cannot read the model file {path}: {error.strerror}",
            help="paths are relative to the folder of the spec",
        ) from error
    numbers = _HEADER.unpack(head) if len(head) == _HEADER.size else (0,) * 7
    d_model, d_mlp, layers, heads, kv_heads, vocab, ctx = numbers
    least = min(d_model, d_mlp, layers, heads, kv_heads, abs(vocab), ctx)
    if least < 1 or d_model % (2 * heads) or heads % kv_heads:  # rotary pairs need an even d_head
        raise fail(
            "MI0510",
            f"{path} does not begin with a llama2.c header",
            help="version 0 is wanted: int32 dim, hidden, layers, heads, kv_heads, vocab, seq; then float32",
        )
    fields = {
        "layers": layers, "heads": heads, "kv_heads": kv_heads, "d_model": d_model, "d_mlp": d_mlp,
        "vocab": abs(vocab), "ctx": ctx, "tied": vocab > 0, "norm": "rms", "pos": "rotary_pairs",
        "act": "silu", "gated": True, "bias": False,
    }  # fmt: skip
    config = tiny_config(fields, path.name)
    wanted = _HEADER.size + 4 * sum(_count(shape) for _, shape in _shapes(config))
    if size != wanted:
        raise fail("MI0510", f"{path} has {size} bytes where its header says {wanted}", help="fetch it again")
    return config


def _transposed(matrix: Tensor, times: int) -> Tensor:
    """Transpose the numbers of a matrix in place so many times, its declared shape staying what it is.

    Tools that prepare checkpoints for kernels that read columns do this to the file itself; run on their own
    output they scramble it, and only further runs restore it. A vector stays as it is.
    """
    if matrix.ndim < 2:
        return matrix
    for _ in range(times):
        matrix = matrix.T.reshape(matrix.shape)
    return matrix


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def describe_llama2c(bin: str, tokenizer: str = "", transposes: int = 0) -> Facts:
    """Return the facts of `llama2c` with these arguments, from the file's header; raises as it does."""
    return tiny_facts(_config(Path(bin)))


def llama2c(bin: str, tokenizer: str = "", transposes: int = 0) -> LoadedModel:
    """Load a llama2.c checkpoint.

    Args:
        bin: the model file, version 0 (``stories260K.bin``).
        tokenizer: its tokenizer ``.bin``; without it tokens are integers.
        transposes: how often each layer's matrices are to be transposed in place, as `_transposed` does,
            before they are what the format says; 0 for an untouched file.

    Raises:
        MiError: MI0504 if a file cannot be read, MI0509 if `transposes` is negative, MI0510 if a file is
            damaged or of another format.

    Source: github.com/karpathy/llama2.c, the layout that ``run.c`` reads.
    """
    import numpy as np
    import torch

    from midsl.models.loaded import loaded
    from midsl.models.tiny import TinyTransformer

    path = Path(bin)
    config = _config(path)
    if transposes < 0:
        raise fail("MI0509", f"transposes cannot be {transposes}", help="0 for an untouched file")
    flat = torch.from_numpy(np.fromfile(path, dtype="<f4", offset=_HEADER.size))
    weights: dict[str, torch.Tensor] = {}
    for name, shape in _shapes(config):
        tensor, flat = flat[: _count(shape)].view(shape), flat[_count(shape) :]
        if "*" in name:
            for layer, part in enumerate(tensor):
                weights[name.replace("*", str(layer))] = _transposed(part, transposes)
        elif name:
            weights[name] = tensor
    if config.tied:
        weights["unembed.weight"] = weights["embed.weight"]
    module = TinyTransformer(config)
    module.load_state_dict(weights)
    made = plain_tokenizer(config.vocab, path=tokenizer)
    return loaded(tiny_facts(config), module, module, made, "blocks", config.ctx)
