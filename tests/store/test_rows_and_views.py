"""What goes in comes out: names, types, NULLs, and which run a view shows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from midsl.diagnostics.model import MiError
from midsl.store.db import Store
from midsl.store.rows import Artifact, Key, ResultTable
from midsl.store.views import view_name
from tests.store.samples import Ran, record, table


def code(error: pytest.ExceptionInfo[MiError]) -> str:
    return error.value.diagnostics[0].code


def test_a_report_is_a_view_with_its_keys_in_order_and_typed(store: Store, ran: Ran) -> None:
    keys: dict[str, list[Key]] = {
        "head": [1, 0],
        "part": ["full", None],
        "dose": [0.5, 1.0],
        "flag": [True, False],
    }
    ran(table(keys=keys, value=[2.5, math.nan]))
    answer = store.query("SELECT * FROM patching.effect")
    assert answer.columns == ["head", "part", "dose", "flag", "value", "n", "se"]
    assert answer.types == ["BIGINT", "VARCHAR", "DOUBLE", "BOOLEAN", "DOUBLE", "BIGINT", "DOUBLE"]
    assert answer.rows == [(1, "full", 0.5, True, 2.5, 7, None), (0, None, 1.0, False, None, 7, None)]


def test_columns_of_a_table_stand_side_by_side(store: Store, ran: Ran) -> None:
    """Whatever order their rows and keys came in; and each is still there with its n and se."""
    keys: dict[str, list[Key]] = {"layer": [2, 0, 1], "part": ["b", None, "a"]}
    turned: dict[str, list[Key]] = {"part": ["a", "b", None], "layer": [1, 2, 0]}
    ran(
        table(report="quality.l0", keys=keys, value=[1.0, 2.0, math.nan]),
        table(report="quality.order", keys=turned, value=[30.0, 10.0, 20.0]),
        table(report="effect", value=[1.0] * 4),
        table(report="whole.x", keys={}, value=[0.5]),
    )
    answer = store.query("SELECT * FROM patching.quality")
    assert answer.columns == ["layer", "part", "l0", "order"]
    assert answer.rows == [(2, "b", 1.0, 10.0), (0, None, 2.0, 20.0), (1, "a", None, 30.0)]
    assert store.query('SELECT * FROM patching."quality.order"').columns[-3:] == ["value", "n", "se"]
    assert store.query("SELECT * FROM patching.whole").rows == [(0.5,)]


def test_rows_keep_the_order_they_came_in(store: Store, ran: Ran) -> None:
    order = np.random.default_rng(0).permutation(5000).tolist()
    ran(table(keys={"layer": order}))
    assert [row[0] for row in store.query("SELECT layer FROM patching.effect").rows] == order


@pytest.mark.parametrize(
    ("values", "of"),
    [
        ([1, 2], "BIGINT"),
        ([np.int64(3), None], "BIGINT"),
        ([1, 0.5], "DOUBLE"),
        ([np.float64(0.5)], "DOUBLE"),
        ([True, None], "BOOLEAN"),
        (["a"], "VARCHAR"),
        ([1, "subject"], "VARCHAR"),
        ([True, 1], "VARCHAR"),
        ([None, None], "VARCHAR"),
    ],
)
def test_any_key_type_under_any_name(store: Store, ran: Ran, values: list[Key], of: str) -> None:
    """A key whose values do not fit the axis column of its name is kept all the same."""
    names = ["pos", "dose", "site", "order", "anything else"]
    ran(table(keys=dict.fromkeys(names, values)))
    answer = store.query("SELECT * FROM patching.effect")
    if values == [None, None]:
        assert answer.types[:5] == ["BIGINT", "DOUBLE", "VARCHAR", "VARCHAR", "VARCHAR"]
    else:
        assert answer.types[:5] == [of] * 5
    expected = [None if v is None else str(v) if of == "VARCHAR" else v for v in values]
    assert [row[:5] for row in answer.rows] == [(v,) * 5 for v in expected]


def test_names_that_sql_reserves_or_that_need_quotes(store: Store, ran: Ran) -> None:
    names = [
        "order",
        "group",
        "end",
        "at",
        "check",
        'a"b',
        "a.b",
        "it's",
        "extra",
        "experiment",
        "run_id",
        "Layer",
    ]
    keys = {name: [i] for i, name in enumerate(names)}
    ran(table("select", 'it"s', keys=keys))
    answer = store.query("FROM " + view_name("quickstart", "select", 'it"s'))
    assert answer.columns == [*names, "value", "n", "se"]
    assert answer.rows == [(*range(len(names)), 0.0, 7, None)]


@pytest.mark.parametrize(
    "experiment", ["main", "temp", "results", "information_schema", "pg_catalog", "Memory", "system"]
)
def test_an_experiment_called_like_one_of_duckdbs_own_schemas(
    store: Store, ran: Ran, experiment: str
) -> None:
    ran(table(experiment, "runs"))
    name = view_name("quickstart", experiment, "runs")
    assert name == f'"quickstart/{experiment}".runs'
    assert len(store.query(f"FROM {name}").rows) == 4
    assert len(store.query("FROM runs").rows) == 1


def test_infinite_values_and_empty_reports(store: Store, ran: Ran) -> None:
    ran(
        table(keys={"layer": [0, 1]}, value=[math.inf, -math.inf]),
        table(report="none", keys={"layer": []}, value=[]),
    )
    assert store.query("SELECT value FROM patching.effect").rows == [(math.inf,), (-math.inf,)]
    assert store.query("FROM patching.none").rows == []


def test_the_view_shows_the_latest_completed_run(store: Store, ran: Ran) -> None:
    def shown() -> float:
        store.import_runs()
        return float(store.query("SELECT value FROM patching.effect").rows[0][0])

    scalar: dict[str, list[Key]] = {}
    for status, value, expected in [
        ("done", 1, 1),
        ("failed", 2, 1),
        ("interrupted", 3, 1),
        ("failed_checks", 4, 4),
        ("partial", 5, 5),
    ]:
        ran(table(keys=scalar, value=[value]), status=status)
        assert shown() == expected
    assert store.query("SELECT value FROM results ORDER BY value").rows == [(1.0,), (4.0,), (5.0,)]
    assert store.query("SELECT value FROM latest_results").rows == [(5.0,)]
    assert len(store.query("FROM measurements").rows) == 5


def test_a_run_without_the_experiment_leaves_its_view_alone(store: Store, ran: Ran) -> None:
    ran(table("a"), table("b"))
    ran(table("b", value=[9, 9, 9, 9]))
    assert len(store.query("FROM a.effect").rows) == 4
    assert store.query("SELECT DISTINCT value FROM b.effect").rows == [(9.0,)]


def test_a_report_that_the_latest_run_no_longer_has_is_not_mixed_in(store: Store, ran: Ran) -> None:
    ran(table("a", "old"), table("a", "effect"))
    ran(table("a", "effect"))
    with pytest.raises(MiError):
        store.query("FROM a.old")
    assert len(store.query("SELECT * FROM results WHERE report = 'old'").rows) == 4


def test_two_specs_with_an_experiment_of_one_name(store: Store, ran: Ran) -> None:
    ran(table("a", value=[1] * 4), spec="one")
    ran(table("a", "effect", value=[2] * 4), table("a", "more"), spec="two")
    ran(table("a", value=[3] * 4), spec="one")
    first = {s: store.query(f'SELECT value FROM "{s}".effect').rows[0][0] for s in ("a", "one/a", "two/a")}
    assert first == {"a": 3.0, "one/a": 3.0, "two/a": 2.0}
    assert store.query(
        "SELECT spec, value FROM latest_results WHERE report = 'effect' GROUP BY ALL ORDER BY ALL"
    ).rows == [
        ("one", 3.0),
        ("two", 2.0),
    ]
    with pytest.raises(MiError):  # `more` belongs to the other spec: the short schema is of one run
        store.query("FROM a.more")


@pytest.mark.parametrize("keys", [{"Value": [1]}, {"n": [1]}, {"se": [1]}, {"layer": [0], "LAYER": [1]}])
def test_columns_that_clash_are_refused(keys: dict[str, list[Key]]) -> None:
    with pytest.raises(MiError) as error:
        table(keys=keys)
    assert code(error) == "MI0313"


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(MiError) as error:
        ResultTable("a", "b", {"layer": [1, 2]}, np.zeros(1), np.ones(1, int), np.zeros(1))
    assert code(error) == "MI0901"


def test_reports_that_clash_are_refused_and_nothing_is_staged(store: Store, ran: Ran) -> None:
    with pytest.raises(MiError) as error:
        ran(table("a", "effect"), table("A", "Effect"))
    assert code(error) == "MI0313"
    store.import_runs()
    assert store.query("FROM measurements").rows == []


def test_an_artifact_has_one_content() -> None:
    with pytest.raises(MiError):
        Artifact("plot", "x")


def test_stages_and_reports_of_one_run_have_axes_of_their_own(store: Store) -> None:
    writer = store.begin(record())
    writer.stage("a", [table("a", "x", {"layer": [0, 1]}), table("a", "y", {"pos": [5], "alpha": [0.5]})])
    writer.stage("b", [table("b", "z", {"dose": [0.25]}), table("b", "none", {"feature": [], "odd": []})])
    writer.finish("done", 0)
    assert store.import_runs() == 1
    assert store.query(
        "SELECT layer, pos, dose, feature, extra.alpha::DOUBLE, value FROM measurements "
        "ORDER BY dose NULLS FIRST, pos NULLS FIRST, layer"
    ).rows == [
        (0, None, None, None, None, 0.0),
        (1, None, None, None, None, 1.0),
        (None, 5, None, None, 0.5, 0.0),
        (None, None, 0.25, None, None, 0.0),
    ]
    assert store.query("FROM b.none").columns == ["feature", "odd", "value", "n", "se"]
