"""Jacobians, products with them from either side, and their Grams, against torch on the module itself.

The module is that of the spec, in float64, behind its embeddings: what stands there goes in, logits
at the end of each row come out. Rows have several lengths, and are worked out one by one without padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from midsl.plan.driver import Compiled
from tests.plan.corpus import planned, truth
from tests.plan.test_differences import spec
from tests.plan.test_oracle import agree

BODY = """
site cut = m.blocks[0].resid_pre
experiment inputs {
  report stream = (run m on d.clean)[cut]
  report along  = (run m on d.corrupt)[cut]
  report weight = (run m on d.corrupt).logits[pos: .end]
}
experiment products {
  let base = run m on d.clean
  let end  = base.logits[pos: .end]
  let c    = (run m on d.corrupt).logits[pos: .end]
  report before = grad(dot(end, c, over: vocab), at: base[cut])
  report ahead  = jvp(end, at: base[cut], along: (run m on d.corrupt)[cut])
}
experiment several {                                     ## cotangents side by side, over one forward pass
  let base = run m on d.clean
  let c    = dot(m.W_U[vocab: [0, 2, 5]], rename(m.W_U, vocab: word), over: d_model)
  report cotangents = c
  let each = dot(base.logits[pos: .end], rename(c, vocab: which, word: vocab), over: vocab)
  report before = grad(each, at: base[cut])
}
experiment jacobians {
  let base = run m on d.clean
  let j    = grad(rename(base.logits[pos: .end], vocab: word), at: base[cut])
  report each = j
  report gram = dot(j, rename(j, word: other), over: [pos, d_model])      ## batch, word, other: of each row
  let total   = dot(j, rename(j, d_model: by), over: [word, pos])
  report mean_gram = mean(total, over: batch)            ## d_model, by: of all rows
}
experiment losses {
  let base = run m on d.clean
  report each = grad(ld(base), at: base[cut])            ## of each row's own number
}
"""
NAME = "against_autograd"


class Rest(nn.Module):
    """A toy behind its embeddings."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """What the stream is, [pos, d_model], to logits at its end, [vocab]."""
        x = self.model.get_submodule("blocks.0")(x[None], None)[0, -1]
        for name in ("ln_final", "unembed"):
            x = self.model.get_submodule(name)(x)
        return x


def rest(compiled: Compiled) -> Rest:
    ((_, model),) = compiled.program.models
    return Rest(deepcopy(compiled.binder.loaded(model).module).double())


def vjp(module: Rest, x: Tensor, c: Tensor) -> Tensor:
    found: Tensor = torch.autograd.functional.vjp(module, x, c)[1]  # type: ignore[no-untyped-call]
    return found


@pytest.fixture(scope="module")
def module() -> Rest:
    spec(NAME, BODY)
    agree(NAME, "all passes", None)
    return rest(planned(NAME))


def array(name: str) -> Tensor:
    """A report along its keys, in the order of its columns; NaN where a row has no position."""
    rows = truth(NAME).reports[name]
    marks = [sorted({int(k[i]) for k in rows}) for i in range(len(next(iter(rows))))]  # type: ignore[call-overload]
    out = torch.full([len(m) for m in marks], torch.nan, dtype=torch.float64)
    for key, value in rows.items():
        out[tuple(m.index(int(k)) for m, k in zip(marks, key, strict=True))] = value  # type: ignore[call-overload]
    return out


def by_row(name: str, pos: int = 1) -> Iterator[Tensor]:
    """What a report has for each row, without the positions that the row has not."""
    for row in array(name):
        real = ~row.isnan().movedim(pos - 1, 0).flatten(1).any(1)
        yield row.movedim(pos - 1, 0)[real].movedim(0, pos - 1)


def same(mine: Tensor, theirs: Tensor) -> None:
    assert mine.shape == theirs.shape and theirs.abs().max() > 1e-2
    torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_a_product_with_a_cotangent_is_a_vjp(module: Rest) -> None:
    rows = zip(by_row("inputs.stream"), array("inputs.weight"), by_row("products.before"), strict=True)
    for x, c, found in rows:
        same(found, vjp(module, x, c))


def test_several_cotangents_are_a_vjp_each(module: Rest) -> None:
    cotangents = array("several.cotangents")
    for x, found in zip(by_row("inputs.stream"), by_row("several.before", pos=2), strict=True):
        assert len(found) == len(cotangents) == 3
        for c, one in zip(cotangents, found, strict=True):
            same(one, vjp(module, x, c))


def test_a_product_with_a_direction_is_a_jvp(module: Rest) -> None:
    rows = zip(by_row("inputs.stream"), by_row("inputs.along"), array("products.ahead"), strict=True)
    for x, u, found in rows:
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernel has no forward derivative
            same(found, torch.func.jvp(module, (x,), (u,))[1])


def test_jacobians_of_each_row_and_their_grams(module: Rest) -> None:
    total = torch.zeros(4, 4, dtype=torch.float64)
    streams = list(by_row("inputs.stream"))
    assert len({len(x) for x in streams}) > 1, "rows have several lengths"
    for x, found, gram in zip(streams, by_row("jacobians.each", pos=2), array("jacobians.gram"), strict=True):
        j = torch.func.jacrev(module)(x)
        same(found, j)
        same(gram, torch.einsum("wpd,vpd->wv", j, j))
        total += torch.einsum("wpd,wpe->de", j, j)
    same(array("jacobians.mean_gram"), total / len(streams))


def test_gradients_of_each_rows_own_number(module: Rest) -> None:
    for x, found, (right, wrong) in zip(
        by_row("inputs.stream"), by_row("losses.each"), [(1, 4), (2, 5), (3, 6)], strict=True
    ):
        weights = torch.zeros(8, dtype=torch.float64)
        weights[right], weights[wrong] = 1, -1
        same(found, vjp(module, x, weights))
