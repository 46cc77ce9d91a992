"""Alignment finds the variable, probes the direction, translators the map, interaction bases the diagonal.

A truth is written into the weights of a model (`planting`), so that what is right is known and not estimated.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.fit import planting as plant

D = 16


def test_a_translator_is_the_map_that_the_last_block_adds(tmp_path: Path) -> None:
    """The last block adds an affine map of what it reads: the tuned lens before it is that map."""
    change, shift = 0.4 * plant.normal(D, D, seed=3) / 4, 0.5 * plant.normal(D, seed=4)
    nothing = (torch.zeros(1, D), torch.zeros(1), torch.zeros(1, D))
    made = plant.model(
        tmp_path,
        plant.normal(400, D, seed=5),
        [nothing, plant.linear(change)],
        shift=shift,
        unembed=plant.normal(400, D, seed=6),
    )
    found = plant.ran(
        tmp_path,
        made,
        """
    site from_ = m.blocks[0].resid_post
    site last  = m.blocks[1].resid_post
    decomposition t = tuned_lens(
      from: from_, to: last, on: p.clean, steps: 400, layers: 2, lr: 1e-2, batch: 64
    )
    experiment e {
      let r = run m on p.corrupt
      report weight = t.parts.weight
      report bias   = t.parts.bias
      report left   = mean(square(r[last] - t.encode(r[from_])), over: [batch, pos, d_model])
    }""",
    )
    assert (plant.along(found["weight"], "d_model", "out") - change).norm() < 0.05 * change.norm()
    assert (plant.along(found["bias"], "out") - shift).norm() < 0.05 * shift.norm()
    assert found["left"].value[0] < 1e-3


def test_in_its_interaction_bases_a_linear_network_is_diagonal(tmp_path: Path) -> None:
    """Each direction of one layer acts on one of the next, and on no other (E is diagonal)."""
    d = 6
    change = plant.normal(d, d, seed=3) / 2
    nothing = (torch.zeros(1, d), torch.zeros(1), torch.zeros(1, d))
    made = plant.model(
        tmp_path,
        plant.normal(300, d, seed=5) @ plant.normal(d, d, seed=8),
        [nothing, plant.linear(change)],
        unembed=plant.normal(20, d, seed=6),
    )
    found = plant.ran(
        tmp_path,
        made,
        f"""
    site  low  = m.blocks[0].resid_post[pos: 0]
    site  high = m.blocks[1].resid_post[pos: 0]
    let   r = run m on p.clean
    let   out = dot(m.W_U, rename(m.W_U, d_model: other), over: vocab)
    basis u = interaction_basis(at: high, values: r[high], dependence: out, k: {d}, keep: {d}, rows: batch)
    let   c = dot(r[high], u.encoder, over: d_model)
    let   g = [grad(sum(c[feature: i], over: batch), at: r[low]) for i in 0..{d}]
    let   j = jacobian_gram(g, outputs: i, rows: batch)
    basis v = interaction_basis(at: low, values: r[low], dependence: j, k: {d}, keep: {d}, rows: batch)
    experiment e {{
      report reads  = u.encoder
      report writes = v.decoder
      report high_  = u.strength
      report low_   = v.strength
    }}""",
    )
    reads, writes = (plant.along(found[n], "feature", "d_model") for n in ("reads", "writes"))
    edges = writes @ (torch.eye(d) + change) @ reads.T  # of one entry of the low code on each of the high one
    share = edges.diagonal().square() / edges.square().sum(1)
    assert share.min() > 0.999, edges
    plain = (torch.eye(d) + change).square()
    assert (plain.diagonal() / plain.sum(1)).min() < 0.9, "in the basis of the stream it is not"
    low, high = (plant.along(found[n], "feature") for n in ("low_", "high_"))
    assert torch.allclose(low, high, rtol=1e-2)


VARIABLES = 10
"""How many tokens of the vocabulary say something of either variable."""
AIM = """fn far(r: Run) -> Any
  = sum(square(r.logits[pos: 0, vocab: 0..10] - c.logits[pos: 0, vocab: 0..10]), over: vocab)
  + sum(square(r.logits[pos: 0, vocab: 10..20] - k.logits[pos: 0, vocab: 10..20]), over: vocab)
