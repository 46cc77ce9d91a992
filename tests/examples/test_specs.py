"""The examples and the specs of the language page: they run, agree with the oracle, and can fail.

Each example's claims are tried on a changed copy: patched with the wrong run, an expect must fail.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.examples.common import EXAMPLES, GPT2_BPE, ROOT, ask, midsl, save_model

needs_bpe = pytest.mark.skipif(not GPT2_BPE.exists(), reason="GPT-2's vocabulary is not on this machine")
CORPUS = ROOT / "tests" / "corpus"
HEADS = EXAMPLES / "head_patching.mi"


def changed(source: Path, folder: Path, old: str, new: str, count: int = 1) -> Path:
    """A copy of a spec with one thing changed."""
    text = source.read_text()
    assert text.count(old) >= 1, f"{source.name} has no {old!r}"
    spec = folder / source.name
    spec.write_text(text.replace(old, new, count))
    return spec


def verified(spec: Path, *args: object) -> None:
    done = midsl("verify", spec, *args, "--json")
    assert done.exit_code == 0, done.output
    verdict = json.loads(done.output)
    assert verdict["agrees"]
    assert verdict["worst"] <= 1e-9


# -- sorting: a task of the library, trained, patched and held against chance


def test_sorting_holds_and_can_fail(tmp_path: Path) -> None:
    store = tmp_path / "store"
    done = midsl("run", EXAMPLES / "sorting.mi", "--store", store)
    assert done.exit_code == 0, done.output
    (row,) = ask(store, 'SELECT value, n FROM task."right"')
    assert isinstance(row["value"], float) and row["value"] > 0.9 and row["n"] == 128
    wrong = changed(EXAMPLES / "sorting.mi", tmp_path, "patch(h, from: clean)", "patch(h, from: corrupt)")
    assert midsl("run", wrong, "--store", store).exit_code == 3


# -- path patching: one edge between two heads


@pytest.mark.slow
def test_path_patching_holds_and_can_fail(tmp_path: Path) -> None:
    store = tmp_path / "store"
    spec = EXAMPLES / "path_patching.mi"
    done = midsl("run", spec, "--store", store)
    assert done.exit_code == 0, done.output
    rows = ask(store, "SELECT src, dst FROM edges.strong ORDER BY src_layer NULLS FIRST, src_layer")
    assert [f"{r['src']}->{r['dst']}" for r in rows] == [
        "embed->a0.h0<v>",
        "a0.h0->a1.h2<k>",
        "a1.h2->logits",
    ]
    wrong = changed(spec, tmp_path, 'm.edges["a0.h0->a1.h2<k>"]', 'm.edges["a0.h0->a1.h2<q>"]')
    assert midsl("run", wrong, "--store", store).exit_code == 3


# -- spec 1: which heads restore the indirect object?


@needs_bpe
def test_head_patching_runs(tmp_path: Path) -> None:
    store = tmp_path / "store"
    given = ["-p", f"tokenizer={GPT2_BPE}", "-p", "n=8"]
    done = midsl("run", HEADS, *given, "--store", store)
    assert done.exit_code == 0, done.output
    shape = "SELECT count(*) AS rows, count(DISTINCT layer) AS layers, min(n) AS n FROM head_patching.effect"
    assert ask(store, shape) == [{"rows": 8, "layers": 2, "n": 8}]
    plots = ask(store, "SELECT kind, name FROM artifacts WHERE kind = 'plot'")
    assert plots == [{"kind": "plot", "name": "head_patching.heatmap.effect"}]


@needs_bpe
@pytest.mark.slow
def test_head_patching_agrees_with_the_oracle() -> None:
    verified(HEADS, "-p", f"tokenizer={GPT2_BPE}", "-p", "n=4")


@needs_bpe
def test_head_patching_can_fail(tmp_path: Path) -> None:
    """Patched from the corrupt run, the layers restore nothing."""
    spec = changed(HEADS, tmp_path, "do { x := clean }", "do { x := run m on d.corrupt }")
    done = midsl("run", spec, "-p", f"tokenizer={GPT2_BPE}", "-p", "n=4", "--store", tmp_path / "store")
    assert done.exit_code == 3, done.output
    assert "✗ expect all(left < 1e-3)" in done.output


@needs_bpe
def test_spec_1_as_written_on_random_weights(tmp_path: Path) -> None:
    """The language page's own text, but for the line that names the model."""
    config = "{ n_layer: 2, n_head: 4, n_embd: 64, n_positions: 64 }"
    random = f'models.hf_random("gpt2", {config}, seed: 0, tokenizer: "{GPT2_BPE}")'
    spec = changed(CORPUS / "head_patching.mi", tmp_path, 'models.hf("openai-community/gpt2")', random)
    store = tmp_path / "store"
    given = ("-p", "n=4", "--allow", GPT2_BPE)
    done = midsl("run", spec, *given, "--store", store)
    assert done.exit_code in (0, 3), done.output  # whether a random model's gap is above 0 is chance
    checks = ask(store, "SELECT text, passed FROM checks")
    assert [c["text"] for c in checks] == ["gap > 0"]
    assert done.exit_code == (0 if checks[0]["passed"] else 3)
    assert ask(store, "SELECT count(*) AS rows FROM head_patching.effect") == [{"rows": 8}]
    verified(spec, *given)


