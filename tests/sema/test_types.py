"""What the elaborator knows and refuses: axes, units, columns, names, defaults, order."""

from __future__ import annotations

from pathlib import Path

import pytest

from midsl.diagnostics.model import Diagnostic
from midsl.ir import nodes as ir
from midsl.ir.program import Program
from midsl.resources import resource_dir
from midsl.sema.check import check_source, check_text, read_source
from midsl.sema.filefacts import FileFacts
from midsl.sema.summary import summarise
from midsl.source import SourceFile

HEAD = """language mi 1
import std.models as models
from std.tasks import induction, pairs, repeats
from std.metrics import logit_diff, logit, nll, loss_on, kl, cross_entropy, accuracy
model m = models.toy(layers: 2, heads: 3, d_model: 24, d_mlp: 8, vocab: 32, ctx: 24)
data  d = induction(m.tokenizer, n: 3, period: 5, seed: 0)
site  z = m.blocks[*].attn.z[head: *]
metric ld = logit_diff(correct: .answer, wrong: .wrong)
"""


def program(body: str, above: str = "") -> Program:
    text = f"{HEAD}{above}\nexperiment e {{\n{body}\n}}\n"
    return check_source(SourceFile("spec.mi", text), FileFacts()).require()


def type_of(expression: str, body: str = "", above: str = "") -> str:
    """The type of a report's value, as people read it."""
    run = "  let r = run m on d.clean\n  let c = run m on d.corrupt\n"
    (sink,) = program(f"{run}{body}\n  report x = {expression}", above).sinks
    assert isinstance(sink, ir.Report)
    return str(sink.value.type)


def refused(expression: str, body: str = "", above: str = "") -> Diagnostic:
    run = "  let r = run m on d.clean\n  let c = run m on d.corrupt\n"
    bag = check_text(
        f"{HEAD}{above}\nexperiment e {{\n{run}{body}\n  report x = {expression}\n}}\n", facts=FileFacts()
    )
    assert bag.errors, "this must be refused"
    return bag.errors[0]


@pytest.mark.parametrize(
    ("expression", "type_"),
    [
        ("r.logits", "Float[batch, pos, vocab]<logit>"),
        ("r.logits[pos: .end]", "Float[batch, vocab]<logit>"),
        ("r.logits[pos: .end, vocab: .answer]", "Float[batch]<logit>"),
        ("r.logits[pos: 1..-1, vocab: [1, 2]]", "Float[batch, pos, vocab]<logit>"),
        ("r[m.blocks[*].attn.z[head: *]]", "Float[layer, head, batch, pos, d_head]"),
        ("r[m.blocks[1].attn.z]", "Float[batch, pos, head, d_head]"),
        ("r[m.blocks[0..1].resid_post]", "Float[layer, batch, pos, d_model]"),
        ("r[m.blocks[0].attn.pattern[head: 1]]", "Float[batch, pos, key_pos]"),
        ("mean(r[z], over: [batch, pos])", "Float[layer, head, d_head]"),
        ("ld(r)", "Float[batch]<logit>"),
        ("ld(r) - ld(c)", "Float[batch]<logit>"),
        ("ld(r) / ld(c)", "Float[batch]"),
        ("2 * ld(r)", "Float[batch]<logit>"),
        ("nll(r)", "Float[batch, pos]<nat>"),
        ("cross_entropy(r)", "Float<nat>"),
        ("kl(r, c)", "Float[batch, pos]<nat>"),
        ("count(ld(r) > 0, over: batch)", "Int"),
        ("argmax(r.logits[pos: .end], over: vocab)", "Int[batch]"),
        ("ld(r) > ld(c)", "Bool[batch]"),
        ("dot(r[m.blocks[0].resid_post], m.W_U, over: d_model)", "Float[batch, pos, vocab]"),
        ("grad(mean(ld(c), over: batch), at: z)", "Float[layer, head, batch, pos, d_head]"),
    ],
)
def test_types(expression: str, type_: str) -> None:
    assert type_of(expression) == type_


@pytest.mark.parametrize(
    ("sweep", "columns"),
    [
        ("h in z", ["layer", "head"]),
        ("h in z as src", ["src_layer", "src_head"]),
        ("h in m.blocks[0].attn.z[head: *]", ["layer", "head"]),
        ('h in z["0.1", "1.2"]', ["layer", "head"]),
        ("l in m.blocks", ["layer"]),
        ("k in [0.5, 1.0]", ["k"]),
        ("y in m.blocks[*].resid_pre[pos: *] as at", ["at_layer", "at_pos"]),
        ("h in z, k in [1, 2]", ["layer", "head", "k"]),
    ],
)
def test_key_columns_of_sweeps(sweep: str, columns: list[str]) -> None:
    """The value depends on the variable of each clause, through an edit or by itself."""
    names = [
        c.split(" in ")[0].strip() for c in sweep.replace('"0.1", ', '"0.1",').split(", ") if " in " in c
    ]
    edits = [
        f"m.blocks[{n}].attn.out := 0" if n == "l" else f"m.embed := {n} * self" if n == "k" else f"{n} := 0"
        for n in names
    ]
    text = (
        f"{HEAD}\nexperiment e {{\n  sweep {sweep}\n  let p = run m on d.clean do {{ {', '.join(edits)} }}\n"
    )
    checked = check_source(
        SourceFile("s.mi", text + "  report x = mean(ld(p), over: batch)\n}\n"), FileFacts()
    )
    checked.require()
    assert summarise(checked)[0]["columns"] == columns