let c = run m on p.clean
let k = run m on p.corrupt
fn aim(r: Run) -> Any = 0 - far(r)
site x = m.embed[pos: 0]
"""
"""What a causal model says: with the first variable of `clean`, ten tokens are as there, and ten as here."""


def variables(folder: Path, first: Tensor, second: Tensor) -> str:
    """A model whose first ten logits depend on one subspace [direction, d], and the next ten on another."""
    out = torch.cat([plant.normal(VARIABLES, len(s), seed=9 + i) @ s for i, s in enumerate((first, second))])
    return plant.model(folder, plant.normal(400, D, seed=5), unembed=out)


def test_a_mask_is_the_entries_that_carry_the_variable(tmp_path: Path) -> None:
    eye = torch.eye(D)
    found = plant.ran(
        tmp_path,
        variables(tmp_path, eye[[2, 5, 11]], eye[[0, 7, 8]]),
        f"""{AIM}
    decomposition v = binary_mask(at: x, source: p.clean, base: p.corrupt, maximise: aim, steps: 150, l1: 0.2)
    experiment e {{
      report mask = v.mask
      report left = mean(far(run m on p.corrupt do {{ v.code := c }}), over: batch)
      report all_ = mean(far(c), over: batch)
    }}""",
    )
    assert set(plant.along(found["mask"], "d_model").nonzero().flatten().tolist()) == {2, 5, 11}
    assert found["left"].value[0] < 1e-6 * found["all_"].value[0]


@pytest.mark.parametrize("seed", [0, 1])
def test_alignment_finds_the_subspace_that_carries_the_variable(seed: int, tmp_path: Path) -> None:
    turned = plant.rotation(D, 7)
    found = plant.ran(
        tmp_path,
        variables(tmp_path, turned[:2], turned[2:5]),
        f"""{AIM}
    basis v = das(at: x, rank: 2, source: p.clean, base: p.corrupt, maximise: aim, steps: 300, seed: {seed})
    experiment e {{
      report dec  = v.decoder
      report left = mean(far(run m on p.corrupt do {{ v.code := c }}), over: batch)
      report all_ = mean(far(c), over: batch)
    }}""",
    )
    axes = plant.along(found["dec"], "rank", "d_model")
    assert plant.overlap(axes, turned[:2]) > 0.99
    assert plant.overlap(axes, turned[2:5]) < 0.01
    assert found["left"].value[0] < 0.01 * found["all_"].value[0]


def test_boundless_alignment_finds_the_subspace_and_how_large_it_is(tmp_path: Path) -> None:
    turned = plant.rotation(D, 7)
    found = plant.ran(
        tmp_path,
        variables(tmp_path, turned[:4], turned[4:9]),
        f"""{AIM}
    basis v = boundless_das(
      at: x, width: {D}, source: p.clean, base: p.corrupt, maximise: aim, steps: 300,
      l1: 5.0, temperature: 0.02, lr: 2e-2
    )
    experiment e {{
      report dec  = v.decoder
      report mask = v.mask
      report left = mean(far(run m on p.corrupt do {{ v.code := c }}), over: batch)
      report all_ = mean(far(c), over: batch)
    }}""",
    )
    axes, inside = plant.along(found["dec"], "rank", "d_model"), plant.along(found["mask"], "rank") > 0
    assert plant.overlap(axes[inside], turned[:4]) > 0.98
    assert int(inside.sum()) == 4
    assert found["left"].value[0] < 0.02 * found["all_"].value[0]


def cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.cosine_similarity(a.flatten(), b.flatten(), dim=0))


PROBED = """
site  x = m.embed[pos: 0]
fn label(r: Run) -> Float[batch] = r.data.tokens[pos: 0] % 2
"""


def test_probes_find_the_direction(tmp_path: Path) -> None:
    """Odd tokens are drawn with the probability that a direction gives them, as a logistic model says."""
    g = torch.Generator().manual_seed(1)
    spread = torch.linspace(0.5, 1.5, D)
    x = torch.randn(3000, D, generator=g) * spread
    truth = 2 * plant.normal(D, seed=2) / D**0.5
    odd = torch.rand(3000, generator=g) < torch.sigmoid(3 * x @ truth + 1)
    half = min(int(odd.sum()), int((~odd).sum()), 800)
    embedding = torch.stack([x[~odd][:half], x[odd][:half]], dim=1).flatten(0, 1)
    lines = ", ".join(f'"{i} 0"' for i in range(1, 2 * half))
    found = plant.ran(
        tmp_path,
        plant.model(tmp_path, embedding),
        f"""{PROBED}
    data once = corpus([{lines}], tokenizer: m.tokenizer, documents: "line", ctx: 2, bos: false)
    decomposition means = mean_difference(at: x, on: once, label: fn (r) => label(r) - 0.5)
    decomposition ridge = ridge_probe(at: x, on: once, label: label, ridge: 10.0)
    decomposition logit = logistic_probe(
      at: x, on: once, label: label, l2: 1e-4, steps: 600, lr: 0.03, batch: 512
    )
    experiment e {{
      let r = run m on once
      report seen  = r[x]
      report truth = label(r)
      report means_ = means.decoder
      report ridge_ = ridge.decoder
      report logit_ = logit.decoder
      report right  = mean(where((logit.score(r[x]) > 0) == (label(r) > 0.5), 1.0, 0.0), over: batch)
      report says   = ridge.score(r[x])
    }}""",
    )
    seen, label = plant.along(found["seen"], "example", "d_model"), plant.along(found["truth"], "example")
    # what each is by definition, on the same rows
    by_means = seen[label > 0].mean(0) - seen[label == 0].mean(0)
    centred, middle = seen - seen.mean(0), label - label.mean()
    weights = torch.linalg.solve(centred.T @ centred + 10 * torch.eye(D), centred.T @ middle)
    assert cosine(plant.along(found["means_"], "d_model"), by_means) > 1 - 1e-5
    assert cosine(plant.along(found["ridge_"], "d_model"), weights) > 1 - 1e-5
    assert torch.allclose(plant.along(found["says"], "example"), centred @ weights + label.mean(), atol=1e-4)
    w = torch.zeros(D + 1, requires_grad=True)
    ones = torch.cat([seen, torch.ones(len(seen), 1)], dim=1)
    optimiser = torch.optim.LBFGS([w], max_iter=200)

    def loss() -> Tensor:
        optimiser.zero_grad()
        miss = torch.nn.functional.binary_cross_entropy_with_logits(ones @ w, label)
        total = miss + 1e-4 * w[:D].square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    assert cosine(plant.along(found["logit_"], "d_model"), w[:D].detach()) > 0.995
    # and the truth: the mean difference finds it times the covariance
    assert cosine(plant.along(found["logit_"], "d_model"), truth) > 0.98
    assert cosine(plant.along(found["ridge_"], "d_model"), truth) > 0.98
    assert cosine(plant.along(found["means_"], "d_model"), truth * spread**2) > 0.98
    assert found["right"].value[0] > 0.8