@needs_bpe
@pytest.mark.slow
def test_head_patching_at_the_size_of_gpt2(tmp_path: Path) -> None:
    store = tmp_path / "store"
    given = [f"tokenizer={GPT2_BPE}", "n=4", "layers=12", "heads=12", "width=768"]
    done = midsl("run", HEADS, *(w for g in given for w in ("-p", g)), "--store", store)
    assert done.exit_code in (0, 3), done.output
    assert "✗ expect all(left" not in done.output
    assert ask(store, "SELECT count(*) AS rows FROM head_patching.effect") == [{"rows": 144}]


# -- spec 4: attribution, then the truth


def test_attribution_runs(tmp_path: Path) -> None:
    store = tmp_path / "store"
    done = midsl("run", EXAMPLES / "attribution.mi", "--store", store)
    assert done.exit_code == 0, done.output
    best = "SELECT layer FROM screen.exact ORDER BY value LIMIT 1"
    assert ask(store, best) == [{"layer": 1}]
    assert ask(store, "SELECT count(*) AS rows FROM composition.effect") == [{"rows": 16}]


def test_attribution_agrees_with_the_oracle() -> None:
    verified(EXAMPLES / "attribution.mi")


@pytest.mark.parametrize(
    ("old", "new", "fails"),
    [
        ("do { h := clean }", "do { h := corrupt }", "min(exact) < -2"),
        ("h := corrupt, except(z, h) := clean", "h := clean, except(z, h) := clean", "max(effect) > 2"),
        ("m.blocks[0].attn.z := clean", "m.blocks[0].attn.z := 0", "left ~= 0 within 1e-5"),
    ],
)
def test_attribution_can_fail(old: str, new: str, fails: str, tmp_path: Path) -> None:
    spec = changed(EXAMPLES / "attribution.mi", tmp_path, old, new)
    done = midsl("run", spec, "--store", tmp_path / "store")
    assert done.exit_code == 3, done.output
    assert f"✗ expect {fails}" in done.output


def test_spec_4_as_written_on_a_local_folder(tmp_path: Path) -> None:
    """The language page's own text, on a folder of that name beside the spec."""
    save_model(tmp_path / "tiny-lm", "llama")
    spec = tmp_path / "screen.mi"
    spec.write_text((CORPUS / "screen.mi").read_text())
    store = tmp_path / "store"
    done = midsl("run", spec, "--store", store)
    assert done.exit_code == 0, done.output
    counts = ask(
        store,
        "SELECT (SELECT count(*) FROM screen.estimate) AS estimate,"
        " (SELECT count(*) FROM screen.exact) AS exact,"
        " (SELECT count(*) FROM composition.effect) AS paths,"
        " (SELECT min(n) FROM screen.exact) AS n",
    )
    assert counts == [{"estimate": 8, "exact": 8, "paths": 16, "n": 32}]
    columns = ask(store, "DESCRIBE composition.effect")
    assert [c["column_name"] for c in columns][:4] == ["src_layer", "src_head", "dst_layer", "dst_head"]
    verified(spec, "--points", "3")


# -- specs 2 and 3 (their own texts need downloads; tests/corpus/run has them on toys)


@pytest.mark.parametrize("name", ["sae", "subspace"])
def test_specs_2_and_3_as_written_are_typed(name: str) -> None:
    done = midsl("check", CORPUS / f"{name}.mi")
    assert done.exit_code == 0, done.output
