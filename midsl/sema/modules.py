"""Modules: finding a file by its import path, and giving its names a scope."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from midsl.diagnostics.model import MiError, fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.ir.types import Axis
from midsl.reach import Reach
from midsl.resources import resource_dir
from midsl.sema.agree import Mismatch, Signature
from midsl.sema.builtins import BUILTINS
from midsl.sema.context import Context
from midsl.sema.controls import controls_of
from midsl.sema.definitions import check_module
from midsl.sema.elaborate import Elaborator
from midsl.sema.models import annotated
from midsl.sema.params import param_value
from midsl.sema.scope import Lazy, Scope
from midsl.sema.stdfiles import std_names, std_tree, where_from
from midsl.sema.typenames import type_of, written
from midsl.sema.values import (
    AxisV,
    BuiltinV,
    DataV,
    ExternV,
    FamilyV,
    FnV,
    LateV,
    LensV,
    ModelV,
    Poison,
    SitesV,
    SiteV,
    SpaceV,
    TopV,
    TypeV,
    Value,
    ViewV,
)
from midsl.sema.wellformed import check_names
from midsl.sema.where import eligible
from midsl.sema.written import LAMBDA, check, declared, instead, result
from midsl.source import SourceFile, Span
from midsl.syntax import ast
from midsl.syntax.parse import parse


@dataclass
class LoadedModule:
    """A parsed file with its scope."""

    tree: ast.Module
    scope: Scope
    std: bool
    controls: dict[str, ast.Binding] = field(default_factory=dict)
    """The `control` bindings, by the name that each replaces."""
    again: Callable[[Mapping[str, Value | Lazy]], Scope] = field(default=lambda _: Scope({}))
    """The names of the file once more, some of them standing for something else."""


@dataclass
class Modules:
    """All modules of one elaboration."""

    e: Elaborator
    loaded: dict[str, LoadedModule] = field(default_factory=dict)
    busy: list[str] = field(default_factory=list)

    @property
    def ctx(self) -> Context:
        return self.e.ctx

    @property
    def _files(self) -> Mapping[str, str]:
        return self.ctx.given.files if self.ctx.given is not None else {}

    def load_tree(self, tree: ast.Module, key: str, std: bool) -> LoadedModule:
        """Give a parsed file its scope: builtins, then imports, then its own names."""
        self.busy.append(key)
        self.ctx.trees[tree.source] = tree
        try:
            outer = Scope(dict(BUILTINS))
            scope = Scope({}, outer)
            module = LoadedModule(tree, scope, std)
            for imp in tree.imports:
                try:
                    self._import(imp, scope, tree)
                except MiError as err:
                    self.ctx.bag.extend(err.diagnostics)
                    for n in imp.names or (imp.alias or imp.path.split(".")[-1],):
                        scope.names[n] = Poison()
            given = self.ctx.given if len(self.busy) == 1 else None
            if given is not None:
                given.refuse_unused(tree.source, tree, self.ctx)
                scope.names.update(given.values(self.ctx))
            here = {*given.models, *given.tables} if given is not None else set()
            imported = dict(scope.names)

            def again(instead: Mapping[str, Value | Lazy]) -> Scope:
                other = Scope({**imported, **instead}, outer)
                for decl in tree.decls:
                    if getattr(decl, "name", None) not in {*instead, *here}:
                        self._declare(decl, other, module)
                return other

            module.again = again
            module.controls = controls_of(tree.decls, self.ctx.bag)
            for decl in tree.decls:
                if getattr(decl, "name", None) not in here:
                    self._declare(decl, scope, module)
            if not std or len(self.busy) == 1:  # the library is known to be sound: it has tests
                check_module(self.e, tree, scope)
        finally:
            self.busy.pop()
        return module

    def _import(self, imp: ast.Import, scope: Scope, tree: ast.Module) -> None:
        path, std = self._locate(imp, tree)
        key = str(path)
        if key in self.busy:
            raise fail(
                "MI0210",
                f"`{imp.path}` imports this module back",
                imp.span,
                label="a circle of imports",
                help="move what both need into a third file",
            )
        module = self.loaded.get(key)
        if module is None:
            if std:
                parsed, bag = std_tree(path)
                self.ctx.bag.extend(bag)
            else:
                text = self._files.get(str(path))
                text = path.read_text(encoding="utf-8") if text is None else text
                parsed = parse(SourceFile(str(path), text, path), self.ctx.bag)
            if parsed is None:
                raise fail(
                    "MI0202",
                    f"module `{imp.path}` has errors",
                    imp.span,
                    help="mend what is said of it above",
                )
            module = self.loaded[key] = self.load_tree(parsed, key, std)
        names = module.scope.names
        if not imp.names:
            alias = imp.alias or Path(imp.path).stem.split(".")[-1]
            self._bind(scope, alias, _space(imp.path, names), imp.span)
        for name in imp.names:
            if name not in names:
                raise fail(
                    "MI0203",
                    f"module `{imp.path}` does not define `{name}`",
                    imp.span,
                    label=f"no `{name}` there",
                    help=did_you_mean(name, list(names)) or where_from(name) or f"it has {', '.join(names)}",
                )
            self._bind(scope, name, names[name], imp.span)

    def _locate(self, imp: ast.Import, tree: ast.Module) -> tuple[Path, bool]:
        if imp.relative:
            if "://" in imp.path:
                raise fail(
                    "MI0202",
                    "a module is a local file",
                    imp.span,
                    label="not a path",
                    help='download it, and import it by its path: `from "file.mi" import name`',
                )
            base = tree.source.path.parent if tree.source.path else Path()
            try:
                path = (base / imp.path).resolve()
                found = str(path) in self._files or path.is_file()
            except (OSError, ValueError):  # no path at all: a NUL inside, or too long
                found = False
            if found:
                self._may_read(path, imp)
            if not found:
                raise fail(
                    "MI0202",
                    f"there is no file {imp.path}",
                    imp.span,
                    label="not found",
                    help="the path is relative to this file",
                )
            return path, False
        parts = imp.path.split(".")
        if parts[0] != "std":
            raise fail(
                "MI0202",
                f"unknown module `{imp.path}`",
                imp.span,
                label="not in the standard library",
                help='standard modules start with `std.`; for a file write `from "file.mi" import name`',
            )
        root = resource_dir("stdlib")
        path = root.joinpath(*parts[1:]).with_suffix(".mi") if len(parts) > 1 else root / "?"
        if not path.is_file():
            known = std_names()
            first = [n for n in known if n.count(".") == 1]
            raise fail(
                "MI0202",
                f"the standard library has no module `{imp.path}`",
                imp.span,
                label="not found",
                help=did_you_mean(imp.path, known) or f"modules: {', '.join(first)}",
            )
        return path, True

    def _may_read(self, path: Path, imp: ast.Import) -> None:
        """A spec reads modules of its own folder alone: what is wrong with a file shows its lines."""
        root = next(iter(self.ctx.trees)).path
        folder = root.parent.resolve() if root is not None else Path.cwd()
        if path.suffix == ".mi" and Reach(folder, self.ctx.trust, self.ctx.params).has(path):
            return
        named = path.suffix == ".mi"
        raise fail(
            "MI0605" if named else "MI0202",
            f"{imp.path} is outside the folder of the spec" if named else f"{imp.path} is no .mi file",
            imp.span,
            label="not read",
            help=f"move it beside the spec, or read it and then say `--allow {path}`"
            if named
            else "a module is a .mi file",
        )

    def _bind(self, scope: Scope, name: str, value: Value | Lazy, span: Span) -> None:
        if name in scope.names:
            raise fail(
                "MI0204",
                f"`{name}` is defined twice",
                span,
                label="defined again here",
                help="give one of the two another name",
            )
        scope.names[name] = value

    def _declare(self, decl: ast.Decl, scope: Scope, module: LoadedModule) -> None:
        if isinstance(decl, ast.Test):
            return
        if isinstance(decl, ast.AxisDecl):
            for name in decl.names:
                self._declare_name(name, AxisV(Axis(name, f"axis:{name}")), scope, decl.span)
            return
        value: Value | Lazy
        if isinstance(decl, ast.Alias):
            value = TypeV(decl.type, scope)
        elif isinstance(decl, ast.Binding) and decl.role == "control":
            return  # it stands in for a binding of its name
        elif isinstance(decl, ast.Binding):
            value = lazy_binding(self.e, decl, scope)
        elif isinstance(decl, ast.Param):
            param = decl
            value = Lazy(decl.name, decl.span, lambda: param_value(self.e, param, scope), self.ctx)
        elif isinstance(decl, ast.Fn):
            value = self._fn(decl, scope, module)
        else:
            return  # experiments and methods have names of their own kind
        self._declare_name(decl.name, value, scope, decl.span)

    def _declare_name(self, name: str, value: Value | Lazy, scope: Scope, span: Span) -> None:
        try:
            self._bind(scope, name, value, span)
        except MiError as err:
            self.ctx.bag.extend(err.diagnostics)

    def _fn(self, decl: ast.Fn, scope: Scope, module: LoadedModule) -> Value:
        if decl.extern is not None:
            given = self.ctx.given.functions.get(decl.name) if self.ctx.given and not module.std else None
            if given is not None:
                return ExternV(replace(decl, extern=given), scope, trusted=True)
            return ExternV(decl, scope, module.std or self.ctx.trust.code)

        def body(inner: Scope) -> Value:
            assert decl.body is not None
            local = inner.child({})
            for b in decl.bindings:
                local.names[b.name] = lazy_binding(self.e, b, local)
            made = self.e.eval(decl.body, local)
            s = inner.signature or Signature(scope, decl.generics, calls=self.ctx.calls)
            return result(made, decl.returns, s.later((), False), decl.name, decl.body.span)

        return FnV(decl.name, decl.params, body, scope, decl.span, decl.docs, decl.generics, decl.returns)


_ROLES: dict[str, tuple[type[Value], ...]] = {
    "model": (ModelV,),
    "data": (DataV,),
    "decomposition": (LensV, FamilyV),
    "basis": (LensV, FamilyV),
    "site": (SiteV, SitesV, ViewV, TopV, LateV),
    "metric": (FnV, ExternV, BuiltinV),
}


def lazy_binding(e: Elaborator, b: ast.Binding, scope: Scope) -> Lazy:
    """A binding of any role, elaborated when used; the role is checked against what came out."""

    def make() -> Value:
        if b.type is not None:
            check_names(b.type, scope)
        value = e.eval(b.value, scope)
        if b.where is not None:
            value = eligible(e, value, b.where, scope)
        if isinstance(value, FnV) and value.name == LAMBDA:
            value = replace(value, name=b.name)
        if b.type is not None:
            value = of_type(e.ctx, value, b, b.type, scope)
        wanted = _ROLES.get(b.role)
        if wanted and not isinstance(value, wanted):
            extra = " or a part of one" if b.role == "data" else ""
            from midsl.sema.values import PartV

            if not (b.role == "data" and isinstance(value, PartV)):
                raise fail(
                    "MI0301",
                    f"`{b.role}` binds a {b.role}{extra}",
                    b.value.span,
                    label=f"this is a {value.kind}",
                    help=f"write `let {b.name} = ...` for anything else",
                )
        if e.ctx.watch is not None:
            e.ctx.watch[b.name_span] = value
        if isinstance(value, ModelV):
            e.ctx.models.setdefault(value.node.digest, b.name)
            e.ctx.owners.setdefault(value.owner[:8], b.name)
        if isinstance(value, LensV) and value.fit is not None:
            e.ctx.fits.setdefault(value.fit.digest, b.name)
        if isinstance(value, FamilyV):
            e.ctx.fits.update(fits_of(value, b.name))
        if isinstance(value, DataV):
            e.ctx.datas.setdefault(value.node.digest, b.name)
            e.ctx.owners.setdefault(value.node.digest[:8], b.name)
        return value

    return Lazy(b.name, b.name_span if b.name_span.end else b.span, make, e.ctx)


def fits_of(family: FamilyV, name: str) -> dict[str, str]:
    """The fits of a family's lenses, by the name of each: ``saes[layer: 3]``."""
    found: dict[str, str] = {}
    for i, member in enumerate(family.items):
        at = f"{name}[{family.axis}: {i}]"
        if isinstance(member, FamilyV):
            found |= fits_of(member, at)
        elif isinstance(member, LensV) and member.fit is not None:
            found[member.fit.digest] = at
    return found


def of_type(ctx: Context, value: Value, b: ast.Binding, t: ast.Type, scope: Scope) -> Value:
    """The value of a binding as its type has it: MI0318 where it is something else."""
    if isinstance(t, ast.TypeRef) and t.name == "Site" and isinstance(value, SiteV) and not value.row.axes:
        value = annotated(value, tuple(a.name for a in t.axes), t.span, ctx)
    try:
        return check(value, t, Signature(scope, sizes=ctx.lengths))
    except Mismatch as err:
        raise fail(
            "MI0318",
            f"`{b.name}` is {type_of(value)}, and not {written(t)}",
            b.value.span,
            label=err.why or f"this is {type_of(value)}",
            notes=[declared(t, scope)],
            help=err.help or instead(f"{b.name}:", value, "leave the type out"),
        ) from None


def _space(path: str, names: dict[str, Value | Lazy]) -> SpaceV:
    """A module as a value."""
    functions = {n: v for n, v in names.items() if isinstance(v, FnV)}
    return SpaceV(path, {n: _getter(v) for n, v in names.items()}, functions)


def _getter(value: Value | Lazy):  # type: ignore[no-untyped-def]
    return (lambda: value.get()) if isinstance(value, Lazy) else (lambda: value)
