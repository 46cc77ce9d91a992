"""`stdlib/tasks.mi` and `stdlib/tokenizers.mi` say what the Python behind them takes and makes."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from midsl.data.dataset import Dataset
from midsl.data.tokenizers import int_vocab, word_vocab
from midsl.diagnostics.model import Bag
from midsl.resources import resource_dir
from midsl.source import SourceFile
from midsl.syntax import ast
from midsl.syntax.parse import parse
from tests.data.test_prompts import folder as chat_folder
from tests.data.test_prompts import hf

TASKS = [
    p for p in (Path(__file__).parents[2] / "midsl" / "data" / "tasks").glob("*.py") if p.stem != "__init__"
]


def declared(name: str) -> dict[str, ast.Fn]:
    bag = Bag()
    path = resource_dir("stdlib") / f"{name}.mi"
    module = parse(SourceFile(path.name, path.read_text(encoding="utf-8")), bag)
    assert module is not None and not list(bag)
    return {d.name: d for d in module.decls if isinstance(d, ast.Fn)}


FUNCTIONS = {f"{m}.{n}": f for m in ("tasks", "tokenizers") for n, f in declared(m).items()}


def behind(fn: ast.Fn) -> Any:
    module, _, name = (fn.extern or "").partition(":")
    return getattr(import_module(module), name)


def literal(expr: ast.Expr | None) -> Any:
    if isinstance(expr, ast.Literal_):
        return expr.value
    if isinstance(expr, ast.ListExpr):
        return tuple(literal(i) for i in expr.items)
    if isinstance(expr, ast.Record) and not expr.fields:
        return {}
    raise AssertionError(f"a default of another kind: {expr}")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_parameters_and_defaults_agree(name: str) -> None:
    fn = FUNCTIONS[name]
    python = inspect.signature(behind(fn)).parameters
    assert [p.name for p in fn.params] == list(python)
    for p in fn.params:
        theirs = python[p.name].default
        if p.default is None:
            assert theirs is inspect.Parameter.empty
        else:  # there is no None in the language: an empty record, list or string stands for it
            assert literal(p.default) == theirs or (theirs is None and not literal(p.default))
    assert fn.docs


def test_every_builder_is_declared() -> None:
    states = {f.extern for f in declared("states").values() if f.extern}
    assert {f.extern for f in declared("tasks").values()} | states == {
        f"midsl.data.tasks.{path.stem}:{name}"
        for path in TASKS
        for name, made in vars(import_module(f"midsl.data.tasks.{path.stem}")).items()
        if not name.startswith("_")
        and getattr(made, "__annotations__", {}).get("return") == "Dataset"
        and made.__module__ == f"midsl.data.tasks.{path.stem}"
    }
    tokenizers = import_module("midsl.data.tokenizers")
    assert {f.extern for f in declared("tokenizers").values()} == {
        f"midsl.data.tokenizers:{name}" for name in tokenizers.__all__
    }


def made(name: str, folder: Path) -> Dataset:
    fn = behind(declared("tasks")[name])
    path = folder / "rows.csv"
    path.write_text(
        "subject,answer,text,label,number\nboy,He,the boy,x,1\ngirl,She,the girl,y,2.5\n", encoding="utf-8"
    )
    years = word_vocab([f"{y:02d}" for y in range(100)], unk="<unk>")
    people = word_vocab(["So", "Ann", "Bob", "he", "she"], unk="<unk>")
    nouns = word_vocab(["The", "dog", "dogs", "is", "are", "was", "were", "has", "have"], unk="<unk>")
    lands = word_vocab(["France", "Italy", "Paris", "Rome"], unk="<unk>")
    words = word_vocab(["the", "boy", "girl", "He", "She"], bos="<s>", unk="<unk>")
    letters = word_vocab(["a", "b", "c", "x"], bos="<s>")
    pair = {"clean": ["the boy"], "corrupt": ["the girl"], "answer": ["He"], "wrong": ["She"], "label": ["x"]}
    given: dict[str, dict[str, Any]] = {
        "ioi": {
            "tokenizer": word_vocab(["Ann", "Bob", "Cleo"], unk="<unk>"),
            "names": ["Ann", "Bob", "Cleo"],
        },
        "induction": {"tokenizer": int_vocab(30)},
        "repeats": {"tokenizer": int_vocab(30)},
        "pairs": {"tokenizer": words, **pair},
        "swaps": {
            "tokenizer": words,
            "templates": ["the {}"],
            "words": ["boy", "girl"],
            "answers": ["He", "She"],
        },
        "corpus": {"tokenizer": words, "source": ["the boy"]},
        "greater_than": {"tokenizer": years, "gap": " "},
        "pronouns": {"tokenizer": people, "he": ["Bob"], "she": ["Ann"], "n": 4},
        "agreement": {"tokenizer": nouns, "n": 800},
        "modular": {"tokenizer": int_vocab(6), "modulus": 5},
        "copying": {"tokenizer": int_vocab(20)},
        "sorting": {"tokenizer": int_vocab(20)},
        "single_tokens": {"tokenizer": int_vocab(20)},
        "bits": {"tokenizer": int_vocab(20)},
        "topics": {"tokenizer": int_vocab(80)},
        "capitals": {"tokenizer": lands},
        "facts": {"tokenizer": words, "path": str(path), "template": "the {}"},
        "texts": {"tokenizer": words, "path": str(path), "label": "label", "number": "number"},
        "program_pairs": {"tokenizer": letters, "program": "reverse", "length": 3, "n": 5},
        "towns": {"tokenizer": int_vocab(60), "count": 40, "n": 20},
        "town_prompts": {"tokenizer": int_vocab(60), "count": 40},
        "bags": {"tokenizer": int_vocab(70, bos=True), "n": 9},
        "equalities": {"tokenizer": int_vocab(20), "n": 9},
        "shapes": {"tokenizer": int_vocab(17, bos=True), "n": 9},
        "prompts": talk(folder) if name == "prompts" else {},
    }
    dataset: Dataset = fn(**given[name])
    return dataset


def talk(folder: Path) -> dict[str, Any]:
    """Arguments of `prompts`: a tokenizer with a chat template, and a row in which all roles speak."""
    path = folder / "talk.jsonl"
    path.write_text('{"a": "be brief", "b": "why", "c": "so", "l": "x"}\n', encoding="utf-8")
    chat = {"system": "a", "user": "b", "assistant": "c"}
    return {"path": str(path), "tokenizer": hf(chat_folder(folder)), "chat": chat, "label": "l"}


@pytest.mark.parametrize("name", sorted(declared("tasks").keys() - {"table", "random_pairs"}))
def test_declared_sides_and_columns_are_those_made(name: str, tmp_path: Path) -> None:
    fn = declared("tasks")[name]
    dataset = made(name, tmp_path)
    assert isinstance(fn.returns, ast.TypeRef) and fn.returns.name == "Data"
    assert [a.name for a in fn.returns.axes] == [s for s in dataset.sides if s]
    kinds = {n: t.name.lower() for n, t in fn.returns.columns if isinstance(t, ast.TypeRef)}
    for part in dataset.sides.values():
        assert kinds == {n: c.kind for n, c in part.columns.items()}


def test_table_declares_what_pairs_does() -> None:
    tasks = declared("tasks")
    assert tasks["table"].returns == tasks["pairs"].returns


def test_data_never_imports_torch() -> None:
    names = [f.extern for f in FUNCTIONS.values() if f.extern]
    modules = sorted({e.partition(":")[0] for e in names} | {"midsl.data.build"})
    code = (
        f"import sys, {', '.join(modules)}\nsys.exit('torch' in sys.modules or 'tokenizers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
