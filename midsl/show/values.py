"""Results as Python has them: tables for pandas and Arrow, pictures for notebooks, answers of the store."""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from midsl.diagnostics.model import Diagnostic, fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.show.results import PlotOf, render_results, render_views
from midsl.show.svg import can_draw, png, svg
from midsl.show.vega import to_json, vega
from midsl.store.db import Store
from midsl.store.rows import CheckRow, ResultTable, Viewed
from midsl.store.runs import find_run

if TYPE_CHECKING:
    import pandas
    import pyarrow
    import torch

VEGA_LITE = "application/vnd.vegalite.v5+json"


@dataclass(frozen=True)
class Answer:
    """Rows with named columns."""

    columns: list[str]
    rows: Sequence[tuple[Any, ...]]

    def df(self) -> pandas.DataFrame:
        """As a pandas data frame (MI0808 without pandas)."""
        try:
            import pandas as pd
        except ModuleNotFoundError:
            raise fail("MI0808", "data frames need pandas", help="pip install pandas") from None
        return pd.DataFrame.from_records(list(self.rows), columns=self.columns)

    def arrow(self) -> pyarrow.Table:
        """As an Arrow table (MI0808 without pyarrow)."""
        try:
            import pyarrow as pa
        except ModuleNotFoundError:
            raise fail("MI0808", "Arrow tables need pyarrow", help='pip install "midsl[export]"') from None
        columns = zip(*self.rows, strict=True) if self.rows else ([] for _ in self.columns)
        return pa.table({name: list(c) for name, c in zip(self.columns, columns, strict=True)})

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Plot:
    """A picture: a Vega-Lite specification that a notebook draws, and SVG where vl-convert is installed."""

    spec: dict[str, Any]

    def svg(self) -> str:
        """Drawn (MI0808 without vl-convert)."""
        return svg(self.spec)

    def save(self, path: Path | str) -> None:
        """Write it as ``.svg`` or ``.png``, or its specification as ``.json``.

        Raises:
            MI0808: drawing needs vl-convert.
        """
        path = Path(path)
        if path.suffix == ".png":
            path.write_bytes(png(self.spec))
        else:
            path.write_text(self.svg() if path.suffix == ".svg" else to_json(self.spec), encoding="utf-8")

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        drawn = {"image/svg+xml": self.svg()} if can_draw() else {}
        return {VEGA_LITE: self.spec, "text/plain": repr(self.spec["title"]["text"])} | drawn


@dataclass(frozen=True)
class RunOf:
    """A run by its name in the spec."""

    name: str
    look: Callable[[str], Any] = field(repr=False)

    def __getitem__(self, site: str) -> torch.Tensor:
        """A site by its name in the spec, or as the spec would write it: ``m.blocks[0].resid_post``."""
        found: torch.Tensor = self.look(f"{self.name}[{site}]")
        return found


@dataclass(frozen=True, repr=False)
class Result:
    """A run: its reports, its claims, its place in the store.

    Attributes:
        run: its id. executed: forwards, FLOPs and the other counts of what was run for it.
    """

    run: str
    store: Store
    spec: str
    tables: list[ResultTable]
    checks: list[CheckRow]
    diagnostics: list[Diagnostic] = field(default_factory=list)
    executed: dict[str, float] = field(default_factory=dict)
    views: list[Viewed] = field(default_factory=list)
    """What the spec's `view`s showed: columns and rows of each."""
    look: Callable[[str], Any] | None = None
    """Works out an expression of the spec's names: a torch tensor."""

    @property
    def passed(self) -> bool:
        """Whether all expects hold."""
        return all(c.passed for c in self.checks)

    def table(self, name: str | None = None) -> ResultTable:
        """A report: ``experiment.report``, or ``report`` if only one experiment has it; None: the only one.

        Raises:
            MI0807: there is no such report, or several.
        """
        titles = {t.title: t for t in self.tables}
        found = [t for t in self.tables if name is None or name in (t.title, t.report)]
        if len(found) == 1:
            return found[0]
        has = f"reports: {', '.join(titles)}"
        why = "which report?" if name is None else f"{len(found) or 'no'} reports are called `{name}`"
        raise fail("MI0807", why, help=did_you_mean(name or "", titles) or has)

    def __getitem__(self, name: str) -> Any:
        """A report by its name; else a run of the experiment, which gives its sites as torch tensors.

        ``result["clean"]["z"]`` is what the spec calls ``clean[z]``: the sweeps' axes first, then its own.
        """
        if (
            self.look is None
            or any(name in (t.title, t.report) for t in self.tables)
            or not name.isidentifier()
        ):
            return self.table(name)
        return RunOf(name, self.look)

    def df(self, name: str | None = None) -> pandas.DataFrame:
        """A report as a pandas data frame: its keys, value, n, se."""
        return self._answer(name).df()

    def arrow(self, name: str | None = None) -> pyarrow.Table:
        """A report as an Arrow table."""
        return self._answer(name).arrow()

    def sql(self, query: str) -> Answer:
        """Ask the store that the run is in, read-only; ``experiment.report`` are its reports."""
        found = self.store.query(query)
        return Answer(found.columns, found.rows)

    def plot(self, name: str | None = None, kind: str | None = None, **channels: str) -> Plot:
        """A plot of a report: of a kind (`heatmap`, `line`, ...), or as the spec has it.

        Raises:
            MI0807: no such report, or the spec has no plot of it. MI0205, MI0206: no such kind, channel or
                column.
        """
        table = self.table(name)
        if kind is not None:
            return Plot(vega(kind, table, channels))
        with self.store.reading() as (con, _):
            specs = [spec for _, t, _, spec in find_run(con, self.run).plots if t.title == table.title]
        if not specs or channels:
            why = (
                f"the spec has no plot of `{table.title}`" if not specs else "channels of which kind of plot?"
            )
            raise fail("MI0807", why, help='give a kind: kind="heatmap"')
        return Plot(specs[0])

    def __repr__(self) -> str:
        return self._text()

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self._text())}</pre>"

    def _text(self) -> str:
        out = io.StringIO()
        console = Console(file=out, width=100, color_system=None, force_jupyter=False)
        plots: list[PlotOf] = []
        render_views(self.views, console)
        render_results(self.tables, self.checks, plots, console, spec=self.spec, store=self.store.root)
        return f"run {self.run}\n" + out.getvalue()

    def _answer(self, name: str | None) -> Answer:
        table = self.table(name)
        return Answer(table.columns, table.rows())
