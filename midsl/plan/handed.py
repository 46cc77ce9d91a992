"""What a caller hands over in memory, sorted out: models, tables, functions, each under its name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4
from weakref import WeakKeyDictionary

from torch import nn

from midsl.data.records import Table
from midsl.diagnostics.model import fail
from midsl.ir import nodes as ir
from midsl.ir.types import PlainType
from midsl.models.given import given_model
from midsl.models.loaded import LoadedModel, weights_sha256
from midsl.sema.given import Given


@dataclass
class Handed:
    """What a binder is given: the names for the front end, and what stands behind them.

    Attributes:
        given: the names, as a spec finds them bound.
        models: by the digest of their recipe. functions: by their reference.
    """

    given: Given = field(default_factory=Given)
    models: dict[str, LoadedModel] = field(default_factory=dict)
    functions: dict[str, Callable[..., Any]] = field(default_factory=dict)


@dataclass
class Door:
    """Takes objects in; one that it has seen before, with the weights it had, is the same model again."""

    _modules: WeakKeyDictionary[nn.Module, dict[str, LoadedModel]] = field(default_factory=WeakKeyDictionary)
    _functions: dict[int, tuple[Callable[..., Any], str]] = field(default_factory=dict)

    def take(self, bind: Mapping[str, Any]) -> Handed:
        """Sort out what each name stands for.

        Args:
            bind: a torch module, or a pair of one and its tokenizer; a table (of Arrow, of pandas, or a list
                of dictionaries); or a function, for an `extern fn` of that name.

        Raises:
            MiError: MI0511 for anything else, and as `given_model` does.
        """
        models: dict[str, ir.Model] = {}
        tables: dict[str, str] = {}
        functions: dict[str, str] = {}
        done = Handed()
        for name, what in bind.items():
            module, tokenizer = what if isinstance(what, tuple) and len(what) == 2 else (what, None)
            if isinstance(module, (nn.Module, LoadedModel)):
                model = self._model(module, tokenizer)
                tokens = model.tokenizer.fingerprint if model.tokenizer else ""
                recipe = (("weights", model.weights_sha256), ("tokenizer", tokens), ("key", model.key))
                models[name] = ir.Model(f"bind:{name}", recipe, type=PlainType("Model"))
                done.models[models[name].digest] = model
            elif callable(what) and not hasattr(what, "to_dict"):
                functions[name] = self._function(name, what)
                done.functions[functions[name]] = what
            else:
                tables[name] = table_of(name, what)
        done.given = Given(models, tables, functions)
        return done

    def _model(self, module: nn.Module | LoadedModel, tokenizer: object) -> LoadedModel:
        if isinstance(module, LoadedModel):
            return module
        known = self._modules.setdefault(module, {})
        key = f"{weights_sha256(module)} {id(tokenizer)}"
        if key not in known:
            known.clear()  # trained on since: what it was is gone
            known[key] = given_model(module, tokenizer)
        return known[key]

    def _function(self, name: str, what: Callable[..., Any]) -> str:
        """A reference of its own for each function: what it returns is not known by its name."""
        known = self._functions.get(id(what))
        if known is None:
            known = self._functions[id(what)] = (what, f"bind:{name}:{uuid4().hex}")
        return known[1]


def table_of(name: str, what: Any) -> Table:
    """A table as the loaders of tables take it, in the place of a path (MI0511 if it is none)."""
    if hasattr(what, "to_pylist"):  # Arrow
        rows = what.to_pylist()
    elif hasattr(what, "to_dict") and hasattr(what, "columns"):  # pandas
        rows = what.to_dict("records")
    else:
        rows = list(what) if isinstance(what, (list, tuple)) else None
    if rows is None or not all(isinstance(r, Mapping) for r in rows):
        raise fail(
            "MI0511",
            f"`{name}` is a {type(what).__name__}",
            help="bind a torch module, a function, or a table: Arrow, pandas, or a list of dictionaries",
        )
    plain = [{str(k): v for k, v in r.items() if v is not None and v == v} for r in rows]
    content = hashlib.sha256(json.dumps(plain, default=str).encode()).hexdigest()
    return Table(f"bind:{name}:{content[:16]}", plain)
