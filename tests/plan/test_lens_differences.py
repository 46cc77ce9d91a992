"""Gradients into, at and through codes of all kinds of dictionaries, against what small steps change.

Codes have kinks: at each place that is compared a step is small enough to stay on one side of them, which
`small_steps` finds out by itself and fails where it cannot.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from midsl.diagnostics.model import MiError
from midsl.ops.named import NT
from midsl.ops.registry import REGISTRY, load_families
from midsl.plan.driver import compile_spec
from midsl.sema.check import check_text
from tests.plan import corpus
from tests.plan.corpus import truth
from tests.plan.small_steps import STEPS, assert_slope
from tests.plan.test_differences import HEAD
from tests.plan.test_oracle import agree

LENSES = {
    "relu": "relu_sae(at: y, d_sae: 9, seed: 1)",
    "topk": "topk_sae(at: y, d_sae: 9, k: 3, seed: 2)",
    "batchtopk": "batchtopk_sae(at: y, d_sae: 9, k: 3, seed: 3)",
    "gated": "gated_sae(at: y, d_sae: 9, seed: 4)",
    "jumprelu": "jumprelu_sae(at: y, d_sae: 9, threshold: 0.4, seed: 5)",
    "pursuit": "pursuit_sae(at: y, d_sae: 9, k: 3, seed: 6)",
    "stopping": "pursuit_sae(at: y, d_sae: 9, k: 4, stop: 0.7, seed: 7)",
    "transcoded": "transcoder(from: m.blocks[0].ln2.normalized, to: m.blocks[0].mlp_out, d_sae: 9, seed: 8)",
    "joint": "crosscoder(at: m.blocks[*].resid_post, d_sae: 9, seed: 9)",
    "across": "cross_layer_transcoder(from: m.blocks[*].resid_mid, to: m.blocks[*].mlp_out, d_sae: 5, "
    "layers: 2)",
}
ELSEWHERE = ("transcoded", "joint", "across")
"""Those whose code is read elsewhere than it is written: no gradient goes through an edit of it."""
KINDS = (
    "batchtopk_sae, cross_layer_transcoder, crosscoder, gated_sae, jumprelu_sae, pursuit_sae, relu_sae, "
    "topk_sae, transcoder"
)
OF = {
    "into": "mean(square(r[{lens}.code]), over: {code})",
    "error": "mean(square(r[{lens}.error]), over: {error})",
    "on": "mean(ld(r), over: batch)",
}
"""A number of a run: of the code, of what it leaves, and of what the model makes of both."""
OVER = {"code": "[batch, pos, feature]", "error": "[batch, pos, d_model]"}
LAYERS = {"code": "[layer, batch, pos, feature]", "error": "[layer, batch, pos, d_model]"}


def axes_of(lens: str) -> dict[str, str]:
    """What a code and an error lie along: one code of all layers, or one of each."""
    return {"joint": {**LAYERS, "code": OVER["code"]}, "across": LAYERS}.get(lens, OVER)


def numbers(lens: str) -> list[str]:
    """What is compared."""
    return [n for n in OF if n != "on" or lens not in ELSEWHERE]


def reads(lens: str) -> str:
    """An experiment for each number that a code takes part in, at what the whole model begins with."""
    return "".join(
        compared(
            f"{lens}_{name}",
            of.format(lens=lens, **axes_of(lens)),
            "m.embed",
            f"{lens}.code := 0.7 * self + 0.2" * (name == "on"),
        )
        for name, of in OF.items()
        if name in numbers(lens)
    )


def places(lens: str) -> str:
    """An experiment for a code as a place, and for an error: what is added there goes on as it is."""
    return "".join(compared(f"{lens}_at_{part}", OF["on"], f"{lens}.{part}") for part in OVER)


def compared(name: str, of: str, at: str, edit: str = "") -> str:
    """What a gradient says that a direction does to a number, and what steps along it do; through an edit."""
    over = axes_of(at.split(".")[0]).get(at.split(".")[1], "[batch, pos, d_model]")
    return f"""experiment {name} {{
  let of    = fn (r) => {of}
  let base  = run m on d.clean{f" do {{ {edit} }}" if edit else ""}
  let u     = normal(base[{at}], seed: 1)
  let moved = fn (k) => run m on d.clean do {{ {at} := self + k * u{f", {edit}" if edit else ""} }}
  report slope  = sum(grad(of(base), at: base[{at}]{", through: true" if edit else ""}) * u, over: {over})
  report change = [(of(moved(step)) - of(moved(-step))) / (2 * step) for step in {list(STEPS)}]
}}
"""


def written(lens: str, folder: Path) -> str:
    """A spec of all comparisons for one kind."""
    name, head = f"codes_{lens}", HEAD.replace("import topk_sae", f"import {KINDS}")
    head = head.replace("layers: 1", "layers: 2") if lens in ("joint", "across") else head
    head = head[: head.index("decomposition")] + f"decomposition {lens} = {LENSES[lens]}\n"
    corpus.ELSEWHERE[name] = folder / f"{name}.mi"
    corpus.ELSEWHERE[name].write_text(head + reads(lens) + places(lens), encoding="utf-8")
    return name


@pytest.mark.parametrize(
    "lens", [n if n == "gated" else pytest.param(n, marks=pytest.mark.slow) for n in LENSES]
)
def test_gradients_at_and_through_codes_are_what_steps_change(lens: str, tmp_path: Path) -> None:
    name = written(lens, tmp_path)
    agree(name, "all passes", None)
    found = truth(name).reports
    for experiment in (*(f"{lens}_{n}" for n in numbers(lens)), *(f"{lens}_at_{p}" for p in OVER)):
        slope = found[f"{experiment}.slope"][()]
        changes = {step: found[f"{experiment}.change"][(step,)] for step in STEPS}
        assert abs(slope) > 1e-3, f"{experiment}: there is something to compare"
        assert_slope(slope, changes, experiment)


@pytest.mark.slow
def test_a_gradient_that_is_off_by_a_ten_thousandth_is_seen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    load_families()
    right = REGISTRY["relu"]

    def wrong(*args: Any, **attrs: Any) -> NT:
        out = right(*args, **attrs)
        return replace(out, data=out.data + 1e-4 * (out.data - out.data.detach()))

    monkeypatch.setitem(REGISTRY, "relu", wrong)
    corpus.ELSEWHERE["codes_wrong"] = corpus.ELSEWHERE[written("jumprelu", tmp_path)]
    found = truth("codes_wrong").reports
    for experiment in ("jumprelu_into", "jumprelu_error"):
        changes = {step: found[f"{experiment}.change"][(step,)] for step in STEPS}
        with pytest.raises(AssertionError, match="steps say"):
            assert_slope(found[f"{experiment}.slope"][()], changes, experiment)


REFUSED = {
    "a code that is read elsewhere": ("t.code := 0.5 * self", "mean(ld(r), over: batch)"),
    "a code that was written": (
        "sae.code := 0.5 * self",
        "sum(square(r[sae.code]), over: [batch, pos, feature])",
    ),
    "and beside it what came of it": (
        "sae.code := 0.5 * self",
        "mean(ld(r), over: batch) + sum(square(r[sae.code]), over: [batch, pos, feature])",
    ),
    "an edge": ('m.edges["embed->a0.h1<v>"] := 0', "mean(ld(r), over: batch)"),
}
"""An edit, and a number of the run, for which what flows through would not be all of it."""


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_miss_a_part_is_refused(name: str, tmp_path: Path) -> None:
    edit, of = REFUSED[name]
    text = f"""{HEAD.replace("import topk_sae", "import topk_sae, transcoder")}
