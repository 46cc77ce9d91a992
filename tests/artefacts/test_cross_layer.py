"""circuit-tracer's cross-layer transcoders: computed, written bit by bit, and refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from midsl.plan.driver import compile_spec
from tests.artefacts.common import D, N, Tensors, draw
from tests.artefacts.test_files import contents, said
from tests.artefacts.test_files import spec as spec_of
from tests.examples.common import midsl
from tests.fit.common import tables

LAYERS = 2
DECLARED = 'cross_layer_file("there", from: m.blocks[*].resid_mid, to: m.blocks[*].mlp_out)'


def spec(folder: Path, declared: str = DECLARED, more: str = "") -> Path:
    path = spec_of(folder, declared, more)
    more_names = "import cross_layer_file, cross_layer_transcoder, sae_file"
    path.write_text(path.read_text().replace("import sae_file", more_names))
    return path


def there(folder: Path, dtype: torch.dtype = torch.float32, jumps: bool = True) -> Tensors:
    """One as the package saves it: `to_safetensors` of two layers, and `config.yaml`."""
    folder.mkdir()
    shapes: dict[str, tuple[int, ...]] = {}
    for i in range(LAYERS):
        shapes |= {f"W_enc_{i}": (N, D), f"b_enc_{i}": (N,), f"b_dec_{i}": (D,)}
        shapes |= {f"threshold_{i}": (N,)} if jumps else {}
        shapes |= {f"W_dec_{i}": (N, LAYERS - i, D)}
    tensors = draw(dtype, **shapes)
    for i in range(LAYERS):
        own = {k: t for k, t in tensors.items() if k.endswith(f"_{i}")}
        save_file({f"W_dec_{i}": own.pop(f"W_dec_{i}")}, folder / f"W_dec_{i}.safetensors")
        save_file(own, folder / f"W_enc_{i}.safetensors")
    (folder / "config.yaml").write_text(
        "model_name: toy\nmodel_kind: cross_layer_transcoder\nscan: toy-clt\n"
        "feature_input_hook: hook_resid_mid\nfeature_output_hook: hook_mlp_out\n"
    )
    return tensors


def computed(folder: Path, declared: str = DECLARED) -> dict[str, Tensor]:
    """What is read, the codes, and what is written for them: [layer, 12 positions, ..] each."""
    more = """experiment e {
      let r = run m on d
      report seen = mean(r[m.blocks[*].resid_mid], over: batch)
      report code = mean(r[s.code], over: batch)
      report back = mean(s.decode(r[s.code]), over: batch)
    }"""
    found = tables(compile_spec(spec(folder, declared, more)))  # one row, so that its mean is itself
    made = {}
    for name, t in found.items():
        (last,) = t.keys.keys() - {"layer", "pos"}
        order = np.lexsort([np.asarray(t.keys[k]) for k in (last, "pos", "layer")])
        made[name] = torch.from_numpy(t.value[order]).float().reshape(LAYERS, 12, -1)
    return made


@pytest.mark.parametrize("jumps", [True, False])
def test_what_is_computed_is_written_out(jumps: bool, tmp_path: Path) -> None:
    t = there(tmp_path / "there", jumps=jumps)
    got = computed(tmp_path)
    codes = []
    for i in range(LAYERS):
        pre = got["seen"][i] @ t[f"W_enc_{i}"].T + t[f"b_enc_{i}"]
        codes.append(pre * (pre > t[f"threshold_{i}"]) if jumps else pre.relu())
        assert torch.allclose(got["code"][i], codes[i], atol=2e-5)
        assert (codes[i] != 0).any() and (codes[i] == 0).any()
    for j in range(LAYERS):
        back = t[f"b_dec_{j}"] + sum(codes[i] @ t[f"W_dec_{i}"][:, j - i] for i in range(j + 1))
        assert torch.allclose(got["back"][j], back, atol=2e-5)


@pytest.mark.parametrize("jumps", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_round_trip_changes_no_bit(dtype: torch.dtype, jumps: bool, tmp_path: Path) -> None:
    there(tmp_path / "there", dtype, jumps)
    path, out = spec(tmp_path), tmp_path / "out"
    done = midsl("export-lens", path, "s", "--format", "circuit_tracer", "--to", out, "--json")
    assert done.exit_code == 0, done.output
    before, after = contents(tmp_path / "there"), contents(out)
    assert before.keys() == after.keys() and len(after) == (4 if jumps else 3) * LAYERS + LAYERS
    for key, value in after.items():
        assert value.dtype == before[key].dtype == dtype and torch.equal(value, before[key]), key
    lines = [set((f / "config.yaml").read_text().split("\n")) for f in (tmp_path / "there", out)]
    assert lines[0] == lines[1]


def test_a_fitted_one_is_written_and_computes_the_same(tmp_path: Path) -> None:
    places = "from: m.blocks[*].resid_mid, to: m.blocks[*].mlp_out"
    fitted = f"cross_layer_transcoder({places}, d_sae: 10, layers: 2, fit: {{ on: d, steps: 5, batch: 4 }})"
    mine = computed(tmp_path, fitted)
    where = ("--format", "circuit_tracer", "--to", tmp_path / "there")
    done = midsl("export-lens", spec(tmp_path, fitted), "s", *where)
    assert done.exit_code == 0, done.output
    theirs = computed(tmp_path)
    assert all(torch.allclose(theirs[n], mine[n], atol=1e-6) for n in mine)
    assert load_file(tmp_path / "there" / "W_dec_1.safetensors")["W_dec_1"].shape == (10, 1, D)
    for format in ("saelens", "gemma_scope"):
        where = ("--format", format, "--to", tmp_path / format)
        done = midsl("export-lens", spec(tmp_path, fitted), "s", *where)
        assert done.exit_code == 2 and "MI0514" in done.output and "2 layers together" in done.output


def test_other_transcoders_in_the_folder_are_let_be(tmp_path: Path) -> None:
    there(tmp_path / "there")
    there(tmp_path / "more")
    save_file({"W_enc_2": torch.ones(2)}, tmp_path / "more" / "W_enc_2.safetensors")
    path = spec(tmp_path)
    done = midsl("export-lens", path, "s", "--format", "circuit_tracer", "--to", tmp_path / "more")
    assert done.exit_code == 2 and "MI0514" in done.output and "W_enc_2" in done.output
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "config.yaml").write_text("model_kind: transcoder_set\n")
    done = midsl("export-lens", path, "s", "--format", "circuit_tracer", "--to", tmp_path / "set")
    assert done.exit_code == 2 and "MI0514" in done.output and "transcoder_set" in done.output


def configured(old: str, new: str) -> Callable[[Path], object]:
    def harm(folder: Path) -> None:
        path = folder / "config.yaml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return harm


def changed(name: str, change: Callable[[Tensors], object]) -> Callable[[Path], object]:
    def harm(folder: Path) -> None:
        path = folder / f"{name}.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)

    return harm


def removed(folder: Path, files: str) -> None:
    for path in folder.glob(files):
        path.unlink()


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "field": (configured("scan:", "shift: 1\nscan:"), "MI0514.*`shift`"),
    "kind": (configured("cross_layer_transcoder", "crosscoder"), "MI0514.*`crosscoder`"),
    "of each layer": (configured("cross_layer_transcoder", "transcoder_set"), "MI0514.*for each layer"),
    "activation": (configured("scan:", "activation: topk\nscan:"), "MI0514.*`topk`"),
    "k": (configured("scan:", "k: 3\nscan:"), "MI0514.*`k`"),
    "a list": (configured("scan:", "transcoders: [a, b]\nscan:"), "MI0514.*lists none"),
    "where it reads": (configured("hook_resid_mid", "hook_resid_pre"), "MI0515.*hook_resid_pre"),
    "where it writes": (configured("hook_mlp_out", "hook_attn_out"), "MI0515.*hook_attn_out"),
    "no decoder": (lambda f: removed(f, "W_dec_1.*"), "MI0514.*W_dec_1"),
    "a layer more": (
        lambda f: save_file({"W_dec_2": torch.ones(2)}, f / "W_dec_2.safetensors"),
        "MI0514.*W_dec_2",
    ),
    "no layers": (lambda f: removed(f, "W_*"), "MI0514.*W_enc_0"),
    "key left over": (changed("W_enc_1", lambda t: t.update(W_skip_1=torch.ones(2))), "MI0514.*`W_skip_1`"),
    "key missing": (changed("W_enc_1", lambda t: t.pop("threshold_1")), "MI0514.*`threshold_1`"),
    "writes to all": (
        changed("W_dec_1", lambda t: t.update(W_dec_1=torch.ones(N, 2, D))),
        r"MI0514.*\[24, 2, 12\] and not \[24, 1, 12\]",
    ),
    "transposed": (
        changed("W_enc_1", lambda t: t.update(W_enc_1=t["W_enc_1"].T.contiguous())),
        r"MI0514.*\[12, 24\] and not \[24, 12\]",
    ),
    "float64": (changed("W_enc_0", lambda t: t.update(b_enc_0=t["b_enc_0"].double())), "MI0514.*F64"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_understood_is_refused(name: str, tmp_path: Path) -> None:
    harm, words = REFUSED[name]
    there(tmp_path / "there")
    path = spec(tmp_path)
    assert midsl("check", path).exit_code == 0
    harm(tmp_path / "there")
    assert re.search(words, said(path))


def test_it_is_of_all_layers_of_its_own_model(tmp_path: Path) -> None:
    there(tmp_path / "there")
    one = 'transcoder_file("there", from: m.blocks[0].resid_mid, to: m.blocks[0].mlp_out, layer: {})'
    assert "MI0514" in said(spec(tmp_path, one.format(0)))
    assert re.search("MI0515.*all layers", said(spec(tmp_path, one.format(-1))))
    path = spec(tmp_path)
    path.write_text(path.read_text().replace("layers: 2", "layers: 3"))
    assert re.search("MI0515.*2 layers", said(path))


def test_negative_codes_are_no_codes(tmp_path: Path) -> None:
    """Below a threshold under 0 the package lets x through; midsl's codes are not below 0."""
    there(tmp_path / "there")
    changed("W_enc_1", lambda t: t["threshold_1"].mul_(-1))(tmp_path / "there")
    more = "experiment e { let r = run m on d  report c = mean(r[s.code], over: [batch, pos]) }"
    done = midsl("run", spec(tmp_path, more=more), "--json")
    assert done.exit_code == 2, done.output
    assert re.search("(?s)MI0514.*threshold_1.*below 0", done.output)
