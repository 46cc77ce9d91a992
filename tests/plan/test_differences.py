"""`grad` against central differences in float64, for every operation that a gradient may go through.

The operations are those of the catalogue and of the reductions: one without a case here, or a case that does
not use it, fails. What the plan and the oracle call a gradient along a direction must be what a small step
along it changes; what moves in steps must be refused with its code.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from midsl.ir import nodes as ir
from midsl.ir.backward import FLAT
from midsl.ops.catalog import CATALOG
from midsl.ops.reduce import REDUCTIONS
from midsl.passes.pipeline import OPTIONAL
from midsl.sema.check import check_text
from tests.ops.test_ops import SMOOTH
from tests.plan import corpus
from tests.plan.corpus import planned, truth
from tests.plan.test_oracle import agree

HEAD = """language mi 1
import std.models as models
from std.tasks import pairs
from std.metrics import logit_diff
from std.decomp import topk_sae
from std.linalg import eigh
model m = models.toy(layers: 1, heads: 2, d_model: 4, d_mlp: 6, vocab: 8, ctx: 12, seed: 3)
data  d = pairs(m.tokenizer, clean: ["1 2 3", "4 5 6 7", "3 1"], corrupt: ["5 2 3", "6 5 4 7", "2 1"],
  answer: ["1", "2", "3"], wrong: ["4", "5", "6"])
