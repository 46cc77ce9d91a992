"""Transcoders, crosscoders, clusters and dictionaries of directions find what was planted.

The dictionaries of one site have their own file (`test_planted`). A truth is written into the weights of a
model (`planting`), so that what is right is known and not estimated.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.fit import planting as plant

D, FEATURES = 16, 24

LEFT = """fn left(y: Any, back: Any) -> Any
  = sum(square(y - back), over: [batch, pos, d_model])
  / sum(square(y - mean(y, over: [batch, pos])), over: [batch, pos, d_model])
"""


@pytest.mark.parametrize(
    ("kind", "l1"), [("transcoder", 5e-3), pytest.param("skip_transcoder", 0.1, marks=pytest.mark.slow)]
)
def test_a_transcoder_finds_the_neurons(kind: str, l1: float, tmp_path: Path) -> None:
    """Sparse neurons, and beside them a linear map of rank 2 that the skip is for."""
    read, write = plant.units(FEATURES, D, 1), plant.units(FEATURES, D, 2)
    neurons = (read, torch.full((FEATURES,), -1.3), write)
    around = 0.5 * plant.normal(D, 2, seed=4) @ plant.normal(2, D, seed=5) / 4
    skips = kind == "skip_transcoder"
    block = plant.together(neurons, plant.linear(around)) if skips else neurons
    made = plant.model(tmp_path, plant.normal(1200, D, seed=3), [block])
    found = plant.ran(
        tmp_path,
        made,
        f"""{LEFT}
    data  more = random_pairs(m.tokenizer, n: 4096, length: 1, seed: 3)
    let   f = {{ on: more.clean, optim: adam(lr: 2e-2), steps: 3000, batch: 128, seed: 0 }}
    site  x = m.blocks[0].resid_mid
    site  y = m.blocks[0].mlp_out
    decomposition t = {kind}(from: x, to: y, d_sae: 32, l1: {l1}, fit: f)
    decomposition chance = {kind}(from: x, to: y, d_sae: 32)
    experiment e {{
      let r = run m on p.corrupt
      report enc   = t.encoder
      report dec   = t.decoder
      report none  = chance.encoder
      report left_ = left(r[y], t.predict(r[x]))
      {"report skip = t.parts.skip" if skips else ""}
    }}""",
    )
    encoder, decoder = (plant.along(found[n], "feature", "d_model") for n in ("enc", "dec"))
    assert (
        plant.matched(encoder, read)
        > 0.9
        > 0.7
        > plant.matched(plant.along(found["none"], "feature", "d_model"), read)
    )
    assert plant.matched(decoder, write) > 0.9
    assert found["left_"].value[0] < 0.02
    if skips:
        skip = plant.along(found["skip"], "d_model", "out")
        assert (skip - around).norm() < 0.1 * around.norm()


@pytest.mark.slow
def test_a_crosscoder_finds_features_of_all_layers_and_of_one(tmp_path: Path) -> None:
    """Twelve features in each half of the stream; the second block turns one half and erases the other."""
    half = D // 2
    truth = torch.zeros(FEATURES, D)
    truth[:12, :half], truth[12:, half:] = plant.units(12, half, 1), plant.units(12, half, 2)
    turn = plant.rotation(half, 3)
    change = torch.zeros(D, D)
    change[:half, :half], change[half:, half:] = turn - torch.eye(half), -torch.eye(half)
    later = truth @ (change + torch.eye(D))
    nothing = (torch.zeros(1, D), torch.zeros(1), torch.zeros(1, D))
    codes = plant.sparse(1200, FEATURES, 2)
    made = plant.model(tmp_path, codes @ truth, [nothing, plant.linear(change)])
    found = plant.ran(
        tmp_path,
        made,
        """
    data  more = random_pairs(m.tokenizer, n: 4096, length: 1, seed: 3)
    let   f = { on: more.clean, optim: adam(lr: 1e-2), steps: 1500, batch: 128, seed: 0 }
    site  all = m.blocks[*].resid_post
    decomposition c = crosscoder(at: all, d_sae: 32, l1: 0.2, fit: f)
    decomposition chance = crosscoder(at: all, d_sae: 32)
    experiment e {
      let r = run m on p.corrupt
      report dec  = c.decoder
      report none = chance.decoder
      report left = sum(square(r[all] - c.decode(r[c.code])), over: [batch, pos, layer, d_model])
        / sum(square(r[all]), over: [batch, pos, layer, d_model])
    }""",
    )
    decoder = plant.along(found["dec"], "feature", "layer", "d_model")
    whole = torch.cat([truth, later], dim=-1)
    own = plant.pairs(decoder.flatten(1), whole)
    assert sum(c for _, c in own) / FEATURES > 0.9
    assert plant.matched(plant.along(found["none"], "feature", "layer", "d_model").flatten(1), whole) < 0.6
    lengths = decoder.norm(dim=-1)[[i for i, _ in own]]
    share = lengths[:, 1] / lengths[:, 0]
    assert share[:12].median() == pytest.approx(1, abs=0.1) and share[12:].median() < 0.1
    assert found["left"].value[0] < 0.05


@pytest.mark.slow
def test_a_cross_layer_transcoder_finds_what_one_layer_computes_for_the_next(tmp_path: Path) -> None:
    """The first MLP has sparse neurons, and the second passes on what they wrote; attention erases the rest.

    What the second reads is too narrow to tell the neurons apart: they must be read in the first layer, and
    be written to both.
    """
    count, wide, narrow = 16, 12, 8
    d = wide + narrow
    read, write, on = torch.zeros(count, d), torch.zeros(count, d), torch.zeros(d, d)
    read[:, :wide], write[:, wide:] = plant.units(count, wide, 1), plant.units(count, narrow, 2)
    on[wide:] = plant.normal(narrow, d, seed=4) / narrow**0.5
    erase = torch.diag(torch.tensor([-1.0] * wide + [0.0] * narrow))
    embedding = torch.zeros(1200, d)
    embedding[:, :wide] = plant.normal(1200, wide, seed=3)
    first = (read, torch.full((count,), -1.3), write)
    found = plant.ran(
        tmp_path,
        plant.model(tmp_path, embedding, [first, plant.linear(on)], attention=erase),
        """
    data  more = random_pairs(m.tokenizer, n: 4096, length: 1, seed: 3)
    let   f = { on: more.clean, optim: adam(lr: 1e-2), steps: 3000, batch: 128, seed: 0 }
    site  x = m.blocks[*].resid_mid
    site  y = m.blocks[*].mlp_out
    decomposition c = cross_layer_transcoder(from: x, to: y, d_sae: 24, layers: 2, l1: 0.05, fit: f)
    decomposition chance = cross_layer_transcoder(from: x, to: y, d_sae: 24, layers: 2)
    experiment e {
      let r    = run m on p.corrupt
      let own  = dot(r[c.code][layer: 1], c.decoder[layer: 1, target: 1], over: feature)
      let late = r[m.blocks[1].mlp_out]
      report enc  = c.encoder[layer: 0]
      report near = c.decoder[layer: 0, target: 0]
      report far  = c.decoder[layer: 0, target: 1]
      report back = sum(square(c.decoder[layer: 1, target: 0]), over: [feature, d_model])
      report none = chance.encoder[layer: 0]
      report left = sum(square(r[y] - c.decode(c.encode(r[x]))), over: [batch, pos, layer, d_model])
        / sum(square(r[y]), over: [batch, pos, layer, d_model])
      report share = sum(square(own), over: [batch, pos, d_model])
        / sum(square(late), over: [batch, pos, d_model])
    }""",
    )
    decoder = torch.cat([plant.along(found[n], "feature", "d_model") for n in ("near", "far")], dim=-1)
    assert plant.matched(plant.along(found["enc"], "feature", "d_model"), read) > 0.9
    assert plant.matched(plant.along(found["none"], "feature", "d_model"), read) < 0.6
    assert plant.matched(decoder, torch.cat([write, write @ on], dim=-1)) > 0.9
    assert found["back"].value[0] == 0 and found["left"].value[0] < 0.02
    assert found["share"].value[0] < 0.15, "little of the second layer is read there"


def test_clusters_are_who_belongs_together(tmp_path: Path) -> None:
    """Each of five clusters is one of the centres, and its members are told from all others."""
    centres = 3 * plant.units(5, D, 3)
    which = torch.arange(400) % 5
    found = plant.ran(
        tmp_path,
        plant.model(tmp_path, centres[which] + 0.1 * plant.normal(400, D, seed=5)),
        """
    site x = m.embed[pos: 0]
    let  f = { on: p.clean, optim: adam(lr: 2e-2), steps: 400, batch: 128, seed: 0 }
    decomposition c = kmeans(at: x, k: 5, std: 0.5, soft: 1.0, fit: f)
    experiment e {
      let r = run m on p.corrupt
      report token  = r.data.tokens[pos: 0]
      report code   = r[c.code]
      report centre = c.decoder
    }""",
    )
    assert (
        torch.cdist(centres, plant.along(found["centre"], "cluster", "d_model")).min(dim=1).values.max() < 0.1
    )
    truth = which[torch.from_numpy(found["token"].value).long()]
    given = plant.along(found["code"], "example", "cluster").argmax(-1)
    table = torch.stack([(given == i).float() @ torch.eye(5)[truth] for i in range(5)])
    assert ((table > 0).sum(0) == 1).all() and ((table > 0).sum(1) == 1).all(), table


def test_a_dictionary_of_directions_finds_what_they_are_made_of(tmp_path: Path) -> None:
    """A dictionary on disk whose directions are each the sum of two of twelve others."""
    parts = plant.units(12, D, 3)
    codes = plant.sparse(200, 12, 2)
    directions = torch.nn.functional.normalize(codes @ parts, dim=-1)
    folder = tmp_path / "sae"
    folder.mkdir()
    weights = {"W_enc": directions.T.contiguous(), "W_dec": directions}
    save_file(
        {**weights, "b_enc": torch.zeros(200), "b_dec": torch.zeros(D)}, folder / "sae_weights.safetensors"
    )
    config = {"architecture": "standard", "d_in": D, "d_sae": 200, "metadata": {}, "dtype": "float32"}
    (folder / "cfg.json").write_text(json.dumps(config))
    found = plant.ran(
        tmp_path,
        plant.model(tmp_path, plant.normal(400, D, seed=5)),
        """
    decomposition s = sae_file("sae", at: m.embed)
    decomposition meta = meta_sae(s, d_sae: 16, k: 2, steps: 1500, lr: 1e-2, bias: false)
    decomposition chance = meta_sae(s, d_sae: 16, k: 2, steps: 1, lr: 0.0, bias: false)
    experiment e {
      let rows = rename(s.decoder, feature: latent)
      let c    = meta.encode(rows)
      report dec  = meta.decoder
      report none = chance.decoder
      report left = sum(square(rows - meta.decode(c)), over: [latent, d_model])
        / sum(square(rows), over: [latent, d_model])
      report l0   = mean(count(c > 0, over: feature), over: latent)
    }""",
    )
    assert plant.matched(plant.along(found["dec"], "feature", "d_model"), parts) > 0.9
    assert plant.matched(plant.along(found["none"], "feature", "d_model"), parts) < 0.7
    assert found["left"].value[0] < 0.1 and found["l0"].value[0] < 2.5
