"""What a checked spec will give: each report's table, known before anything runs."""

from __future__ import annotations

from typing import Any

from midsl.ir import nodes as ir
from midsl.ir.program import key_columns, saved_axes
from midsl.sema.check import Checked


def summarise(checked: Checked) -> list[dict[str, Any]]:
    """One entry per report: experiment, name, key columns, unit, and a line for people."""
    if checked.program is None:
        return []
    found: list[dict[str, Any]] = []
    for x in checked.program.experiments:
        for sink in x.sinks:
            if isinstance(sink, ir.Save):
                axes = saved_axes(sink)
                text = f"{x.name}.{sink.name}[{', '.join(axes)}] (saved)"
                found.append({"experiment": x.name, "saved": sink.name, "axes": list(axes), "text": text})
            if isinstance(sink, ir.Report):
                columns = key_columns(sink)
                unit = sink.value.tensor_type.unit
                text = f"{x.name}.{sink.name}({', '.join((*columns, 'value', 'n', 'se'))})" + (
                    f" in {unit}" if unit else ""
                )
                found.append(
                    {
                        "experiment": x.name,
                        "report": sink.name,
                        "columns": list(columns),
                        "unit": unit,
                        "text": text,
                    }
                )
    return found


def lines(summary: list[dict[str, Any]]) -> dict[tuple[str, str], str]:
    """A line for each report and saved tensor, by experiment and name; the columns of a table are one."""
    found: dict[tuple[str, str], str] = {}
    tables: dict[tuple[str, str], list[str]] = {}
    for x in summary:
        name = x.get("report") or x["saved"]
        table, is_column, column = name.partition(".")
        if not is_column:
            found[x["experiment"], name] = x["text"]
            continue
        columns = tables.setdefault((x["experiment"], table), list(x["columns"]))
        columns.append(column + (f" in {x['unit']}" if x["unit"] else ""))
        found[x["experiment"], table] = f"{x['experiment']}.{table}({', '.join(columns)})"
    return found
