"""The door from Python: modules, tables and functions of one's own process; what a session need not redo."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import midsl
from midsl.graph.rebind import forget
from midsl.graph.sites import build_model_graph
from midsl.models.toy import toy
from midsl.plan import bind
from midsl.plan.remembered import Remembered
from tests.e2e.conftest import Done, Home

SMALL = Path(__file__).with_name("small.mi").read_text(encoding="utf-8")
HEAD = """language mi 1
import std.models as models
from std.tasks import texts, induction
from std.metrics import logit_diff, nll
"""
TABLE = [{"text": "1 2 3 4", "kind": "a"}, {"text": "4 3 2 1", "kind": "b"}, {"text": "5 6 7 8", "kind": "a"}]
OF_ROWS = (
    HEAD
    + """data d = texts(rows, m.tokenizer, label: "kind")
experiment e {
  let clean = run m on d
  report loss = mean(nll(clean), over: [batch, pos])
}
"""
)


@pytest.fixture
def here(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(home.folder)
    monkeypatch.setenv("MIDSL_CACHE_DIR", str(home.cache))
    yield home.folder


def small_module() -> nn.Module:
    return toy(layers=2, heads=2, d_model=8, vocab=16, ctx=16, seed=0).module


def test_a_module_in_the_place_of_a_model(here: Path) -> None:
    session, module = midsl.Session(), small_module().train()
    module.requires_grad_(True)
    said = session.run(SMALL, name="small")
    mine = session.run(SMALL, name="small", bind={"m": module})
    assert mine["effect"].rows() == said["effect"].rows(), "the same weights under the same name"
    assert mine["base"].rows() == said["base"].rows()
    assert module.training and all(p.requires_grad for p in module.parameters()), "it is left as it was"
    with torch.no_grad():
        module.unembed.weight.mul_(2)  # type: ignore[union-attr, operator]
    after = session.run(SMALL, name="small", bind={"m": module})
    assert after["base"].rows()[0][0] == pytest.approx(2 * said["base"].rows()[0][0], rel=1e-6)
    again = session.run(SMALL, name="small", bind={"m": module})
    assert again.executed["forwards"] == 0, "the same weights: its experiments are in the store"


class Bare(nn.Module):
    """A module of no known kind, which maps tokens to logits."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(16, 4)
        self.blocks = nn.ModuleList([nn.Linear(4, 4) for _ in range(2)])
        self.head = nn.Linear(4, 16)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        for block in self.blocks:
            x = x + torch.relu(block(x))
        logits: Tensor = self.head(x)
        return logits


def test_any_module_and_a_table(here: Path) -> None:
    module = Bare()
    done = midsl.run(OF_ROWS, bind={"m": module, "rows": TABLE})
    tokens = torch.tensor([[1, 2, 3, 4], [4, 3, 2, 1], [5, 6, 7, 8]])
    with torch.no_grad():
        logp = module(tokens)[:, :-1].log_softmax(-1)
    wanted = -logp.gather(-1, tokens[:, 1:, None]).mean()
    assert done["loss"].rows()[0][0] == pytest.approx(float(wanted), rel=1e-5)
    assert done["loss"].rows()[0][1] == 3
    frame = pytest.importorskip("pandas").DataFrame(TABLE)
    arrow = pytest.importorskip("pyarrow").Table.from_pylist(TABLE)
    for rows in (frame, arrow):
        other = midsl.run(OF_ROWS, store="other", bind={"m": module, "rows": rows})
        assert other["loss"].rows() == done["loss"].rows()
    fewer = midsl.run(OF_ROWS, bind={"m": module, "rows": TABLE[:2]})
    assert fewer["loss"].rows()[0][1] == 2, "other rows are another data set"


