"""Directions pushed through a run: against differences and gradients, and that all share one forward pass."""

from __future__ import annotations

import pytest

from midsl.ir import nodes as ir
from midsl.plan.driver import Execution
from midsl.plan.lower import Lowered
from midsl.plan.steps import RunStep
from midsl.sema.check import check_text
from tests.plan.corpus import exact_session, planned, truth
from tests.plan.test_differences import HEAD, STEP, spec
from tests.plan.test_oracle import agree

BODY = f"""
experiment through {{                                    ## sparse codes, straight-through steps, edits
  let base  = run m on d.clean do {{ m.blocks[0].mlp_out := 0.5 * self + 0.1 }}
  let other = run m on d.corrupt
  let u     = other[y]
  let up    = run m on d.clean do {{ y := self + {STEP} * u, m.blocks[0].mlp_out := base }}
  let down  = run m on d.clean do {{ y := self - {STEP} * u, m.blocks[0].mlp_out := base }}
  let of    = fn (r) => mean(ld(r), over: batch) + sum(square(r[sae.code]), over: [batch, pos, feature])
  report pushed = jvp(of(base), at: base[y], along: u)
  report change = (of(up) - of(down)) / (2 * {STEP})
  let steps = sum(step(base[y], width: 1.0), over: [batch, pos, d_model])
  report ramp   = jvp(steps, at: base[y], along: u)
  report slope  = sum(grad(steps, at: base[y]) * u, over: [batch, pos, d_model])
}}
experiment chosen {{                                     ## along directions that the run itself chooses
  let base = run m on d.clean
  let size = mean(base[sae.code], over: [batch, pos])
  sweep f in top_index(size, k: 2, over: feature)
  let g = grad(ld(base), at: base[y])
  report pushed = jvp(ld(base), at: base[y], along: sae.decoder[feature: f])
  let u = sae.decoder[feature: f]
  report same   = max(abs(jvp(ld(base), at: base[y], along: u) - sum(g * u, over: [pos, d_model])))
}}
experiment every {{                                      ## a Jacobian, by columns and by rows
  let base = run m on d.clean
  let end  = base.logits[pos: .end]
  let ones = 0.0 * m.W_U + 1.0
  let unit = where(cumsum(ones, over: d_model) ~= cumsum(ones, over: vocab), 1.0, 0.0)
  let one  = unit[vocab: [0, 1, 2, 3]]
  let by   = jvp(rename(end, vocab: word), at: base[y[pos: .end]], along: one)      ## batch, word, vocab
  let rows = grad(rename(end, vocab: word), at: base[y[pos: .end]])                 ## batch, word, d_model
  report apart = max(abs(by - dot(rows, one, over: d_model)))
  report size  = max(abs(by))
}}
"""


def test_directions_are_what_steps_along_them_change() -> None:
    name = spec("pushed", BODY)
    agree(name, "all passes", None)
    found = truth(name).reports
    (pushed,), (change,) = (found[f"through.{r}"].values() for r in ("pushed", "change"))
    assert abs(pushed) > 1e-2 and pushed == pytest.approx(change, rel=1e-6)
    assert found["through.ramp"][()] == pytest.approx(found["through.slope"][()], rel=1e-9)
    assert abs(found["through.ramp"][()]) > 1e-2
    assert all(v < 1e-12 for v in found["chosen.same"].values())
    assert found["every.apart"][()] < 1e-12 < found["every.size"][()]


