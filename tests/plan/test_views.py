"""What `view` shows, and the rows that `plan` allows at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from midsl.plan.driver import Compiled, Execution, compile_spec
from midsl.store.rows import Viewed

SPEC = """language mi 1
import std.models as models
from std.tasks import pairs
from std.metrics import nll
model m = models.toy(layers: 2, heads: 2, d_model: 16, d_mlp: 24, vocab: 24, ctx: 32, seed: 3)
data d = pairs(
  m.tokenizer,
  clean: ["3 5 7", "1 2 3 4 5 6", "4 4"],
  corrupt: ["4 5 7", "1 2 3 4 4 6", "4 5"],
  answer: ["9", "7", "1"],
  label: ["a", "b", "a"],
  split: {{ first: 0.67 }}
)
experiment e {{
{body}
}}
"""


def compiled(tmp_path: Path, body: str) -> Compiled:
    path = tmp_path / "spec.mi"
    path.write_text(SPEC.format(body=body))
    return compile_spec(path)


def views(tmp_path: Path, body: str) -> list[Viewed]:
    execution = Execution(compiled(tmp_path, body))
    execution.run()
    return execution.stages[0].views


def test_rows_are_shown_as_tokens_with_the_names_of_their_positions(tmp_path: Path) -> None:
    (clean, split) = views(tmp_path, "view d.clean\nview d.first.corrupt")
    assert clean.title == "d.clean" and clean.columns == ("example", "tokens", "positions")
    assert clean.rows[0] == (0, "<bos>|3|5|7", "start 0, end 3, changed 1..2, changed_end 1")
    assert [r[1] for r in clean.rows] == ["<bos>|3|5|7", "<bos>|1|2|3|4|5|6", "<bos>|4|4"]
    numbers = [r[0] for r in split.rows]
    assert len(numbers) == 2 and numbers == sorted(numbers), "examples keep their numbers in a split"


def test_columns_and_values_are_shown(tmp_path: Path) -> None:
    answer, label, end, loss, number = views(
        tmp_path,
        "view d.answer\nview d.label\nview d.end\nview mean(nll(run m on d.clean), over: pos)\nview 2 * 3",
    )
    assert answer.rows == [(0, "9"), (1, "7"), (2, "1")]
    assert label.rows == [(0, "a"), (1, "b"), (2, "a")]
    assert end.columns[0] == "example" and [r[1] for r in end.rows] == [3, 6, 2]
    assert loss.title == "mean(nll(run m on d.clean), over: pos)"
    assert len(loss.rows) == 3 and all(r[1] > 0 for r in loss.rows)
    assert number.rows[0][0] == 6


def test_what_was_written_is_shown(tmp_path: Path) -> None:
    rows, text = views(tmp_path, "let r = run m on d.clean rollout { steps: 3 }\nview r.data\nview r.text")
    for (_, tokens, places), (_, said) in zip(rows.rows, text.rows, strict=True):
        assert tokens.split("|")[-3:] == said.split()
        assert "new " in places


def test_a_plan_bounds_the_rows_at_once(tmp_path: Path) -> None:
    body = """{plan}
  sweep l in m.blocks
  let r = run m on d.clean do {{ m.blocks[l].resid_post := 2 * self }}
  report loss = mean(nll(r), over: [batch, pos])"""
    free = Execution(compiled(tmp_path, body.format(plan="")))
    free.run()
    bound = compiled(tmp_path, body.format(plan="plan { rows: 1 }"))
    session = bound.session()
    kept = Execution(bound)
    kept.run(session=session)
    pieces = [session.prepare(s).pieces for s in bound.plan.runs]
    assert all(p.height == 1 for run in pieces for p in run), "lanes that run parts of rows make up one row"
    assert sum(map(len, pieces)) > len(bound.plan.runs)
    assert kept.stages[0].tables[0].value == pytest.approx(free.stages[0].tables[0].value, rel=1e-5)
