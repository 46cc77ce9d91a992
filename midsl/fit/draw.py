"""Drawing parameters: a function of the seed and of each tensor's name, on every machine the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from midsl.artefacts.tensors import read_tensor
from midsl.diagnostics.model import MiError, fail
from midsl.ir import nodes as ir
from midsl.ops.random import draw
from midsl.source import Span


def draw_params(node: ir.Params) -> dict[str, Tensor]:
    """Return the tensors of a `Params` node in float32; axes as it names them.

    Raises:
        MiError: MI0301 where the size of an axis of the model is not known.
    """
    found: dict[str, Tensor] = {}
    for name, how, sizes, given in entries(node):
        for axis, size in sizes.items():
            if size is None:
                raise fail(
                    "MI0301",
                    f"how long `{axis}` is in this model is not known",
                    node.span,
                    help=f"write its length: `params({{...}}, {axis}: 64)`",
                )
        if how == "same":
            found[name] = found[given["as"]].clone()
        elif how == "file":
            found[name] = kept_tensor(given, node.span).reshape(tuple(sizes.values())).float()
        else:
            found[name] = _one(how, node.seed, name, sizes, given)
    return found


def kept_tensor(given: Mapping[str, Any], span: Span) -> Tensor:
    """A tensor of a file (see ``midsl.sema.stored``), in our order of axes and its own precision.

    One that is at several layers is made of those of each; those that write to fewer write 0 to the first.
    """
    if "layers" in given:
        return _stacked([kept_tensor(dict(one), span) for one in given["layers"]])
    try:
        value = read_tensor(
            Path(given["path"]),
            given["key"],
            given["sha256"],
            given["wanted"],
            given["also"],
            dict(given["fixed"]),
        )
    except MiError as err:
        raise err.at(span) from None
    if tuple(value.shape) != given["shape"]:  # of a `.pt`, the header of which says nothing
        name = Path(given["path"]).name
        what = f"{name}: `{given['key']}` is {list(value.shape)}, not {list(given['shape'])}"
        raise fail("MI0514", what, span, help="mend the file or its configuration")
    if "least" in given and bool((value < given["least"]).any()):
        what = f"{Path(given['path']).name}: `{given['key']}` has entries below {given['least']:g}"
        raise fail("MI0514", what, span, help="the package lets negative codes through there: midsl has none")
    return value.permute(given["order"]).contiguous()


def _stacked(layers: Sequence[Tensor]) -> Tensor:
    """The tensors of all layers as one, along a first axis; the shorter ones are 0 before they begin."""
    most = max(len(x) for x in layers)
    full = [x if len(x) == most else torch.cat([x.new_zeros(most - len(x), *x.shape[1:]), x]) for x in layers]
    return torch.stack(full)


def units_of(node: ir.Params) -> dict[str, int]:
    """Tensors whose vectors keep unit length, and the dimension that those lie along."""
    return {
        name: list(sizes).index(given["unit"]) for name, _, sizes, given in entries(node) if "unit" in given
    }


def entries(node: ir.Params) -> Iterator[tuple[str, str, dict[str, Any], dict[str, Any]]]:
    """Each tensor: its name, how it is drawn, its axes with their sizes, and its settings."""
    for drawn in node.drawn:
        assert isinstance(drawn, tuple)
        name, how, pairs, settings = drawn
        assert isinstance(name, str) and isinstance(how, str)
        assert isinstance(pairs, tuple) and isinstance(settings, tuple)
        yield name, how, dict(pairs), dict(settings)  # type: ignore[arg-type]


def _one(how: str, seed: int, name: str, sizes: dict[str, int], given: dict[str, Any]) -> Tensor:
    shape = tuple(sizes.values())
    if how in ("zeros", "ones"):
        return torch.full(shape, float(how == "ones"))
    coords = {a: np.arange(n) for a, n in sizes.items()}
    if how == "uniform":
        low, high = float(given.get("low", 0.0)), float(given.get("high", 1.0))
        data = draw("uniform", seed, name, coords) * (high - low) + low
    else:
        data = draw("normal", seed, name, coords) * float(given.get("std", 1.0))
    x = torch.from_numpy(np.ascontiguousarray(data))
    if how == "orthogonal":
        first, second = shape
        q, r = torch.linalg.qr(x if first >= second else x.T)
        q = q * torch.sign(torch.diagonal(r))  # the one way in which that is unique
        x = q if first >= second else q.T
    if "unit" in given:
        x = x / x.norm(dim=list(sizes).index(str(given["unit"])), keepdim=True).clamp(min=1e-12)
    return x.to(torch.float32)
