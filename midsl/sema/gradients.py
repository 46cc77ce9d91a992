"""``grad``: gradients of scalars with respect to sites, codes and errors, by declared backward rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from midsl.diagnostics.model import fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.graph.info import NO_MLP
from midsl.ir import nodes as ir
from midsl.ir.backward import FLAT, NEEDS, RULES
from midsl.ir.crossing import goes_along, has_self, mixes_rows
from midsl.ir.types import TensorType
from midsl.sema.arguments import Args
from midsl.sema.runs import EDIT
from midsl.sema.sites import read, resolve, slice_type
from midsl.sema.tensors import apply
from midsl.sema.unroll import meaning
from midsl.sema.values import ConstV, RecordV, RunV, SiteV, TensorV, Value, ViewV
from midsl.sema.views import read_view, select
from midsl.source import Span
from midsl.syntax import ast

if TYPE_CHECKING:
    from midsl.sema.elaborate import Elaborator
    from midsl.sema.scope import Scope


def grad(e: Elaborator, node: ast.Call, scope: Scope) -> Value:
    """``grad(scalar, at: site, rules: {..}, through: true)``: d scalar / d site, in one run.

    The scalar may have axes; one pass back is made for each of their entries.
    """
    args = Args(e, "grad", node, scope, ("scalar", "at", "rules", "through"))
    scalar = args.tensor("scalar")
    at = place(e, args, scalar)
    if isinstance(at, TensorV):
        assert isinstance(at.node, ir.Read)
        return TensorV(_grad(scalar, at.node.run, at, args).node, at.site)
    return _at_view(e, scalar, *at, args)


def place(e: Elaborator, args: Args, of: TensorV) -> TensorV | tuple[RunV, ViewV]:
    """What `at:` says: a site as it is read in the run, or a code or an error there."""
    at, span = args.value("at"), args.expr("at").span
    if isinstance(at, TensorV) and at.seen is not None:
        run, at = at.seen
        assert isinstance(run, RunV)
    elif isinstance(at, TensorV) and isinstance(at.node, ir.Read):
        return at
    elif isinstance(at, (SiteV, ViewV)):
        run = _only_run(e, of, span)
    elif isinstance(at, TensorV) and isinstance(at.node, ir.Apply) and at.type.axis("step") is not None:
        raise fail(
            "MI0601",
            "not implemented: gradients at all steps of a rollout at once",
            span,
            label="each step is a run of its own",
            help="take those of one step: `at: r[x[step: 3]]`",
        )
    else:
        raise fail(
            "MI0410",
            "`at:` is a site",
            span,
            label=f"this is a {at.kind}",
            help=f"such as `{args.fn}(loss, at: m.blocks[0].resid_post)`, or `at: r[site]`",
        )
    if isinstance(at, SiteV):
        return read(run, at, span, e.ctx)
    assert isinstance(at, ViewV)
    return run, at


def _only_run(e: Elaborator, scalar: TensorV, span: Span) -> RunV:
    """The one run that a scalar reads itself."""
    memo: dict[str, ir.Node] = {}
    runs = {meaning(n.run, memo): n.run for n in _near(scalar.node) if isinstance(n, ir.Read)}
    if len(runs) != 1:
        raise fail(
            "MI0505",
            "the gradient in which run?",
            span,
            label=f"the scalar depends on {len(runs)} runs",
            help="name it: `at: run[site]`",
        )
    run = next(iter(runs.values()))
    return RunV(run, e.ctx.model(run.model), e.ctx.parts[run.data.digest])


def in_run(x: TensorV, run: ir.Forward) -> TensorV:
    """A value with the very run in the place of what is the same run, written or worked out a second time."""
    memo: dict[str, ir.Node] = {}
    there = meaning(run, memo)

    def same(n: ir.Node) -> ir.Node:
        return run if isinstance(n, ir.Forward) and n != run and meaning(n, memo) == there else n

    return replace(x, node=ir.rewrite(x.node, same))


def _near(node: ir.Node, flat: bool = True) -> list[ir.Node]:
    """The nodes of an expression, not those of the edits of its runs; without `flat`, none of constants."""
    found: dict[str, ir.Node] = {}
    stack = [node]
    while stack:
        n = stack.pop()
        if n.digest not in found:
            found[n.digest] = n
            constant = not flat and isinstance(n, ir.Apply) and n.op in FLAT
            if not constant and not isinstance(n, (ir.Forward, ir.Read, ir.Grad, ir.Sweep, ir.Part)):
                stack.extend(n.children)
    return list(found.values())


def _grad(scalar: TensorV, run: ir.Forward, at: TensorV, args: Args) -> TensorV:
    """The gradient at a site that was read."""
    assert isinstance(at.node, ir.Read)
    span = args.expr("scalar").span
    scalar = in_run(scalar, run)
    _check_axes(scalar, run, at, span)
    check_smooth(scalar, run, span)
    rules, through = _rules(args, run), _through(args)
    if through:
        _check_whole(scalar.node, run, args)
    axes = tuple(dict.fromkeys([*scalar.type.axes, *at.type.axes]))
    t = TensorType(axes=axes)
    return TensorV(ir.Grad(scalar.node, run, at.node.site, rules, through, type=t, span=args.node.span))


def check_smooth(scalar: TensorV, run: ir.Forward, span: Span) -> None:
    """What a derivative is taken of depends on the run, and not in steps alone (MI0325).

    Python has no derivatives that are known, and neither have derivatives (MI0601).
    """
    near = _near(scalar.node)
    _check_first(scalar.node, run, span)
    if not _moves(scalar.node, run):
        raise fail(
            "MI0325",
            "this has no gradient there",
            span,
            label="it does not depend on that run, or only in steps",
            help="take the gradient of a logit or a loss: counts, comparisons, ranks and indices have none",
        )
    _check_points(near, run, span)
    python = [n for n in near if isinstance(n, ir.Apply) and n.op == "extern" and _moves(n, run)]
    if python:
        name = str(dict(python[0].attrs)["ref"]).partition(":")[2]
        raise fail(
            "MI0601",
            f"not implemented: a gradient through `{name}`, which is Python",
            span,
            label="this goes through it",
            help=f"`stop_gradient` makes what `{name}` is given a constant",
        )


def _check_points(near: Sequence[ir.Node], run: ir.Forward, span: Span) -> None:
    """What goes over a sweep goes over all of it, and not over points that are runs of their own (MI0301)."""
    lanes = {(a.name, a.owner) for s in ir.sweeps_of(run) for a in s.axes}
    for n in near:
        along = goes_along(n) if _moves(n, run) else set()
        if along & lanes:
            axis = next(iter(along & lanes))[0]
            raise fail(
                "MI0301",
                f"a gradient of what goes over `{axis}`, along which there is a run for each point",
                span,
                label=f"each point of `{axis}` is a run of its own",
                help=f"take the gradient of each, and reduce that: `mean(grad(..), over: {axis})`",
            )
        part = next((s for s in ir.sweeps_of(n) if along & {(a.name, a.owner) for a in s.axes}), None)
        if part is not None:
            names = ", ".join(a.name for a in part.axes)
            raise fail(
                "MI0301",
                f"a gradient of what goes over some of the axes of a sweep: {names}",
                span,
                label="this still has the others",
                help=f"go over all of them: `over: [{names}]`, or read the family whole (`r[z]`)",
            )


def _check_first(scalar: ir.Node, run: ir.Forward, span: Span) -> None:
    """A gradient is a constant of what another is taken of, and of another run."""
    inner = [n for n in _near(scalar) if isinstance(n, ir.Grad)]
    if any(isinstance(n, ir.Grad) for n in _near(scalar, flat=False)):
        raise fail(
            "MI0601",
            "not implemented: a gradient of a gradient",
            span,
            help="report the first gradient, or take it for a constant: `stop_gradient(grad(..))`",
        )
    if any(n.run == run for n in inner):
        raise fail(
            "MI0601",
            "not implemented: a gradient beside one of the same run",
            span,
            label="this takes a gradient of that run for a constant",
            help="take one of them in a run of its own: `run m on d do { x := stop_gradient(self) }`",
        )


def _check_axes(scalar: TensorV, run: ir.Forward, at: TensorV, span: Span) -> None:
    """Rows of the scalar must be each row's own, and other axes not those of the site."""
    check_rows(scalar, run, at, span)
    swept = {(a.name, a.owner) for s in ir.sweeps_of(scalar.node) for a in s.axes}
    own = [a for a in scalar.type.axes if (a.name, a.owner) not in swept and a.name != "batch"]
    theirs = {(a.name, a.owner) for s in ir.sweeps_of(at.node) for a in s.axes}
    for axis in own:
        other = at.type.axis(axis.name)
        if other is not None and (other.name, other.owner) not in theirs:
            raise fail(
                "MI0301",
                f"what a gradient is taken of and the site both have `{axis.name}`",
                span,
                label=f"this still has `{axis.name}`",
                help=f"reduce it (`mean(x, over: {axis.name})`), select along it, or `rename` it",
            )


