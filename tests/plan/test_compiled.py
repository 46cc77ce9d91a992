"""Segments as compiled functions: the same results, one function for all layers, and a rule of cost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from midsl.backends import compiled as compiled_module
from midsl.plan import compiling
from midsl.plan.compiling import Class, worth
from midsl.plan.driver import Compiled, Execution, compile_spec
from midsl.plan.verify import verify
from tests.examples.common import midsl
from tests.plan.test_families import FAMILIES, text_of

LLAMA = """language mi 1
import std.models as models
from std.tasks import random_pairs
from std.metrics import logit_diff
model m = models.hf_random("llama", seed: 0, perturb: 0.1, config: {
  num_hidden_layers: 3, num_attention_heads: 4, num_key_value_heads: 2, hidden_size: 32,
  intermediate_size: 48, max_position_embeddings: 32, vocab_size: 50, pad_token_id: 0, bos_token_id: 1,
  eos_token_id: 2
})
data   d  = random_pairs(m.tokenizer, n: 3, length: 8, seed: 0)
metric ld = logit_diff(correct: .answer, wrong: .wrong, pos: .end)
experiment e {
  sweep h in m.blocks[*].resid_pre[pos: *]
  let clean   = run m on d.clean
  let corrupt = run m on d.corrupt
  let patched = run m on d.corrupt do { h := clean }
  report effect = mean(ld(patched) - ld(corrupt), over: batch)
}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "llama.mi"
    path.write_text(LLAMA)
    return path


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that has compiled nothing yet."""
    monkeypatch.setattr(compiled_module, "_FUNCTIONS", {})
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def values(compiled: Compiled) -> tuple[np.ndarray, dict[str, int], Execution]:
    """The effects, how often each function was called, and the execution."""
    done, session = Execution(compiled), compiled.session()
    done.run(session=session)
    calls = session.compiler.calls if session.compiler is not None else {}
    return done.stages[0].tables[0].value, dict(calls), done


def test_one_function_serves_all_layers_and_rows(
    spec: Path, fresh: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, none, _ = values(compile_spec(spec))
    torch._dynamo.utils.counters.clear()
    found, calls, done = values(compile_spec(spec, compile="always"))
    assert not none
    np.testing.assert_allclose(found, plain, atol=1e-6)
    assert done.totals == done.predicted
    assert len(calls) >= 3 and max(calls.values()) > 3  # many segments, few functions
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == len(compiled_module._FUNCTIONS)
    with torch.compiler.set_stance("fail_on_recompile"):
        again = values(compile_spec(spec, compile="always"))[0]
        monkeypatch.setenv("MIDSL_MEMORY", "30000000")  # other chunks: other numbers of rows
        in_chunks, more, _ = values(compile_spec(spec, compile="always"))
    np.testing.assert_array_equal(again, found)
    np.testing.assert_allclose(in_chunks, plain, atol=1e-6)
    assert sum(more.values()) >= sum(calls.values())


def test_compiled_plans_agree_with_the_oracle(spec: Path) -> None:
    done = verify(compile_spec(spec, compile="always"), 6)
    assert done.agrees and done.worst < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_families_agree_with_the_oracle_compiled(family: str, tmp_path: Path) -> None:
    path = tmp_path / "family.mi"
    path.write_text(text_of(family))
    assert verify(compile_spec(path, compile="always"), 6).worst < 1e-9


def test_without_a_compiler_a_run_goes_on_and_says_so(
    spec: Path, fresh: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import torch._inductor.config as config

    monkeypatch.setenv("MIDSL_CACHE_DIR", str(tmp_path / "cache"))
    plain = values(compile_spec(spec))[0]
    monkeypatch.setattr(config.cpp, "cxx", (str(tmp_path / "no-such-compiler"),))
    monkeypatch.setattr(config, "force_disable_caches", True)
    compiled = compile_spec(spec, compile="always")
    found, calls, _ = values(compiled)
    np.testing.assert_allclose(found, plain, atol=1e-6)
    assert not calls
    assert not list((tmp_path / "cache" / "segments").glob("*")), (
        "nothing was compiled, nothing is remembered"
    )
    assert [d.code for d in compiled.bag if d.code == "MI0706"] == ["MI0706"]


def test_a_small_plan_is_not_worth_compiling(spec: Path) -> None:
    found, calls, _ = values(compile_spec(spec, compile="auto"))
    assert not calls
    np.testing.assert_array_equal(found, values(compile_spec(spec))[0])


def test_the_rule_weighs_what_is_saved_against_what_it_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "bytes_per_second", lambda: 1e9)

    def of(seconds: float, before: bool = False) -> Class:
        return Class(None, saved=int(seconds * 1e9), before=before)  # type: ignore[arg-type]

    assert worth({}) == set()
    assert worth({"a": of(2.0)}) == set()  # less than one function costs
    assert worth({"a": of(11.0)}) == set()  # less than the first one costs
    assert worth({"a": of(13.0)}) == {"a"}
    assert worth({"a": of(13.0), "b": of(4.0), "c": of(1.0)}) == {"a", "b"}
    assert worth({"a": of(1.0, before=True)}) == {"a"}
    assert worth({"a": of(0.5, before=True)}) == set()


def test_explain_shows_the_functions(spec: Path) -> None:
    done = midsl("explain", "--torch", spec, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert told["mode"] == "auto"
    functions = told["functions"]
    assert len(functions) >= 3 and all(f["breaks"] == 0 and not f["compiled"] for f in functions)
    assert all("costs about" in f["why"] for f in functions)
    assert any("rsqrt" in op for f in functions for op in f["operations"])
    assert max(f["segments"] for f in functions) > 3
    text = midsl("explain", "--torch", "--compile", "always", spec).output
    assert "compiled: --compile always" in text and "aten.rsqrt" in text
    off = json.loads(midsl("explain", "--torch", "--no-compile-segments", spec, "--json").output)
    assert off["mode"] == "never" and off["functions"] == []


def test_runs_that_go_whole_are_told(tmp_path: Path) -> None:
    path = tmp_path / "grad.mi"
    path.write_text(
        LLAMA[: LLAMA.index("experiment e")]
        + "experiment e { let r = run m on d.clean"
        + "  let g = grad(mean(ld(r), over: batch), at: r[m.blocks[1].resid_pre])"
        + "  report slope = mean(g, over: [batch, pos]) }"
    )
    told = json.loads(midsl("explain", "--torch", path, "--json").output)
    assert told["functions"] == [] and told["uncompiled"][0]["why"] == "gradients are taken in it"
