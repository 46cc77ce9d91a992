"""``contexts`` in one pass by pieces: what whole values give, bounded in memory, the same in any pieces."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from midsl.data.dataset import Part
from midsl.ops.named import NT
from midsl.plan import scan
from midsl.plan.driver import Compiled, Execution, compile_source
from midsl.plan.explain import explain
from midsl.source import SourceFile
from midsl.store.rows import ResultTable
from tests.plan.corpus import chunked

STORIES = Path(__file__).parents[3] / "shared" / "data" / "stories260k"
TOY = """language mi 1
import std.models as models
from std.tasks import {task}
from std.decomp import topk_sae, relu_sae
model m = models.toy(layers: 2, heads: 2, d_model: 16, d_mlp: 24, vocab: 32, ctx: 24, seed: 1)
data  d = {task}(m.tokenizer, n: 40, {more}seed: 2)
decomposition sae  = topk_sae(at: m.blocks[1].resid_post, d_sae: 40, k: 4, seed: 4)
decomposition wide = relu_sae(at: m.blocks[0].mlp_out, d_sae: 30)
experiment e {{
  ## allow(L04): random weights
  let r = run m on d
  report few   = contexts(r[sae.code], k: 6, window: 3)
  report dense = contexts(r[wide.code], k: 6, window: 2)
  report mlp   = contexts(r[m.blocks[*].mlp.post[pos: 1..]], k: 3, window: 1, above: 0.2)
}}
"""


@cache
def compiled(text: str) -> Compiled:
    return compile_source(SourceFile("toy.mi", text), Path())


def toy() -> Compiled:
    return compiled(TOY.format(task="repeats", more="period_min: 3, period_max: 6, ctx: 20, "))


def ran(c: Compiled) -> tuple[Execution, dict[str, ResultTable]]:
    done = Execution(c, keep=True)
    done.run()
    return done, {t.report: t for s in done.stages for t in s.tables}


def loop(x: np.ndarray, part: Part, k: int, window: int, above: float, start: int):  # type: ignore[no-untyped-def]
    """Rows of `top` and `tokens` and the densities of one unit [rows, positions], by a loop."""
    places = [
        (-float(x[r, p]), r, p)
        for r in range(len(part))
        for p in range(int(part.lengths[r]) - start)
        if x[r, p] > above
    ]
    top, around = [], []
    for rank, (value, r, p) in enumerate(sorted(places)[:k]):
        top.append((rank, r, p + start, -value))
        for shift in range(-window, window + 1):
            if 0 <= p + shift < int(part.lengths[r]) - start:
                around.append((rank, shift, float(x[r, p + shift])))
    return top, around, len(places) / float((part.lengths - start).clip(0).sum())


CASES = (("few", 6, 3, 0.0, 0), ("dense", 6, 2, 0.0, 0), ("mlp", 3, 1, 0.2, 1))


@pytest.mark.parametrize("rows", [None, 1, 7])
def test_one_pass_gives_what_a_plain_loop_gives(rows: int | None) -> None:
    c = toy()
    with chunked(rows):
        done, tables = ran(c)
    session = c.session()
    whole = Execution(replace_reads(c), keep=True)
    whole.run()
    part = c.binder.part(next(s.run.data for s in c.plan.runs))
    values = {t.report: t for s in whole.stages for t in s.tables}
    assert session is not None and done.totals.forwards == 1
    for (name, k, window, above, start), x in zip(CASES, values.values(), strict=True):
        units = [key for key in x.keys if key not in ("example", "pos")]
        length = int(part.tokens.shape[1]) - start
        grid: dict[tuple[int, ...], np.ndarray] = {}
        for i in range(len(x)):
            unit = tuple(x.keys[u][i] for u in units)
            here = grid.setdefault(unit, np.full((len(part), length), -np.inf))  # type: ignore[arg-type]
            here[x.keys["example"][i], int(x.keys["pos"][i]) - start] = x.value[i]  # type: ignore[index, arg-type]
        top, tokens = tables[f"{name}_top"], tables[f"{name}_tokens"]
        density = tables[f"{name}_features.density"]
        mine_top = rows_of(top, units, ("rank", "example", "pos"))
        mine_tokens = rows_of(tokens, units, ("rank", "shift"))
        assert len(density) == len(grid)
        for i in range(len(density)):
            unit = tuple(density.keys[u][i] for u in units)
            want_top, want_around, share = loop(grid[unit], part, k, window, above, start)  # type: ignore[index]
            assert [r[:-1] for r in mine_top.get(unit, [])] == [r[:-1] for r in want_top]
            assert [r[:-1] for r in mine_tokens.get(unit, [])] == [r[:-1] for r in want_around]
            for mine, want in ((mine_top, want_top), (mine_tokens, want_around)):
                assert np.allclose([r[-1] for r in mine.get(unit, [])], [r[-1] for r in want], atol=1e-6)
            assert density.value[i] == pytest.approx(share)
        for i in range(len(top)):  # the token beside a place is the one that stands there
            token = part.tokens[at(top, "example", i), at(top, "pos", i)]
            assert top.keys["token"][i] == spelled(c, int(token))


def replace_reads(c: Compiled) -> Compiled:
    """The same spec with the whole values as its reports."""
    text = c.source.text
    for name, k, window, above, _ in CASES:
        more = f", above: {above}" if above else ""
        inner = text[text.index(f"report {name}") :]
        inner = inner[inner.index("contexts(") + 9 : inner.index(f", k: {k}")]
        text = text.replace(f"contexts({inner}, k: {k}, window: {window}{more})", inner)
    assert "contexts" not in text
    return compiled(text)


def spelled(c: Compiled, token: int) -> str:
    tokenizer = c.binder.tokenizer(next(s.run.model for s in c.plan.runs))
    assert tokenizer is not None
    return tokenizer.token(token)


def at(t: ResultTable, key: str, i: int) -> Any:
    return t.keys[key][i]


def rows_of(t: ResultTable, units: list[str], keys: tuple[str, ...]) -> dict[tuple[Any, ...], list[Any]]:
    """Rows by unit: some keys, and the value last."""
    found: dict[tuple[Any, ...], list[Any]] = {}
    for i in range(len(t)):
        row = (*(t.keys[k][i] for k in keys), float(t.value[i]))
        found.setdefault(tuple(t.keys[u][i] for u in units), []).append(row)
    return found


def test_counts_and_bytes_are_as_explained_in_any_pieces() -> None:
    for rows in (None, 1, 7):
        c = toy()
        with chunked(rows):
            said = explain(c, {}).optimised
            done, _ = ran(c)
        assert (said.forwards, said.flops, said.bytes) == (
            done.totals.forwards,
            done.totals.flops,
            done.totals.bytes,
        )


def test_equal_values_go_by_row_then_position_whatever_the_pieces() -> None:
    """Rows that are the same to the token, at a site that only looks up: values are equal to the bit."""
    rows = ", ".join(['"1 2 3 1 2"'] * 5)
    text = TOY.format(task="repeats", more="").replace("import repeats", "import corpus")
    text = text.replace(
        "repeats(m.tokenizer, n: 40, seed: 2)", f"corpus([{rows}], tokenizer: m.tokenizer, ctx: 8)"
    )
    text = text.replace("r[sae.code], k: 6", "r[m.embed], k: 6")
    for at_once in (None, 1, 2):
        with chunked(at_once):
            _, tables = ran(compiled(text))
        top = rows_of(tables["few_top"], ["d_model"], ("rank", "example", "pos"))
        ties = 0
        for places in top.values():
            order = [(-r[-1], r[1], r[2]) for r in places]
            assert order == sorted(order)
            ties += len({r[-1] for r in places}) < len(places)
        assert ties > 4
        firsts = [(r[1], r[2]) for r in (p[0] for p in top.values())]
        assert {row for row, _ in firsts} == {0}, "the earliest row"


def test_no_value_of_all_rows_is_ever_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a pass holds beside its k places is of one piece: counted in tensors, as rows grow tenfold."""
    most: list[int] = []
    look = scan.Scan.look

    def counted(self: scan.Scan, evaluator, env, memo, piece):  # type: ignore[no-untyped-def]
        found = look(self, evaluator, env, memo, piece)
        every = {id(x.data): x.data.numel() for x in (*memo.values(), *env.unswept.values())}
        held = sum(t.numel() for f in self.state for t in (f.value, f.at, f.around, f.inside))
        most.append(max(every.values()) + held)
        return found

    monkeypatch.setattr(scan.Scan, "look", counted)
    sizes = []
    for n in (40, 400):
        text = TOY.format(task="repeats", more="period_min: 3, period_max: 6, ctx: 20, ").replace(
            "n: 40", f"n: {n}"
        )
        most.clear()
        with chunked(10):
            c = compiled(text)
            done, _ = ran(c)
        rows = len(c.binder.part(next(s.run.data for s in c.plan.runs)))
        kept = [v for v in done.stages[0].tables]
        assert rows == n and kept
        sizes.append(max(most))
    assert sizes[0] == sizes[1] < 400 * 20 * 40


