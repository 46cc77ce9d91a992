"""The LALR machine: a stack of states, shift or reduce, and the questions that recovery asks of it."""

from __future__ import annotations

from typing import Any, Protocol

from midsl.source import SourceFile, Span
from midsl.syntax.lexer import Token
from midsl.syntax.tables import END, Rule, Tables


class Builder(Protocol):
    """What turns a reduction into a value."""

    def reduce(self, action: str, children: list[Any], span: Span) -> Any:
        """Return the value of a rule from those of its parts."""
        ...


class _Inline(list[Any]):
    """Children of a helper rule, on their way into the parent's."""


class Machine:
    """Parser state over one source.

    `states` and `values` are parallel but for the start state; a value is (what was built, start,
    end), so that spans include the punctuation that building drops.
    """

    def __init__(self, tables: Tables, source: SourceFile, builder: Builder) -> None:
        self.tables = tables
        self.source = source
        self.builder = builder
        self.states: list[int] = [tables.start]
        self.values: list[tuple[Any, int, int]] = []
        self.last = 0  # where the previous token ended

    def read(self, token: Token) -> str:
        """Return the terminal a token stands for in this state: its keyword where one fits, else its name."""
        if token.keyword and (token.hard or token.keyword in self.tables.states[self.states[-1]]):
            return token.keyword
        return token.type

    def feed(self, token: Token, kind: str = "") -> bool:
        """Take one token, read as `kind`; False (and nothing done) if it does not fit."""
        kind = kind or self.read(token)
        rows, rules, states = self.tables.states, self.tables.rules, self.states
        if rows[states[-1]].get(kind, -1) < 0 and not self.accepts(kind):
            return False
        while True:
            if kind == END and states[-1] == self.tables.end:
                return True
            step = rows[states[-1]][kind]
            if step >= 0:
                states.append(step)
                self.values.append((token, token.start, token.end))
                self.last = token.end
                return True
            rule = rules[-1 - step]
            if rule.passes and type(self.values[-1][0]) is not _Inline:
                states[-1] = self.tables.chain(states[-2], states[-1], kind)
            else:
                self._reduce(rule)

    def accepts(self, kind: str, depth: int | None = None, first: tuple[str, ...] = ()) -> bool:
        """Whether a terminal fits, once the stack is cut to `depth` states and `first` is taken."""
        stack = self.states[:depth]
        return all(self._shifts(stack, k) for k in first) and self._shifts(stack, kind)

    def _shifts(self, stack: list[int], kind: str) -> bool:
        """Take a terminal on a bare stack of states; the stack is the caller's to throw away."""
        rows, rules = self.tables.states, self.tables.rules
        while True:
            if kind == END and stack[-1] == self.tables.end:
                return True
            step = rows[stack[-1]].get(kind)
            if step is None:
                return False
            if step >= 0:
                stack.append(step)
                return True
            rule = rules[-1 - step]
            if rule.passes:
                stack[-1] = self.tables.chain(stack[-2], stack[-1], kind)
                continue
            if rule.size:
                del stack[-rule.size :]
            stack.append(rows[stack[-1]][rule.origin])

    def expected(self) -> set[str]:
        """Return the terminals that fit in this state."""
        return {k for k in self.tables.states[self.states[-1]] if _is_terminal(k) and self.accepts(k)}

    def drop(self, depth: int) -> None:
        """Cut the stack to `depth` states, forgetting what was half built above."""
        del self.states[depth:]
        del self.values[depth - 1 :]

    @property
    def result(self) -> Any:
        """What the start rule built, once the end of the file was taken."""
        return self.values[-1][0]

    def _reduce(self, rule: Rule) -> None:
        size, values, states = rule.size, self.values, self.states
        children: list[Any] = [None] * rule.nones[0]
        if size:
            parts = values[-size:]
            start, end = parts[0][1], parts[-1][2]
            del values[-size:], states[-size:]
            for (value, _, _), (keep, nones) in zip(parts, rule.slots, strict=True):
                if type(value) is _Inline:
                    children += value
                elif keep:
                    children.append(value)
                if nones:
                    children += [None] * nones
        else:
            start = end = self.last
        if rule.inline:
            value = _Inline(children)
        elif rule.single and len(children) == 1:
            value = children[0]
        else:
            value = self.builder.reduce(rule.action, children, Span(self.source, start, end))
        states.append(self.tables.states[states[-1]][rule.origin])
        values.append((value, start, end))


def _is_terminal(symbol: str) -> bool:
    return symbol.isupper()
