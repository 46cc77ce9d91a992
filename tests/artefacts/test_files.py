"""Decompositions from disk compute what their packages do, and come out bit by bit, or are refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from midsl.plan.driver import compile_spec
from tests.artefacts.common import CASES, D, N
from tests.examples.common import midsl
from tests.fit.common import tables

HEAD = """language mi 1
import std.models as models
from std.tasks import repeats
from std.decomp import sae_file, transcoder_file, tuned_lens_file
model m = models.toy(layers: 2, heads: 2, d_model: 12, d_mlp: 20, vocab: 24, ctx: 16, seed: 1)
data  d = repeats(m.tokenizer, n: 1, period_min: 3, period_max: 5, ctx: 12, seed: 2)
site  x = m.blocks[0].resid_post
site  y = m.blocks[0].ln2.normalized
site  z = m.blocks[0].mlp_out
site  h = m.blocks[0].attn.z
"""
READS = {"x)": "x", "h)": "h", "z)": "y", "0)": "y", "1)": "m.blocks[1].resid_pre"}
"""What is read, by how a declaration ends."""


def spec(folder: Path, declared: str, more: str = "") -> Path:
    path = folder / "spec.mi"
    path.write_text(f"{HEAD}decomposition s = {declared}\n{more}")
    return path


def computed(folder: Path, declared: str, back: str = "s.decode(r[s.code])") -> dict[str, torch.Tensor]:
    """What a decomposition in a file sees, its codes and what it makes of them: [12, ..] each."""
    more = f"""experiment e {{
      let r = run m on d
      report seen = mean(r[{READS[declared[-2:]]}], over: batch)
      report code = mean(r[s.code], over: batch)
      report back = mean({back}, over: batch)
    }}"""
    found = tables(compile_spec(spec(folder, declared, more)))  # one row, so that its mean is itself
    return {n: torch.from_numpy(t.value).float().reshape(12, -1) for n, t in found.items()}


@pytest.mark.parametrize("name", CASES)
def test_what_is_computed_is_what_the_package_computes(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    tensors, declared = case.write(tmp_path / "there", torch.float32), case.declare.format("there")
    got = computed(tmp_path, declared)
    x = got["seen"].reshape(12, 2, 6) if "h)" in declared else got["seen"]
    code = case.encode(tensors, x)
    assert torch.allclose(got["code"], code, atol=2e-5)
    assert (code != 0).any() and (name == "tuned-lens" or (code == 0).any())
    assert torch.allclose(got["back"], case.decode(tensors, code).flatten(1), atol=2e-5)


def contents(folder: Path) -> dict[str, Any]:
    """Everything in a folder: tensors by file and key, configurations as they are."""
    found: dict[str, Any] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".safetensors":
            found |= {f"{path.name} {k}": t for k, t in load_file(path).items()}
        elif path.suffix == ".pt":
            found |= {f"{path.name} {k}": t for k, t in torch.load(path, weights_only=True).items()}
        elif path.suffix == ".npz":
            found |= {f"{path.name} {k}": torch.from_numpy(a) for k, a in np.load(path).items()}
        elif path.suffix == ".json":
            found[path.name] = json.loads(path.read_text())
    return found


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_round_trip_changes_no_bit(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    case = CASES[name]
    if name == "Gemma Scope" and dtype == torch.bfloat16:
        pytest.skip("npz has no bfloat16")
    case.write(tmp_path / "there", dtype)
    if case.format in ("circuit_tracer", "tuned_lens"):  # the layers beside it stay as they are
        shutil.copytree(tmp_path / "there", tmp_path / "out")
    path = spec(tmp_path, case.declare.format("there"))
    done = midsl("export-lens", path, "s", "--format", case.format, "--to", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["format"] == case.format
    before, after = contents(tmp_path / "there"), contents(tmp_path / "out")
    ones = {"sae_weights.safetensors scaling_factor"}  # says nothing, and has no place in version 6
    assert before.keys() - ones == after.keys()
    for key, value in after.items():
        if isinstance(value, Tensor):
            assert value.dtype == before[key].dtype and torch.equal(value, before[key]), key
    # and what was written is what is read
    (tmp_path / "again").mkdir()
    shutil.move(tmp_path / "out", tmp_path / "again" / "there")
    if case.format in ("circuit_tracer", "tuned_lens"):
        shutil.copytree(tmp_path / "again" / "there", tmp_path / "again" / "out")
    again = spec(tmp_path / "again", case.declare.format("there"))
    out = tmp_path / "again" / "out"
    done = midsl("export-lens", again, "s", "--format", case.format, "--to", out, "--json")
    assert done.exit_code == 0, done.output
    assert {k: v for k, v in contents(out).items() if k.endswith(".json")} == {
        k: v for k, v in after.items() if k.endswith(".json")
    }


def test_what_the_configuration_says_beyond_the_weights_is_kept(tmp_path: Path) -> None:
    CASES["SAELens topk"].write(tmp_path / "there", torch.float32)
    before = json.loads((tmp_path / "there" / "cfg.json").read_text())
    midsl(
        "export-lens",
        spec(tmp_path, 'sae_file("there", at: x)'),
        "s",
        "--format",
        "saelens",
        "--to",
        tmp_path / "o",
    )
    assert json.loads((tmp_path / "o" / "cfg.json").read_text()) == before


def edited(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "cfg.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def retensored(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    path = folder / "sae_weights.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def widened(folder: Path, d: int) -> None:
    edited(folder, lambda c: c.update(d_in=d))
    wide = {"W_enc": torch.ones(d, N), "W_dec": torch.ones(N, d), "b_dec": torch.ones(d)}
    retensored(folder, lambda t: t.update(wide))


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "architecture": (lambda f: edited(f, lambda c: c.update(architecture="temporal")), "MI0514.*`temporal`"),
    "normalisation": (
        lambda f: edited(f, lambda c: c.update(normalize_activations="layer_norm")),
        "MI0514.*`layer_norm`",
    ),
    "unknown field": (lambda f: edited(f, lambda c: c.update(shift=1)), "MI0514.*`shift`"),
    "reshaping": (lambda f: edited(f, lambda c: c.update(reshape_activations="fold")), "MI0514.*`fold`"),
    "not a number": (lambda f: edited(f, lambda c: c.update(d_sae="24")), "MI0514.*`d_sae`"),
    "not a truth value": (lambda f: edited(f, lambda c: c.update(apply_b_dec_to_input=2)), "MI0514.*`apply"),
    "other heads": (
        lambda f: edited(f, lambda c: c["metadata"].update(hook_head_index=1)),
        "MI0515.*blocks.0.hook_resid_post.1",
    ),
    "other layer": (
        lambda f: edited(f, lambda c: c["metadata"].update(hook_name="blocks.1.hook_resid_post")),
        "MI0515.*blocks.1",
    ),
    "other site": (
        lambda f: edited(f, lambda c: c["metadata"].update(hook_name="blocks.0.hook_mlp_out")),
        "MI0515.*hook_mlp_out",
    ),
    "tensor left over": (
        lambda f: retensored(f, lambda t: t.update(W_more=torch.ones(2))),
        "MI0514.*`W_more`",
    ),
    "tensor missing": (lambda f: retensored(f, lambda t: t.pop("b_enc")), "MI0514.*`b_enc`"),
    "transposed": (
        lambda f: retensored(f, lambda t: t.update(W_enc=t["W_enc"].T.contiguous())),
        r"MI0514.*\[24, 12\] and not \[12, 24\]",
    ),
    "float64": (lambda f: retensored(f, lambda t: t.update(b_enc=t["b_enc"].double())), "MI0514.*F64"),
    "other width": (lambda f: widened(f, 10), "MI0515.*vectors of 10"),
    "no JSON": (lambda f: (f / "cfg.json").write_text("{"), "MI0510"),
    "no object": (lambda f: (f / "cfg.json").write_text("[]"), "MI0510"),
    "damaged": (lambda f: (f / "sae_weights.safetensors").write_bytes(b"12345678"), "MI0510"),
    "no such folder": (lambda f: shutil.rmtree(f), "MI0504"),
    "no known format": (lambda f: (f / "cfg.json").unlink(), "MI0514.*no known format"),
}


def said(path: Path) -> str:
    done = midsl("check", path, "--json")
    assert done.exit_code == 2, done.output
    errors = [d for d in json.loads(done.output)["diagnostics"] if d["severity"] == "error"]
    assert all(d["file"].endswith("spec.mi") for d in errors if d.get("file")), "the spec's own words"
    return " ".join(f"{d['code']} {d['message']}" for d in errors)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_understood_is_refused(name: str, tmp_path: Path) -> None:
    harm, words = REFUSED[name]
    CASES["SAELens standard"].write(tmp_path / "there", torch.float32)
    path = spec(tmp_path, 'sae_file("there", at: x)')
    assert midsl("check", path).exit_code == 0
    harm(tmp_path / "there")
    assert re.search(words, said(path))


OLD: dict[str, tuple[dict[str, Any], str]] = {
    "activation": ({"activation_fn_str": "tanh-relu"}, "`tanh-relu`"),
    "scaling": ({"finetuning_scaling_factor": True}, "finetuning_scaling_factor"),
    "norm": ({"normalize_activations": True}, "expected_average_only_in"),
}


@pytest.mark.parametrize("name", OLD)
def test_old_configurations_are_no_less_strict(name: str, tmp_path: Path) -> None:
    change, words = OLD[name]
    CASES["SAELens before 6"].write(tmp_path / "there", torch.float32)
    edited(tmp_path / "there", lambda c: c.update(change))
    assert re.search(f"MI0514.*{words}", said(spec(tmp_path, 'sae_file("there", at: x)')))


OTHERS = {
    "sparsify activation": ("sparsify topk", "cfg.json", '"topk"', '"relu"', "MI0514.*`relu`"),
    "sparsify field": ("sparsify topk", "cfg.json", '"k"', '"kk"', "MI0514.*`kk`"),
    "sparsify groups": ("sparsify groupmax", "cfg.json", '"k": 4', '"k": 5', "MI0514.*5 groups"),
    "class": (
        "dictionary_learning AutoEncoder",
        "config.json",
        '"AutoEncoder"',
        '"IdentityDict"',
        "MI0514.*`Id",
    ),
    "groups": (
        "dictionary_learning MatryoshkaBatchTopKSAE",
        "config.json",
        "[6, 18]",
        "[6, 17]",
        "MI0514.*group_sizes",
    ),
    "layer": (
        "dictionary_learning AutoEncoder",
        "config.json",
        '"layer": 0',
        '"layer": 1',
        "MI0515.*blocks.1",
    ),
    "cross-layer": (
        "circuit-tracer",
        "config.yaml",
        "transcoder_set",
        "cross_layer_transcoder",
        "MI0514.*`cross",
    ),
    "hook": (
        "circuit-tracer",
        "config.yaml",
        "ln2.hook_normalized",
        "hook_resid_mid",
        "MI0515.*hook_resid_mid",
    ),
    "yaml": ("circuit-tracer", "config.yaml", "model_kind:", "model_kind: [", "MI0510"),
    "activation": ("circuit-tracer", "config.yaml", "scan:", "activation: relu\nscan:", "MI0514.*`relu`"),
    "remote": (
        "circuit-tracer",
        "config.yaml",
        "scan:",
        "transcoders: ['hf://a/b/layer_0.safetensors']\nscan:",
        "MI0514.*no local file",
    ),
    "lens type": ("tuned-lens", "config.json", "linear_tuned", "mlp_tuned", "MI0514.*`mlp_tuned_lens`"),
    "bias": ("tuned-lens", "config.json", '"bias": true', '"bias": false', "MI0514.*bias"),
    "no translator": ("tuned-lens", "config.json", '_layers": 2', '_layers": 1', "MI0406.*layer 1"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_formats_are_no_less_strict(name: str, tmp_path: Path) -> None:
    case, file, old, new, words = OTHERS[name]
    CASES[case].write(tmp_path / "there", torch.float32)
    path = tmp_path / "there" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert re.search(words, said(spec(tmp_path, CASES[case].declare.format("there"))))


PICKLED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "code": (lambda t: t.update(bias=np.random.default_rng), "MI0508"),
    "no tensors": (lambda t: t.update(bias=[1, 2]), "MI0514.*not a table"),
    "left over": (lambda t: t.update(more=torch.ones(1)), "MI0514.*`more`"),
    "missing": (lambda t: t.pop("bias"), "MI0514.*`bias`"),
    "shape": (lambda t: t.update(bias=torch.ones(D + 1)), "MI0514.*13"),
    "transposed": (lambda t: t.update({"encoder.weight": t["encoder.weight"].T}), r"MI0514.*\[12, 24\]"),
    "precision": (lambda t: t.update(bias=t["bias"].double()), "MI0514.*float64"),
}


@pytest.mark.parametrize("name", PICKLED)
def test_what_only_reading_tells_is_refused_before_anything_runs(name: str, tmp_path: Path) -> None:
    harm, words = PICKLED[name]
    CASES["dictionary_learning AutoEncoder"].write(tmp_path / "there", torch.float32)
    path = tmp_path / "there" / "ae.pt"
    tensors = torch.load(path, weights_only=True)
    harm(tensors)
    torch.save(tensors, path)
    more = "experiment e { let r = run m on d  report c = mean(r[s.code], over: [batch, pos]) }"
    done = midsl("run", spec(tmp_path, 'sae_file("there", at: x)', more), "--json")
    assert done.exit_code == 2, done.output
    assert re.search(f"(?s){words}", done.output)


def test_a_buffer_that_says_something_else_than_the_configuration_is_refused(tmp_path: Path) -> None:
    CASES["dictionary_learning AutoEncoderTopK"].write(tmp_path / "there", torch.float32)
    config = tmp_path / "there" / "config.json"
    config.write_text(config.read_text().replace('"k": 4', '"k": 3'))
    more = "experiment e { let r = run m on d  report c = mean(r[s.code], over: [batch, pos]) }"
    done = midsl("run", spec(tmp_path, 'sae_file("there", at: x)', more), "--json")
    assert done.exit_code == 2 and "MI0514" in done.output, done.output


def test_elsewhere_is_said_and_one_address_has_two_names(tmp_path: Path) -> None:
    CASES["SAELens standard"].write(tmp_path / "there", torch.float32)
    late = 'sae_file("there", at: m.blocks[1].resid_post{})'
    assert "MI0515" in said(spec(tmp_path, late.format("")))
    assert midsl("check", spec(tmp_path, late.format(", elsewhere: true"))).exit_code == 0
    assert midsl("check", spec(tmp_path, 'sae_file("there", at: m.blocks[1].resid_pre)')).exit_code == 0


def test_another_file_is_another_decomposition(tmp_path: Path) -> None:
    """What is known of a run that used a file holds for that file alone."""
    CASES["SAELens standard"].write(tmp_path / "there", torch.float32)
    more = "experiment e { let r = run m on d  report c = mean(r[s.code], over: [batch, pos, feature]) }"
    path = spec(tmp_path, 'sae_file("there", at: x)', more)
    first = tables(compile_spec(path))["c"].value[0]
    retensored(tmp_path / "there", lambda t: t.update(b_enc=t["b_enc"] + 1))
    assert tables(compile_spec(path))["c"].value[0] > first


def test_a_published_dictionary_can_be_fitted_on(tmp_path: Path) -> None:
    CASES["SAELens standard"].write(tmp_path / "there", torch.float32)
    report = """experiment e {
      let r = run m on d
      report c = mean(square(r[x] - s.decode(r[s.code])), over: [batch, pos, d_model])
    }"""
    fit = "fit: { on: d, steps: 60, batch: 12, optim: adam(lr: 1e-2) }"
    loss = "loss: fn (v) => mean(square(v - was.decode(was.encode(v))), over: d_model)"
    before = tables(compile_spec(spec(tmp_path, 'sae_file("there", at: x)', report)))["c"].value[0]
    path = spec(tmp_path, f"fitted(was, {loss}, {fit})", report)
    path.write_text(
        path.read_text().replace(
            "decomposition s", 'decomposition was = sae_file("there", at: x)\ndecomposition s'
        )
    )
    after = tables(compile_spec(path))["c"].value[0]
    assert after < 0.5 * before


def test_a_fitted_dictionary_is_written_for_others(tmp_path: Path) -> None:
    """What was fitted here computes the same when it comes back as a file."""
    fit = "fit: { on: d, steps: 20, batch: 8 }"
    report = "experiment e { let r = run m on d  report c = mean(r[s.code], over: batch) }"
    path = spec(tmp_path, f"topk_sae(at: x, d_sae: 24, k: 3, {fit})", report)
    path.write_text(path.read_text().replace("import sae_file", "import topk_sae, sae_file"))
    mine = tables(compile_spec(path))["c"].value
    for format in ("saelens", "sparsify", "dictionary_learning"):
        done = midsl("export-lens", path, "s", "--format", format, "--to", tmp_path / format)
        assert done.exit_code == 0, done.output
        other = spec(tmp_path, f'sae_file("{format}", at: x)', report)
        assert np.allclose(tables(compile_spec(other))["c"].value, mine, atol=1e-6)
        path = spec(tmp_path, f"topk_sae(at: x, d_sae: 24, k: 3, {fit})", report)
        path.write_text(path.read_text().replace("import sae_file", "import topk_sae, sae_file"))
    done = midsl("export-lens", path, "s", "--format", "gemma_scope", "--to", tmp_path / "npz", "--json")
    assert done.exit_code == 2 and "MI0514" in done.output and "topk" in done.output


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    path = spec(tmp_path, "random_subspace(at: x, rank: 2)")
    path.write_text(path.read_text().replace("import sae_file", "import random_subspace, sae_file"))

    def says(*args: object) -> str:
        done = midsl("export-lens", path, *args, "--json")
        assert done.exit_code == 2, done.output
        return done.output

    out = ("--format", "saelens", "--to", tmp_path / "out")
    assert "MI0514" in says("s", *out)
    assert "MI0201" in says("t", *out)
    assert "MI0301" in says("d", *out)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert "not empty" in says("s", *out)
    assert "saelens" in says("s", "--format", "onnx", "--to", tmp_path / "out")
