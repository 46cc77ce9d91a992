"""Tables, heatmaps and the end-of-run report, as text."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from midsl.diagnostics.model import MiError
from midsl.show.heatmap import print_heatmap
from midsl.show.results import PlotOf, heading, render_results, sql_command, sql_hint
from midsl.show.table import column_text, print_table
from midsl.store.rows import CheckRow, Key, ResultTable


def console(width: int = 80, colour: bool = False, encoding: str = "utf-8") -> Console:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    return Console(
        file=file,
        width=width,
        force_terminal=colour,
        color_system="truecolor" if colour else None,
        _environ={},
    )


def text_of(c: Console) -> str:
    assert isinstance(c.file, io.TextIOWrapper)
    buffer = c.file.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode(c.encoding)


def table(
    keys: Mapping[str, Sequence[Key]],
    value: Sequence[float],
    report: str = "effect",
    n: int | Sequence[int] = 7,
    se: float = float("nan"),
    unit: str = "",
    n_total: int | None = None,
) -> ResultTable:
    rows = len(value)
    ns = np.full(rows, n) if isinstance(n, int) else np.array(n)
    return ResultTable("patching", report, keys, np.array(value, float), ns, np.full(rows, se), unit, n_total)


def grid(layers: int, heads: int, seed: int = 0) -> ResultTable:
    rng = np.random.default_rng(seed)
    keys = {
        "layer": [i // heads for i in range(layers * heads)],
        "head": [i % heads for i in range(layers * heads)],
    }
    return table(keys, rng.normal(size=layers * heads).tolist(), unit="logit")


# ---------------------------------------------------------------- tables


def test_numbers_line_up_on_the_point() -> None:
    c = console()
    print_table(["name", "layer", "value"], [("a", 1, 0.5), ("bb", 20, -12.25), (None, None, None)], c)
    assert [line.rstrip() for line in text_of(c).splitlines()] == [
        "name  layer   value",
        "a         1    0.50",
        "bb       20  -12.25",
        "-         -       -",
    ]


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([1234567.0, 1.0], ["1.235e+06", "1"]),
        ([1e-9, 0.0], ["1e-09", "0"]),
        ([999.96, 0.01], ["1000.0", "0.01"]),
        ([float("inf"), 1.0], ["inf", "1.000"]),
        ([True, False], ["True", "False"]),
        ([0.0], ["0.0"]),
        ([], []),
    ],
)
def test_column_text(values: list[object], texts: list[str]) -> None:
    assert column_text(values) == texts


def test_a_long_table_says_what_is_missing() -> None:
    c = console()
    print_table(["i"], [(i,) for i in range(100)], c, limit=3, see_all='midsl sql "FROM t"')
    lines = text_of(c).splitlines()
    assert [line.strip() for line in lines] == [
        "i",
        "0",
        "1",
        "2",
        '... 97 more of 100 rows; all of them: midsl sql "FROM t"',
    ]
    c = console()
    print_table(["i"], [(i,) for i in range(100)], c, limit=None)
    assert len(text_of(c).splitlines()) == 101


def test_nothing_is_cut_in_a_pipe_and_markup_is_text() -> None:
    c = console(width=20)
    print_table(["[bold]x[/]", "y"], [("a" * 60, "[red]b"), ("line\nbreak", "c")], c)
    assert "a" * 60 in text_of(c) and "[bold]x[/]" in text_of(c) and "[red]b" in text_of(c)
    assert "line\\nbreak" in text_of(c)


# ---------------------------------------------------------------- heatmaps


def test_a_heatmap_without_colour_is_a_table_of_numbers() -> None:
    c = console()
    t = table({"layer": [1, 1, 0, 0], "head": [0, 1, 0, 1]}, [0.5, -1.25, float("nan"), -0.001])
    print_heatmap(t, c, x="head", y="layer")
    assert [line.rstrip() for line in text_of(c).splitlines()] == [
        "      head",
        "layer      0     1",
        "    0         0.00",
        "    1   0.50 -1.25",
        "largest |value|: 1.25",
    ]


def test_colours_are_symmetric_around_zero() -> None:
    c = console(colour=True)
    print_heatmap(table({"head": [0, 1, 2]}, [2.0, -2.0, 0.0]), c)
    backgrounds = re.findall(r"48;2;(\d+;\d+;\d+)m *(-?\d\.\d\d)", text_of(c))
    assert backgrounds == [("178;24;43", "2.00"), ("33;102;172", "-2.00"), ("247;247;247", "0.00")]
    assert "-2 " in text_of(c).splitlines()[-1]  # the legend names both ends


def test_no_color_is_honoured() -> None:
    c = Console(
        file=io.StringIO(),
        width=80,
        force_terminal=True,
        _environ={"NO_COLOR": "1", "TERM": "xterm-256color"},
    )
    print_heatmap(grid(2, 40), c)
    assert isinstance(c.file, io.StringIO)
    out = c.file.getvalue()
    assert "38;" not in out and "48;" not in out
    assert "digits are tenths" in out


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize("shape", [(1, 1), (4, 12), (12, 100), (3, 2000), (200, 7), (100, 1000)])
@pytest.mark.parametrize("colour", [True, False])
def test_a_heatmap_stays_in_its_width_and_height(width: int, shape: tuple[int, int], colour: bool) -> None:
    c = console(width=width, colour=colour)
    print_heatmap(grid(*shape), c, x="head")
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in text_of(c).splitlines()]
    assert max(map(len, lines[:-1])) <= width
    assert len(lines) <= 80
    if shape == (100, 1000):
        assert "a cell is the largest by size of" in lines[-1]


def test_points_taken_together_show_the_largest_by_size() -> None:
    values = np.zeros(4000)
    values[1234] = -5.0
    c = console(width=40)
    print_heatmap(table({"pos": list(range(4000))}, values.tolist()), c)
    body = [line for line in text_of(c).splitlines() if not re.match(r"\s*pos|largest", line)]
    assert sum(line.count("-9") for line in body) == 1
    assert not re.search(r"[1-8]", "".join(line[4:] for line in body if "·" in line).replace("-9", ""))


def test_other_keys_make_one_grid_each_and_a_limit_is_told() -> None:
    n = 9
    t = table({"dose": [i / 2 for i in range(n)], "layer": [0] * n, "head": [0] * n}, [1.0] * n)
    c = console()
    print_heatmap(t, c, x="head", y="layer", see_all="midsl sql ...")
    out = text_of(c)
    assert "dose = 0.5" in out and "dose = 4.0" not in out
    assert "3 more of 9 grids; all rows: midsl sql ..." in out


def test_a_heatmap_over_an_axis_that_is_not_there() -> None:
    with pytest.raises(MiError) as error:
        print_heatmap(grid(2, 2), console(), x="pos")
    assert error.value.diagnostics[0].code == "MI0205"
    with pytest.raises(MiError):
        print_heatmap(table({}, [1.0]), console())


def test_a_heatmap_in_ascii() -> None:
    c = console(width=30, encoding="ascii")
    print_heatmap(grid(3, 60), c)
    assert text_of(c).isascii() and "?" not in text_of(c)


# ---------------------------------------------------------------- the end of a run


def test_headings_say_what_was_left_out() -> None:
    assert (
        heading(table({}, [3.4123], se=0.1, unit="logit")) == "patching.effect = 3.412 ± 0.1  [logit]  n = 7"
    )
    assert heading(table({"layer": [0]}, [1.0], n_total=9)) == "patching.effect  n = 7 of 9"
    assert heading(table({"layer": [0]}, [1.0], n_total=7)) == "patching.effect  n = 7"
    assert (
        heading(table({"layer": [0, 1]}, [1.0, 2], n=[3, 7], n_total=9)) == "patching.effect  n = 3..7 of 9"
    )
    assert "no row" in heading(table({}, [float("nan")], n=0))


def test_the_end_of_a_run() -> None:
    small, big = table({"layer": [0, 1]}, [0.5, -1.5], "small", se=0.25), grid(4, 12)
    checks = [
        CheckRow("patching", "gap > 0", "it must do the task", True, "gap = 3", 4),
        CheckRow("patching", "top == 1", "one head does it", False, "top = 2", 5),
    ]
    c = console(width=100)
    plots = [PlotOf("heatmap", big, {"x": "head", "y": "layer"}), PlotOf("line", small)]
    hint = sql_hint([small, big], "quickstart")
    render_results([small, big], checks, plots, c, hint, spec="quickstart")
    out = text_of(c)
    assert re.search(r"layer +value +se\n +0 +0\.500 +0\.2500\n +1 +-1\.500 +0\.2500\n", out)
    assert "line of patching.small: Vega-Lite" in out
    assert "the 10 largest by size of 48 rows" in out and 'midsl sql "SELECT * FROM patching.effect"' in out
    top = np.argsort(-np.abs(big.value))
    first = re.search(r"layer +head +value\n +(\d+) +(\d+) ", out)
    assert first and int(first[1]) * 12 + int(first[2]) == top[0]
    assert "✓ expect gap > 0  (gap = 3)" in out and "it must do the task" not in out
    assert "✗ expect top == 1  (top = 2)\n  patching, line 5: one head does it" in out
    assert "1 of 2 expects hold" in out
    assert out.splitlines()[-1] == f"ask next: {hint}"
    assert hint == 'midsl sql "SELECT * FROM patching.small ORDER BY value DESC LIMIT 5"'


def test_a_run_in_ascii() -> None:
    c = console(encoding="ascii")
    checks = [CheckRow("e", "a", "", True, "", 1), CheckRow("e", "b", "", False, "", 2)]
    render_results([table({}, [1.0], se=0.5)], checks, [], c)
    assert text_of(c).isascii()
    assert "ok expect a" in text_of(c) and "FAILED expect b" in text_of(c) and "+- 0.5" in text_of(c)


def test_the_command_survives_a_shell() -> None:
    sql = sql_hint([ResultTable("main", "it's", {}, np.ones(1), np.ones(1, int), np.ones(1))], "a b")
    assert shlex.split(sql) == ["midsl", "sql", 'SELECT * FROM "a b/main"."it\'s"']
    command = sql_command("SELECT 1", Path("my results"))
    assert shlex.split(command) == ["midsl", "sql", "--store", "my results", "SELECT 1"]
    assert sql_hint([], "x") == ""


def test_columns_of_a_table_are_printed_side_by_side() -> None:
    keys: dict[str, list[Key]] = {"src": ["a", "b"], "dst": ["b", "c"]}
    back: dict[str, list[Key]] = {"src": ["b", "a"], "dst": ["c", "b"]}

    def column(report: str, keys: Mapping[str, Sequence[Key]], *values: float, unit: str = "") -> ResultTable:
        nan = np.full(len(values), np.nan)
        return ResultTable("e", report, keys, np.array(values), np.full(len(values), 3), nan, unit)

    tables = [
        column("g_edges.weight", keys, 0.25, -1.0, unit="logit"),
        column("alone", {}, 2.0),
        column("g_edges.rank", back, 1.0, 2.0),
    ]
    c = console()
    render_results(tables, [], [PlotOf("bar", tables[2])], c, spec="s")
    lines = [line.split() for line in text_of(c).splitlines() if line]
    assert lines[0] == ["e.g_edges", "weight", "[logit],", "rank"]
    assert lines[1:4] == [
        ["src", "dst", "weight", "rank"],
        ["a", "b", "0.250", "2.000"],
        ["b", "c", "-1.000", "1.000"],
    ]
    assert lines[4][:3] == ["bar", "of", "e.g_edges.rank:"] and lines[5][0] == "e.alone"
    assert sql_hint(tables, "s") == 'midsl sql "SELECT * FROM e.g_edges ORDER BY weight DESC LIMIT 5"'