def check_rows(scalar: TensorV, run: ir.Forward, at: TensorV, span: Span) -> None:
    """Where the scalar still has `batch`, it is that of the site, and rows do not meet (MI0301)."""
    axis, other = scalar.type.axis("batch"), at.type.axis("batch")
    if axis is None:
        return
    if other is not None and not other.same_as(axis):
        raise fail(
            "MI0301",
            "what a gradient is taken of and the site both have `batch`",
            span,
            label="this has the rows of other data",
            help="reduce it: `mean(x, over: batch)`",
        )
    meets = [n for n in _near(scalar.node) if mixes_rows(n) and _moves(n, run)]
    meets += [n for x in run.edits for n in ir.walk(x.value) if mixes_rows(n) and has_self(n)]
    if meets:
        raise fail(
            "MI0301",
            "a gradient for each row, of values that depend on other rows",
            span,
            label="this still has `batch`, and something in it goes across the batch",
            help="reduce it: `mean(x, over: batch)`",
        )


def _moves(node: ir.Node, run: ir.Forward) -> bool:
    """Whether a small change in a run changes a value a little."""
    known: dict[str, bool] = {}

    def go(n: ir.Node) -> bool:
        if n.digest not in known:
            known[n.digest] = _step(n)
        return known[n.digest]

    def _step(n: ir.Node) -> bool:
        if isinstance(n, ir.Read):
            return n.run == run
        if isinstance(n, ir.Apply):
            return n.op not in FLAT and any(map(go, n.args))
        if isinstance(n, ir.Reduce):
            return n.op not in ("count", "any", "all") and go(n.arg)
        if isinstance(n, ir.Union):
            return any(map(go, n.parts))
        return isinstance(n, ir.Select) and go(n.arg)

    return go(node)


