"""Reading and writing through a lens, against plain hooks and the published formulas; what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from midsl.fit.draw import draw_params
from midsl.ir import nodes as ir
from midsl.plan.driver import compile_spec
from tests.examples.common import midsl
from tests.fit.common import by_hand, refused, reports, tables, write

SAE = "decomposition sae = topk_sae(at: x, d_sae: 20, k: 3, seed: 4)\n"


def parameters(compiled: object) -> dict[str, Tensor]:
    """The tensors as drawn."""
    roots = compiled.program.roots  # type: ignore[attr-defined]
    (node,) = {n for n in ir.walk(*roots) if isinstance(n, ir.Params)}
    return draw_params(node)


def encode(x: Tensor, p: dict[str, Tensor]) -> Tensor:
    """TopK, as its paper has it: the k largest of the ReLU of the pre-activations."""
    pre = ((x - p["b"]) @ p["enc"].T).relu()
    found = pre.topk(3, dim=-1)
    return torch.zeros_like(pre).scatter(-1, found.indices, found.values)


def decode(c: Tensor, p: dict[str, Tensor]) -> Tensor:
    return c @ p["dec"] + p["b"]


def test_a_code_is_what_the_encoder_gives(tmp_path: Path) -> None:
    body = SAE + "experiment e { let r = run m on d  report code = mean(r[sae.code], over: batch) }"
    compiled = compile_spec(write(tmp_path, body))
    code = encode(by_hand(compiled)[0], parameters(compiled))
    assert torch.allclose(
        torch.from_numpy(tables(compiled)["code"].value).float(), code.mean(0).flatten(), atol=1e-6
    )


@pytest.mark.parametrize(
    ("edit", "change"),
    [
        ("sae.code[feature: 3] := 1.5", lambda c: c.index_fill(-1, torch.tensor([3]), 1.5)),
        ("sae.code[feature: [3, 5]] := self * 2.0 + 1.0", lambda c: at(c, [3, 5], lambda v: v * 2 + 1)),
        ("sae.code := 0.25", lambda c: torch.full_like(c, 0.25)),
        (
            "sae.code[feature: 3] := self + 1.0, sae.code[feature: 3] := 2.0",
            lambda c: c.index_fill(-1, torch.tensor([3]), 3.0),
        ),
    ],
)
def test_writing_a_code_keeps_the_error(edit: str, change: object, tmp_path: Path) -> None:
    body = f"""{SAE}experiment e {{
      let r = run m on d do {{ {edit} }}
      report logits = mean(r.logits, over: batch)
      report code   = mean(r[sae.code], over: batch)
    }}"""
    compiled = compile_spec(write(tmp_path, body))
    p = parameters(compiled)

    def by_formula(x: Tensor) -> Tensor:
        c = encode(x, p)
        return decode(change(c), p) + (x - decode(c, p))  # type: ignore[operator]

    logits = by_hand(compiled, by_formula)[1]
    code = change(encode(by_hand(compiled)[0], p))  # type: ignore[operator]
    found = tables(compiled)
    assert torch.allclose(
        torch.from_numpy(found["logits"].value).float(), logits.mean(0).flatten(), atol=1e-5
    )
    assert torch.allclose(torch.from_numpy(found["code"].value).float(), code.mean(0).flatten(), atol=1e-6)


def at(c: Tensor, index: list[int], f: object) -> Tensor:
    new = c.clone()
    new[..., index] = f(c[..., index])  # type: ignore[operator]
    return new


def test_a_transcoder_reads_one_site_and_writes_another(tmp_path: Path) -> None:
    body = """
    fn cross[d](reads: Site[d], at: Site[d]) -> Lens {
      let p = params({ enc: normal([d, feature]), dec: normal([feature, d]) }, feature: 10)
      return lens(
        from: reads, at: at,
        encode: fn (x) => relu(dot(x, p.enc, over: d)), decode: fn (c) => dot(c, p.dec, over: feature)
      )
    }
    decomposition t = cross(reads: m.blocks[0].resid_pre, at: m.blocks[0].resid_post)
    experiment e {
      let base  = run m on d
      let gone  = run m on d do { t.error := 0 }
      let ghost = run m on d do { t.code := base }
      let up    = run m on d do { m.blocks[0].resid_pre := self * 2.0, t.code[feature: 1] := self + 1.0 }
      let plain = run m on d do { m.blocks[0].resid_pre := self * 2.0 }
      report replaced = max(abs(gone[x] - t.decode(base[t.code])), over: [batch, pos, d_model])
      report same     = max(abs(ghost[x] - base[x]), over: [batch, pos, d_model])
      report moved    = max(abs(up[t.code] - plain[t.code]), over: [batch, pos])
    }"""
    found = reports(tmp_path, body)
    assert found["replaced"].value[0] < 1e-5
    assert found["same"].value[0] < 1e-6
    moved = found["moved"].value
    assert moved[1] == pytest.approx(1.0, abs=1e-5)
    assert max(abs(v) for i, v in enumerate(moved) if i != 1) < 1e-6


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("let r = run m on d do { sae.code[feature: 20] := 0 }", "MI0406"),
        ("let r = run m on d do { sae.code[features: 2] := 0 }", "MI0302"),
        ("let r = run m on d do { sae.code[feature: 2] := 0, sae.code[feature: [1, 2]] := 1 }", "MI0405"),
        ("let r = run m on d do { sae.code := 0, other.code := 0 }", "MI0405"),
        ("let r = run m on d do { sae := 0 }", "MI0410"),
        ("let r = run m on d do { sae.decoder := 0 }", "MI0410"),
        ("sweep f in sae.code  let r = run m on d do { f := 0 }", "MI0402"),
        ("let r = run m on d do { sae.code[feature: 1] := run m on d.nothing }", "MI0506"),
        ("let r = run m on d do { sae.coed := 0 }", "MI0205"),
    ],
)
def test_mistakes_are_refused(body: str, said: str, tmp_path: Path) -> None:
    text = refused(
        tmp_path,
        SAE
        + "decomposition other = relu_sae(at: x, d_sae: 8)\n"
        + f"experiment e {{ {body}  report y = cross_entropy(r) }}",
    )
    assert said in text, text


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("params({ w: normal([d_model, feature]) })", "MI0302 how long is `d_model`"),
        ("params({ w: normal([a, a]) }, a: 3)", "MI0313"),
        ("params({ w: normal([a], unti: a) }, a: 3)", "MI0206"),
        ("params({ w: normal([a], unit: b) }, a: 3, b: 2)", "MI0302"),
        ("params({ w: same(v) }, a: 3)", "MI0201 there is no `v`"),
        ("params({ w: 3 }, a: 3)", "MI0301"),
        ("params({ w: orthogonal([a]) }, a: 3)", "MI0301"),
        ("params({ w: zeros([a]) }, a: 0)", "MI0301"),
    ],
)
def test_parameters_are_checked(body: str, said: str, tmp_path: Path) -> None:
    text = refused(
        tmp_path, f"experiment e {{ let p = {body}  let r = run m on d  report y = sum(p.w, over: a) }}"
    )
    assert said in text, text


def test_draws_are_those_of_the_seed() -> None:
    drawn = (
        ("dec", "normal", (("feature", 5), ("d", 3)), (("unit", "d"),)),
        ("enc", "same", (("feature", 5), ("d", 3)), (("as", "dec"),)),
        ("q", "orthogonal", (("d", 3), ("rank", 2)), ()),
        ("u", "uniform", (("d", 50),), (("low", -1.0), ("high", 3.0))),
    )
    a, b = draw_params(ir.Params(drawn, 1)), draw_params(ir.Params(drawn, 1))
    assert all(torch.equal(a[n], b[n]) for n in a)
    assert torch.allclose(a["dec"].norm(dim=1), torch.ones(5))
    assert torch.equal(a["dec"], a["enc"])
    assert torch.allclose(a["q"].T @ a["q"], torch.eye(2), atol=1e-6)
    assert -1 <= float(a["u"].min()) < 0 and 2 < float(a["u"].max()) <= 3
    assert not torch.equal(a["dec"], draw_params(ir.Params(drawn, 2))["dec"])


def test_a_number_that_comes_of_parameters_is_no_reason_to_plan_late(tmp_path: Path) -> None:
    """What a plan costs is told before anything is fitted or drawn."""
    body = """
    fn scaled[d](at: Site[d]) -> Lens {
      let p = params({ dec: normal([feature, d]), size: uniform([feature]) }, feature: 6)
      return lens(
        at: at, encode: fn (x) => dot(x, p.dec, over: d), decode: fn (c) => dot(c, p.dec, over: feature),
        decoder: p.dec, size: p.size
      )
    }
    decomposition s = scaled(at: x)
    experiment e {
      sweep f in [0, 3]
      let r = run m on d do { x := self + s.size[feature: f] * s.decoder[feature: f] }
      report loss = cross_entropy(r)
    }"""
    done = midsl("explain", write(tmp_path, body), "--json")
    assert done.exit_code == 0, done.output
    assert midsl("verify", write(tmp_path, body)).exit_code == 0