def test_pieces_that_run_out_of_memory_are_halved_and_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    _, want = ran(toy())
    tries = []
    look = scan.Scan.look

    def failing(self: scan.Scan, evaluator, env, memo, piece):  # type: ignore[no-untyped-def]
        tries.append(piece.height)
        if piece.height > 9:
            raise MemoryError("cannot allocate memory")
        return look(self, evaluator, env, memo, piece)

    monkeypatch.setattr(scan.Scan, "look", failing)
    _, got = ran(toy())
    assert min(tries) <= 9 < max(tries)
    for name, table in want.items():
        assert got[name].keys == table.keys
        assert np.allclose(got[name].value, table.value, atol=1e-6, equal_nan=True)


def test_a_sparse_code_is_looked_at_entry_by_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a code that keeps k features the rest is not looked at; a tie at the cut goes to the first."""
    made: list[str] = []

    def noted(kind: str, real: Any) -> Any:
        def make(*args: Any) -> Any:
            made.append(kind)
            return real(*args)

        return make

    for kind in ("Sparse", "Dense"):
        monkeypatch.setattr(scan, kind, noted(kind, getattr(scan, kind)))
    ran(toy())
    assert made.count("Sparse") == 1 and made.count("Dense") == 2
    x = NT(torch.tensor([[2.0, 1.0, 1.0, 1.0], [0.0, 0.0, 3.0, 0.0]]), ("batch", "feature"))
    found = scan._few(x, "feature", 2)
    assert found is not None
    index, value = found
    assert index.data[0].tolist() == [0, 1] and value.data.tolist() == [[2.0, 1.0], [3.0, 0.0]]


@pytest.mark.skipif(not STORIES.exists(), reason="needs stories260k")
def test_neurons_of_a_real_model_are_where_a_loop_finds_them() -> None:
    text = """language mi 1
