"""From kept values to rows: report tables with n and se, and the verdicts of expects."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np
import torch

from midsl.data.spans import span_coordinates
from midsl.ir import nodes as ir
from midsl.ir.program import key_columns, left_axes, swept_columns
from midsl.ir.types import INT, Axis
from midsl.ops.named import NT
from midsl.ops.reduce import reduce
from midsl.ops.registry import apply_op
from midsl.plan.domains import is_dense
from midsl.plan.evaluate import GRID, Evaluator, NotKept
from midsl.plan.saved import Saved
from midsl.plan.words import speller
from midsl.store.rows import CheckRow, ResultTable

Key = int | float | str | bool | None


@dataclass
class Results:
    """Makes rows from an evaluator's kept values."""

    evaluator: Evaluator

    def report(self, sink: ir.Report) -> ResultTable:
        """The table of a report: sweeps' columns first, then its remaining axes."""
        value = self.evaluator.grid(sink.value)
        left = left_axes(sink)
        names, sizes = self._axes(sink, value)
        order = value.permute_to([n for n in names if n in value.axes]).expand(sizes)
        flat = order.data.detach().to(torch.float64).reshape(-1).cpu().numpy()
        columns = self._keys(sink, left, sizes)
        keep = self._real(sink, left, sizes, names)
        if sink.where is not None:
            keep &= self.evaluator.grid(sink.where).expand(sizes).data.reshape(-1).cpu().numpy()
        columns += [self._beside(node, sizes, keep) for _, node in sink.beside]
        n, se = self._counts(sink, sizes, names)
        total = self._rows_total(sink)
        keys = {
            c: values if i >= len(columns) - len(sink.beside) else list(compress(values, keep))
            for i, (c, values) in enumerate(zip(key_columns(sink), columns, strict=True))
        }
        unit = sink.value.tensor_type.unit or ""
        value_ = (
            np.where(n[keep] == 0, np.nan, flat[keep]) if sink.value.tensor_type.kind != "int" else flat[keep]
        )
        return ResultTable(sink.experiment, sink.name, keys, value_, n[keep], se[keep], unit, total)

    def save(self, sink: ir.Save) -> Saved:
        """The tensor of a save: sweeps' axes first, in the order written, then its own."""
        report = sink.as_report
        value = self.evaluator.grid(sink.value)
        names, sizes = self._axes(report, value)
        ordered = value.permute_to([n for n in names if n in value.axes]).expand(sizes)
        labels: dict[str, list[Key]] = {}
        for s in sink.sweeps:
            points = self.evaluator.domains.points[s.digest]
            if is_dense(s):
                for i in swept_columns(report, s):
                    labels[s.axes[i].name] = list(dict.fromkeys(p[i] for p in points))
            elif swept_columns(report, s):
                labels[s.axes[0].name] = [", ".join(map(str, p)) for p in points]
        labels |= {a.name: self._labels(a, sizes[a.name]) for a in left_axes(report)}
        pos = next((a for a in left_axes(report) if a.name == "pos"), None)
        lengths = None
        if "batch" in names and pos is not None and pos.owner in self.evaluator.rows.owners:
            lengths = self.evaluator.rows.stretch(pos.owner, pos.span)[1].data.sum(-1)
        unit = sink.value.tensor_type.unit or ""
        return Saved(sink.experiment, sink.name, ordered.data.detach(), tuple(names), labels, unit, lengths)

    def _axes(self, sink: ir.Report, value: NT) -> tuple[list[str], dict[str, int]]:
        """Names and sizes of a sink's axes: sweeps' first, in the order written, then what is left."""
        names: list[str] = []
        sizes: dict[str, int] = {}
        for s in sink.sweeps:
            axes, lengths = self.evaluator.domains.grid(s)
            kept = swept_columns(sink, s)
            kept = kept if is_dense(s) else kept[:1]
            names += [axes[i] for i in kept]
            sizes |= {axes[i]: lengths[i] for i in kept}
        for axis in left_axes(sink):
            names.append(axis.name)
            sizes[axis.name] = value.size(axis.name) if axis.name in value.axes else self._axis_size(axis)
        return names, sizes

    def expect(self, sink: ir.Expect) -> CheckRow:
        """The verdict of an expect, with the values that it compared."""
        value = self.evaluator.grid(sink.condition)
        line, _ = sink.span.source.line_col(sink.span.start)
        return CheckRow(
            sink.experiment,
            sink.text,
            sink.message,
            bool(value.data.item()),
            self._observed(sink.condition),
            line,
        )

    def _observed(self, node: ir.Node) -> str:
        """The sides of the comparison, where they are numbers; of many that were not kept, how many hold."""
        if isinstance(node, ir.Apply) and node.op in ("and", "or", "not"):
            return "; ".join(t for t in (self._observed(a) for a in node.args) if t)
        if isinstance(node, ir.Reduce) and node.op in ("all", "any") and isinstance(node.arg, ir.Apply):
            try:
                return " and ".join(self._extent(a) for a in node.arg.args)
            except NotKept:  # the comparison was made where its sides were, and they were let go
                held, failed = (
                    int(
                        self.evaluator.grid(ir.Reduce("count", x, node.axes, node.where, type=INT)).data.sum()
                    )
                    for x in (node.arg, ir.Apply("not", (node.arg,), type=node.arg.type))
                )
                return f"{held} of {held + failed}"
        if isinstance(node, ir.Apply) and len(node.args) == 2:
            return " and ".join(
                f"{self.evaluator.grid(a).data.to(torch.float64).item():.4g}" for a in node.args
            )
        return ""

    def _extent(self, node: ir.Node) -> str:
        """The least and the most of a value."""
        v = self.evaluator.grid(node).data.to(torch.float64)
        return f"{v.min().item():.4g}..{v.max().item():.4g}" if v.numel() > 1 else f"{v.item():.4g}"

    # -- keys

    def _keys(self, sink: ir.Report, left: tuple[Axis, ...], sizes: dict[str, int]) -> list[list[Key]]:
        groups: list[list[tuple[Key, ...]]] = []
        for s in sink.sweeps:
            points = self.evaluator.domains.points[s.digest]
            kept = swept_columns(sink, s)  # a reduction may have taken some of its axes away
            groups.append(list(dict.fromkeys(tuple(p[i] for i in kept) for p in points)))
        groups += [[(v,) for v in self._labels(a, sizes[a.name])] for a in left]
        columns: list[list[Key]] = []
        before, rows = 1, math.prod(map(len, groups))
        for group in groups:  # each entry stands once for all that come after it, the whole again and again
            after = rows // max(1, before * len(group))
            for column in zip(*group, strict=True):
                columns.append([v for v in column for _ in range(after)] * before)
            before *= len(group)
        return columns

    def _beside(self, node: ir.Node, sizes: dict[str, int], keep: np.ndarray) -> list[Key]:
        """A further key column: what is found at each row that there is."""
        data = self.evaluator.grid(node).expand(sizes).data.detach().reshape(-1).cpu().numpy()[keep]
        if node.tensor_type.kind != "token":
            return list(data.tolist())
        spell = speller(node, self.evaluator.inputs)  # type: ignore[arg-type]
        words: dict[int, Key] = {int(i): spell(int(i)) for i in np.flatnonzero(np.bincount(data))}
        return [words[i] for i in data.tolist()]

    def _labels(self, axis: Axis, size: int) -> list[Key]:
        if axis.labels is not None:
            return list(axis.labels)
        if axis.name in ("pos", "key_pos") and axis.owner in self.evaluator.rows.owners:
            part = self.evaluator.inputs.part(self.evaluator.rows.owners[axis.owner])
            return [*map(int, span_coordinates(part, axis.span)[:size])]
        return [*range(size)]

    def _axis_size(self, axis: Axis) -> int:
        if axis.owner in self.evaluator.rows.owners:
            if axis.name == "batch":
                return len(self.evaluator.inputs.part(self.evaluator.rows.owners[axis.owner]))
            return self.evaluator.rows.stretch(axis.owner, axis.span)[1].size("pos")
        assert axis.size is not None, f"the size of `{axis.name}` is not known"
        return axis.size

    def _real(
        self, sink: ir.Report, left: tuple[Axis, ...], sizes: dict[str, int], names: list[str]
    ) -> np.ndarray:
        """Which rows are real: padded positions give none, nor do examples that lack a named position."""
        keep = NT(torch.ones(list(sizes.values()), dtype=torch.bool), tuple(names))
        for axis in left:
            if axis.name == "batch" and axis.owner in self.evaluator.rows.owners:
                usable = self.evaluator.usable(sink.value, axis.owner, GRID)
                if usable is not None:
                    extra = tuple(a for a in usable.axes if a not in names)
                    keep = apply_op("and", [keep, reduce("any", usable, extra) if extra else usable], {})
            if axis.name in ("pos", "key_pos") and axis.owner in self.evaluator.rows.owners:
                _, real = self.evaluator.rows.stretch(axis.owner, axis.span)
                real = NT(real.data, ("batch", axis.name))
                if "batch" not in names:
                    real = reduce("any", real, ("batch",))
                keep = apply_op("and", [keep, real], {})
        return keep.permute_to(names).data.reshape(-1).numpy()

    # -- n and se

    def _counts(
        self, sink: ir.Report, sizes: dict[str, int], names: list[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """n: rows that count; se: where the value is affine in one mean over the batch, else NaN."""
        if isinstance(sink.value, ir.Union):
            return self._counts_of_kinds(sink, sink.value, sizes, names)
        shape = tuple(sizes.values())
        n = np.full(int(np.prod(shape)), 1 if "batch" in names else 0, dtype=np.int64)
        se = np.full(n.shape, np.nan)
        means = _batch_reductions(sink.value)
        if means:
            counted = [self._spread(self._n_of(m), sizes, names) for m in means]
            n = np.minimum.reduce(counted).astype(np.int64)
        elif "batch" not in names:
            n = np.full(n.shape, 1, dtype=np.int64)
        slope = _affine(sink.value, means)
        if slope is not None and len(means) == 1:
            mean = means[0]
            deviation = self.evaluator.grid(ir.Reduce("std", mean.arg, mean.axes, mean.where, type=mean.type))
            factor = NT(torch.tensor(1.0, dtype=torch.float64), ())
            for op, node in slope:
                factor = apply_op(op, [factor, self.evaluator.grid(node)], {})
            scaled = apply_op("mul", [apply_op("abs", [factor], {}), deviation], {})
            with np.errstate(invalid="ignore", divide="ignore"):
                se = self._spread(scaled, sizes, names) / np.sqrt(n)
        return n, se

    def _counts_of_kinds(
        self, sink: ir.Report, value: ir.Union, sizes: dict[str, int], names: list[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """n and se of each kind of places, one behind the other."""
        (axis,) = value.sweep.axes
        found = []
        for part, kind in zip(value.parts, value.kinds, strict=True):
            own = {axis.name: kind.axes[0].name}
            here = {own.get(a, a): n if a != axis.name else len(ir.points_of(kind)) for a, n in sizes.items()}
            counts = self._counts(replace(sink, value=part), here, [own.get(a, a) for a in names])
            found.append([x.reshape(tuple(here.values())) for x in counts])
        dim = list(sizes).index(axis.name)
        n, se = (np.concatenate(xs, axis=dim).reshape(-1) for xs in zip(*found, strict=True))
        return n, se

    def _n_of(self, node: ir.Reduce) -> NT:
        """How many rows a reduction over the batch counts."""
        axis = next(a for a in node.axes if a.name == "batch")
        mask = self.evaluator.counted(node.arg, ("batch",), GRID)
        total = self._axis_size(axis)
        if mask is None and node.where is None:
            return NT(torch.tensor(total), ())
        ones = NT(torch.ones(total, dtype=torch.bool), ("batch",))
        if mask is not None:
            others = tuple(
                a for a in mask.axes if a in ("pos", "key_pos") and a in {x.name for x in node.axes}
            )
            mask = reduce("any", mask, others) if others else mask
            ones = apply_op("and", [ones, mask], {})
        if node.where is not None:
            where = self.evaluator.grid(node.where)
            extra = tuple(a for a in where.axes if a in {x.name for x in node.axes} and a != "batch")
            where = reduce("any", where, extra) if extra else where
            ones = apply_op("and", [ones, where], {})
        return reduce("count", ones, ("batch",)) if "batch" in ones.axes else ones

    def _spread(self, x: NT, sizes: dict[str, int], names: list[str]) -> np.ndarray:
        x = NT(x.data.to(torch.float64), x.axes)
        extra = tuple(a for a in x.axes if a not in names)
        x = reduce("min", x, extra) if extra else x
        return x.expand(sizes).data.reshape(-1).numpy()

    def _rows_total(self, sink: ir.Report) -> int | None:
        totals = set()
        for n in ir.walk(sink.value):
            if isinstance(n, ir.Part) and not n.split:
                dataset = self.evaluator.inputs.dataset(n.data)  # type: ignore[attr-defined]
                totals.add(dataset.rows_total)
        return max(totals) if totals else None


def _batch_reductions(node: ir.Node) -> list[ir.Reduce]:
    """The outermost reductions over examples, each node looked at once: values share their parts."""
    found: dict[str, ir.Reduce] = {}
    seen: set[str] = set()
    todo = [node]
    while todo:
        n = todo.pop()
        if n.digest in seen:
            continue
        seen.add(n.digest)
        if isinstance(n, ir.Reduce) and any(a.name == "batch" for a in n.axes):
            found[n.digest] = n
        elif not isinstance(n, (ir.Read, ir.Grad, ir.Sweep, ir.Forward, ir.Part)):
            todo += reversed(n.children)
    return list(found.values())


def _affine(node: ir.Node, means: list[ir.Reduce]) -> list[tuple[str, ir.Node]] | None:
    """The factors by which a value depends on its one mean over the batch, or None if it is not affine."""
    if len(means) != 1 or means[0].op != "mean" or len(means[0].axes) != 1:
        return None
    target = means[0]
    factors: list[tuple[str, ir.Node]] = []
    while node != target:
        if not isinstance(node, ir.Apply) or node.op not in ("add", "sub", "mul", "div", "neg"):
            return None
        inside = [a for a in node.args if target in list(ir.walk(a))]
        if len(inside) != 1:
            return None
        other = next((a for a in node.args if a != inside[0]), None)
        if node.op == "mul" and other is not None:
            factors.append(("mul", other))
        elif node.op == "div":
            if node.args[0] != inside[0] or other is None:
                return None
            factors.append(("div", other))
        node = inside[0]
    return factors
