"""Edges on every family of models: sources sum to what is read, and patching all of them is the other run."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from midsl.plan.driver import Execution, compile_spec
from tests.graph.families import CONFIGS
from tests.plan import corpus
from tests.plan.corpus import exact_session, planned, tables
from tests.plan.test_families import HEAD, record
from tests.plan.test_oracle import agree

BODY = """experiment sums {
  sweep e in m.edges[dst: m.logits], f in m.edges[dst: m.blocks[1].attn.k_input[head: 1]] as other
  let clean   = run m on d.clean
  let corrupt = run m on d.corrupt
  let at_end  = clean[m.blocks[1].resid_post] - corrupt[m.blocks[1].resid_post]
  let at_key  = clean[m.blocks[1].attn.k_input[head: 1]] - corrupt[m.blocks[1].attn.k_input[head: 1]]
  let moved   = clean[e] - corrupt[e]
  let keys    = clean[f] - corrupt[f]
  report of_end = max(abs(sum(moved, over: e) - at_end))
  report of_key = max(abs(sum(keys, over: other_f) - at_key))
}
experiment all_of_them {
  let clean   = run m on d.clean
  let corrupt = run m on d.corrupt
  report to_clean = max(abs((run m on d.corrupt do { m.edges := clean }).logits - clean.logits))
  report to_itself = max(abs((run m on d.clean do { m.edges := clean }).logits - clean.logits))
}
experiment one {
  let from = m.edges[src: m.blocks[0].attn.z[head: 0] | m.embed | m.blocks[0].mlp_out]
  sweep e in from[dst: m.blocks[1].attn.v_input[head: 2] | m.blocks[1].mlp_in | m.logits]
  let clean   = run m on d.clean
  let corrupt = run m on d.corrupt
  report effect = mean(ld(run m on d.corrupt do { e := clean }) - ld(corrupt), over: batch)
  let again   = (run m on d.clean do { e := clean }).logits - clean.logits
  report nothing = max(abs(again), over: [batch, pos, vocab])
}
"""
QUICK = ("gpt2",)
FAMILIES = [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in CONFIGS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("edges")


@pytest.mark.parametrize("family", FAMILIES)
def test_edges_of_a_family(family: str, folder: Path) -> None:
    kind, _, fields = CONFIGS[family]
    model = f'models.hf_random("{kind}", seed: 0, perturb: 0.1, config: {record(dict(fields))})'
    name = f"edges_{family}"
    corpus.ELSEWHERE[name] = folder / f"{name}.mi"
    corpus.ELSEWHERE[name].write_text(HEAD.format(model=model) + BODY, encoding="utf-8")
    execution = Execution(planned(name))
    execution.run(session=exact_session(planned(name)))
    found = {k: t.value for k, t in tables(execution).items()}
    for report in ("sums.of_end", "sums.of_key", "all_of_them.to_clean", "all_of_them.to_itself"):
        assert found[report].item() < 1e-11, report
    assert max(found["one.nothing"]) < 1e-11
    # embed and the head to all three, the MLP of block 0 to all three
    assert len(found["one.effect"]) == 9 and all(map(math.isfinite, found["one.effect"]))
    assert max(abs(found["one.effect"])) > 1e-6
    agree(name, "all passes", None)


def edges_of(model: str, where: str, folder: Path) -> list[str]:
    """The edges of a toy, by their names."""
    spec = folder / "names.mi"
    spec.write_text(
        "language mi 1\nimport std.models as models\nfrom std.tasks import induction\n"
        f"model m = {model}\n"
        'data d = induction(m.tokenizer, n: 2, period: 3, corrupt: "cue")\n'
        f"experiment e {{ sweep e in m.edges{where}\n"
        "  report size = mean((run m on d.clean)[e] ** 2, over: [batch, pos, d_model]) }\n",
        encoding="utf-8",
    )
    execution = Execution(compile_spec(spec))
    execution.run()
    keys = tables(execution)["e.size"].keys
    return [f"{s}->{d}" for s, d in zip(keys["src"], keys["dst"], strict=True)]


def test_which_edges_there_are(folder: Path) -> None:
    bare = 'models.toy(layers: 2, heads: 2, d_model: 8, d_mlp: {mlp}, vocab: 16, ctx: 8, pos: "rotary")'
    with_mlp = edges_of(bare.format(mlp=12), "", folder)
    # 1 embedding, 2 x (2 heads, 1 MLP); readers of a block: 2 x 3 inputs of heads, 1 MLP; and the logits
    assert len(with_mlp) == len(set(with_mlp)) == (6 + 3) + (4 * 6 + 6) + 7
    assert "a0.h1->m0" in with_mlp and "m0->a1.h1<q>" in with_mlp and "m1->logits" in with_mlp
    assert "m0->m0" not in with_mlp and "a1.h0->a1.h1<k>" not in with_mlp and "a1.h0->m0" not in with_mlp
    without = edges_of(bare.format(mlp=0), "", folder)
    assert len(without) == 6 + 3 * 6 + 5
    some = edges_of(
        bare.format(mlp=12), "[src: m.blocks[0].mlp_out, dst: m.blocks[*].attn.q_input[head: 1]]", folder
    )
    assert some == ["m0->a1.h1<q>"]


def test_parallel_blocks_read_one_stream(folder: Path) -> None:
    kind, _, fields = CONFIGS["neox"]
    model = f'models.hf_random("{kind}", seed: 0, config: {record(dict(fields))})'
    spec = folder / "parallel.mi"
    spec.write_text(HEAD.format(model=model) + "experiment e { report n = m.edges.size }\n", encoding="utf-8")
    execution = Execution(compile_spec(spec))
    execution.run()
    # each of 2 blocks has 4 heads and an MLP that read the same: 13 readers; 1, 6, 11 sources
    assert tables(execution)["e.n"].value.item() == 13 * 1 + 13 * 6 + 11
