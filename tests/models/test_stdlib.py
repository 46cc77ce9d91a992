"""std.models and the Python it names must agree: parameters, order of none, defaults."""

from __future__ import annotations

import inspect
from importlib import import_module

import pytest

from midsl.diagnostics.model import Bag
from midsl.models.config import DEFAULTS
from midsl.models.facts import _DESCRIBERS
from midsl.resources import resource_dir
from midsl.source import SourceFile
from midsl.syntax import ast
from midsl.syntax.parse import parse


def _externs() -> dict[str, ast.Fn]:
    path = resource_dir("stdlib") / "models.mi"
    bag = Bag()
    module = parse(SourceFile("models.mi", path.read_text(encoding="utf-8")), bag)
    assert module is not None
    assert not bag.errors
    return {d.extern: d for d in module.decls if isinstance(d, ast.Fn) and d.extern}


EXTERNS = _externs()


def test_every_loader_is_described() -> None:
    assert set(EXTERNS) == set(_DESCRIBERS)


def _default(expr: ast.Expr | None) -> object:
    """The value of a literal, as Python writes it."""
    if isinstance(expr, ast.ListExpr):
        return ()
    if isinstance(expr, ast.Record):
        return None
    if isinstance(expr, ast.Unary):
        value = _default(expr.operand)
        assert expr.op == "-"
        assert isinstance(value, int | float)
        return -value
    return getattr(expr, "value", inspect.Parameter.empty)


@pytest.mark.parametrize("ref", EXTERNS)
def test_parameters_and_defaults_agree(ref: str) -> None:
    module, name = ref.split(":")
    python = dict(inspect.signature(getattr(import_module(module), name)).parameters)
    wanted: dict[str, object] = {}
    if python.pop("fields", None):
        for field, default in DEFAULTS.items():
            wanted[field] = -1 if field == "logits_at" else default
    python.pop("trust", None)  # the command line's, never a spec's
    wanted |= {p.name: p.default for p in python.values()}
    assert {p.name: _default(p.default) for p in EXTERNS[ref].params} == wanted


def test_describers_take_what_loaders_take() -> None:
    for ref, (module, name) in _DESCRIBERS.items():
        loader, function = ref.split(":")
        ours = inspect.signature(getattr(import_module(module), name)).parameters
        theirs = inspect.signature(getattr(import_module(loader), function)).parameters
        assert {p for p in theirs if p != "trust"} == {p for p in ours if p != "trust"}
