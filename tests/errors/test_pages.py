"""The pages of the catalogue: one a code, in one shape, and their examples do what they say."""

from __future__ import annotations

import re

import pytest

from midsl.diagnostics.codes import CODES, LINTS
from midsl.resources import resource_dir
from midsl.sema.check import check_text
from midsl.sema.filefacts import FileFacts

PAGES = resource_dir("grammar") / "errors"
FENCE = re.compile(r"^```(.*?)\n(.*?)^```$", re.M | re.S)
HEADINGS = ["What it means", "Why it is refused", "Example", "How to mend it"]


def fences(code: str) -> list[tuple[str, str]]:
    return FENCE.findall((PAGES / f"{code}.md").read_text(encoding="utf-8"))


EXAMPLES = [
    (code, kind, text)
    for code in sorted(CODES)
    if (PAGES / f"{code}.md").exists()
    for kind, text in fences(code)
    if kind in ("mi check", "mi ok")
]


def test_each_code_has_a_page_and_each_page_a_code() -> None:
    assert {p.stem for p in PAGES.glob("*")} == set(CODES) | set(LINTS)
    assert all(p.suffix == ".md" for p in PAGES.glob("*"))


@pytest.mark.parametrize("code", sorted(CODES))
def test_shape_of_a_page(code: str) -> None:
    text = (PAGES / f"{code}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {code}: {CODES[code]}\n")
    sections = re.split(r"^## (.*)$", text, flags=re.M)
    assert sections[1::2] == HEADINGS
    assert all(len(body.split()) > 3 for body in sections[2::2]), "each section says something"
    kinds = [kind for kind, _ in fences(code)]
    assert kinds and set(kinds) <= {"mi check", "mi ok", "text"}
    assert kinds[0] in ("mi check", "text")


@pytest.mark.parametrize(
    ("code", "kind", "text"), EXAMPLES, ids=lambda v: v if isinstance(v, str) and len(v) < 12 else ""
)
def test_examples_do_what_they_say(code: str, kind: str, text: str, facts: FileFacts) -> None:
    """`mi check` is refused with the page's code and no other; `mi ok` is not refused."""
    bag = check_text(text, "example.mi", facts)
    assert {d.code for d in bag.errors} == ({code} if kind == "mi check" else set())


def test_most_codes_that_checking_can_give_are_shown_by_a_program() -> None:
    shown = {code for code, kind, _ in EXAMPLES if kind == "mi check"}
    assert {c for c in CODES if c[:4] in ("MI01", "MI02", "MI03", "MI04")} - shown <= {
        *("MI0209", "MI0212"),  # the command line
        "MI0317",  # rows of different lengths
        "MI0210",  # two files
        *("MI0403", "MI0404"),  # need a model that lacks the site
    }