@pytest.mark.parametrize(
    ("expression", "code", "said"),
    [
        ("ld(r) + nll(r)", "MI0305", "nat"),
        ("mean(ld(r), over: head)", "MI0311", "head"),
        ("r[m.blocks[7].resid_pre]", "MI0406", "layer"),
        ("r[m.blocks[0].resid_prr]", "MI0401", "resid_prr"),
        ("r.logits[pos: .ent]", "MI0506", "ent"),
        ("nll(r) - nll(run m on other)", "MI0304", "batch"),
        ("mean(lgits(r), over: batch)", "MI0201", "lgits"),
        ("r[m.blocks[0].attn.z[hed: 1]]", "MI0302", "hed"),
        ("d.cleen", "MI0506", "cleen"),
    ],
)
def test_refusals(expression: str, code: str, said: str) -> None:
    found = refused(expression, above="data other = repeats(m.tokenizer, n: 3, ctx: 12)")
    assert said in found.message + found.label, found.message
    assert found.code == code, found.message


@pytest.mark.parametrize(
    ("expression", "meant"),
    [
        ("r[m.blocks[0].resid_pst]", "resid_post"),
        ("meen(ld(r), over: batch)", "mean"),
        ("r.logits[pos: .anser_end]", ""),
        ("mean(ld(r), over: batsh)", "batch"),
        ("cros_entropy(r)", "cross_entropy"),
    ],
)
def test_did_you_mean(expression: str, meant: str) -> None:
    found = refused(expression)
    assert meant in (found.help or "")
    assert found.help, "every refusal says what to do"


def test_bindings_are_order_free() -> None:
    ordered = program("  let a = run m on d.clean\n  let b = ld(a)\n  report x = mean(b, over: batch)")
    backwards = program("  report x = mean(b, over: batch)\n  let b = ld(a)\n  let a = run m on d.clean")
    assert [s.digest for s in ordered.sinks] == [s.digest for s in backwards.sinks]


def test_late_columns_are_those_of_the_run() -> None:
    """`.end` on the corrupt side is the corrupt side's column, in reads and in edits alike."""
    run = "run m on d.corrupt do { m.embed[pos: .end] := 0 }"
    (sink,) = program(f"  report x = mean(({run}).logits[pos: .end, vocab: .answer], over: batch)").sinks
    sides = {n.part.side for n in ir.walk(sink) if isinstance(n, ir.Column) and isinstance(n.part, ir.Part)}
    assert sides == {"corrupt"}


def test_default_arguments() -> None:
    above = "fn scaled(r: Run, by: Float = 2.0) -> Float[batch]<logit> = by * ld(r)"
    plain = program("  report x = mean(scaled(run m on d.clean), over: batch)", above)
    given = program("  report x = mean(scaled(run m on d.clean, by: 2.0), over: batch)", above)
    other = program("  report x = mean(scaled(run m on d.clean, by: 3.0), over: batch)", above)
    assert plain.sinks[0].digest == given.sinks[0].digest != other.sinks[0].digest


def test_equal_runs_are_equal_values() -> None:
    run = "run m on d.clean do { m.embed := 0 }"
    (sink,) = program(f"  report x = mean(ld({run}) - ld({run}), over: batch)").sinks
    runs = {n.digest for n in ir.walk(sink) if isinstance(n, ir.Forward)}
    assert len(runs) == 2, "two occurrences, until pass cse makes them one"


def test_a_parameter_replaces_its_default() -> None:
    body = "experiment e {\n  report x = k * mean(ld(run m on d.clean), over: batch)\n}\n"
    source = SourceFile("s.mi", f"{HEAD}param k: Float = 1.0\n{body}")
    values = {
        n.value
        for n in ir.walk(*check_source(source, FileFacts(), {"k": "2.5"}).require().roots)
        if isinstance(n, ir.Const)
    }
    assert 2.5 in values and 1.0 not in values
    assert check_source(source, FileFacts(), {"j": "2.5"}).bag.errors[0].code == "MI0209"


def test_a_family_without_some_members_is_read_along_one_axis() -> None:
    taken = "except(z, m.blocks[0].attn.z[head: 0])"
    refusal = refused(f"sum(r[{taken}], over: [batch, pos, d_head, head])")
    assert refusal.code == "MI0311" and "site, batch, pos" in refusal.label


def test_writes_to_other_members_do_not_overlap() -> None:
    body = """  sweep a in z["0.0", "0.1"] as src, b in z["1.0", "1.2"] as dst
  let p = run m on d.clean do { a := 0, b := 1 }
  report x = mean(ld(p), over: batch)"""
    program(body)
    text = f"{HEAD}experiment e {{\n{body.replace('1.0', '0.1')}\n}}\n"
    assert check_text(text, facts=FileFacts()).errors[0].code == "MI0405"


@pytest.mark.parametrize("path", sorted(resource_dir("stdlib").rglob("*.mi")), ids=lambda p: p.stem)
def test_the_library_is_what_its_types_say(path: Path) -> None:
    """Each function of the library on stand-ins of its parameters, as for a file of one's own."""
    assert not check_source(read_source(path), FileFacts()).bag.errors


def test_a_function_of_the_library_that_lies_would_be_told() -> None:
    """The path alone makes a file one of the library, where only its own check looks at its functions."""
    lie = "language mi 1\nfn loss(r: Run) -> Float<nat> = r.logits\n"
    source = SourceFile("lie.mi", lie, resource_dir("stdlib") / "lie.mi")
    assert [d.code for d in check_source(source, FileFacts()).bag.errors] == ["MI0319"]


def test_what_an_edit_shares_is_looked_at_once() -> None:
    """A value that is its own half sixty times over has 2^60 ways down, and 60 nodes."""
    lets = "\n".join(f"  let v{i + 1} = v{i} + v{i}" for i in range(60))
    body = f"  let v0 = (run m on d.clean)[z]\n{lets}\n  let r = run m on d.clean do {{ z := v60 }}\n"
    assert program(body + "  report y = mean(ld(r), over: batch)").sinks