def _rules(args: Args, run: ir.Forward) -> tuple[tuple[str, str], ...]:
    """``rules: { attn: "freeze", norm: "freeze_scale" }``, each of which the model must have a part for."""
    if "rules" not in args.given:
        return ()
    value, span = args.value("rules"), args.expr("rules").span
    every = ", ".join(f'{part}: "{rule}"' for part, rule in RULES.items())
    if not isinstance(value, RecordV):
        raise fail(
            "MI0301",
            "`rules` of `grad` is a record",
            span,
            label=f"this is a {value.kind}",
            help=f"any of {{ {every} }}",
        )
    info = args.e.ctx.facts.info(run.model)
    for part, rule in value.fields.items():
        if part not in RULES:
            raise fail(
                "MI0206",
                f"there is no backward rule for `{part}`",
                span,
                help=did_you_mean(part, list(RULES)) or f"any of {{ {every} }}",
            )
        if not isinstance(rule, ConstV) or rule.value != RULES[part]:
            said = repr(rule.value) if isinstance(rule, ConstV) else f"a {rule.kind}"
            raise fail(
                "MI0301",
                f"`{part}` has the backward rule {RULES[part]}",
                span,
                label=f"this is {said}",
                help=f'write `{part}: "{RULES[part]}"`, or leave it out',
            )
        row = info.site(NEEDS[part]) if info is not None and part in NEEDS else None
        bare = row is not None and row.why == NO_MLP  # attention alone: there is nothing to substitute
        if info is not None and part in NEEDS and not bare and (row is None or not row.readable):
            raise fail(
                "MI0403",
                f"rule `{part}` is for a part that this model does not show",
                span,
                label=(row.why if row is not None else "") or f"it has no `{NEEDS[part]}`",
                help="leave the rule out, or take another model",
            )
    return tuple(sorted((part, RULES[part]) for part in value.fields))


