"""Decompositions find what was put there: sparse sums of known directions, clusters, a line, a label.

The model's embedding holds the truth: each token is a vector that was made, and `m.embed` is the site.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from midsl.models.config import tiny_config
from midsl.models.tiny import TinyTransformer
from midsl.plan.driver import compile_spec
from tests.fit.common import tables
from tests.fit.planting import matched

D, FEATURES, VOCAB = 16, 24, 400


def directions(seed: int = 0, count: int = FEATURES) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, D, generator=g), dim=-1)


def sparse_sums(truth: Tensor, k: int = 2) -> Tensor:
    """For each token, `k` of the directions with coefficients from 0.5 to 1.5."""
    g = torch.Generator().manual_seed(1)
    chosen = torch.rand(VOCAB, len(truth), generator=g).topk(k, dim=-1).indices
    code = torch.zeros(VOCAB, len(truth)).scatter(-1, chosen, 0.5 + torch.rand(VOCAB, k, generator=g))
    return code @ truth


def planted(folder: Path, embedding: Tensor, body: str) -> Path:
    """A spec on a model whose tokens are embedded as given."""
    config = tiny_config({"layers": 1, "heads": 1, "d_model": D, "d_mlp": 4, "vocab": VOCAB, "ctx": 16})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = TinyTransformer(config)
    state = {k: v.clone() for k, v in made.state_dict().items()}
    state["embed.weight"] = embedding.contiguous()
    save_file(state, folder / "planted.safetensors")
    spec = folder / "spec.mi"
    spec.write_text(
        f"""language mi 1
