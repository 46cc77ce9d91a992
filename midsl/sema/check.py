"""From text to a checked program: the front door of the front end. No torch, no IO beyond files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from midsl.diagnostics.model import Bag, Diagnostic, MiError, fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.ir import nodes as ir
from midsl.ir.program import Experiment, Program
from midsl.reach import NO_TRUST, Trust
from midsl.sema.context import Context
from midsl.sema.controls import refuse_unused
from midsl.sema.elaborate import Elaborator
from midsl.sema.experiments import elaborate_experiment, elaborate_test
from midsl.sema.facts import Facts
from midsl.sema.given import Given
from midsl.sema.lints.run import lint
from midsl.sema.lints.unfold import name_of
from midsl.sema.modules import LoadedModule, Modules
from midsl.sema.scope import Lazy, Scope
from midsl.sema.stdfiles import is_std
from midsl.sema.values import FnV, SpaceV, Value
from midsl.source import NO_SPAN, SourceFile, Span
from midsl.syntax import ast
from midsl.syntax.parse import parse


@dataclass
class Checked:
    """What checking gave: the program (if nothing was refused) and everything that was said."""

    program: Program | None
    bag: Bag
    ctx: Context
    module: LoadedModule | None = None

    def require(self) -> Program:
        """Return the program, or raise all errors."""
        if self.bag.errors or self.program is None:
            raise MiError(*(self.bag.errors or [Diagnostic("MI0901", "no program was made")]))
        return self.program


def read_source(path: Path) -> SourceFile:
    """Read a spec: MI0504 if that fails."""
    try:
        return SourceFile(str(path), path.read_text(encoding="utf-8"), path.resolve())
    except OSError as err:
        raise fail(
            "MI0504", f"cannot read {path}: {err.strerror}", help="give the path of a .mi file"
        ) from None
    except UnicodeDecodeError:
        raise fail("MI0504", f"{path} is not UTF-8 text", help="save the file as UTF-8") from None


def check_source(
    source: SourceFile,
    facts: Facts | None = None,
    params: Mapping[str, str] | None = None,
    trust: Trust = NO_TRUST,
    watch: dict[Span, Value] | None = None,
    tests: Callable[[str], bool] | None = None,
    given: Given | None = None,
) -> Checked:
    """Parse and elaborate one spec; `watch` takes what each of its expressions came to.

    The program is that of its experiments or, given `tests`, of those of its `test` blocks whose titles
    are wanted. All of both are checked. `given` is what stands behind some of its names already.
    """
    ctx = Context(facts or Facts(), Bag(), dict(params or {}), trust, given, watch=watch)
    tree = parse(source, ctx.bag)
    if tree is None:
        return Checked(None, ctx.bag, ctx)
    syntax_errors = len(ctx.bag.errors)
    e = Elaborator(ctx)
    module = Modules(e).load_tree(tree, str(source.path or source.name), std=is_std(source))
    for value in list(module.scope.names.values()):
        if isinstance(value, Lazy):
            value.get()
    experiments: list[Experiment] = []
    seen: set[str] = set()
    used: set[str] = set()
    for decl in tree.decls:
        if isinstance(decl, (ast.Experiment, ast.Test)):
            name = f'test "{decl.title}"' if isinstance(decl, ast.Test) else f"experiment `{decl.name}`"
            if name in seen:
                ctx.bag.extend(
                    fail(
                        "MI0204",
                        f"{name} is defined twice",
                        decl.span,
                        help="give one of the two another name",
                    ).diagnostics
                )
            seen.add(name)
            if isinstance(decl, ast.Test):
                done, wanted = elaborate_test(e, decl, module), tests is not None and tests(decl.title)
            else:
                done, wanted = elaborate_experiment(e, decl, module, used), tests is None
            experiments += done if wanted else []
    unused = {n: b.span for n, b in module.controls.items() if n not in used}
    if unused and not ctx.bag.errors:
        ctx.bag.extend(refuse_unused(unused).diagnostics)
    _unknown_params(tree, ctx)
    if not ctx.bag.errors:
        functions = _functions(module.scope, ctx)
        written = {n: fn for n, f in functions.items() if (fn := _written(f, ctx)) is not None}
        ctx.bag.extend(lint(tree, written, lambda n: _within(functions[n], ctx) if n in functions else ()))
    if syntax_errors:
        # what recovery dropped may be what a later message misses: only the syntax is reported
        ctx.bag.items[:] = [d for d in ctx.bag.items if d.code.startswith("MI01")]
    ctx.bag.items[:] = [_with_names(d, ctx) for d in ctx.bag.items]
    stem = Path(source.name).stem
    models, datas, fits = _inputs(experiments, ctx.models, ctx.datas, ctx.fits)
    program = Program(stem, tuple(experiments), models, datas, fits)
    return Checked(None if ctx.bag.errors else program, ctx.bag, ctx, module)


def _functions(scope: Scope, ctx: Context) -> dict[str, FnV]:
    """The functions that can be called by the names of a scope: its own, and those that are imported."""
    found: dict[str, FnV] = {}
    for name, value in scope.names.items():
        if isinstance(value, FnV):
            found[name] = value
        elif isinstance(value, SpaceV):
            found |= {f"{name}.{member}": f for member, f in value.functions.items()}
    return found


def _written(value: FnV, ctx: Context) -> ast.Fn | None:
    """A function as it is written; none for a lambda."""
    decls = ctx.trees[value.span.source].decls
    return next((d for d in decls if isinstance(d, ast.Fn) and d.name == value.name), None)


def _within(value: FnV, ctx: Context) -> Iterator[ast.Fn]:
    """A function, and all those of which it speaks, as they are written."""
    seen: set[tuple[SourceFile, str]] = set()
    todo = [value]
    while todo:
        value = todo.pop()
        fn = _written(value, ctx)
        if fn is None or (value.span.source, value.name) in seen:
            continue
        seen.add((value.span.source, value.name))
        yield fn
        known = _functions(value.scope, ctx)
        names = {name_of(n) for n in ast.walk(fn) if isinstance(n, ast.Name | ast.Field)}
        todo += [known[n] for n in sorted(names) if n in known]


def _with_names(d: Diagnostic, ctx: Context) -> Diagnostic:
    """Owners of axes are digests; people know them by the names of their bindings. And "an Int"."""

    def named(text: str) -> str:
        text = re.sub(r"\b[0-9a-f]{8}\b", lambda m: f"`{ctx.owners.get(m[0], m[0])}`", text)
        return re.sub(r"\b([Aa]) (?=[AEIOaeio]\w)", r"\1n ", text)

    notes = tuple(replace(n, text=named(n.text)) for n in d.notes)
    return replace(d, message=named(d.message), label=named(d.label), notes=notes)


def _unknown_params(tree: ast.Module, ctx: Context) -> None:
    declared = [d.name for d in tree.decls if isinstance(d, ast.Param)]
    for name in ctx.params:
        if name not in declared:
            ctx.bag.add(
                Diagnostic(
                    "MI0209",
                    f"the spec has no parameter `{name}`",
                    NO_SPAN,
                    help=did_you_mean(name, declared) or f"parameters: {', '.join(declared) or 'none'}",
                )
            )


def _inputs(
    experiments: Sequence[Experiment], *kinds: Mapping[str, str]
) -> Iterator[tuple[tuple[str, ir.Node], ...]]:
    """The models, data sets and fits that experiments use, by the names of their bindings."""
    used = {n.digest: n for n in ir.walk(*(root for x in experiments for root in x.roots))}
    for names in kinds:
        yield tuple((names[d], n) for d, n in used.items() if d in names)


def check_text(
    text: str, name: str = "spec.mi", facts: Facts | None = None, params: Mapping[str, str] | None = None
) -> Bag:
    """Check a text and return everything there is to say about it."""
    return check_source(SourceFile(name, text), facts, params).bag
