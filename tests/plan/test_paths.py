"""Gradients along paths are lanes of one pass; contextual decomposition adds up in float64."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from midsl.plan.driver import Execution, compile_spec
from tests.plan.corpus import cells, exact_session, tables

HEAD = """language mi 1
import std.models as models
from std.tasks import induction
from std.metrics import logit_diff
from std.attribution.contextual import cd_blocks, cd_mlp, cd_source_head, cd_to_logits
from std.attribution.integrated import integrated_gradients
model  m  = models.toy(layers: 2, heads: 2, d_model: 8, d_mlp: 12, vocab: 16, ctx: 12, seed: 0)
data   d  = induction(m.tokenizer, n: 3, period: 3, corrupt: "cue")
metric ld = logit_diff(correct: .answer, wrong: .wrong)
"""
PATH = """experiment e {
  let clean   = run m on d.clean
  let corrupt = run m on d.corrupt
  site x      = m.blocks[0].resid_post
  report each = integrated_gradients(ld, m, on: d.corrupt, from: corrupt, to: clean, at: x,
    over: [batch, d_model], steps: 5)
}
"""
PARTS = """experiment e {
  let r     = run m on d.clean
  let how   = { norm: "layer", act: "gelu_tanh", attention: "RULE", scale: 0.5, stabilise: STEADY }
  let zs    = mean(r[m.blocks[0].attn.z], over: [batch, pos])
  let start = cd_mlp(r, m, 0, cd_source_head(r, m, 0, zs, how), how)
  let l     = cd_to_logits(r, m, cd_blocks(r, m, 1, 1, start, how), how)
  report left = max(abs(l.rel + l.irrel - r.logits))
  report size = max(abs(l.rel))
}
"""


EDGES = """language mi 1
import std.models as models
from std.tasks import induction
from std.metrics import logit_diff
from std.attribution import eap_ig_inputs
from std.search import eap_ig
model  m  = models.toy(layers: 2, heads: 2, d_model: 8, d_mlp: 12, vocab: 16, ctx: 12,
  norm: "none", final_norm: false, seed: 0)
data   d  = induction(m.tokenizer, n: 3, period: 3, corrupt: "cue")
metric ld = logit_diff(correct: .answer, wrong: .wrong, pos: .end)
experiment e {
  let clean   = run m on d.clean
  let corrupt = run m on d.corrupt
  let some    = m.edges[
    "embed->a1.h0<v>", "embed->a1.h1<v>", "a0.h1->a1.h0<v>", "a0.h1->a1.h1<v>"
  ]
  report found = eap_ig(ld, m, some, on: d.clean, from: clean, to: corrupt, steps: 4)
  report heads = eap_ig_inputs(ld, m, d.clean, clean, corrupt, m.blocks[*].attn.result[head: *],
    m.blocks[*].attn.v_input[head: *], steps: 4)
}
"""


def test_five_points_are_one_forward_and_one_pass_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tmp_path / "path.mi"
    spec.write_text(HEAD + PATH)
    compiled = compile_spec(spec)
    execution, session = Execution(compiled), exact_session(compiled)
    calls: list[int] = []
    grad = torch.autograd.grad

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return grad(*args, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", counted)
    execution.run(session=session)
    assert execution.totals == execution.predicted
    assert execution.totals.forwards == 3, "clean, corrupt, and the path"
    (step,) = [s for s in compiled.plan.runs if s.grads]
    assert step.stacked and [session.sizing.points_of(s) for s in step.sweeps] == [5]
    assert session.sizing.backwards(step) == len(calls) == 1


@pytest.mark.parametrize(
    ("rule", "steady"), [("fixed", "false"), ("rel_scores", "false"), ("rel_scores", "true")]
)
def test_both_parts_add_up_to_the_logits(tmp_path: Path, rule: str, steady: str) -> None:
    spec = tmp_path / "parts.mi"
    spec.write_text(HEAD + PARTS.replace("RULE", rule).replace("STEADY", steady))
    compiled = compile_spec(spec)
    execution = Execution(compiled)
    execution.run(session=exact_session(compiled))
    found = tables(execution)
    assert cells(found["e.left"])[()][0] < 1e-10
    assert cells(found["e.size"])[()][0] > 0.01


def test_eap_ig_is_the_papers_sum(tmp_path: Path) -> None:
    """(z' - z) times the mean of the slopes at z' + k/m (z - z'), k = 1 to m: by hooks and a loop."""
    spec = tmp_path / "edges.mi"
    spec.write_text(EDGES)
    compiled = compile_spec(spec)
    execution = Execution(compiled)
    execution.run(session=exact_session(compiled))
    found = {k: cells(t) for k, t in tables(execution).items()}

    sides = compiled.binder.dataset(compiled.program.datas[0][1]).sides
    tokens = {k: torch.from_numpy(sides[k].tokens) for k in ("clean", "corrupt")}
    answer, wrong = (torch.from_numpy(sides["clean"].columns[k].values) for k in ("answer", "wrong"))
    net: Any = deepcopy(compiled.binder.loaded(compiled.program.models[0][1]).module).double()
    first, last = net.blocks[0].attn.o, net.blocks[1]

    def told(side: str) -> tuple[Tensor, Tensor]:
        """What the embedding and head 1 of the first layer add to the stream."""
        seen: list[Tensor] = []
        with first.register_forward_pre_hook(lambda _, args: seen.append(args[0])), torch.no_grad():
            net(tokens[side], torch.ones_like(tokens[side]))
        return net.embed(tokens[side]).detach(), seen[0][..., 4:] @ first.weight.T[4:]

    def slopes(inputs: Tensor) -> Tensor:
        """The gradient at what the second layer's values read, of all heads together."""
        reads: list[Tensor] = []

        def read(_: Any, args: tuple[Tensor]) -> Tensor:
            reads.append(args[0].clone())
            return reads[-1]

        start = inputs.clone().requires_grad_()
        with last.attn.v.register_forward_pre_hook(read), net.embed.register_forward_hook(lambda *_: start):
            logits = net(tokens["clean"], torch.ones_like(tokens["clean"]))[:, -1]
        rows = torch.arange(len(logits))
        return torch.autograd.grad((logits[rows, answer] - logits[rows, wrong]).mean(), reads)[0]

    (z, head), (other, changed) = told("clean"), told("corrupt")
    slope = torch.stack([slopes(other + k / 4 * (z - other)) for k in (1, 2, 3, 4)]).mean(0)
    from_head, from_embed = ((changed - head) * slope).sum().item(), ((other - z) * slope).sum().item()
    assert abs(from_head) > 0.01 and abs(from_embed) > 0.01
    by_edge = {k[0]: v[0] for k, v in found["e.found"].items()}
    assert by_edge["a0.h1->a1.h0<v>"] + by_edge["a0.h1->a1.h1<v>"] == pytest.approx(from_head, rel=1e-9)
    assert by_edge["embed->a1.h0<v>"] + by_edge["embed->a1.h1<v>"] == pytest.approx(from_embed, rel=1e-9)
    by_head = sum(v[0] for k, v in found["e.heads"].items() if k[:3] == (0, 1, 1))
    assert by_head == pytest.approx(from_head, rel=1e-9)
