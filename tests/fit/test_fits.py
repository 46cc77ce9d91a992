"""Fits: they find what was planted, are the same each time, share one pass over the data, and go on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from midsl.ir import nodes as ir
from midsl.plan import fits, fitstream
from midsl.plan.driver import Compiled, compile_spec
from midsl.plan.loads import fits_of
from tests.examples.common import midsl
from tests.fit.common import refused, reports, tables, write


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own for each test."""
    monkeypatch.setenv("MIDSL_CACHE_DIR", str(tmp_path / "cache"))


def compiled_fit(folder: Path, body: str) -> tuple[Compiled, list[ir.Fit]]:
    compiled = compile_spec(write(folder, body))
    return compiled, fits_of(*compiled.optimised.program.roots)


QUALITY = """experiment e {
  let r = run m on d
  report error = mean(square(r[x] - sae.decode(r[sae.code])), over: [batch, pos, d_model])
}"""


def sae(fit: str, k: int = 3) -> str:
    return f"decomposition sae = topk_sae(at: x, d_sae: 24, k: {k}, fit: {fit})\n{QUALITY}"


def test_gradients_are_cut_to_a_length(tmp_path: Path) -> None:
    """With plain descent a step is no longer than rate x clip; without, these are."""
    moved = {}
    for clip in ("0.0", "0.001"):
        body = f"""
        decomposition s = relu_sae(at: x, d_sae: 16, fit: {{
          on: d, steps: 3, batch: 8, optim: sgd(lr: 1.0, clip: {clip})
        }})
        decomposition raw = relu_sae(at: x, d_sae: 16)
        experiment e {{ report far = sum(square(s.encoder - raw.encoder), over: [feature, d_model]) }}"""
        moved[clip] = float(reports(tmp_path, body)["far"].value[0]) ** 0.5
    assert 0 < moved["0.001"] <= 3.01e-3 < moved["0.0"]


def test_a_fitted_dictionary_is_better_than_the_one_it_starts_from(tmp_path: Path) -> None:
    drawn = reports(tmp_path, sae("{}"))["error"].value[0]
    fitted = reports(tmp_path, sae("{ on: d, steps: 300, batch: 32, optim: adam(lr: 1e-2) }"))["error"].value[
        0
    ]
    assert fitted < 0.2 * drawn


def test_a_linear_lens_of_full_rank_leaves_no_error(tmp_path: Path) -> None:
    """A linear lens with as many directions as there are dimensions leaves no error."""
    spec = """
    fn linear[d](at: Site[d], rank: Int, fit: Fit) -> Lens {
      let p = params({ w: normal([d, rank], std: 0.3) }, rank: rank, seed: 3)
      let made = lens(
        at: at, encode: fn (x) => dot(x, p.w, over: d), decode: fn (c) => dot(c, p.w, over: rank)
      )
      return fitted(made, loss: fn (x) => mse(x, made.decode(made.encode(x)), over: d), fit: fit)
    }
    decomposition sae = linear(at: x, rank: 12, fit: { on: d, steps: 1500, batch: 64, optim: adam(lr: 1e-2) })
    """
    assert reports(tmp_path, spec + QUALITY)["error"].value[0] < 1e-4


def test_the_same_spec_gives_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = sae("{ on: d, steps: 40, batch: 16, seed: 5 }")
    first = reports(tmp_path, body)["error"].value
    monkeypatch.setenv("MIDSL_CACHE_DIR", str(tmp_path / "another"))
    assert np.array_equal(first, reports(tmp_path, body)["error"].value)
    other = reports(tmp_path, body.replace("seed: 5", "seed: 6"))["error"].value
    assert not np.array_equal(first, other)


def test_what_is_kept_is_not_fitted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = sae("{ on: d, steps: 20, batch: 16 }")
    reports(tmp_path, body)

    def no(*args: object) -> None:
        raise AssertionError("fitted again")

    monkeypatch.setattr(fits.Fitter, "_fit", no)
    reports(tmp_path, "# a comment changes nothing\n" + body.replace("report error", "report other"))
    with pytest.raises(AssertionError, match="fitted again"):
        reports(tmp_path, body.replace("steps: 20", "steps: 21"))


