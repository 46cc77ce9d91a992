"""Derivatives at every site of every family, against central differences of whole runs in float64.

A step at a place is small beside what is there, by several powers of ten: see `small_steps`. Norms of each
sort, attention fused and written out, rotary positions, shared and separate keys, gates, parallel branches,
experts: whatever a model is made of lies between one of its sites and the logits. The sites are those that
the model itself shows.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from midsl.graph.info import SiteRow
from tests.graph.families import CONFIGS
from tests.plan import corpus
from tests.plan.corpus import load, truth
from tests.plan.small_steps import STEPS, assert_slope
from tests.plan.test_families import EXTRA, HEAD, TOYS, record
from tests.plan.test_oracle import agree

TINY = {
    "tiny_gqa": 'kv_heads: 1, norm: "rms", gated: true, act: "silu", pos: "rotary", d_mlp: 6',
    "tiny_pairs": 'pos: "rotary_pairs", act: "gelu", d_mlp: 6',
    "tiny_bare": 'norm: "none", final_norm: false, pos: "none", act: "relu", d_mlp: 6',
}
SMALL = "layers: 1, heads: 2, d_model: 8, vocab: 40, ctx: 8"
FAMILIES = [*TINY, *CONFIGS, *EXTRA, *TOYS]


def model_of(family: str) -> str:
    if family in TINY:
        return f"models.toy({SMALL}, {TINY[family]})"
    if family in TOYS:
        return f"models.toy(layers: 2, heads: 4, d_model: 32, vocab: 64, ctx: 64, {TOYS[family]})"
    kind, fields = EXTRA[family] if family in EXTRA else (CONFIGS[family][0], CONFIGS[family][2])
    return f'models.hf_random("{kind}", seed: 0, perturb: 0.1, config: {record(dict(fields))})'


def sites_of(name: str) -> list[SiteRow]:
    """The sites that a model lets be read and written."""
    compiled = load(name)
    ((_, model),) = compiled.program.models
    return [
        r for r in compiled.binder.graph(model).info.sites if r.readable and r.writable and r.kind != "module"
    ]


def experiment(row: SiteRow, number: int) -> str:
    """One site: a run of its own, since some places exclude others in one graph."""
    layer = row.layers[-1] if row.layers else 0
    site = f"m.blocks[{layer}].{row.name}" if row.per_block else f"m.{row.name}"
    gain = f"m.embed := self * {1 + number / 1000}, " if row.name != "embed" else ""
    over = f"[{', '.join(row.axes)}]"
    if "key_pos" in row.axes:  # nothing looks at padding
        size = f"base[m.blocks[{layer}].attn.pattern]"
    elif row.name.endswith(".scale"):  # what is divided by stays away from 0
        size = f"base[{site}]"
    else:
        size = f"sqrt(mean(square(base[{site}]), over: {over}))"
    return f"""experiment at_{number} {{
  let base = run m on d.clean{f" do {{ {gain}}}" if gain else ""}
  let u    = normal(base[{site}], seed: {number}) * {size}
  let moved = fn (k) => run m on d.clean do {{ {gain}{site} := self + k * u }}
  let of   = fn (r) => mean(ld(r), over: batch)
  report slope  = sum(grad(of(base), at: base[{site}]) * u, over: {over})
  report pushed = jvp(of(base), at: base[{site}], along: u)
  report change = [(of(moved(step)) - of(moved(-step))) / (2 * step) for step in {list(STEPS)}]
}}
"""


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_site(family: str, tmp_path: Path) -> None:
    head = HEAD.format(model=model_of(family))
    bare = tmp_path / "bare.mi"
    bare.write_text(head + "experiment e { report x = mean(ld(run m on d.clean), over: batch) }\n")
    corpus.ELSEWHERE[f"bare_{family}"] = bare
    rows = sites_of(f"bare_{family}")
    names = {r.name for r in rows}
    assert {"embed", "resid_mid", "attn.z", "attn.q", "attn.pattern", "logits"} - names <= {
        "resid_mid",
        "attn.q",
    }
    path = tmp_path / "differences.mi"
    path.write_text(head + "".join(experiment(r, i) for i, r in enumerate(rows)))
    name = f"differences_{family}"
    corpus.ELSEWHERE[name] = path
    agree(name, "all passes", None)
    found = truth(name).reports
    for i, row in enumerate(rows):
        slope, pushed = (found[f"at_{i}.{r}"][()] for r in ("slope", "pushed"))
        assert_slope(slope, by_step(found[f"at_{i}.change"]), f"{family}: {row.name}")
        assert pushed == pytest.approx(slope, rel=1e-9, abs=1e-12), f"{family}: {row.name}"
    assert sum(abs(found[f"at_{i}.slope"][()]) > 1e-6 for i in range(len(rows))) > len(rows) * 0.8


def by_step(report: dict[tuple[object, ...], float]) -> dict[float, float]:
    """A change for each of the steps, by the step itself."""
    return {step: report[(step,)] for step in STEPS}


def test_gradients_reach_places_whose_rows_and_positions_are_one_dimension(tmp_path: Path) -> None:
    """In OPT's MLP they are: what it adds has the gradient of the stream behind it, in the same run."""
    path = tmp_path / "flat.mi"
    path.write_text(
        HEAD.format(model=model_of("opt"))
        + """experiment e {
  let base = run m on d.clean
  let of   = mean(ld(base), over: batch)
  report added  = grad(of, at: base[m.blocks[1].mlp_out[pos: .end]])
  report stream = grad(of, at: base[m.blocks[1].resid_post[pos: .end]])
}
"""
    )
    corpus.ELSEWHERE["flat"] = path
    agree("flat", "all passes", None)
    added, stream = (list(truth("flat").reports[f"e.{r}"].values()) for r in ("added", "stream"))
    assert added == pytest.approx(stream, rel=1e-12) and max(map(abs, added)) > 1e-2