metric ld = logit_diff(correct: .answer, wrong: .wrong, pos: .end)
site  x = m.blocks[0].resid_post
site  y = m.blocks[0].resid_mid
decomposition sae = topk_sae(at: y, d_sae: 6, k: 3)
"""
STEP = 1e-4
TOLERANCE = 1e-6

ALL = "batch, pos, d_model"
RAMP = "clamp(v / 0.8 + 0.5, min: 0.0, max: 1.0)"
GRAM = "(fn (a) => dot(a, rename(a, d_model: other), over: [batch, pos]))(v + w)"
CASES: dict[str, tuple[str, str]] = {
    **{op: (f"{op}(v)", ALL) for op in ("abs", "relu", "exp", "gelu", "silu", "sigmoid", "tanh", "square")},
    **{op: (f"{op}(1.0 + v * v)", ALL) for op in ("log", "sqrt")},
    **{op: (f"{op}(v, w)", ALL) for op in ("minimum", "maximum")},
    **{op: (f"{op}(v, over: d_model)", ALL) for op in ("softmax", "log_softmax", "normalize", "cumsum")},
    **{op: (f"{op}(v, over: pos)", "batch, d_model") for op in ("logsumexp", "norm")},
    "neg": ("-v", ALL),
    "add": ("v * v + w", ALL),
    "sub": ("w - v * v", ALL),
    "mul": ("v * w * v", ALL),
    "mod": ("v % 0.37 + w % (2.0 + v)", ALL),
    "pow": ("(2.0 + sigmoid(v)) ** (1.0 + v * v)", ALL),
    "div": ("w / (1.0 + v * v)", ALL),
    "clamp": ("clamp(v, min: -0.5, max: 0.6)", ALL),
    "stack": (f"[solve(k * {GRAM}, w, over: d_model) for k in [1.0, 2.0]]", "k, batch, pos, other"),
    "concat": ("concat(v, v * v, over: d_model)", ALL),
    "where": ("where(w > 0.0, v * v, exp(v))", ALL),
    "top_mask": ("top_mask(v, k: 2, over: d_model)", ALL),
    "group_max": ("group_max(v, k: 2, over: d_model)", ALL),
    "rename": ("square(rename(v, d_model: other))", "batch, pos, other"),
    "eigenvectors": (f"eigenvectors({GRAM}, over: d_model, into: c, k: 2)[c: 1]", "d_model"),
    "solve": (f"solve({GRAM}, v, over: d_model, ridge: 0.5)", "batch, pos, other"),
    "orthonormal": (f"orthonormal({GRAM}[other: [0, 2]], over: d_model)", "d_model, other"),
    "dot": ("dot(v, exp(v), over: [pos, d_model])", "batch"),
    "cosine": ("cosine(v, exp(v), over: d_model)", "batch, pos"),
    "kl": ("kl_divergence(v, w, over: d_model)", "batch, pos"),
    "js": ("js_divergence(w, v, over: d_model)", "batch, pos"),
    "entropy": ("entropy(v, over: d_model)", "batch, pos"),
    "spread": (
        'graph(mean(v * v, over: [batch, pos]), from: "t{d_model}", to: "f").edges.weight',
        "src, dst",
    ),
}
"""By operation, an expression of v [batch, pos, d_model], what a run has at a site, and another run's w."""
REDUCED = {
    "mean": ("mean(v * v, over: pos)", "batch, d_model"),
    "sum": ("sum(v * v, over: [pos, d_model])", "batch"),
    "max": ("max(v, over: pos)", "batch, d_model"),
    "min": ("min(v, over: [pos, d_model])", "batch"),
    "std": ("std(v, over: pos)", "batch, d_model"),
    "var": ("var(v, over: [batch, pos])", "d_model"),
}
NODES = {
    "one entry": ("v[d_model: 2] * v", ALL),
    "some entries": ("square(v)[d_model: [0, 3]]", ALL),
    "a stretch": ("square(v)[d_model: 1..3]", ALL),
    "one position": ("square(v)[pos: .end]", "batch, d_model"),
    "some positions": ("square(v)[pos: 1..]", ALL),
    "one place": ("square(r[m.blocks[0].resid_post[pos: .end]])", "batch, d_model"),
    "rows of one kind": ("mean(v * v, over: batch, where: w[pos: 0, d_model: 0] > 0.0)", "pos, d_model"),
    "other runs": ("v * exp(w) + r[m.blocks[0].ln2.scale] * w", ALL),
    "logits": ("r.logits * sum(v, over: d_model)", "batch, pos, vocab"),
}
"""The same for reductions, and for what is no operation."""
VALUES = {**CASES, **REDUCED, **NODES}
EDITED = {
    "put": "sae.code[feature: 2] := square(self) + 1.0",
    "where": "sae.code := self * 0.5 + 0.1",
    "tanh": "y := tanh(self)",
    "sum": "y := self * sum(self, over: d_model)",
}
"""What an edit writes, for gradients through it."""
BY_ITSELF = {
    "contexts": "of reports of contexts; not compared",
    "top_values": "of reports of contexts; not compared",
    "gelu_tanh": "tests/ops: no function of the language",
    "sort": "tests/ops: no function of the language",
    "lift": "tests/ops: reports of tables alone have it",
    "project": "tests/ops: of bases and weights, which no run changes",
    "lay_out": "of the shares of edges, which no run changes: test_ops has its gradient",
    "step": "straight through: its gradient is not what a step changes, see below",
    "extern": "Python is refused: test_directions",
}
"""Operations without a case, and why; those that could have one are compared in `tests/ops`."""
REFUSED = {
    "sign": "sign(v)",
    "stop_gradient": "stop_gradient(v)",
    "rank": "rank(v, over: d_model) * 1.0",
    "argmax": "argmax(v, over: d_model) * 1.0",
    "argmin": "argmin(v, over: d_model) * 1.0",
    "isfinite": "where(isfinite(v), 1.0, 0.0)",
    "approx": "where(v ~= w, 1.0, 0.0)",
    "and": "where(v > 0.0 and v < 1.0, 1.0, 0.0)",
    "or": "where(v > 0.0 or v < -1.0, 1.0, 0.0)",
    "not": "where(not v > 0.0, 1.0, 0.0)",
    **{
        op: f"where(v {sign} w, 1.0, 0.0)"
        for op, sign in {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}.items()
    },
    "eq": "where(argmax(v, over: d_model) == 1, 1.0, 0.0)",
    "ne": "where(argmax(v, over: d_model) != 1, 1.0, 0.0)",
    "count": "count(v > 0.0, over: d_model) * 1.0",
    "any": "where(any(v > 0.0, over: d_model), 1.0, 0.0)",
    "all": "where(all(v > 0.0, over: d_model), 1.0, 0.0)",
}


def spec(name: str, body: str) -> str:
    """Write a spec for the corpus; the name under which it goes there."""
    if name not in corpus.ELSEWHERE:
        path = Path(tempfile.mkdtemp()) / f"{name}.mi"
        path.write_text(HEAD + body, encoding="utf-8")
        corpus.ELSEWHERE[name] = path
    return name


def of_value(name: str, expression: str, axes: str) -> str:
    """What the gradient says that a direction does to a value, and what a small step along it does."""
    return f"""experiment {called(name)} {{
  let base  = run m on d.clean
  let other = run m on d.corrupt
  let u     = other[x]
  let w     = other[m.blocks[0].mlp_out] + 0.1
  let up    = run m on d.clean do {{ x := self + {STEP} * u }}
  let down  = run m on d.clean do {{ x := self - {STEP} * u }}
  let value = fn (r, v) => {expression}
  let of    = fn (r) => sum(value(r, r[x]) * normal(value(base, base[x]), seed: 1), over: [{axes}])
  report slope  = sum(grad(of(base), at: base[x]) * u, over: [{ALL}])
  report change = (of(up) - of(down)) / (2 * {STEP})
}}
"""