def test_all_directions_share_one_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten directions of three values at three places: the graph is walked once, on one copy of the rows."""
    compiled = planned("directions")
    execution, session = Execution(compiled), exact_session(compiled)
    walked: list[int] = []
    run = Lowered.run

    def counted(self: Lowered, *args: object) -> object:
        if self.pushed:
            walked.append(len(self.pushed))
            assert all(p.by is not None and p.by.shape[0] in (3, 6) for p in self.pushed), "lanes x examples"
        return run(self, *args)  # type: ignore[arg-type]

    pushed = [session.sizing.directions(s) for s in compiled.plan.runs if s.ahead]
    assert 3 + 2 * 3 + 1 in pushed, "three values of one run, one of them at two places"
    monkeypatch.setattr(Lowered, "run", counted)
    execution.run(session=session)
    assert execution.totals == execution.predicted
    assert len(walked) == len(pushed) and max(walked) >= 3


def test_more_directions_cost_products_and_no_forwards() -> None:
    def cost(n: int) -> tuple[int, int]:
        body = f"""experiment e {{
  let r = run m on d.clean
  report it = jvp(mean(ld(r), over: batch), at: r[y], along: m.W_U[vocab: {list(range(n))}])
}}
"""
        execution = Execution(planned(spec(f"directions_{n}", body)))
        execution.run()
        assert execution.totals == execution.predicted
        return execution.totals.forwards, execution.totals.flops

    (one, small), (two, middle), (four, large) = cost(1), cost(2), cost(4)
    assert one == two == four == 1
    assert large - middle == 2 * (middle - small) > 0


REFUSED = {
    "MI0325": "jvp(count(r[x] > 0.0, over: d_model) * 1.0, at: r[x], along: v)",
    "MI0410": "jvp(ld(r), at: 3, along: v)",
    "MI0304": "jvp(ld(r), at: r[x], along: (run m on other)[x])",
    "MI0206": 'jvp(ld(r), at: r[x], along: v, rules: { attn: "freeze" })',
    "MI0207": "jvp(ld(r), at: r[x])",
}
UNLIKE = {
    "a truth value": "jvp(ld(r), at: r[x], along: v > 0.0)",
    "rows that meet": "jvp(ld(r) - mean(ld(r), over: batch), at: r[x], along: v)",
    "positions beside": "jvp(ld(r), at: r[x[pos: .end]], along: v)",
    "runs of their own": "grad(mean(ld(s), over: [batch, gain]), at: s[m.embed])",
    "some of a sweep": "grad(sum(mean(r[h], over: [batch, pos, d_head]), over: head), at: r[m.embed])",
    "one name twice": "jvp(r.logits, at: r[x], along: m.W_U)",
}
NOT_YET = {
    "a code": "jvp(ld(r), at: r[sae.code], along: 1.0)",
    "a gradient": "jvp(sum(grad(ld(r), at: r[y]), over: [pos, d_model]), at: r[m.embed], along: v)",
    "a direction": "grad(jvp(ld(r), at: r[y], along: v), at: r[m.embed])",
    "Python": "jvp(eigh(dot(r[x], rename(r[x], d_model: b), over: [batch, pos])).values, at: r[x], along: v)",
}


@pytest.mark.parametrize(
    ("code", "expression"),
    [*REFUSED.items(), *(("MI0301", e) for e in UNLIKE.values()), *(("MI0601", e) for e in NOT_YET.values())],
)
def test_refused(code: str, expression: str) -> None:
    more = 'data other = pairs(m.tokenizer, clean: ["1 2"], corrupt: ["2 1"], answer: ["1"], wrong: ["2"])\n'
    if code == "MI0304":
        expression = expression.replace("run m on other", "run m on other.clean")
    text = f"""{HEAD}{more}experiment e {{
  sweep gain in [0.5, 1.0], h in m.blocks[*].attn.z[head: *]
  let r = run m on d.clean
  let s = run m on d.clean do {{ y := gain * self }}
  let v = (run m on d.corrupt)[x]
  report it = {expression}
}}
"""
    found = [i.code for i in check_text(text).items if i.severity == "error"]
    assert found == [code]


def test_a_gradient_may_take_values_of_runs_behind_its_own() -> None:
    """Of a product of two runs, whichever of them is asked for first."""
    body = """experiment e {
  let base  = run m on d.clean
  let other = run m on d.corrupt do { y := base }
  let last  = run m on d.corrupt
  report a = mean(base[x], over: [batch, pos])
  report g = sum(grad(sum(last[x] * base[x], over: [batch, pos, d_model]), at: base[y]), over: [batch, pos])
  report h = mean(other[x], over: [batch, pos])
}
"""
    name = spec("behind", body)
    agree(name, "all passes", None)
    agree(name, "none", 1)
    steps = [s for s in planned(name).plan.runs if isinstance(s, RunStep)]
    assert len(steps) == 4, "the run has a turn for its values, and one for its gradient"
    assert sum(isinstance(g, ir.Grad) for s in steps for g in s.grads) == 1