def test_a_function_of_the_callers(here: Path) -> None:
    calls: list[int] = []

    def rows(tokenizer: Any, n: int) -> Any:
        from midsl.data.tasks.induction import induction

        calls.append(n)
        return induction(tokenizer, n=n, period=5, corrupt="cue")

    spec = f"""{HEAD}extern fn rows(tokenizer: Tokenizer, n: Int) -> Data[clean, corrupt] = "bind:rows"
model m = models.toy(layers: 1, heads: 1, d_model: 8, vocab: 16, ctx: 16)
data d = rows(m.tokenizer, n: 3)
experiment e {{
  let clean = run m on d
  report loss = mean(nll(clean), over: [batch, pos])
}}
"""
    spec = spec.replace("on d", "on d.clean")
    done = midsl.run(spec, bind={"rows": rows})
    assert set(calls) == {3} and done["loss"].rows()[0][1] > 0
    with pytest.raises(midsl.MiError) as error:
        midsl.run(spec)
    assert error.value.diagnostics[0].code == "MI0605", "without the caller it is code that nobody trusts"


@pytest.mark.parametrize(
    ("bind", "code", "word"),
    [
        ({"modle": small_module()}, "MI0209", "modle"),
        ({"f": len}, "MI0209", "extern fn f"),
        ({"m": 3}, "MI0511", "int"),
        ({"m": nn.Linear(3, 3)}, "MI0509", "logits"),
        ({"m": (small_module(), "a tokenizer")}, "MI0509", "tokenizer"),
    ],
)
def test_what_cannot_be_bound(here: Path, bind: dict[str, Any], code: str, word: str) -> None:
    with pytest.raises(midsl.MiError) as error:
        midsl.run(SMALL, bind=bind)
    assert error.value.diagnostics[0].code == code and word in str(error.value.diagnostics[0].message)
    assert not (here / "midsl-results").exists(), "nothing is half written"


def test_sites_of_a_run_as_tensors(here: Path) -> None:
    result = midsl.run(SMALL, name="small")
    z = result["clean"]["z"]
    assert z.shape == (2, 2, 4, 9, 4), "layer, head, batch, pos, d_head"
    whole = result["clean"]["m.blocks[*].attn.z"]
    assert whole.shape == (2, 4, 9, 2, 4) and torch.equal(whole.permute(0, 3, 1, 2, 4), z)
    with pytest.raises(midsl.MiError) as error:
        result["clean"]["nowhere"]
    assert error.value.diagnostics[0].code == "MI0201"