def called(name: str) -> str:
    return "of_" + name.replace(" ", "_")


def values() -> str:
    return spec("differences", "".join(of_value(n, *c) for n, c in VALUES.items()))


def operations(name: str, experiment: str) -> set[str]:
    """What the scalars of the gradients of an experiment are made of."""
    found = set()
    for x in planned(name, OPTIONAL).optimised.program.experiments:
        if x.name == experiment:
            for grad in (n for n in ir.walk(*x.sinks) if isinstance(n, ir.Grad)):
                found |= {n.op for n in ir.walk(grad.scalar) if isinstance(n, (ir.Apply, ir.Reduce))}
    return found


def test_every_operation_has_a_case() -> None:
    differ = {n for n, info in CATALOG.items() if info.arity != 0} - FLAT
    assert differ == set(CASES) | set(BY_ITSELF) | {"put"}, (
        "an operation without a case, or a case without one"
    )
    assert set(REDUCTIONS) == set(REDUCED) | {"count", "any", "all"}
    assert {n for n in FLAT if CATALOG[n].arity != 0} <= set(REFUSED) | {"around"}, (
        "tokens of contexts are places"
    )
    assert {n for n, why in BY_ITSELF.items() if why.startswith("tests/ops")} <= set(SMOOTH)


def test_each_case_is_what_it_says() -> None:
    for name in VALUES:
        assert name in NODES or name in operations(values(), called(name)), name


def test_gradients_of_values_are_what_a_small_step_changes() -> None:
    agree(values(), "all passes", None)
    found = truth(values()).reports
    for name in VALUES:
        (slope,), (change,) = (found[f"{called(name)}.{r}"].values() for r in ("slope", "change"))
        assert abs(slope) > 1e-3, f"{name}: there is something to compare"
        assert slope == pytest.approx(change, rel=TOLERANCE), name


def of_edit(name: str, edit: str) -> str:
    """The same for what an edit makes of what arrives, with a gradient that goes through it."""
    return f"""experiment {called(name)} {{
  let other = run m on d.corrupt
  let u     = other[m.embed]
  let r     = run m on d.clean do {{ {edit} }}
  let up    = run m on d.clean do {{ m.embed := self + {STEP} * u, {edit} }}
  let down  = run m on d.clean do {{ m.embed := self - {STEP} * u, {edit} }}
  let g     = grad(mean(ld(r), over: batch), at: r[m.embed], through: true)
  report slope  = sum(g * u, over: [{ALL}])
  report change = mean(ld(up) - ld(down), over: batch) / (2 * {STEP})
}}
"""


def test_gradients_through_edits_are_what_a_small_step_changes() -> None:
    name = spec("differences_edited", "".join(of_edit(n, e) for n, e in EDITED.items()))
    agree(name, "all passes", None)
    found = truth(name).reports
    for edit in EDITED:
        (slope,), (change,) = (found[f"{called(edit)}.{r}"].values() for r in ("slope", "change"))
        assert abs(slope) > 1e-3 and slope == pytest.approx(change, rel=TOLERANCE), edit
        ops = {n.op for n in ir.walk(*planned(name).program.roots) if isinstance(n, (ir.Apply, ir.Reduce))}
        assert edit in ops


@pytest.mark.parametrize("name", REFUSED)
def test_what_moves_in_steps_is_refused(name: str) -> None:
    assert [d.code for d in check_text(HEAD + refused(REFUSED[name])).items] == ["MI0325"]


def refused(expression: str) -> str:
    return f"""experiment e {{
  let r = run m on d.clean
  let v = r[x]
  let w = (run m on d.corrupt)[x]
  report slope = grad(max({expression}), at: r[m.embed])
}}
"""


def test_a_step_has_the_gradient_of_its_ramp() -> None:
    """Straight through, as declared: what JumpReLU makes of its thresholds."""
    ramp, steps = (f"sum({f} * w, over: [{ALL}])" for f in (RAMP, "step(v, width: 0.8)"))
    body = f"""experiment straight {{{{
  let base = run m on d.clean
  let w    = (run m on d.corrupt)[x]
  let v    = base[x]
  report apart = max(abs(grad({ramp}, at: v) - grad({steps}, at: v)))
  report size  = max(abs(grad({ramp}, at: v)))
}}}}
""".replace("{{", "{").replace("}}", "}")
    name = spec("straight_through", body)
    agree(name, "all passes", None)
    found = truth(name).reports
    assert found["straight.apart"][()] == 0 < found["straight.size"][()]
