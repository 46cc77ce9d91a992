"""The story model: its published text through the exported graph, and which heads carry a name to a pronoun.

The file at hand had each layer's matrices transposed in place five times; `transposes: 5` is the way back.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from midsl.graph.sites import build_model_graph
from midsl.models.llama2c import llama2c
from tests.real.common import DATA, EXAMPLES, array, midsl, needs, options, stages, tables

FOLDER = DATA / "stories260k"
BIN, TOKENIZER = FOLDER / "stories260K.bin", FOLDER / "tok512.bin"
SPEC = EXAMPLES / "pronoun_stories.mi"
FILES = {"bin": BIN, "tokenizer": TOKENIZER}

pytestmark = needs("stories260k")


def test_the_graph_writes_the_published_text() -> None:
    """200 greedy tokens of the exported graph, character for character."""
    model = llama2c(str(BIN), str(TOKENIZER), transposes=5)
    assert model.tokenizer is not None
    graph = build_model_graph(model).gm
    ids = torch.tensor([model.tokenizer.encode("")])
    with torch.no_grad():
        for _ in range(200):
            logits = graph(ids, torch.ones_like(ids))
            ids = torch.cat([ids, logits[:, -1:].argmax(-1)], dim=1)
    assert model.tokenizer.decode(ids[0].tolist()) == (FOLDER / "expected_greedy_200.txt").read_text()


def test_pronouns_from_the_command_line_to_sql(tmp_path: Path) -> None:
    store = tmp_path / "store"
    done = midsl("run", SPEC, *options(**FILES), "--store", store)
    assert done.exit_code == 0, done.output

    def ask(query: str) -> list[dict[str, object]]:
        answer = midsl("sql", query, "--store", store, "--json")
        assert answer.exit_code == 0, answer.output
        rows: list[dict[str, object]] = json.loads(answer.output)
        return rows

    signs = ask(
        "SELECT count(*) AS n, count(*) FILTER (r.value > 0 AND w.value < 0) AS good "
        'FROM task."right" r JOIN task.wrong w USING (example)'
    )
    assert signs == [{"n": 32, "good": 32}]
    heads = ask("SELECT layer, head FROM at_end.effect WHERE value > 0.1 ORDER BY value DESC")
    assert heads == [{"layer": 4, "head": 2}, {"layer": 2, "head": 6}, {"layer": 4, "head": 0}]


def test_the_effects_that_a_computation_without_midsl_gave() -> None:
    """Shares of the gap restored, from float64 matrix products outside this project, to three digits."""
    done = stages(SPEC, **FILES)
    effect = array(tables(done["at_end"])["effect"])
    assert effect[2, 6] == pytest.approx(0.224, abs=6e-4)
    assert effect[4, 0:4] == pytest.approx([0.160, -0.026, 0.643, 0.025], abs=6e-4)
    stream = array(tables(done["stream"])["effect"])
    assert stream == pytest.approx([1.000, 1.002, 0.974, 0.750, 0.744], abs=6e-4)
    right = array(tables(done["task"])["right"])
    assert right[[0, 16]] == pytest.approx([3.203, 4.107], abs=6e-4)


@pytest.mark.slow
def test_the_spec_agrees_with_the_oracle() -> None:
    done = midsl("verify", SPEC, *options(**FILES), "--points", "4", "--json")
    assert done.exit_code == 0, done.output
    verdict = json.loads(done.output)
    assert verdict["agrees"]
    assert verdict["worst"] <= 1e-9


def test_a_patch_from_the_corrupt_run_restores_nothing(tmp_path: Path) -> None:
    text = SPEC.read_text()
    spec = tmp_path / "spec.mi"
    start = text.index("experiment at_end")
    spec.write_text(text[:start] + text[start:].replace("do { h := clean }", "do { h := corrupt }", 1))
    assert spec.read_text() != text
    done = midsl("run", spec, *options(**FILES), "--store", tmp_path / "store")
    assert done.exit_code == 3, done.output
    assert "✗ expect effect[layer: 4, head: 2] > 0.5" in done.output


@pytest.mark.slow
def test_the_file_as_it_stands_does_not_do_the_task(tmp_path: Path) -> None:
    """Without the transposes the model is noise, and the first expects say so."""
    done = midsl("run", SPEC, *options(**FILES, transposes=0), "--store", tmp_path / "store")
    assert done.exit_code == 3, done.output
    assert "✗ expect count(right > 0, over: batch) == 32" in done.output