def test_an_interrupted_fit_goes_on_to_the_same_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = sae("{ on: d, steps: 60, batch: 16, optim: adam(lr: 1e-2) }")
    whole = reports(tmp_path, body)["error"].value
    monkeypatch.setenv("MIDSL_CACHE_DIR", str(tmp_path / "another"))
    monkeypatch.setattr(fits, "EVERY", 0.0)
    real, count = fits._Job.advance, []

    def stops(job: fits._Job, loss: torch.Tensor) -> None:
        count.append(1)
        if len(count) == 25:
            raise KeyboardInterrupt
        real(job, loss)

    monkeypatch.setattr(fits._Job, "advance", stops)
    with pytest.raises(KeyboardInterrupt):
        reports(tmp_path, body)
    assert np.array_equal(whole, reports(tmp_path, body)["error"].value)
    assert len(count) == 25 + 60 - 24


def test_fits_of_one_stream_share_the_model_and_stop_at_the_deepest_site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[fitstream.Stream] = []
    real = fitstream.Stream.__post_init__

    def watch(stream: fitstream.Stream) -> None:
        made.append(stream)
        real(stream)

    monkeypatch.setattr(fitstream.Stream, "__post_init__", watch)
    fit = "{ on: d, steps: 12, batch: 16 }"
    body = f"""
    decomposition sae = topk_sae(at: x, d_sae: 24, k: 3, fit: {fit})
    decomposition two = topk_sae(at: x, d_sae: 8, k: 2, fit: {fit})
    decomposition mid = relu_sae(at: m.blocks[0].mlp.post, d_sae: 8, fit: {fit})
    experiment f {{
      let r = run m on d
      report a = mean(count(r[two.code] > 0, over: feature), over: [batch, pos])
      report b = mean(count(r[mid.code] > 0, over: feature), over: [batch, pos])
    }}
    {QUALITY}"""
    reports(tmp_path, body)
    (stream,) = made
    assert len(stream.reads) == 2  # two sites serve three fits
    assert stream.forwards == 6  # each row of the data once
    names = " ".join(n.name for lowered, _ in stream._runs for n in lowered.runner.nodes)
    blocks = {b for lowered, _ in stream._runs for b in lowered.runner.blocks.values()}
    assert blocks == {0}, names


def test_fits_of_other_positions_have_streams_of_their_own(tmp_path: Path) -> None:
    """Both are asked for at once; what one leaves out, the other sees."""
    body = f"""
    decomposition sae = topk_sae(at: x, d_sae: 24, k: 3, fit: {{ on: d, steps: 4, batch: 16 }})
    decomposition late = topk_sae(at: x, d_sae: 24, k: 3, fit: {{ on: d, steps: 4, batch: 16, skip: 2 }})
    experiment f {{
      let r = run m on d
      report a = mean(count(r[late.code] > 0, over: feature), over: [batch, pos])
    }}
    {QUALITY}"""
    assert set(reports(tmp_path, body)) == {"a", "error"}


def test_a_late_step_does_not_walk_through_those_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled, (node,) = compiled_fit(tmp_path, sae("{ on: d, steps: 10, batch: 8 }"))
    reads = [r for r in node.reads if isinstance(r, ir.Read)]
    stream = fitstream.Stream(compiled.binder, reads, 8, 0)
    asked: list[int] = []
    real = fitstream.Stream.blocks

    def blocks(self: fitstream.Stream, epoch: int) -> list[np.ndarray]:
        asked.append(epoch)
        return real(self, epoch)

    monkeypatch.setattr(fitstream.Stream, "blocks", blocks)
    found = [stream.step(i)[0].data for i in range(60)]
    assert max(asked) >= 5 and len(asked) < 60 * 3
    afresh = fitstream.Stream(compiled.binder, reads, 8, 0)
    assert torch.equal(afresh.step(59)[0].data, found[59])
    assert torch.equal(stream.step(3)[0].data, found[3])  # going back is as good


