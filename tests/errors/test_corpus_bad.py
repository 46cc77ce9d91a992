"""Each program of `corpus_bad/` is refused, in exactly the words of its `.expected` file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from midsl.diagnostics.model import Bag, MiError
from midsl.diagnostics.render import render_text
from midsl.sema.check import check_text
from midsl.sema.filefacts import FileFacts
from midsl.source import SourceFile
from midsl.syntax.parse import parse
from tests.conftest import Golden

CORPUS = Path(__file__).parents[1] / "corpus_bad"
SYNTAX = sorted(CORPUS.glob("01_*/*.mi"))
BOUND = sorted(CORPUS.glob("05_bind/*.mi"))
MEMORY = sorted(CORPUS.glob("06_memory/*.mi"))
CHECKED = sorted(p for p in CORPUS.glob("*/*.mi") if p not in [*SYNTAX, *BOUND, *MEMORY])


def said(bag: Bag) -> str:
    # Digests of data and models stand in some messages; they change with versions, the words do not.
    return re.sub(r"\b[0-9a-f]{8}\b", "########", render_text(bag))


def case(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.mark.parametrize("path", SYNTAX, ids=case)
def test_syntax(path: Path, golden: Golden) -> None:
    bag = Bag()
    parse(SourceFile(path.name, path.read_text(encoding="utf-8")), bag)
    assert bag.errors and all(d.code.startswith("MI01") for d in bag)
    assert all(d.label and d.help for d in bag), "each says what was found and how to mend it"
    golden(path.with_suffix(".expected"), said(bag))


@pytest.mark.parametrize("path", CHECKED, ids=case)
def test_checks(path: Path, golden: Golden, facts: FileFacts) -> None:
    bag = check_text(path.read_text(encoding="utf-8"), path.name, facts)
    assert bag.errors
    family = "MI" + path.parent.name[:2]
    assert any(d.code.startswith(family) for d in bag.errors), "an error of the folder's family"
    assert all(d.help for d in bag.errors), "each says what to write instead"
    golden(path.with_suffix(".expected"), said(bag))


@pytest.mark.parametrize("path", BOUND, ids=case)
def test_binds(path: Path, golden: Golden, model_files: Path) -> None:
    """Refused when models and data are bound, before anything runs."""
    from midsl.plan.driver import compile_spec
    from midsl.plan.explain import explain

    spec = model_files / path.name
    spec.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(MiError) as caught:
        explain(compile_spec(spec))
    assert caught.value.exit_code == 2
    assert all(d.help for d in caught.value.diagnostics)
    text = said(Bag(list(caught.value.diagnostics)))
    golden(path.with_suffix(".expected"), text.replace(str(model_files), "."))


@pytest.mark.parametrize("path", MEMORY, ids=case)
def test_does_not_fit(path: Path, golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused with exit code 4 and what would fit; sizes depend on the graph that torch exports."""
    from midsl.plan.driver import compile_spec
    from midsl.plan.explain import explain

    free = {"one_row_is_too_much": 4e3, "too_much_to_keep": 3e5, "a_gradient_over_all_rows": 1e6}
    monkeypatch.setenv("MIDSL_MEMORY", str(free[path.stem]))
    with pytest.raises(MiError) as caught:
        explain(compile_spec(path))
    assert caught.value.exit_code == 4
    text = said(Bag(list(caught.value.diagnostics))).replace(str(path), path.name)
    golden(path.with_suffix(".expected"), re.sub(r"\d[\d.]*( [kMG]?B)?", "#", text))


def test_each_expectation_has_a_program() -> None:
    programs = {p.with_suffix("") for p in CORPUS.glob("*/*.mi")}
    assert {p.with_suffix("") for p in CORPUS.glob("*/*.expected")} == programs
    assert {p.suffix for p in CORPUS.glob("*/*")} == {".mi", ".expected"}