import std.models as models
from std.tasks import repeats
from std.decomp import batchtopk_sae, gated_sae, jumprelu_sae, kmeans, matryoshka_sae, pca, zca
from std.decomp import pursuit_sae, relu_sae, snmf, topk_sae
model m = models.state_dict("planted.safetensors", arch: {{ heads: 1, act: "relu" }}, names: "midsl")
data  d = repeats(m.tokenizer, n: 256, period_min: 7, period_max: 7, ctx: 15, seed: 2)
site  x = m.embed
let   f = {{ on: d, optim: adam(lr: 1e-2), steps: 1200, batch: 128, seed: 0, skip: 1 }}
let   slow = {{ on: d, optim: adam(lr: 3e-3), steps: 1200, batch: 128, seed: 0, skip: 1 }}
{body}
"""
    )
    return spec


KINDS = {
    "random": "topk_sae(at: x, d_sae: 32, k: 2)",
    "relu": "relu_sae(at: x, d_sae: 32, l1: 0.05, fit: f)",
    "topk": "topk_sae(at: x, d_sae: 32, k: 2, fit: f)",
    "batchtopk": "batchtopk_sae(at: x, d_sae: 32, k: 2, fit: slow)",
    "matryoshka": "matryoshka_sae(at: x, d_sae: 32, k: 2, levels: 2, fit: slow)",
    "jumprelu": "jumprelu_sae(at: x, d_sae: 32, l0: 0.05, threshold: 0.1, width: 0.2, fit: f)",
    "gated": "gated_sae(at: x, d_sae: 32, l1: 1.0, fit: f)",
    "pursuit": "pursuit_sae(at: x, d_sae: 32, k: 2, fit: f)",
    "snmf": "snmf(at: x, rank: 32, steps: 20, fit: f)",
}


@pytest.fixture(scope="module")
def recovered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[float, float]]:
    """For each kind, the mean matched cosine and the share of x squared that it leaves."""
    folder = tmp_path_factory.mktemp("planted")
    truth = directions()
    declared = "\n".join(f"decomposition {n}_ = {text}" for n, text in KINDS.items())
    reports = "\n".join(
        f"report {n}_dec = {n}_.decoder\n"
        f"report {n}_left = mean(square(r[x] - {n}_.decode({n}_.encode(r[x]))), over: [batch, pos, d_model])"
        for n in KINDS
    )
    reports += "\nreport all = mean(square(r[x]), over: [batch, pos, d_model])"
    body = f"{declared}\nexperiment e {{ let r = run m on d\n{reports} }}"
    found = tables(compile_spec(planted(folder, sparse_sums(truth), body)))
    whole = float(found["all"].value[0])

    def of(name: str) -> tuple[float, float]:
        rows = torch.from_numpy(found[f"{name}_dec"].value).float().reshape(32, D)
        return matched(rows, truth), float(found[f"{name}_left"].value[0]) / whole

    return {n: of(n) for n in KINDS}


LEAST = {"snmf": 0.75, "batchtopk": 0.8, "matryoshka": 0.8}
"""Less of those whose codes are not sparse example by example; a random dictionary has 0.5."""


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "random"])
def test_a_dictionary_finds_the_directions(kind: str, recovered: dict[str, tuple[float, float]]) -> None:
    cosine, left = recovered[kind]
    assert cosine > LEAST.get(kind, 0.9), recovered
    assert cosine > recovered["random"][0] + 0.1, recovered
    assert left < 0.1, recovered


def test_clusters_are_found(tmp_path: Path) -> None:
    centres = 2 * directions(3, 4)
    which = torch.arange(VOCAB) % 4
    g = torch.Generator().manual_seed(5)
    embedding = centres[which] + 0.05 * torch.randn(VOCAB, D, generator=g)
    body = """decomposition km = kmeans(at: x, k: 8, std: 0.5, soft: 1.0, fit: f)
    experiment e {
      let r = run m on d
      report centre = km.decoder
      report ones   = mean(sum(r[km.code], over: cluster), over: [batch, pos])
      report left   = mean(sum(square(r[x] - km.decode(r[km.code])), over: d_model), over: [batch, pos])
    }"""
    found = tables(compile_spec(planted(tmp_path, embedding, body)))
    rows = torch.from_numpy(found["centre"].value).float().reshape(8, D)
    assert float(torch.cdist(centres, rows).min(dim=1).values.max()) < 0.2
    assert found["ones"].value[0] == pytest.approx(1)
    assert found["left"].value[0] < 0.5


def test_components_are_those_of_the_covariance(tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(7)
    spread = torch.linspace(3, 0.5, D)
    embedding = torch.randn(VOCAB, D, generator=g) * spread + 1.0
    body = """decomposition pc = pca(at: x, on: d, k: 16)
    decomposition wh = zca(at: x, on: d, k: 16)
    experiment e {
      let r = run m on d
      report axes = pc.decoder
      report var  = mean(square(r[pc.code]), over: [batch, pos])
      report mid  = mean(r[pc.code], over: [batch, pos])
      report left = mean(square(r[x] - pc.decode(r[pc.code])), over: [batch, pos, d_model])
      report cov  = mean(r[wh.code] * rename(r[wh.code], whitened: other), over: [batch, pos])
      report none = mean(square(r[x] - wh.decode(r[wh.code])), over: [batch, pos, d_model])
      report seen = mean(r[x] * rename(r[x], d_model: other), over: [batch, pos])
      report mean_ = mean(r[x], over: [batch, pos])
    }"""
    done = tables(compile_spec(planted(tmp_path, embedding, body)))
    found = {n: torch.from_numpy(t.value) for n, t in done.items()}
    mean = found["mean_"]
    covariance = found["seen"].reshape(D, D) - mean[:, None] * mean[None, :]
    values = torch.linalg.eigvalsh(covariance).flip(0)
    assert torch.allclose(found["var"], values, rtol=1e-4)
    axes = found["axes"].reshape(D, D)
    axes = axes if torch.allclose(covariance @ axes, axes * values, atol=1e-3) else axes.T
    assert torch.allclose(covariance @ axes, axes * values, atol=1e-3)
    assert found["mid"].abs().max() < 1e-4 and found["left"][0] < 1e-9
    assert torch.allclose(found["cov"].reshape(D, D), torch.eye(D, dtype=torch.float64), atol=1e-3)
    assert found["none"][0] < 1e-9