def test_a_small_buffer_changes_the_order_and_not_what_is_seen(tmp_path: Path) -> None:
    compiled, (node,) = compiled_fit(tmp_path, sae("{ on: d, steps: 10, batch: 8 }"))
    compiled.binder.engine(compiled.program.models[0][1])
    reads = [r for r in node.reads if isinstance(r, ir.Read)]
    large = fitstream.Stream(compiled.binder, reads, 8, 0)
    small = fitstream.Stream(compiled.binder, reads, 8, 0, buffer=20 * 12 * 4)
    assert len(large.blocks(0)) == 1 and len(small.blocks(0)) > 1
    rows = np.concatenate(small.blocks(0))
    assert sorted(rows.tolist()) == list(range(6))
    assert all(small.counts[b].sum() <= small.room for b in small.blocks(0))
    every = Counter(tuple(v) for v in large._values(np.arange(6))[0].round(decimals=3).tolist())
    steps = sum(max(1, int(small.counts[b].sum()) // 8) for b in small.blocks(0))
    seen = [tuple(v) for i in range(steps) for v in small.step(i)[0].data.round(decimals=3).tolist()]
    assert Counter(seen) <= every  # nothing twice in an epoch, but for rows that begin alike
    assert not np.array_equal(
        small.step(0)[0].data, small.step(steps)[0].data
    )  # another epoch, another order
    assert torch.equal(
        small.step(1)[0].data, fitstream.Stream(compiled.binder, reads, 8, 0, 960).step(1)[0].data
    )


def test_positions_that_are_not_asked_for_are_not_seen(tmp_path: Path) -> None:
    compiled, (node,) = compiled_fit(tmp_path, sae("{ on: d, steps: 10, batch: 8, skip: 1 }"))
    reads = [r for r in node.reads if isinstance(r, ir.Read)]
    stream = fitstream.Stream(compiled.binder, reads, 8, 0)
    part = compiled.binder.dataset(compiled.program.datas[0][1]).part("", "")
    assert stream.counts.tolist() == (part.lengths - 1).tolist()


def test_a_fit_ends_where_its_loss_is_low_enough(tmp_path: Path) -> None:
    compiled, (node,) = compiled_fit(
        tmp_path, sae("{ on: d, steps: 2000, batch: 32, until: 0.05, optim: adam(lr: 1e-2) }", k=12)
    )
    tables(compiled)
    done = compiled.fitter.done[node.digest]
    assert 20 <= done.steps < 2000
    assert np.mean([v for _, v in done.losses[-3:]]) < 0.1


def test_a_direction_is_found_that_carries_the_answer(tmp_path: Path) -> None:
    """An alignment search whose loss falls, and whose direction beats a random one."""
    text = (Path(__file__).parents[1] / "corpus" / "run" / "subspace.mi").read_text()
    spec = tmp_path / "das.mi"
    spec.write_text(
        text.replace("steps: 20", "steps: 60").replace(
            "import das, split", "import das, split\nfrom std.decomp import random_subspace"
        )
        + """
basis chance = random_subspace(at: x, rank: 1)
experiment control {
  let clean   = run m on d.train.clean
  let corrupt = run m on d.train.corrupt
  let found   = run m on d.train.corrupt do { v.code := clean }
  let lucky   = run m on d.train.corrupt do { chance.code := clean }
  report fitted = mean(ld(found), over: batch)
  report random = mean(ld(lucky), over: batch)
}
"""
    )
    compiled = compile_spec(spec)
    (node,) = fits_of(*compiled.optimised.program.roots)
    found = tables(compiled)
    losses = [v for _, v in compiled.fitter.done[node.digest].losses]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert found["fitted"].value[0] > found["random"].value[0]


@pytest.mark.parametrize(
    ("fit", "said"),
    [
        ("{ steps: 10 }", "MI0207 a fit needs data"),
        ("{ on: d }", "MI0207 a fit has either `steps` or `tokens`"),
        ("{ on: d, steps: 10, tokens: 10 }", "MI0207"),
        ("{ on: d, steps: 0 }", "MI0301"),
        ("{ on: d, step: 10 }", "MI0205"),
        ("{ on: d, steps: 10, optim: 3 }", "MI0301"),
        ("{ on: x, steps: 10 }", "MI0301"),
    ],
)
def test_records_are_checked(fit: str, said: str, tmp_path: Path) -> None:
    text = refused(tmp_path, sae(fit))
    assert said in text, text


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    spec = write(tmp_path, sae("{ on: d, steps: 50, batch: 16, optim: sgd(lr: 1e30) }"))
    done = midsl("run", spec, "--store", tmp_path / "store")
    assert done.exit_code == 4, done.output
    assert "MI0703" in done.output
