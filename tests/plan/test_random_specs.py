"""Specs that nobody wrote: whatever the passes, chunks and sites, a plan gives what the oracle gives.

Hypothesis puts well-typed specs together from sites, selections, values and reads, and shrinks one that fails
to the smallest that still does. What the language refuses (two writes that overlap, say) is no example.
"""

from __future__ import annotations

import math
from functools import cache

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from midsl.diagnostics.model import MiError
from midsl.passes.pipeline import OPTIONAL, optimise
from midsl.plan.bind import Binder
from midsl.plan.build import build
from midsl.plan.driver import Compiled, Execution
from midsl.plan.explain import explain
from midsl.plan.fits import Fitter
from midsl.plan.train import Trainer
from midsl.plan.verify import TOLERANCE
from midsl.sema.check import check_source
from midsl.source import SourceFile
from tests.plan.corpus import CHUNKS, cells, chunked, exact_session, tables, truth_of, without

TOY = "layers: 2, d_model: 16, d_mlp: 24, vocab: 32, ctx: 24"
MODELS = {
    "toy": f"models.toy({TOY}, heads: 2, seed: 3)",
    "gqa": f'models.toy({TOY}, heads: 4, kv_heads: 2, norm: "rms", gated: true, pos: "rotary", seed: 4)',
    "encoder": f"models.toy({TOY}, heads: 2, causal: false, seed: 5)",
}
HEAD = """language mi 1
import std.models as models
from std.tasks import pairs
from std.metrics import logit_diff, nll
model m = {model}
data  d = pairs(m.tokenizer,
  clean: ["5 6 7 8 9", "9 4 11 12 13 14", "3 21 22 3"],
  corrupt: ["5 6 31 8 9", "9 16 11 12 30 14", "23 21 22 3"],
  answer: ["1", "2", "4"], wrong: ["3", "4", "5"])
metric ld = logit_diff(correct: .answer, wrong: .wrong, pos: .end)
experiment e {{
  let clean   = run m on d.clean
  let corrupt = run m on d.corrupt
{body}
}}
"""
STREAM = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "mlp.post")
HEADS = ("attn.z", "attn.q", "attn.k", "attn.v")
POSITIONS = ("", "pos: *", "pos: .end", "pos: 1", "pos: 1..", "pos: .changed")


@st.composite
def sites(draw: st.DrawFn, swept: bool) -> str:
    """A site: swept over layers, heads or positions, or one place."""
    head = draw(st.booleans())
    name = draw(st.sampled_from(HEADS if head else STREAM))
    layer = draw(st.sampled_from(("*", "0", "1") if swept else ("0", "1")))
    where = draw(st.sampled_from(POSITIONS if swept else [p for p in POSITIONS if "*" not in p]))
    picked = [
        draw(st.sampled_from(("head: *", "head: 1") if swept else ("head: 0", ""))) if head else "",
        where,
    ]
    inside = ", ".join(p for p in picked if p)
    return f"m.blocks[{layer}].{name}" + (f"[{inside}]" if inside else "")


@st.composite
def edits(draw: st.DrawFn, target: str, site: str, scale: str) -> str:
    """What is written at a site."""
    value = draw(
        st.sampled_from(
            (
                "clean",
                "corrupt",
                "0",
                f"{scale} * self",
                "self + 0.5",
                f"self + {scale} * (clean[{site}] - self)",
            )
        )
    )
    return f"{target} := {value}"


READS = (
    "mean(ld(r) - ld(corrupt), over: batch)",
    "mean(nll(r), over: [batch, pos])",
    "mean(r[m.blocks[1].resid_post], over: [batch, pos, d_model])",
    "max(r[m.blocks[1].attn.z[pos: .end]], over: [batch, head, d_head])",
    "mean(r.logits[pos: 2, vocab: .answer], over: batch)",
    "mean(abs(r[m.blocks[0].mlp.post] - clean[m.blocks[0].mlp.post]), over: [batch, pos, d_mlp])",
)


