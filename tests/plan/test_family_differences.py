"""Derivatives at every site of every family, against central differences of whole runs in float64.

Norms of each sort, attention fused and written out, rotary positions, shared and separate keys, gates,
parallel branches, experts: whatever a model is made of lies between one of its sites and the logits. The
sites are those that the model itself shows.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from midsl.graph.info import SiteRow
from tests.graph.families import CONFIGS
from tests.plan import corpus
from tests.plan.corpus import load, truth
from tests.plan.test_families import EXTRA, HEAD, TOYS, record
from tests.plan.test_oracle import agree

TINY = {
    "tiny_gqa": 'kv_heads: 1, norm: "rms", gated: true, act: "silu", pos: "rotary", d_mlp: 6',
    "tiny_pairs": 'pos: "rotary_pairs", act: "gelu", d_mlp: 6',
    "tiny_bare": 'norm: "none", final_norm: false, pos: "none", act: "relu", d_mlp: 6',
}
SMALL = "layers: 1, heads: 2, d_model: 8, vocab: 40, ctx: 8"
FAMILIES = [*TINY, *CONFIGS, *EXTRA, *TOYS]
STEP = 1e-5


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
    gain = f"m.embed := self * {1 + number / 1000}" if row.name != "embed" else ""
    over = f"[{', '.join(row.axes)}]"
    seen = (
        f" * base[m.blocks[{layer}].attn.pattern]" if "key_pos" in row.axes else ""
    )  # nothing looks at padding
    seen = (
        f" * base[{site}]" if row.name.endswith(".scale") else seen
    )  # a step is small beside what is divided by
    with_gain = f"{gain}, " if gain else ""
    return f"""experiment at_{number} {{
  let base = run m on d.clean{f" do {{ {gain} }}" if gain else ""}
  let u    = normal(base[{site}], seed: {number}){seen}
  let up   = run m on d.clean do {{ {with_gain}{site} := self + {STEP} * u }}
  let down = run m on d.clean do {{ {with_gain}{site} := self - {STEP} * u }}
  let of   = fn (r) => mean(ld(r), over: batch)
  report slope  = sum(grad(of(base), at: base[{site}]) * u, over: {over})
  report pushed = jvp(of(base), at: base[{site}], along: u)
  report change = (of(up) - of(down)) / (2 * {STEP})
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
        slope, pushed, change = (found[f"at_{i}.{r}"][()] for r in ("slope", "pushed", "change"))
        assert slope == pytest.approx(change, rel=1e-5, abs=1e-8), f"{family}: {row.name}"
        assert pushed == pytest.approx(slope, rel=1e-9, abs=1e-12), f"{family}: {row.name}"
    assert sum(abs(found[f"at_{i}.slope"][()]) > 1e-6 for i in range(len(rows))) > len(rows) * 0.8