decomposition t = transcoder(from: m.blocks[0].ln2.normalized, to: m.blocks[0].mlp_out, d_sae: 9)
experiment e {{
  let r = run m on d.clean do {{ {edit} }}
  report g = max(abs(grad({of}, at: r[m.embed], through: true)), over: [batch, pos, d_model])
}}
"""
    (tmp_path / "through.mi").write_text(text)
    with pytest.raises(MiError) as error:
        compile_spec(tmp_path / "through.mi")
    expected = "MI0325" if name == "a code that was written" else "MI0601"
    assert [i.code for i in error.value.diagnostics] == [expected]
    (tmp_path / "constant.mi").write_text(text.replace(", through: true", ""))
    if expected == "MI0601":
        compile_spec(tmp_path / "constant.mi")  # what edits write may be a constant


def test_constants_of_other_runs_are_none_of_it() -> None:
    """A code that another run has, and wrote, is a number there."""
    text = f"""{HEAD}experiment e {{
  let other = run m on d.clean do {{ sae.code := 0.5 * self }}
  let r     = run m on d.clean do {{ sae.code := 2.0 * self + other[sae.code] }}
  let size  = sum(square(other[sae.code]), over: [batch, pos, feature])
  report g = max(abs(grad(mean(ld(r), over: batch) * size, at: r[m.embed], through: true)))
}}
"""
    assert not [i for i in check_text(text).items if i.severity == "error"]