import std.models as models
from std.tasks import corpus
param bin: String
param tok: String
model m = models.llama2c(bin, tokenizer: tok)
data  d = corpus(["Once upon a time, Lily went to the park. She saw a big dog.",
  "One day, Tim had a red ball. He was happy.", "Lily and Tim like to play. They play."],
  tokenizer: m.tokenizer, ctx: 24)
experiment e {
  let r = run m on d
  report mlp  = contexts(r[m.blocks[3].mlp.post], k: 5, window: 4)
  report all_ = r[m.blocks[3].mlp.post]
}
"""
    params = {"bin": str(STORIES / "stories260K.bin"), "tok": str(STORIES / "tok512.bin")}
    c = compile_source(SourceFile("s.mi", text), Path(), params)
    _, tables = ran(c)
    part = c.binder.part(next(s.run.data for s in c.plan.runs))
    whole = tables["all_"]
    grid = np.full((172, len(part), int(part.tokens.shape[1])), -np.inf)
    grid[whole.keys["d_mlp"], whole.keys["example"], whole.keys["pos"]] = whole.value  # type: ignore[index]
    top = rows_of(tables["mlp_top"], ["d_mlp"], ("rank", "example", "pos"))
    words = rows_of(tables["mlp_tokens"], ["d_mlp"], ("rank", "shift", "token"))
    for unit in range(172):
        want, _, _ = loop(grid[unit], part, 5, 4, 0.0, 0)
        assert top.get((unit,), []) == [pytest.approx(r) for r in want]
        for rank, row, pos, _ in want[:1]:
            text = "".join(str(w[2]) for w in words[unit,] if w[0] == rank)
            n = int(part.lengths[row])
            assert text == "".join(
                spelled(c, int(t)) for t in part.tokens[row, max(0, pos - 4) : min(n, pos + 5)]
            )
