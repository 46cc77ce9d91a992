"""Examples of papers: their claims hold, some of their numbers are pinned, their question is answered in SQL.

And each fails once its method is broken in one place. Those that fit are in `test_fitted_papers`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.examples.common import EXAMPLES, ROOT, ask, midsl
from tests.examples.test_fitted_papers import PAPERS as FITTED
from tests.examples.test_specs import changed

DATA = ROOT.parent / "shared" / "data"


@dataclass(frozen=True)
class Paper:
    """What is known of an example.

    broken: what of its text is replaced, and by what, so that the method does not do what it should.
    golden: queries that give one number, and the number.
    tol: how far these may be off.
    given: parameters that are files of the data folder; without them it is skipped.
    seconds: how long a cold run takes; what takes more than 15 is slow.
    part: arguments that run a part of it in seconds, with the golden numbers and what a break fails.
    seeds: further values of a parameter for which all of it holds.
    """

    broken: tuple[str, str]
    golden: dict[str, float] = field(default_factory=dict)
    tol: float = 1e-6
    given: dict[str, str] = field(default_factory=dict)
    seconds: int = 10
    part: tuple[str, ...] = ()
    seeds: tuple[str, tuple[int, ...]] = ("seed", ())

    @property
    def marks(self) -> list[pytest.MarkDecorator]:
        return [pytest.mark.slow] if self.seconds > 15 else []


PAPERS = {
    "08_degeneracy": Paper(
        broken=("in3 * 3.0 - trade", "in3 * 3.0"),
        golden={
            "SELECT value FROM counts.rank WHERE kind = 'generic' AND seed = 20": 72.0,
            "SELECT value FROM counts.bound WHERE kind = 'generic' AND seed = 20": 72.0,
            "SELECT value FROM counts.rank WHERE kind = 'on' AND seed = 21": 49.0,
            "SELECT value FROM counts.bound WHERE kind = 'dead' AND seed = 21": 32.0,
        },
        seconds=4,
    ),
    "09_contextual_decomposition": Paper(
        broken=("answer, how, keep: 1, rounds: 2", "answer, how, keep: 1, rounds: 1"),
        golden={
            "SELECT value FROM sort.direct_auc": 0.75,
            "SELECT value FROM sort.iterated_auc": 1.0,
            "SELECT max(value) FROM sort.direct WHERE layer < 2": 0.0,
        },
        seconds=30,
        part=("--select", "sort", "-p", "n=16"),
        seeds=("seed", (21, 22)),
    ),
    "14_observable_propagation": Paper(
        broken=("observable(t, plus, minus), t.ln", "observable(t, 7, 8), t.ln"),
        golden={
            "SELECT value FROM heads.correlation WHERE s = 0": 1.0,
            "SELECT value FROM heads.correlation WHERE s = 2": 0.998,
            "SELECT value FROM heads.predicted WHERE s = 0 AND h = 3": 3.36,
        },
        tol=0.02,
        seconds=16,
        part=("--select", "heads"),
    ),
    "16_responsiveness": Paper(
        broken=("sum(max(where(one.there", "sum(min(where(one.there"),
        golden={
            "SELECT value FROM audit.denied_share WHERE seed = 20": 0.542,
            "SELECT value FROM audit.only_dead WHERE seed = 20 AND explain = 'shap'": 0.5590405904,
            "SELECT value FROM recourse.only_jointly WHERE seed = 22": 0.4560143627,
        },
    ),
    "16_responsiveness_german": Paper(
        broken=("count(given and not (mu > 0)", "count(given and not (mu > 0.5)"),
        golden={
            'SELECT value FROM audit.accuracy WHERE "first" = 0': 0.777,
            "SELECT value FROM audit.only_dead WHERE \"first\" = 0 AND explain = 'shap'": 0.0697674419,
        },
        given={"table": "tabular_german_credit/german_data.csv"},
    ),
    "17_physics_steering": Paper(
        broken=("delta = high - low", "delta = high + low"),
        golden={
            "SELECT value FROM steer.first": 1.0,
            "SELECT value FROM steer.grows": 8.02,
            "SELECT value FROM learned.kept": 0.0,
        },
        tol=0.05,
        seconds=13,
        seeds=("seed", (1, 2)),
    ),
    "18_fis_cloud": Paper(
        broken=("t.y, 0, up, share * eps)", "t.y, 0, up, eps)"),
        golden={
            'SELECT min(value) FROM known.score WHERE seed = 0 AND "first" = 1.0': -2.0,
            'SELECT min(value) FROM known.score WHERE seed = 0 AND "first" = 0.8': -1.92,
            "SELECT avg(value) FROM cloud.width": 0.46,
        },
        tol=0.03,
        seconds=26,
    ),
    "18_fis_cloud_compas": Paper(
        broken=("masked(chance(m), mask), x, p", "masked(chance(m), maximum(mask, 0.0)), x, p"),
        golden={
            "SELECT value FROM sums.expected WHERE i = 22 AND j = 24": 0.1021,
            "SELECT value FROM cloud.accuracy": 0.6734,
            "SELECT max(value) FROM cloud.changing": 6.0,
        },
        tol=1e-3,
        given={"table": "tabular_compas/compas.csv"},
        seconds=40,
        seeds=("fold", (1, 2)),
    ),
    "32_right_mediator": Paper(
        broken=("do { part := one }", "do { part := self }"),
        golden={
            "SELECT min(value) FROM and_gate.noising": 1.0,
            "SELECT max(value) FROM and_gate.denoising": 0.0,
            "SELECT max(value) FROM or_gate.noising": 0.0,
            "SELECT min(value) FROM or_gate.denoising": 1.0,
        },
        seconds=20,
        part=("--select", "and_gate", "--select", "or_gate"),
        seeds=("seed", (21, 22)),
    ),
    "33_geometric_stability": Paper(
        broken=("x - leading[component: out - 1]", "x - 0.0 * leading[component: out - 1]"),
        golden={
            "SELECT value FROM spectrum.similarity WHERE seed = 320 AND out = 1": 0.2732,
            "SELECT value FROM spectrum.stability WHERE seed = 320 AND out = 1": 0.9554,
            "SELECT value FROM spectrum.stability WHERE seed = 322 AND out = 20": 0.5529,
            "SELECT value FROM rotated.after WHERE seed = 0": 0.7847,
        },
        tol=1e-3,
    ),
    "33_population": Paper(
        broken=("supervised_alignment(e, ask.kind)", "supervised_alignment(e, shuffle(ask.kind, seed: 9))"),
        golden={
            "SELECT value FROM population.rho_steering WHERE s = 0": 0.953,
            "SELECT value FROM population.rho_random WHERE s = 0": -0.43,
            "SELECT value FROM population.rho_early WHERE s = 0": 0.893,
        },
        tol=0.1,
        seconds=28,
    ),
    "45_geospatial": Paper(
        broken=("moran(ask.east, ask.north, here,", "moran(ask.east, ask.north, shuffle(here, seed: 9),"),
        golden={
            "SELECT avg(value) FROM layers.share WHERE layer = 2": 1.0,
            "SELECT max(value) FROM layers.share_untrained": 0.0,
            "SELECT avg(value) FROM layers.most WHERE layer = 2": 0.88,
        },
        tol=0.05,
        seconds=75,
    ),
    "46_nonlinear_dilemma": Paper(
        broken=("split: 16)", "split: 32)"),
        golden={
            "SELECT avg(value) FROM trained.iia_bent": 0.998,
            "SELECT avg(value) FROM trained.iia_straight": 0.508,
            "SELECT avg(value) FROM untrained.bent_on_pool": 1.0,
            "SELECT avg(value) FROM untrained.bent_on_others": 0.487,
        },
        tol=0.03,
        seconds=165,
    ),
}


def run(spec: Path, paper: Paper, store: Path, *more: str) -> int:
    """Run an example on what it is given; skip where that is not on this machine."""
    files = {k: DATA / v for k, v in paper.given.items()}
    if not all(f.exists() for f in files.values()):
        pytest.skip("its data is not on this machine")
    given = [x for k, f in files.items() for x in ("-p", f"{k}={f}")]
    done = midsl("run", spec, *given, *more, "--store", store)
    assert done.exit_code in (0, 3), done.output
    return done.exit_code


def each() -> list[object]:
    return [pytest.param(n, id=n, marks=p.marks) for n, p in PAPERS.items()]


@pytest.mark.parametrize("name", each())
def test_its_claims_and_numbers_hold(name: str, tmp_path: Path) -> None:
    spec, store = EXAMPLES / f"{name}.mi", tmp_path / "store"
    assert run(spec, PAPERS[name], store) == 0
    for query, value in PAPERS[name].golden.items():
        assert [list(r.values()) for r in ask(store, query)] == [[pytest.approx(value, abs=PAPERS[name].tol)]]
    (line,) = [x for x in spec.read_text(encoding="utf-8").splitlines() if x.startswith("## SQL: ")]
    assert ask(store, line.removeprefix("## SQL: ")), "the question of the paper has an answer"


@pytest.mark.parametrize("name", each())
def test_it_fails_once_its_method_is_broken(name: str, tmp_path: Path) -> None:
    spec = changed(EXAMPLES / f"{name}.mi", tmp_path, *PAPERS[name].broken)
    assert run(spec, PAPERS[name], tmp_path / "store", *PAPERS[name].part) == 3


@pytest.mark.parametrize("name", [n for n, p in PAPERS.items() if p.part])
def test_a_part_of_it_has_its_numbers(name: str, tmp_path: Path) -> None:
    paper, store = PAPERS[name], tmp_path / "store"
    assert run(EXAMPLES / f"{name}.mi", paper, store, *paper.part) == 0
    for query, value in paper.golden.items():
        assert [list(r.values()) for r in ask(store, query)] == [[pytest.approx(value, abs=paper.tol)]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "param", "value"), [(n, p.seeds[0], v) for n, p in PAPERS.items() for v in p.seeds[1]]
)
def test_it_holds_on_each_seed(name: str, param: str, value: int, tmp_path: Path) -> None:
    assert run(EXAMPLES / f"{name}.mi", PAPERS[name], tmp_path / "store", "-p", f"{param}={value}") == 0


@pytest.mark.slow
def test_towns_that_are_there_are_a_map_too(tmp_path: Path) -> None:
    paper = Paper(broken=("", ""), given={"places": "world_places/world_place.csv"})
    assert run(EXAMPLES / "45_geospatial.mi", paper, tmp_path / "store", "-p", "country=Italy") == 0
    query = "SELECT min(value) AS value FROM layers.share WHERE layer = 2"
    assert ask(tmp_path / "store", query) == [{"value": 1.0}]


@pytest.mark.slow
@pytest.mark.parametrize("name", PAPERS)
def test_it_means_what_the_oracle_says(name: str, tmp_path: Path) -> None:
    paper = PAPERS[name]
    if not all((DATA / v).exists() for v in paper.given.values()):
        pytest.skip("its data is not on this machine")
    given = [x for k, v in paper.given.items() for x in ("-p", f"{k}={DATA / v}")]
    done = midsl("verify", EXAMPLES / f"{name}.mi", *given, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["agrees"]


def test_each_has_a_figure_and_a_question_for_sql() -> None:
    papers = sorted(EXAMPLES.glob("[0-9]*_*.mi"))
    elsewhere = {"01_interaction_basis", "41_attention_sae_stories"}
    assert {p.stem for p in papers} == {*PAPERS, *FITTED, *elsewhere}
    for path in papers:
        text = path.read_text(encoding="utf-8")
        assert text.count("\n## SQL: SELECT ") == 1, path.name
        assert "\n  plot " in text, path.name
