"""Every example as `catalog` has it: claims, numbers, SQL, seeds, and a broken method that fails."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.examples.catalog import CATALOG, ELSEWHERE
from tests.examples.common import EXAMPLES, ROOT, ask, changed, midsl
from tests.examples.papers import PAPERS, Break, Example

Given = Callable[[str], list[str]]
Ran = Callable[[str, bool], Path]


def spec_of(name: str) -> Path:
    return EXAMPLES / f"{name}.mi"


def question(name: str) -> str:
    """The query with which an example's docs end."""
    (found,) = re.findall(r"^## SQL: (SELECT .*)$", spec_of(name).read_text(encoding="utf-8"), re.M)
    return str(found)


@pytest.fixture(scope="session")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    """The files that an example is given, as options; what must be written is written once."""

    @cache
    def options(name: str) -> list[str]:
        files = CATALOG[name].given(tmp_path_factory.mktemp("given"))
        return [x for k, f in files.items() for x in ("-p", f"{k}={f}")]

    return options


@pytest.fixture(scope="session")
def ran(given: Given, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Where the results of an example are, or of its part, which runs once and whose claims hold."""

    @cache
    def run(name: str, part: bool) -> Path:
        store = tmp_path_factory.mktemp("store")
        args = CATALOG[name].part if part else ()
        done = midsl("run", spec_of(name), *given(name), *args, "--store", store)
        assert done.exit_code == 0, done.output
        return store

    return run


def case(name: str, *more: object, slow: bool) -> Any:
    marks = [pytest.mark.slow] if slow else []
    return pytest.param(name, *more, id="-".join(str(x) for x in (name, *more) if x != ""), marks=marks)


WHOLE = [case(n, slow=not e.fast) for n, e in CATALOG.items()]
PARTS = [case(n, slow=False) for n, e in CATALOG.items() if e.part]
BREAKS = [
    case(n, i or "", slow=not (e.fast or e.part)) for n, e in CATALOG.items() for i in range(1 + len(e.also))
]
OTHER_SEEDS = [
    case(n, e.seeds.name, v, slow=True)
    for n, e in CATALOG.items()
    if e.seeds and not e.seeds.table
    for v in e.seeds.values[1:]
]


def has_its_numbers(example: Example, store: Path) -> None:
    for query, value in example.golden.items():
        found = [next(iter(r.values())) for r in ask(store, query)]
        wanted = [value] if isinstance(value, float) else value
        if isinstance(wanted, list) and not isinstance(wanted[0], str):
            wanted = pytest.approx(wanted, rel=example.rel, abs=example.abs)
        assert found == wanted, query


@pytest.mark.parametrize("name", WHOLE)
def test_its_claims_and_numbers_hold(name: str, ran: Ran) -> None:
    has_its_numbers(CATALOG[name], ran(name, False))


@pytest.mark.parametrize("name", PARTS)
def test_those_of_a_part_hold(name: str, ran: Ran) -> None:
    has_its_numbers(CATALOG[name], ran(name, True))


@pytest.mark.parametrize("name", [c for c in WHOLE if c.values[0] in PAPERS])
def test_its_question_is_answered(name: str, ran: Ran) -> None:
    assert ask(ran(name, False), question(name))


@pytest.mark.parametrize(("name", "number"), BREAKS)
def test_a_broken_method_fails_its_claims(name: str, number: int, given: Given, tmp_path: Path) -> None:
    example = CATALOG[name]
    broken: Break = (example.broken, *example.also)[int(number or 0)]
    spec = changed(spec_of(name), tmp_path, broken.old, broken.new)
    only = ("--select", broken.only) if broken.only else ()
    done = midsl("run", spec, *given(name), *example.part, *only, "--store", tmp_path / "store")
    assert done.exit_code == 3, done.output
    for claim in broken.fails:
        assert f"✗ expect {claim}" in done.output


@pytest.mark.parametrize(("name", "param", "value"), OTHER_SEEDS)
def test_its_claims_hold_on_each_seed(
    name: str, param: str, value: int, given: Given, tmp_path: Path
) -> None:
    done = midsl("run", spec_of(name), *given(name), "-p", f"{param}={value}", "--store", tmp_path)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("name", [c for c in WHOLE if (s := CATALOG[c.values[0]].seeds) and s.table])
def test_it_has_three_seeds_of_its_own(name: str, ran: Ran) -> None:
    seeds = CATALOG[name].seeds
    assert seeds is not None
    query = f'SELECT DISTINCT "{seeds.name}" AS seed FROM {seeds.table} ORDER BY seed'
    assert tuple(r["seed"] for r in ask(ran(name, False), query)) == seeds.values


@pytest.mark.slow
@pytest.mark.parametrize("name", PAPERS)
def test_it_agrees_with_the_oracle(name: str, given: Given) -> None:
    done = midsl("verify", spec_of(name), *given(name), "--json")
    assert done.exit_code == 0, done.output
    verdict = json.loads(done.output)
    assert verdict["agrees"] and verdict["worst"] <= 1e-9


def test_every_example_is_here() -> None:
    found = {str(p.relative_to(EXAMPLES).with_suffix("")) for p in EXAMPLES.rglob("*.mi")}
    assert found == {*CATALOG, *ELSEWHERE}
    assert all((ROOT / test).exists() for test in ELSEWHERE.values())


def test_each_paper_has_seeds_numbers_a_figure_and_a_question() -> None:
    assert {p.stem for p in EXAMPLES.glob("[0-9]*_*.mi")} == set(PAPERS)
    for name, paper in PAPERS.items():
        assert paper.seeds or name == "01_interaction_basis", "its model is published for one seed"
        assert paper.golden and question(name), name
        assert "\n  plot " in spec_of(name).read_text(encoding="utf-8"), name
    assert sum(p.fast for p in PAPERS.values()) >= 6, "whole in CI proper"
    assert sum(p.fast or bool(p.part) for p in PAPERS.values()) >= 10


@pytest.mark.slow
def test_towns_that_are_there_are_a_map_too(tmp_path: Path) -> None:
    from tests.examples.given import files

    places = files(places="world_places/world_place.csv")["places"]
    args = ("-p", f"places={places}", "-p", "country=Italy", "--store", tmp_path)
    done = midsl("run", spec_of("45_geospatial"), *args)
    assert done.exit_code == 0, done.output
    query = "SELECT min(value) AS value FROM layers.share WHERE layer = 2"
    assert ask(tmp_path, query) == [{"value": 1.0}]
