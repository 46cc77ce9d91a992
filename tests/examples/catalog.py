"""Every example and what is tried of it, by `test_catalog`: those of papers, the classics, the others."""

from __future__ import annotations

from tests.examples.given import STORIES, files
from tests.examples.papers import PAPERS, Break, Example

CLASSICS = {
    "classics/causal_scrubbing": Example(
        Break(
            'except(z, z["0.0", "0.1", "0.3", "1.2"])',
            'except(z, z["0.0", "0.1", "0.3", "1.1"])',
            ("circuit > 0.9",),
        )
    ),
    "classics/causal_tracing": Example(
        Break(
            "m.blocks[l].resid_post[pos: at] := clean",
            "m.blocks[l].resid_post[pos: at] := noised",
            (
                'effect[layer: 0, at: "changed_end"] > 0.8',
                'effect[layer: 4, at: "end"] ~= 1 within 1e-3',
            ),
            only="stream",
        ),
        fast=True,
        given=lambda _: files(**STORIES),
    ),
    "classics/das": Example(
        Break("steps: 200", "steps: 1", ("iia > 0.9",)), given=lambda _: files(**STORIES)
    ),
    "classics/direction_in_generation": Example(
        Break("girl - boy", "girl + boy", ("still ~= 1",)), given=lambda _: files(**STORIES)
    ),
    "classics/eap_ig_circuits": Example(
        Break(
            "from: clean, to: corrupt, steps: 5)",
            "from: clean, to: clean, steps: 5)",
            ("signed > 0.8 and of_size > 0.8",),
            only="scores",
        ),
        given=lambda _: files(**STORIES),
    ),
    "classics/fis_table": Example(
        Break(
            "interaction(product, t.x, p, t.y, i, j)",
            "effect_of(product, t.x, p, t.y, only(t.x[row: 0], i) + only(t.x[row: 0], j))",
            ("max(abs(found), over: i_j) ~= 2.0 within 0.15",),
        )
    ),
    "classics/grokking": Example(
        Break(
            "batch: 128,",
            "batch: 1,",
            (
                "all(known[k: 200] > 0.99)",
                "all(adds[k: 2000] > 0.9)",
            ),
        )
    ),
    "classics/ioi_path_patching": Example(
        Break("attn.v_input[head: h]]", "attn.q_input[head: h]]", ("base > 2 and by_v[h: 2] > 0.5 * base",)),
        given=lambda _: files(**STORIES),
    ),
    "classics/logit_and_tuned_lens": Example(
        Break(
            "ends[m.blocks[l].resid_post] }",
            "ends[m.blocks[l].resid_pre] }",
            ("logit_lens[l: 4] ~= 0 within 1e-5",),
        ),
        given=lambda _: files(**STORIES, text="stories260k/expected_greedy_200.txt"),
    ),
    "classics/probe_with_controls": Example(
        Break(
            "label: upper, ridge: 10.0)",
            "label: fn (r) => shuffle(upper(r), seed: 1), ridge: 10.0)",
            ("says[layer: 1] > 0.75",),
        )
    ),
    "classics/sae_at_two_sites": Example(
        Break(
            "optim: adam(lr: 3e-3), steps: 1500",
            "optim: adam(lr: 3e-3), steps: 1",
            ("1 - recovered_a < 0.25 * (1 - random_of_a)",),
        )
    ),
    "classics/vision_patches": Example(
        Break(
            "here    = differs[pos: p]",
            "here    = 1 - differs[pos: p]",
            ("shape[layer: 0] > 5.0 * abs(ground[layer: 0])",),
        )
    ),
}

OTHERS = {
    "sorting": Example(
        Break(
            "patch(h, from: clean)", "patch(h, from: corrupt)", ("sum(effect, over: [layer, head]) > 0.8",)
        ),
        golden={'SELECT n FROM task."right"': 128.0},
        fast=True,
    ),
    "path_patching": Example(
        Break('m.edges["a0.h0->a1.h2<k>"]', 'm.edges["a0.h0->a1.h2<q>"]', ("by_keys > 0.9",)),
        golden={
            "SELECT src || '->' || dst FROM edges.strong ORDER BY src_layer NULLS FIRST, src_layer": [
                "embed->a0.h0<v>",
                "a0.h0->a1.h2<k>",
                "a1.h2->logits",
            ]
        },
    ),
    "attribution": Example(
        Break("do { h := clean }", "do { h := corrupt }", ("min(exact) < -2",)),
        also=(
            Break(
                "h := corrupt, except(z, h) := clean",
                "h := clean, except(z, h) := clean",
                ("max(effect) > 2",),
            ),
            Break("m.blocks[0].attn.z := clean", "m.blocks[0].attn.z := 0", ("left ~= 0 within 1e-5",)),
        ),
        golden={
            "SELECT layer FROM screen.exact ORDER BY value LIMIT 1": 1.0,
            "SELECT count(*) FROM composition.effect": 16.0,
        },
        fast=True,
    ),
    "head_patching": Example(
        Break("do { x := clean }", "do { x := run m on d.corrupt }", ("all(left < 1e-3)",)),
        golden={
            "SELECT count(*) FROM head_patching.effect": 8.0,
            "SELECT count(DISTINCT layer) FROM head_patching.effect": 2.0,
        },
        part=("-p", "n=8"),
        given=lambda _: files(tokenizer="gpt2_bpe"),
    ),
}

CATALOG = PAPERS | CLASSICS | OTHERS

ELSEWHERE = {
    "quickstart": "tests/e2e/test_quickstart.py",
    "transcoder_graph": "tests/examples/test_transcoder_graph.py",
    "stories_text": "tests/examples/given.py",
    "pronoun_stories": "tests/real/test_stories.py",
    "induction_makemore": "tests/real/test_induction_makemore.py",
}
"""What has tests of another kind, and where."""
