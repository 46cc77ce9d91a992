"""A model that torch.export refuses runs on the hook engine, says so, and gives what plain hooks give."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from midsl.plan.driver import Execution, compile_spec
from midsl.reach import Trust
from tests.examples.common import midsl
from tests.examples.odd_model import LAYERS, build

SPEC = Path(__file__).with_name("hooks.mi")
CLEAN = [[3, 4, 5, 6], [7, 2, 9], [1, 1, 2]]
CORRUPT = [[3, 8, 5, 6], [7, 3, 9], [4, 1, 2]]
CHANGED = [1, 1, 0]
ANSWER, WRONG = [7, 8, 9], [1, 2, 3]


def reports() -> dict[str, dict[tuple[object, ...], float]]:
    """Every report of the spec: values by key."""
    execution = Execution(compile_spec(SPEC, trust=Trust(code=True)))
    execution.run()
    return {
        table.title: {row[:-3]: row[-3] for row in table.rows()}  # type: ignore[misc]
        for stage in execution.stages
        for table in stage.tables
    }


def difference(
    row: int, ids: list[int], patch: tuple[int, int, Tensor] | None = None
) -> tuple[float, list[Tensor]]:
    """The logit difference of one row alone, and what leaves each block; `patch`: layer, position, value."""
    model = build(seed=3).module
    seen: list[Tensor] = []

    def hook(layer: int, out: Tensor) -> Tensor:
        if patch is not None and patch[0] == layer:
            out = out.clone()
            out[0, patch[1]] = patch[2]
        seen.append(out)
        return out

    blocks = model.get_submodule("blocks")
    for layer, block in enumerate(blocks.children()):
        block.register_forward_hook(lambda _, __, out, layer=layer: hook(layer, out))
    tokens = torch.tensor([ids])
    with torch.no_grad():
        last = model(tokens, torch.ones_like(tokens))[0, -1]
    return float(last[ANSWER[row]] - last[WRONG[row]]), seen


def test_patches_are_what_plain_hooks_give() -> None:
    found = reports()
    for row in range(3):
        _, clean = difference(row, CLEAN[row])
        before, _ = difference(row, CORRUPT[row])
        for layer in range(LAYERS):
            at = CHANGED[row]
            after, _ = difference(row, CORRUPT[row], (layer, at, clean[layer][0, at]))
            assert found["stream.change"][layer, row] == pytest.approx(after - before, abs=1e-5)
    module = build(seed=3).module
    outputs: list[Tensor] = []
    mix = module.get_submodule("blocks.1.mix")
    mix.register_forward_hook(lambda _, __, out: outputs.append(out[0]))
    for ids in CLEAN:
        with torch.no_grad():
            module(torch.tensor([ids]), torch.ones(1, len(ids)))
    mean = torch.cat(outputs).mean(0)
    sizes = found["module_site.size"]
    assert [sizes[d,] for d in range(len(sizes))] == pytest.approx(mean.tolist(), abs=1e-5)


def test_it_says_so(tmp_path: Path) -> None:
    store = tmp_path / "store"
    done = midsl("run", SPEC, "--trust", "--store", store)
    assert done.exit_code == 0, done.output
    assert "warning[MI0603]: this model runs on the hook engine: torch.export refused it" in done.output
    assert "def forward" not in done.output, "what torch prints of its attempt is not for the user"
    kept = midsl(
        "sql",
        "SELECT count(DISTINCT message) AS n FROM diagnostics WHERE code = 'MI0603'",
        "--store",
        store,
        "--json",
    )
    assert json.loads(kept.output) == [{"n": 1}]
    explained = midsl("explain", SPEC, "--trust")
    assert "on the hook engine, whole forwards" in explained.output
    verified = midsl("verify", SPEC, "--trust")
    assert verified.exit_code == 2
    assert "no oracle for a model that cannot be exported" in verified.output


def test_sites_lists_modules() -> None:
    rows = json.loads(midsl("sites", SPEC, "--trust", "--json").stdout)
    sites = {row["path"]: row for row in rows}
    post = sites["m.blocks[*].resid_post"]
    assert post["axes"] == {"batch": None, "pos": None, "d_model": 8}
    assert (post["module"], post["members"], post["readable"], post["writable"]) == (
        "blocks.{layer}",
        3,
        True,
        True,
    )
    assert 'm.module["blocks.1.mix"].output' in sites


def test_code_outside_the_standard_library_needs_trust(tmp_path: Path) -> None:
    done = midsl("run", SPEC, "--store", tmp_path / "store")
    assert done.exit_code == 2
    assert "error[MI0605]" in done.output
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("site out: Site[batch, pos, d] =", "site out =", "MI0407"),
        ("Site[batch, pos, d]", "Site[batch, pos, head, d]", "MI0303"),
        ('"blocks.1.mix"', '"blocks.1.mixer"', "MI0401"),
        ("mean(base[out], over: [batch, pos])", "grad(mean(ld(base), over: batch), at: out)", "MI0601"),
    ],
)
def test_what_the_hook_engine_refuses(old: str, new: str, code: str, tmp_path: Path) -> None:
    text = SPEC.read_text()
    assert old in text
    spec = tmp_path / "spec.mi"
    spec.write_text(text.replace(old, new))
    done = midsl("run", spec, "--trust", "--store", tmp_path / "store")
    assert done.exit_code == 2, done.output
    assert f"error[{code}]" in done.output