def _through(args: Args) -> bool:
    if "through" not in args.given:
        return False
    value = args.value("through")
    if not isinstance(value, ConstV) or not isinstance(value.value, bool):
        raise fail(
            "MI0301",
            "`through` of `grad` is true or false",
            args.expr("through").span,
            help="`through: true`: what edits write is no constant",
        )
    return value.value


def _check_whole(scalar: ir.Node, run: ir.Forward, args: Args) -> None:
    """What edits write is worked out in this run, and not in one that stands for a part of it (MI0601).

    Such a run has no number of its own: it is this one as it is before some of its edits.
    """
    written = [n.run for x in run.edits for n in _near(x.value) if isinstance(n, ir.Read)]
    before = any((r.model, r.data, r.origin) == (run.model, run.data, 0) for r in written)
    code = any(isinstance(n, ir.Read) and n.run.origin == run.origin and n.run != run for n in _near(scalar))
    if before or code:
        raise fail(
            "MI0601",
            "not implemented: a gradient through an edit that takes what another place has",
            args.expr("through").span,
            label="it would miss what goes by that place",
            help="write the site itself, not an edge of it, or a code that is read elsewhere or was written",
        )


def _at_view(e: Elaborator, scalar: TensorV, run: RunV, view: ViewV, args: Args) -> TensorV:
    """With respect to a code or an error, of which a site is ``decode(code) + error``: each a leaf."""
    span = args.expr("at").span
    lens = view.lens
    leaf, of = _each_apart(e, scalar, run, view) if lens.at.joint and lens.source is None else (run, scalar)
    below = _grad(of, leaf.node, read(leaf, view.at, span, e.ctx), args)
    if view.part == "error":
        return below
    code = read_view(run, replace(view, index=None), span, e.ctx)
    if any(n == code.node for n in _near(scalar.node)):
        raise fail(
            "MI0601",
            "not implemented: the gradient of a scalar that reads the code it is taken at",
            args.expr("scalar").span,
            label="this reads the code",
            help="read logits, or a place behind the code",
        )
    back = lens.decode(TensorV(ir.Given(type=code.type, span=span)))
    made = ir.Pullback(back.node, code.node, below.node, span=args.node.span)
    axes = tuple(dict.fromkeys([*(a for a in below.type.axes if a.name not in made.over), *code.type.axes]))
    whole = TensorV(replace(made, type=TensorType(axes=axes)))
    return select(whole, lens.code, view.index, span)


def _each_apart(e: Elaborator, scalar: TensorV, run: RunV, view: ViewV) -> tuple[RunV, TensorV]:
    """The same run, in which no gradient goes from one place of a joint lens to the next; the scalar in it.

    To write such a code sets all of its places, so what a small step does at one is not to be counted again
    where it arrives at another.
    """
    span = view.at.site.span
    site = resolve(view.at.site, run.part, e.ctx)
    me = TensorV(ir.Self(type=slice_type(view.at, site, run.part, e.ctx), span=span))
    held = ir.Edit(site, apply("stop_gradient", (me,), span).node, False, type=EDIT, span=span)
    there = replace(run.node, edits=(*run.node.edits, held), origin=e.ctx.origin())
    scalar = in_run(scalar, run.node)
    moved = ir.rewrite(scalar.node, lambda n: there if n == run.node else n)
    return replace(run, node=there, puts=()), replace(scalar, node=moved)