def counting(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often a model was loaded and exported."""
    counts = {"loaded": 0, "exported": 0}

    def count(what: str, real: Callable[..., Any]) -> Any:
        def counted(*args: Any, **more: Any) -> Any:
            counts[what] += 1
            return real(*args, **more)

        return counted

    import midsl.models.toy as module

    forget()
    monkeypatch.setattr(module, "toy", count("loaded", toy))
    monkeypatch.setattr(bind, "build_model_graph", count("exported", build_model_graph))
    return counts


CHANGED = {
    "another expression of the same reads": ("- ld(corrupt), over: batch)", "+ ld(corrupt), over: batch)", 0),
    "another reduction": ("mean(ld(clean), over: batch)", "max(ld(clean), over: batch)", 0),
    "a claim": ("< bound,", "< 2 * bound,", 0),
    "another edit": ("do { h := clean }", "do { h := 0.5 * clean[h] }", 1),
}


@pytest.mark.parametrize("change", CHANGED)
def test_a_changed_line_runs_only_what_it_changes(
    here: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    old, new, most = CHANGED[change]
    counts = counting(monkeypatch)
    session = midsl.Session("warm")
    session.run(SMALL, name="small")
    assert counts == {"loaded": 1, "exported": 1}
    edited = SMALL.replace(old, new)
    assert edited != SMALL
    warm = session.run(edited, name="small")
    assert counts == {"loaded": 1, "exported": 1}, "neither loaded nor exported again"
    assert warm.executed["forwards"] <= most, "what it does not change is not run"
    cold = midsl.run(edited, store="cold", name="small")
    assert cold.executed["forwards"] == 3
    assert [t.rows() for t in warm.tables] == [t.rows() for t in cold.tables], "to the last bit"


def test_other_data_is_not_remembered(here: Path) -> None:
    path = here / "rows.jsonl"
    spec = OF_ROWS.replace("texts(rows", 'texts("rows.jsonl"').replace(
        "data d", "model m = models.toy(layers: 1, heads: 1, d_model: 8, vocab: 16, ctx: 16)\ndata d"
    )
    session = midsl.Session()
    seen = []
    for rows in (TABLE, TABLE[:2], TABLE):
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        seen.append(session.run(spec)["loss"].rows())
    assert seen[0] == seen[2] != seen[1], "a file that has changed is other data under the same name"


def test_the_memory_has_a_bound(here: Path) -> None:
    session = midsl.Session("bounded", memory=Remembered(room=0))
    session.run(SMALL, name="small")
    edited = SMALL.replace("- ld(corrupt), over: batch)", "+ ld(corrupt), over: batch)")
    assert session.run(edited, name="small").executed["forwards"] == 3 and session.memory.steps == 0


def test_show_a_value(cli: Callable[..., Done], home: Home) -> None:
    (home.folder / "small.mi").write_text(SMALL, encoding="utf-8")
    told = cli("show", "small.mi", "mean(clean[z], over: batch)").expect(0).out
    assert told.startswith("Float[layer, head, pos, d_head]\nlayer 2, head 2, pos 9, d_head 4\n")
    assert "ran 1 forwards" in told and "at layer 0, head 0" in told
    data = cli("show", "small.mi", "mean(clean[z], over: batch)", "--json").expect(0).json()
    assert data["shape"] == [2, 2, 9, 4] and len(data["value"][1][1]) == 9
    rows = cli("show", "small.mi", "d.clean", "-p", "rows=2").expect(0).out
    assert "clean 0\n0:'<bos>' 1:" in rows and "answer '13'" in rows and "clean 1" in rows
    assert "MI0201" in cli("show", "small.mi", "mean(clan[z])").expect(2).err
    assert "MI0312" in cli("show", "small.mi", "m").expect(2).err
    assert "MI0807" in cli("show", "small.mi", "clean[z]", "--experiment", "smal").expect(2).err
    assert cli("show", "small.mi", "1 }\nexperiment x {").code == 2
    assert not home.store.exists(), "nothing goes to a store"


def test_serve(home: Home) -> None:
    (home.folder / "small.mi").write_text(SMALL, encoding="utf-8")
    questions = [
        {"id": 1, "do": "run", "spec": "small.mi", "params": {"seed": 1}},
        {
            "id": 2,
            "do": "show",
            "spec": "small.mi",
            "params": {"seed": 1},
            "expression": "mean(ld(clean), over: batch)",
        },
        {"id": 3, "do": "show", "spec": "small.mi", "expression": "d.clean"},
        {"id": 4, "do": "check", "text": "language mi 1\nexperiment e {\n  report x = y\n}"},
        {"id": 5, "do": "sql", "query": "SELECT count(*) AS n FROM runs"},
        {"id": 6, "do": "sql", "query": "COPY runs TO 'x.csv'"},
        {"id": 7, "do": "run", "spec": 3},
        {"id": 8, "do": "stop"},
        {"id": 9, "do": "sql", "query": "FROM runs"},
    ]
    started = home.start("serve", talks=True)
    out, err = started.communicate(
        "\n".join(map(json.dumps, questions[:6]))
        + "\nnot json\n"
        + "\n".join(map(json.dumps, questions[6:]))
        + "\n",
        timeout=300,
    )
    assert started.returncode == 0, err
    told = [json.loads(line) for line in out.splitlines()]
    assert [t["id"] for t in told] == [1, 2, 3, 4, 5, 6, None, 7, 8], "in order, and nothing after stop"
    assert told[0]["passed"] and told[0]["executed"]["forwards"] == 3
    assert told[1]["forwards"] == 0, "the run has it in memory"
    assert told[2]["sides"][0]["tokens"][0][0] == "<bos>"
    assert told[3]["error"][0]["code"] == "MI0201" and told[4]["rows"] == [[1]]
    assert "error" in told[5] and "error" in told[6] and "error" in told[7]
    assert not (home.folder / "x.csv").exists()
