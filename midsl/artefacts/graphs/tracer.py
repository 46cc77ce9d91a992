"""Raw graphs of circuit-tracer, `.pt`: a dense matrix of all features, errors, tokens and logits of a prompt.

Rows of the matrix are targets. Files are loaded with `weights_only=True`. The package writes two kinds of
objects, a configuration and what each logit is: both are read into plain holders of this module, so that
nothing of the file runs, and the package need not be there. A file that names any other class or function is
refused. Written, a configuration has the class that the package looks for, so that its `Graph.from_pt` reads
it (0.5.0): again by name alone.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

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


class Config:
    """What a configuration says, as attributes."""


class Target(NamedTuple):
    """What a logit is, as the package writes it."""

    token_str: str
    vocab_idx: int


HOLDERS: list[Any] = [
    (Config, "circuit_tracer.utils.tl_nnsight_mapping.UnifiedConfig"),
    (Config, "transformer_lens.HookedTransformerConfig.HookedTransformerConfig"),
    (Config, "transformer_lens.config.HookedTransformerConfig.HookedTransformerConfig"),
    (Target, "circuit_tracer.attribution.targets.LogitTarget"),
]
"""The classes of objects in such files, and what stands for them here; the first name of each is written."""


_Pickler: Any = pickle._Pickler  # the one in Python: that in C always imports what it names


class _ByName(_Pickler):  # type: ignore[misc]
    """Writes the holders under the names of the classes that they stand for, which need not be there."""

    def save_global(self, obj: Any, name: str | None = None) -> None:
        """Write a class or function as its name."""
        known = next((path for holder, path in HOLDERS if holder is obj), None)
        if known is None:
            super().save_global(obj, name)
            return
        self.write(pickle.GLOBAL + "{}\n{}\n".format(*known.rsplit(".", 1)).encode())
        self.memoize(obj)


class _Pickle:
    """What `torch.save` asks of a module for pickling."""

    Pickler = _ByName


def read(path: Path) -> GraphFile:
    """The graph of a file. Raises MI0504, MI0508, MI0510, and MI0514 for what is not understood."""
    try:
        check_archive(path)
        with torch.serialization.safe_globals(HOLDERS):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = f": it needs `{named[1]}`" if named else ""
        help = "load it with its own package, make `cfg` a dict with `n_layers`, and save it again"
        raise fail("MI0508", f"{path} would run code when loaded{what}", help=help) from None
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
    cfg = _plain(found["cfg"])
    if type(cfg.get("n_layers")) is not int:
        raise not_understood("`cfg` does not tell `n_layers`", path, "a dict that has it")
    tokens = torch.as_tensor(found["input_tokens"]).reshape(-1).tolist()
    logits = _logits(found["logit_targets"], found["vocab_size"], path)
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
        {**{k: found[k] for k in NEEDED}, "cfg": cfg},
    )


def _plain(cfg: object) -> dict[str, Any]:
    """The numbers and texts of a configuration."""
    known = vars(cfg) if isinstance(cfg, Config) else cfg if isinstance(cfg, dict) else {}
    return {k: v for k, v in known.items() if isinstance(v, (str, int, float, bool, type(None)))}


def _logits(targets: object, vocab: object, path: Path) -> list[int]:
    """Which token each logit is of: numbers in older files, records of text and number in newer ones."""
    if not isinstance(targets, list):
        return torch.as_tensor(targets).reshape(-1).tolist()
    found = [t.vocab_idx if isinstance(t, Target) else t for t in targets]
    for t in found:
        if type(t) is not int:
            raise not_understood(f"what is the logit {t!r}?", path, "a number of the vocabulary")
        if isinstance(vocab, int) and t >= vocab:
            raise not_understood("it has targets that are no logits of the vocabulary", path, "trace tokens")
    return found


def write(graph: GraphFile, path: Path) -> None:
    """Write a graph: all of its nodes, in the format's order; edges that are not kept are 0.

    Raises:
        MiError: MI0514 for names of other graphs, for nodes that the format has and the graph lacks, and
            where `about` lacks input_string, vocab_size, scan or cfg (with n_layers). Of `cfg` the package
            knows what is told there: to draw a graph it also wants tokenizer_name.
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
    cfg = Config()
    vars(cfg).update(graph.about["cfg"])
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
        "cfg": cfg,
    }
    torch.save(told, path, pickle_module=_Pickle)