@st.composite
def bodies(draw: st.DrawFn) -> str:
    """The inside of an experiment: sweeps, an edited run, reports."""
    lines, writes = [], []
    scale = "0.5"
    if draw(st.booleans()):
        lines.append("  sweep k in [0.0, 1.0, -1.5]")
        scale = "k"
    for i in range(draw(st.integers(0, 2))):
        site = draw(sites(swept=True))
        lines.append(f"  sweep s{i} in {site} as v{i}")
        writes.append(draw(edits(f"s{i}", f"s{i}", scale)))
    for _ in range(draw(st.integers(0 if writes else 1, 1))):
        site = draw(sites(swept=False))
        writes.append(draw(edits(site, site, scale)))
    lines.append(
        f"  let r = run m on d.{draw(st.sampled_from(('corrupt', 'clean')))} do {{ {', '.join(writes)} }}"
    )
    for i, read in enumerate(draw(st.lists(st.sampled_from(READS), min_size=1, max_size=2, unique=True))):
        lines.append(f"  report x{i} = {read}")
    return "\n".join(lines)


@cache
def binder(model: str) -> Binder:
    """One for all specs on a model: it is built and exported once."""
    return Binder(trainer=Trainer())


def compiled_of(model: str, body: str) -> Compiled | None:
    """The spec compiled; None if the language refuses it."""
    bound = binder(model)
    source = SourceFile("random.mi", HEAD.format(model=MODELS[model], body=body))
    try:
        program = check_source(source, bound).require()
        done = optimise(program, bound)
    except MiError as err:
        assert all(d.code not in ("MI0901", "MI0601") for d in err.diagnostics), body
        return None
    return Compiled(
        source, program, done, build(done.program, done.schedule), bound, Trainer(), Fitter(), bound.bag
    )


def check(model: str, body: str, off: tuple[str, ...], chunk: int | None) -> None:
    """All passes, and all but some, against the oracle; and what was predicted against what was done."""
    base = compiled_of(model, body)
    assume(base is not None)
    assert base is not None
    try:
        want = truth_of(without(base, OPTIONAL))
    except MiError:  # two sites that exclude each other in one run, for instance
        assume(False)
        return
    for gone in ((), off):
        compiled = without(base, gone)
        execution = Execution(compiled)
        with chunked(chunk):
            execution.run(session=exact_session(compiled))
        for report, expected in want.reports.items():
            got = cells(tables(execution)[report])
            assert set(got) == set(expected)
            scale = max([1.0, *(abs(v) for v in expected.values() if math.isfinite(v))])
            for key, value in expected.items():
                mine = got[key][0]
                same = math.isnan(mine) if math.isnan(value) else abs(mine - value) <= TOLERANCE * scale
                assert same, f"{body}\nwithout {gone}: {report}{key} is {mine}, the oracle says {value}"
        assert execution.totals == execution.predicted, body
    best, worse = explain(base).optimised.flops, explain(without(base, off)).optimised.flops
    assert best <= 1.05 * worse, f"{body}: {off} saved FLOPs"


EXAMPLES = given(
    model=st.sampled_from(sorted(MODELS)),
    body=bodies(),
    off=st.lists(st.sampled_from(OPTIONAL), max_size=4, unique=True).map(tuple),
    chunk=st.sampled_from(CHUNKS),
)
QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


@EXAMPLES
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=QUIET)
def test_a_plan_is_the_oracle(model: str, body: str, off: tuple[str, ...], chunk: int | None) -> None:
    check(model, body, off, chunk)


@pytest.mark.slow
@EXAMPLES
@settings(max_examples=600, deadline=None, suppress_health_check=QUIET)
def test_many(model: str, body: str, off: tuple[str, ...], chunk: int | None) -> None:
    check(model, body, off, chunk)


def test_most_specs_are_accepted() -> None:
    """The generator makes specs of the language, not refusals: else the tests above would test nothing."""
    taken: list[bool] = []

    @given(model=st.sampled_from(sorted(MODELS)), body=bodies())
    @settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=QUIET, database=None)
    def ask(model: str, body: str) -> None:
        taken.append(compiled_of(model, body) is not None)

    ask()
    assert sum(taken) > len(taken) / 2
