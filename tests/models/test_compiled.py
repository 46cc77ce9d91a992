"""Compiled programs compute what their definition says, on every row; what does not fit is refused."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from midsl.data.programs.known import PROGRAMS
from midsl.data.programs.terms import evaluate
from midsl.diagnostics.model import MiError
from midsl.models.compiled.layout import BOS, layout
from midsl.models.compiled.load import compiled, describe_compiled
from midsl.models.compiled.weights import LOUD

GATES = ("and", "or")


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_row_of_every_length(name: str) -> None:
    plan, model = layout(name, 4), compiled(name, 4)
    model.forward.double()
    for n in (2, 3, 4) if name in GATES else (1, 2, 3, 4):
        rows = list(product(plan.tokens.domain, repeat=n))
        ids = torch.tensor([[plan.words.index(t) for t in (BOS, *map(str, r))] for r in rows])
        logits = model.forward(ids, torch.ones_like(ids))[:, 1:]
        wanted = [
            [plan.words.index(str(v)) for v in evaluate(plan.output, [str(t) for t in r])] for r in rows
        ]
        assert logits.argmax(-1).tolist() == wanted
        if not plan.output.numeric:  # and exactly: the logit of what it is, and none of any other
            said = torch.zeros_like(logits).scatter_(-1, torch.tensor(wanted)[..., None], LOUD)
            others = [i for i, w in enumerate(plan.words) if w not in {str(v) for v in plan.output.domain}]
            said[..., others] = -LOUD
            assert (logits - said).abs().max() < 1e-5


def test_pads_change_nothing() -> None:
    plan, model = layout("reverse", 4), compiled("reverse", 4)
    row = [plan.words.index(w) for w in (BOS, "a", "b", "c")]
    long = torch.tensor([[*row, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 0]])
    short = model.forward(torch.tensor([row]), torch.ones(1, 4, dtype=torch.int64))
    assert torch.allclose(model.forward(long, mask)[:, :4], short, atol=1e-5)


@pytest.mark.parametrize(("name", "beside"), [("frac_prevs", "hist"), ("sort", "reverse"), ("and", "or")])
def test_what_stands_beside_is_no_part_of_the_circuit(name: str, beside: str) -> None:
    alone, both = compiled(name), compiled(name, beside=beside)
    words = layout(name).words
    letters = words[1:3] if name in GATES else words[1:5]
    rows = torch.tensor([[0, *[words.index(t) for t in r]] for r in product(letters, repeat=4)])
    assert torch.allclose(
        both.forward(rows, torch.ones_like(rows)), alone.forward(rows, torch.ones_like(rows))
    )
    assert len(describe_compiled(name, beside=beside).circuit) == len(describe_compiled(name).circuit)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"program": "srt"}, "there is no program"),
        ({"program": "sort", "length": 1}, "length is 1"),
        ({"program": "sort", "beside": "sort"}, "cannot stand beside"),
        ({"program": "sort", "beside": "and"}, "cannot stand beside"),
    ],
)
def test_what_does_not_fit_is_refused(args: dict[str, object], words: str) -> None:
    with pytest.raises(MiError, match=f"MI0509.*{words}"):
        describe_compiled(**args)  # type: ignore[arg-type]
