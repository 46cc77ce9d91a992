"""Each lint finds what its page shows, keeps quiet on the mended one, and can be allowed with a reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from midsl.diagnostics.codes import LINTS
from midsl.diagnostics.model import Bag, Diagnostic
from midsl.resources import resource_dir
from midsl.sema.check import check_source, check_text
from midsl.sema.filefacts import FileFacts
from midsl.sema.lints.run import FINDERS, lint
from midsl.source import SourceFile
from midsl.syntax.parse import parse

PAGES = resource_dir("grammar") / "errors"
FENCE = re.compile(r"^```(mi lint|mi quiet)\n(.*?)^```$", re.M | re.S)
HEADINGS = ["What it means", "Why it matters", "Example", "How to mend it"]


def said(text: str) -> list[Diagnostic]:
    bag = Bag()
    tree = parse(SourceFile("a.mi", text), bag)
    assert tree is not None and not bag.errors
    return lint(tree)


def codes(text: str) -> set[str]:
    return {d.code for d in said(text)}


def example(code: str, kind: str) -> str:
    text = (PAGES / f"{code}.md").read_text(encoding="utf-8")
    return next(str(body) for found, body in FENCE.findall(text) if found == kind)


@pytest.mark.parametrize("code", sorted(LINTS))
def test_its_page(code: str) -> None:
    text = (PAGES / f"{code}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {code}: {LINTS[code]}\n")
    assert re.findall(r"^## (?!allow)(.*)$", re.sub(r"```.*?```", "", text, flags=re.S), re.M) == HEADINGS


@pytest.mark.parametrize("code", sorted(LINTS))
def test_the_bad_example_is_found_and_the_good_one_is_not(code: str) -> None:
    found = [d for d in said(example(code, "mi lint")) if d.code == code]
    assert found
    assert all(d.severity == "warning" and d.label and d.help for d in found)
    assert code not in codes(example(code, "mi quiet"))


@pytest.mark.parametrize("code", sorted(FINDERS))
@pytest.mark.parametrize("where", ["above", "behind", "around"])
def test_a_reason_silences_it_in_place(code: str, where: str) -> None:
    text = example(code, "mi lint")
    at = next(d for d in said(text) if d.code == code).span
    line = at.source.line_col(at.start)[0] - 1
    lines = text.splitlines()
    if where == "around":
        while not re.match(r"experiment|model|data|basis|decomposition", lines[line]):
            line -= 1
    comment = f"## allow({code}): the reason"
    if where == "behind":
        lines[line] += "  " + comment
    else:
        lines.insert(line, comment)
    quiet = codes("\n".join(lines) + "\n")
    assert code not in quiet and "L00" not in quiet


@pytest.mark.parametrize(
    "comment", ["allow(L12)", "allow(L12):", "allow(L99): no such", "allow(L03): not at this place"]
)
def test_an_allow_that_does_nothing_is_told(comment: str) -> None:
    text = f"language mi 1\n## {comment}\nlet unused = 1\nexperiment e {{ report one = 1 }}\n"
    assert {"L00", "L12"} == codes(text)


def test_an_allow_speaks_for_its_statement_alone() -> None:
    text = "language mi 1\n## allow(L12): later\nlet a = 1\nlet b = 2\nexperiment e { report one = 1 }\n"
    assert [d.span.text for d in said(text)] == ["b"]


def test_an_allow_in_a_string_is_a_string() -> None:
    assert codes('language mi 1\nexperiment e { expect true, "## allow(L12): x" }\n') == set()


def test_checking_warns_and_is_not_refused() -> None:
    bag = check_text("language mi 1\nlet unused = 1\nexperiment e { report one = 1.0 }\n")
    assert [d.code for d in bag] == ["L12"] and not bag.errors


def test_errors_come_without_lints() -> None:
    """A broken spec has one thing to say at a time."""
    bag = check_text("language mi 1\nlet unused = 1\nexperiment e { report one = nothing }\n")
    assert [d.code for d in bag] == ["MI0201"]


@pytest.mark.parametrize("path", sorted(resource_dir("examples").rglob("*.mi")), ids=lambda p: p.stem)
def test_our_examples_have_nothing_to_be_told(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    found = codes(text)
    if found == {"L00"}:  # what it allows may be in functions that it calls: these are known to `check`
        found = {
            d.code for d in check_source(SourceFile(path.name, text), FileFacts()).bag if d.code in LINTS
        }
    assert not found


@pytest.mark.parametrize("path", sorted(resource_dir("stdlib").rglob("*.mi")), ids=lambda p: p.stem)
def test_a_library_is_not_asked_who_uses_it(path: Path) -> None:
    assert not codes(path.read_text(encoding="utf-8"))


CALLS = """language mi 1
import std.models as models
import std.edits as edits
from std.edits import zero, patch
from std.tasks import induction
from std.metrics import logit
model m = models.toy(layers: 1, heads: 2, d_model: 8, vocab: 16, ctx: 16)
data  d = induction(m.tokenizer, n: 4, period: 4)
site  x = m.blocks[0].resid_post
fn push(at: Site, dose: Float) -> Edits = edits.steer(at, along: edits.random_direction(x), dose: dose)
experiment e {
  sweep a in [1.0, DOSE]
  let base = run m on d.clean
  let left = run m on d.clean do zero(x)
  let sure = run m on d.clean do OTHER
  let far  = run m on d.clean do { push(m.blocks[0].resid_pre, dose: a) }
  report one = mean(logit(.answer)(far) - logit(.answer)(base), over: batch)
  report two = mean(logit(.answer)(left) - logit(.answer)(sure), over: batch)
  expect mean(logit(.answer)(base), over: batch) < 100, "the task is done"
}
"""


@pytest.mark.parametrize(
    ("dose", "other", "wanted"),
    [
        ("2.0", "zero(x)", {"L03", "L10"}),
        ("0.0", "zero(x)", {"L10"}),
        ("2.0", "patch(x, from: base)", {"L03"}),
        ("0.0", "edits.mean_of(x, of: base)", set()),
    ],
)
def test_what_a_function_edits_is_seen(dose: str, other: str, wanted: set[str]) -> None:
    text = CALLS.replace("DOSE", dose).replace("OTHER", other)
    found = check_text(text).items
    assert {d.code for d in found} == wanted
    assert all(d.span.source.name == "spec.mi" for d in found), "told where it is called"


@pytest.mark.parametrize(
    "guess",
    [
        "attribution.gradient_times_value(logit(.answer), r, at: z, over: [batch, pos, d_head])",
        "attribution.integrated_gradients(logit(.answer), m, on: d.clean, from: r, to: r, at: z, "
        "over: [batch, pos, d_head])",
    ],
)
def test_a_gradient_inside_a_function_is_seen_however_deep(guess: str) -> None:
    text = """language mi 1
