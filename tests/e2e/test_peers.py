"""The README's code of other packages: it compiles, and where they are installed it gives midsl's numbers.

A model of GPT-2's shape in small takes the place of GPT-2.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import midsl
from tests.e2e.conftest import ROOT, Home

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.M | re.S)
PEERS = [text for kind, text in BLOCKS if kind == "python" and text.startswith("def effects(")]
SPEC = next(text for kind, text in BLOCKS if kind == "mi" and "random_pairs" in text)
SMALL = "config: { n_layer: 2, n_head: 2, n_embd: 16, n_positions: 32, vocab_size: 64 }"


def effects(text: str, *given: Any) -> torch.Tensor:
    """What the README's function gives; nnsight reads its text again, so that it stands in a file."""
    file = Path("peer.py").resolve()
    file.write_text(text, encoding="utf-8")
    names: dict[str, Any] = {"torch": torch, "itertools": itertools}
    exec(compile(text, str(file), "exec"), names)
    found: torch.Tensor = names["effects"](*given)
    return found


@pytest.fixture
def ours(home: Home, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """midsl's numbers for the README's spec on the small model, and what they are of."""
    monkeypatch.chdir(home.folder)
    text = re.sub(r"\n.*=\s+models\.hf_random.*\n", "\n", SPEC)
    text = re.sub(r"random_pairs\(.*\)", "random_pairs(m.tokenizer, n: 3, length: 6, seed: 0)", text)
    text = text.replace(
        "data ", f'model m = models.hf_random("gpt2", {SMALL}, seed: 0, perturb: 0.1)\ndata ', 1
    )
    compiled = midsl.compile(text)
    result = midsl.run(text, store=home.store)
    (loaded,) = compiled.binder.models.values()
    (rows,) = compiled.binder.datasets.values()
    assert [len(r) for r in result.table("effect").keys.values()] == [4, 4]
    clean, corrupt = (torch.from_numpy(rows.part(side, "").tokens).long() for side in ("clean", "corrupt"))
    columns = rows.part("clean", "").columns
    answer, wrong = (torch.as_tensor(columns[c].values).long() for c in ("answer", "wrong"))

    def difference(logits: torch.Tensor) -> torch.Tensor:
        each = torch.arange(len(answer))
        return (logits[each, answer] - logits[each, wrong]).mean()

    effect = torch.tensor(result.table("effect").value).reshape(2, 2)
    return {
        "hf": loaded.module,
        "clean": clean,
        "corrupt": corrupt,
        "difference": difference,
        "effect": effect,
    }


def test_there_are_two_and_they_compile() -> None:
    assert len(PEERS) == 2
    for text in PEERS:
        compile(text, "README.md", "exec")


def test_the_spec_gives_a_number_for_each_head(ours: dict[str, Any]) -> None:
    assert ours["effect"].abs().min() > 0


def test_nnsight_gives_the_same(ours: dict[str, Any]) -> None:
    nnsight = pytest.importorskip("nnsight")
    (text,) = (t for t in PEERS if "nnsight" in t)
    model = nnsight.NNsight(ours["hf"])
    theirs = effects(text, model, ours["clean"], ours["corrupt"], ours["difference"])
    assert torch.allclose(theirs.double(), ours["effect"], rtol=1e-3, atol=1e-6)


def test_transformer_lens_gives_the_same(ours: dict[str, Any]) -> None:
    pytest.importorskip("transformer_lens")
    from tests.bench.peers import tl

    class Given:
        def load(self) -> Any:
            return ours["hf"]

    (text,) = (t for t in PEERS if "transformer_lens" in t)
    model = tl.load(Given())
    theirs = effects(text, model, ours["clean"], ours["corrupt"], ours["difference"])
    assert torch.allclose(theirs.double(), ours["effect"], rtol=1e-3, atol=1e-6)
