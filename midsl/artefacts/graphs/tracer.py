"""Raw graphs of circuit-tracer, `.pt`: a dense matrix of all features, errors, tokens and logits of a prompt.

Rows of the matrix are targets. Files are loaded with `weights_only=True`; those that hold more than tensors,
texts and numbers (a configuration as an object) are refused.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from midsl.artefacts.base import WHERE, not_understood
from midsl.artefacts.graphs.base import GraphFile, Part, column, need, no_place, only, parts_of
from midsl.artefacts.headers import AGAIN
from midsl.diagnostics.model import fail
from midsl.unpack import check_archive

FORMAT = "circuit_tracer"
KEYS = (
    *("input_string", "adjacency_matrix", "cfg", "active_features", "logit_targets", "logit_probabilities"),
    *("vocab_size", "input_tokens", "selected_features", "activation_values", "scan"),
)
NEEDED = ("input_string", "vocab_size", "scan", "cfg")


def read(path: Path) -> GraphFile:
    """The graph of a file. Raises MI0504, MI0508, MI0510, and MI0514 for what is not understood."""
    try:
        check_archive(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        help = "keep `cfg` as a dict of numbers and texts"
        raise fail("MI0508", f"{path} would run code when loaded", help=help) from None
    except FileNotFoundError:
        raise fail("MI0504", f"there is no {path}", help=WHERE) from None
    except (RuntimeError, EOFError, OSError, KeyError) as error:
        raise fail("MI0510", f"{path} is damaged: {error}", help=AGAIN) from None
    if not isinstance(found, dict):
        raise not_understood("it is no graph", path)
    only(found, KEYS, "the file", path)
    if missing := [k for k in KEYS if k not in found]:
        raise not_understood(f"there is no `{missing[0]}`", path)
    return _graph(found, path)


def _graph(found: Mapping[str, Any], path: Path) -> GraphFile:
    cfg = found["cfg"]
    if not isinstance(cfg, dict) or type(cfg.get("n_layers")) is not int:
        raise not_understood("`cfg` does not tell `n_layers`", path, "a dict that has it")
    tokens = torch.as_tensor(found["input_tokens"]).reshape(-1).tolist()
    logits = torch.as_tensor(found["logit_targets"]).reshape(-1).tolist()
    chosen = torch.as_tensor(found["selected_features"]).reshape(-1).long()
    features = torch.as_tensor(found["active_features"]).reshape(-1, 3)[chosen].tolist()
    parts = [Part("f", layer, index, pos) for layer, pos, index in features]
    parts += [Part("e", layer, 0, p) for layer in range(cfg["n_layers"]) for p in range(len(tokens))]
    parts += [Part("t", -1, t, p) for p, t in enumerate(tokens)]
    parts += [Part("o", -1, t, len(tokens) - 1) for t in logits]
    matrix = torch.as_tensor(found["adjacency_matrix"]).double()
    if tuple(matrix.shape) != (len(parts), len(parts)):
        raise not_understood(f"its matrix is {list(matrix.shape)}, and it has {len(parts)} nodes", path)
    if not bool(matrix.isfinite().all()):
        raise not_understood("its matrix has entries that are no numbers", path)
    size = len(features)
    activation = torch.as_tensor(found["activation_values"]).reshape(-1).double()
    if activation.numel() not in (size, len(found["active_features"])):
        raise not_understood(f"{activation.numel()} activations for {size} features", path)
    own = activation if activation.numel() == size else activation[chosen]
    prob = torch.as_tensor(found["logit_probabilities"]).reshape(-1).double().tolist()
    if len(prob) != len(logits):
        raise not_understood(f"{len(prob)} probabilities for {len(logits)} logits", path)
    rest = len(parts) - size
    dst, src = matrix.nonzero(as_tuple=True)
    return GraphFile(
        FORMAT,
        tuple(p.name for p in parts),
        {
            "kept": [True] * len(parts),
            "activation": [*own.tolist(), *[0.0] * rest],
            "prob": [*[0.0] * (len(parts) - len(prob)), *prob],
        },
        src.tolist(),
        dst.tolist(),
        {"weight": matrix[dst, src].tolist(), "kept": [True] * len(src)},
        {k: found[k] for k in NEEDED},
    )


def write(graph: GraphFile, path: Path) -> None:
    """Write a graph: all of its nodes, in the format's order; edges that are not kept are 0.

    Raises:
        MiError: MI0514 for names of other graphs, for nodes that the format has and the graph lacks, and
            where `about` lacks input_string, vocab_size, scan or cfg (with n_layers).
    """
    need(graph.about, NEEDED, FORMAT)
    need(graph.about["cfg"], ("n_layers",), FORMAT)
    parts = parts_of(graph.names, FORMAT)
    tokens = {p.pos: p.index for p in parts if p.kind == "t"}
    layers, length = int(graph.about["cfg"]["n_layers"]), len(tokens)
    features = [p for p in parts if p.kind == "f"]
    logits = [p for p in parts if p.kind == "o"]
    ordered = [*features, *(Part("e", layer, 0, i) for layer in range(layers) for i in range(length))]
    ordered += [Part("t", -1, tokens.get(i, -1), i) for i in range(length)] + logits
    number = {n: i for i, n in enumerate(graph.names)}
    if missing := [p.name for p in ordered if p.name not in number]:
        raise no_place("a graph without some errors or tokens", FORMAT, f"there is no `{missing[0]}`")
    if len(ordered) < len(parts):
        raise no_place("errors of other layers and positions", FORMAT, "see `n_layers` in --about")
    at = {number[p.name]: i for i, p in enumerate(ordered)}
    matrix = torch.zeros(len(ordered), len(ordered))
    for s, t, w, k in zip(graph.src, graph.dst, graph.edges["weight"], graph.edges["kept"], strict=True):
        if k:
            matrix[at[t], at[s]] = float(w)
    activation, prob = column(graph, "activation", FORMAT), column(graph, "prob", FORMAT)
    told: dict[str, Tensor | Any] = {
        "adjacency_matrix": matrix,
        "active_features": torch.tensor([[p.layer, p.pos, p.index] for p in features]).reshape(-1, 3),
        "selected_features": torch.arange(len(features)),
        "activation_values": torch.tensor([float(activation[number[p.name]]) for p in features]),
        "logit_targets": torch.tensor([p.index for p in logits]),
        "logit_probabilities": torch.tensor([float(prob[number[p.name]]) for p in logits]),
        "input_tokens": torch.tensor([tokens[i] for i in range(length)]),
        **{k: graph.about[k] for k in NEEDED},
    }
    torch.save(told, path)
