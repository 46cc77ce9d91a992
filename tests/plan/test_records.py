"""Swept records: their texts stand for literals, and their entries go by number, by the oracle as well."""

from __future__ import annotations

from pathlib import Path

from midsl.plan.driver import Execution, compile_spec
from midsl.plan.verify import verify
from tests.plan.corpus import cells, tables

SPEC = """language mi 1
import std.models as models
from std.tasks import program_pairs
from std.metrics import logit_diff
metric ld = logit_diff(correct: .answer, wrong: .wrong, pos: .query)
experiment e {
  sweep c in zip(program: ["sort", "hist"], beside: ["reverse", "reverse"])
  model  m = models.compiled(c.program, length: 3, beside: c.beside)
  data   d = program_pairs(m.tokenizer, program: c.program, length: 3, n: 4)
  let    x = mean(ld(run m on d.clean do { m.blocks[*].attn.z := 0.5 * self }), over: batch)
  report each = x
  report turn = x[c: 1] - 2.0 * x[c: 0]
}
experiment doses {
  sweep c in zip(size: [1, 0], dose: [1.0, 0.5])
  let    x = 10.0 * c.size + c.dose
  report first = x[c: 0]
  report last  = x[c: -1]
}
"""


def test_texts_of_records_are_literals_and_entries_go_by_number(tmp_path: Path) -> None:
    spec = tmp_path / "records.mi"
    spec.write_text(SPEC)
    compiled = compile_spec(spec)
    execution = Execution(compiled)
    execution.run()
    found = {k: cells(t) for k, t in tables(execution).items()}
    sort, hist = (found["e.each"][k, "reverse"][0] for k in ("sort", "hist"))
    assert abs(sort - hist) > 0.1
    assert abs(found["e.turn"][()][0] - (hist - 2.0 * sort)) < 1e-4
    assert found["doses.first"][()][0] == 11.0 and found["doses.last"][()][0] == 0.5
    done = verify(compiled)
    assert done.agrees, [(v.name, v.error) for v in done.verdicts]
