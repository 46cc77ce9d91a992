"""Models that hold a known truth: every weight is 0 but for those that a test plants.

No norms, no positions, ReLU: a block adds `down relu(up x + b)` to the stream, so that a linear map is a pair
of neurons for each of its directions, and what reads a site and what it causes are written down, not learnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import networkx as nx
import torch
from safetensors.torch import save_file
from torch import Tensor

from midsl.models.config import tiny_config
from midsl.models.tiny import TinyTransformer
from midsl.plan.driver import compile_spec
from midsl.store.rows import ResultTable
from tests.fit.common import tables

Neurons = tuple[Tensor, Tensor, Tensor]
"""What neurons read [neuron, d], their biases [neuron], what they write [neuron, d]."""


def units(count: int, d: int, seed: int = 0) -> Tensor:
    """Random unit directions [count, d]."""
    g = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, d, generator=g), dim=-1)


def rotation(d: int, seed: int = 0) -> Tensor:
    """A random orthogonal matrix [d, d]."""
    g = torch.Generator().manual_seed(seed)
    q: Tensor = torch.linalg.qr(torch.randn(d, d, generator=g))[0]
    return q


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sparse(rows: int, features: int, k: int, seed: int = 1) -> Tensor:
    """Codes [row, feature] with `k` entries from 0.5 to 1.5."""
    g = torch.Generator().manual_seed(seed)
    chosen = torch.rand(rows, features, generator=g).topk(k, dim=-1).indices
    return torch.zeros(rows, features).scatter(-1, chosen, 0.5 + torch.rand(rows, k, generator=g))


def linear(matrix: Tensor) -> Neurons:
    """Neurons that add `x @ matrix` [d, d]: relu(a) - relu(-a) for each entry a of x."""
    eye = torch.eye(len(matrix))
    return torch.cat([eye, -eye]), torch.zeros(2 * len(eye)), torch.cat([matrix, -matrix])


def together(*parts: Neurons) -> Neurons:
    read, bias, write = zip(*parts, strict=True)
    return torch.cat(read), torch.cat(bias), torch.cat(write)


def model(
    folder: Path,
    embedding: Tensor,
    blocks: Sequence[Neurons] = (),
    shift: Tensor | None = None,
    unembed: Tensor | None = None,
    attention: Tensor | None = None,
) -> str:
    """Write `planted.safetensors`, and say how a spec loads it.

    Args:
        embedding: [vocab, d].
        blocks: the neurons of each block; all have as many, since the rest read and write nothing.
        shift: what the last block's MLP adds anyway [d].
        unembed: [vocab, d].
        attention: a map [d, d] of what attention averages in the last block, added to the stream.
    """
    vocab, d = embedding.shape
    blocks = blocks or [(torch.zeros(1, d), torch.zeros(1), torch.zeros(1, d))]
    d_mlp = max(len(b) for _, b, _ in blocks)
    config = tiny_config(
        {"layers": len(blocks), "heads": 1, "d_model": d, "d_mlp": d_mlp, "vocab": vocab, "ctx": 8}
        | {"norm": "none", "pos": "none", "act": "relu"}
    )
    state = {k: torch.zeros_like(v) for k, v in TinyTransformer(config).state_dict().items()}
    state["embed.weight"] = embedding.contiguous()
    for i, (read, bias, write) in enumerate(blocks):
        n = len(bias)
        state[f"blocks.{i}.mlp.up.weight"][:n] = read
        state[f"blocks.{i}.mlp.up.bias"][:n] = bias
        state[f"blocks.{i}.mlp.down.weight"][:, :n] = write.T
    last = len(blocks) - 1
    if shift is not None:
        state[f"blocks.{last}.mlp.down.bias"] = shift
    if attention is not None:
        state[f"blocks.{last}.attn.v.weight"] = torch.eye(d)
        state[f"blocks.{last}.attn.o.weight"] = attention.T.contiguous()
    if unembed is not None:
        state["unembed.weight"][: len(unembed)] = unembed
    save_file(state, folder / "planted.safetensors")
    return (
        'models.state_dict("planted.safetensors", '
        'arch: { heads: 1, act: "relu", norm: "none", pos: "none", ctx: 8 }, names: "midsl")'
    )


def spec(folder: Path, made: str, body: str) -> Path:
    """A spec on a model as `model` says it, with pairs of single random tokens as data."""
    path = folder / "spec.mi"
    path.write_text(
        f"""language mi 1
import std.models as models
from std.tasks import corpus, random_pairs
from std.decomp import boundless_das, binary_mask, crosscoder, cross_layer_transcoder, kmeans, logistic_probe
from std.decomp import mean_difference, meta_sae, ridge_probe, sae_file, skip_transcoder, transcoder
from std.decomp import tuned_lens
from std.decomp.interaction import interaction_basis, jacobian_gram
from std.subspaces import das
model m = {made}
data  p = random_pairs(m.tokenizer, n: 512, length: 1, seed: 2)
{body}
""",
        encoding="utf-8",
    )
    return path


def ran(folder: Path, made: str, body: str) -> dict[str, ResultTable]:
    """The reports of such a spec, by name."""
    return tables(compile_spec(spec(folder, made, body)))


def along(table: ResultTable, *axes: str) -> Tensor:
    """A report as a tensor with these axes, in this order."""
    assert set(axes) == set(table.keys), table.keys.keys()
    places = [list(dict.fromkeys(table.keys[a])) for a in axes]
    index = [torch.tensor([at.index(k) for k in table.keys[a]]) for a, at in zip(axes, places, strict=True)]
    made = torch.full([len(at) for at in places], float("nan"))
    made[tuple(index)] = torch.from_numpy(table.value).float()
    return made


def pairs(found: Tensor, truth: Tensor) -> list[tuple[int, float]]:
    """For each true direction, the found one that is its own (one to one, largest sum) and their cosine."""
    cosine = torch.nn.functional.normalize(found, dim=-1) @ torch.nn.functional.normalize(truth, dim=-1).T
    graph = nx.Graph()
    for i in range(cosine.shape[0]):
        for j in range(cosine.shape[1]):
            graph.add_edge(("found", i), ("true", j), weight=float(cosine[i, j]) + 1)
    matching = [sorted(p) for p in nx.max_weight_matching(graph, maxcardinality=True)]
    own = {j: i for (_, i), (_, j) in matching}
    assert len(own) == len(truth) and all(a < b for a, b in pairwise(sorted(own)))
    return [(own[j], float(cosine[own[j], j])) for j in range(len(truth))]


def matched(found: Tensor, truth: Tensor) -> float:
    """The mean cosine of true directions with the found ones that are theirs, one to one."""
    return sum(c for _, c in pairs(found, truth)) / len(truth)


def overlap(found: Tensor, truth: Tensor) -> float:
    """How much of the smaller of two spans [direction, d] is in the other: 1 all of it, 0 nothing."""
    a, b = (torch.linalg.qr(x.double().T)[0] for x in (found, truth))
    return float((a.T @ b).square().sum() / min(a.shape[1], b.shape[1]))