import std.models as models
import std.attribution as attribution
from std.tasks import induction
from std.metrics import logit
model m = models.toy(layers: 1, heads: 2, d_model: 8, vocab: 16, ctx: 16)
data  d = induction(m.tokenizer, n: 4, period: 4)
experiment e {
  let r  = run m on d.clean
  site z = m.blocks[0].attn.z
  report guess = GUESS
}
"""
    assert {d.code for d in check_text(text.replace("GUESS", guess)).items} == {"L11"}


def test_a_function_that_patches_checks_an_estimate() -> None:
    text = """language mi 1
import std.models as models
import std.attribution as attribution
from std.tasks import induction
from std.metrics import logit
model m = models.toy(layers: 1, heads: 2, d_model: 8, vocab: 16, ctx: 16)
data  d = induction(m.tokenizer, n: 4, period: 4)
fn halved(on: Data) -> Run = run m on on do { m.blocks[0].attn.z := 0.5 * self }
fn lost(on: Data) -> Float = mean(logit(.answer)(halved(on)), over: batch)
experiment e {
  let r  = run m on d.clean
  site z = m.blocks[0].attn.z
  report guess = attribution.gradient_times_value(logit(.answer), r, at: z, over: [batch, pos, d_head])
  report other = OTHER
}
"""
    taken = "attribution.integrated_gradients(logit(.answer), m, d.clean, r, r, at: z, over: [pos, d_head])"
    assert {d.code for d in check_text(text.replace("OTHER", taken)).items} == {"L11"}, "a run for a gradient"
    assert not check_text(text.replace("OTHER", "lost(d.clean)")).items
