"""A warm session behind stdin and stdout: a line of JSON asks, a line of JSON answers.

Nothing listens on a port: whoever starts the process is the only one who can ask it. Questions are answered
in order.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from midsl.api import Session
from midsl.diagnostics.model import Diagnostic, MiError
from midsl.diagnostics.render import render_json
from midsl.plan.look import rows_json, value_json
from midsl.reach import NO_TRUST, Trust
from midsl.show.values import Result

Answer = dict[str, Any]
LONGEST = 10_000_000
"""Characters that a question may have."""


@dataclass
class Server:
    """Answers questions with one session."""

    store: Path
    trust: Trust = NO_TRUST
    session: Session = field(init=False)

    def __post_init__(self) -> None:
        self.session = Session(self.store, self.trust)

    def answer_all(self, questions: Iterable[str], out: IO[str]) -> None:
        """Answer line by line, until they end or one says stop."""
        for line in questions:
            if not line.strip():
                continue
            told, go_on = self.answer(line)
            out.write(json.dumps(told, default=str) + "\n")
            out.flush()
            if not go_on:
                return

    def answer(self, line: str) -> tuple[Answer, bool]:
        """One answer, and whether to go on."""
        asked: Any = None
        with suppress(ValueError):
            asked = json.loads(line) if len(line) <= LONGEST else None
        if not isinstance(asked, dict):
            return _wrong("a question is one JSON object on one line", None), True
        does: dict[str, Callable[[Mapping[str, Any]], Answer]] = {
            "run": self._run,
            "show": self._show,
            "check": self._check,
            "sql": self._sql,
            "forget": self._forget,
        }
        name, known = asked.get("do"), asked.get("id")
        if name == "stop":
            return {"id": known, "done": True}, False
        if name not in does:
            return _wrong(f"`do` is one of {', '.join(does)}, stop", known), True
        try:
            return {"id": known, **does[name](asked)}, True
        except MiError as err:
            return {
                "id": known,
                "error": render_json(list(err.diagnostics)),
                "exit_code": err.exit_code,
            }, True
        except (KeyError, TypeError, ValueError) as err:
            return _wrong(f"`{name}`: {err!r}", known), True

    def _run(self, asked: Mapping[str, Any]) -> Answer:
        result = self.session.run(_spec(asked), _params(asked))
        return {
            "run": result.run,
            "passed": result.passed,
            "executed": result.executed,
            "reports": _reports(result),
            "checks": [
                {"expect": c.text, "passed": c.passed, "observed": c.observed, "line": c.line}
                for c in result.checks
            ],
            "diagnostics": render_json(result.diagnostics),
        }

    def _show(self, asked: Mapping[str, Any]) -> Answer:
        expression = _text(asked, "expression")
        rows = self.session.rows(_spec(asked), expression, _params(asked))
        if rows is not None:
            return rows_json(rows)
        experiment = str(asked.get("experiment", ""))
        return value_json(self.session.show(_spec(asked), expression, _params(asked), experiment=experiment))

    def _check(self, asked: Mapping[str, Any]) -> Answer:
        compiled = self.session.compile(_spec(asked), _params(asked))
        return {"diagnostics": render_json(list(compiled.bag)), "steps": len(compiled.plan.steps)}

    def _sql(self, asked: Mapping[str, Any]) -> Answer:
        found = self.session.sql(_text(asked, "query"))
        return {"columns": found.columns, "rows": [list(r) for r in found.rows]}

    def _forget(self, asked: Mapping[str, Any]) -> Answer:
        self.session.forget()
        return {"done": True}


def _reports(result: Result) -> list[Answer]:
    return [
        {"experiment": t.experiment, "report": t.report, "columns": list(t.columns), "rows": t.rows()}
        for t in result.tables
    ]


def _spec(asked: Mapping[str, Any]) -> str | Path:
    """The path of a spec, or its text."""
    if ("spec" in asked) == ("text" in asked):
        raise ValueError("give `spec`, the path of a file, or `text`")
    return Path(_text(asked, "spec")) if "spec" in asked else _text(asked, "text") + "\n"


def _params(asked: Mapping[str, Any]) -> Mapping[str, object]:
    params = asked.get("params", {})
    if not isinstance(params, dict):
        raise ValueError("`params` is an object")
    return params


def _text(asked: Mapping[str, Any], key: str) -> str:
    value = asked[key]
    if not isinstance(value, str):
        raise TypeError(f"`{key}` is text")
    return value


def _wrong(why: str, known: object) -> Answer:
    error = Diagnostic("MI0101", f"not understood: {why}")
    return {"id": known, "error": render_json([error]), "exit_code": 2}
