"""The specs of the language page as written there, and the examples that grew out of them, by the oracle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.examples.common import EXAMPLES, GPT2_BPE, ROOT, ask, changed, midsl, save_model

needs_bpe = pytest.mark.skipif(not GPT2_BPE.exists(), reason="GPT-2's vocabulary is not on this machine")
CORPUS = ROOT / "tests" / "corpus"
HEADS = EXAMPLES / "head_patching.mi"


def verified(spec: Path, *args: object) -> None:
    done = midsl("verify", spec, *args, "--json")
    assert done.exit_code == 0, done.output
    verdict = json.loads(done.output)
    assert verdict["agrees"]
    assert verdict["worst"] <= 1e-9


# -- spec 1: which heads restore the indirect object?


@needs_bpe
@pytest.mark.slow
def test_head_patching_agrees_with_the_oracle() -> None:
    verified(HEADS, "-p", f"tokenizer={GPT2_BPE}", "-p", "n=4")


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


def test_attribution_agrees_with_the_oracle() -> None:
    verified(EXAMPLES / "attribution.mi")


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
