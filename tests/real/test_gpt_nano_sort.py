"""The sorting model's published activations, read by site names through a spec, and the model at work.

Every tensor that its authors published for three inputs is compared, to 5e-6. Where a published one has
another order than the site (heads before positions, heads joined), that is undone here; `ln*.normalized`
is a norm before its weight and bias, so these two come from the model's file.
"""

from __future__ import annotations

import base64
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from midsl.graph.sites import build_model_graph
from midsl.models.state_dict import state_dict
from tests.real.common import DATA, array, needs, stages, tables

NANO = DATA / "gpt_nano_sort"
MODEL = NANO / "gpt-nano-sort-model.json"
SPEC = Path(__file__).with_name("gpt_nano_sort.mi")
Array = np.ndarray[Any, Any]

pytestmark = needs("gpt_nano_sort")


@cache
def tensors_of(path: Path) -> dict[str, Array]:
    """The tensors of a published file by their published names."""
    whole = json.loads(path.read_text())
    return {
        name: np.frombuffer(base64.b64decode(entry["data"]), "<f4").reshape(entry["shape"])
        for name, entry in whole.items()
        if name != "config"
    }


def published() -> dict[str, Array]:
    """The published activations."""
    return tensors_of(NANO / "gpt-nano-sort-t0-partials.json")


def normed(normalized: Array, norm: str) -> Array:
    """A norm's output from its normalised input."""
    weights = tensors_of(MODEL)
    return normalized * weights[f"{norm}.weight"] + weights[f"{norm}.bias"]


@cache
def reported(folder: Path) -> dict[str, Array]:
    """What the spec reports on the published inputs, by report name."""
    rows = folder / "rows.txt"
    ids = published()["idx"].astype(int)
    rows.write_text("\n".join(" ".join(map(str, row)) for row in ids) + "\n")
    stage = stages(SPEC, path=MODEL, rows=rows)["published"]
    return {name: array(table) for name, table in tables(stage).items()}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Array]:
    """The reports in the published shapes and under the published names."""
    r = reported(tmp_path_factory.mktemp("nano"))
    by_head = {name: r[name].transpose(0, 2, 1, 3) for name in ("q", "k", "v")}  # [batch, head, pos, d_head]
    return {
        "tok_emb": r["tok_emb"], "pos_emb": r["pos_emb"][:1], "x": r["x"], 
        "ln1": normed(r["ln1"], "transformer.h.0.ln_1"), "ln2": normed(r["ln2"], "transformer.h.0.ln_2"),
        "ln_f": normed(r["ln_f"], "transformer.ln_f"),
        **by_head, "qkv": np.concatenate([r[n].reshape(3, 11, 48) for n in "qkv"], axis=-1),
        "att": r["att"], "attSm": r["att_sm"], "y": r["y"].reshape(3, 11, 48), "yProj": r["y_proj"],
        "attnResid": r["attn_resid"], "fc": r["fc"], "gelu": r["gelu"], "mlp": r["mlp"],
        "mlpResid": r["mlp_resid"], "block0": r["blocks"][0], "block1": r["blocks"][1],
        "block2": r["blocks"][2], "lm_head": r["lm_head"], "probs": r["probs"],
    }  # fmt: skip


def test_every_published_tensor_has_a_site(ours: dict[str, Array]) -> None:
    assert set(ours) == set(published()) - {"idx"} == set(NAMES.split())


NAMES = """
    tok_emb pos_emb x ln1 q k v qkv att attSm y yProj attnResid ln2 fc gelu mlp mlpResid
    block0 block1 block2 ln_f lm_head probs
"""


@pytest.mark.parametrize("name", NAMES.split())
def test_published_tensor(ours: dict[str, Array], name: str) -> None:
    theirs = published()[name]
    assert ours[name].shape == theirs.shape
    seen = np.isfinite(theirs)
    assert (np.isfinite(ours[name]) == seen).all()
    assert np.abs(ours[name][seen] - theirs[seen]).max() <= 5e-6


def test_sorts_all_inputs_through_the_graph() -> None:
    """Greedy decoding of all 729 inputs, in the exported graph."""
    model = state_dict(str(MODEL), names="minGPT")
    graph = build_model_graph(model).gm
    rows = torch.cartesian_prod(*[torch.arange(3)] * 6)
    ids = rows
    with torch.no_grad():
        for _ in range(6):
            logits = graph(ids, torch.ones_like(ids))
            ids = torch.cat([ids, logits[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(ids[:, 6:], rows.sort(dim=1).values)
