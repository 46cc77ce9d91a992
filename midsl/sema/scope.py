"""Names while a spec is elaborated: scopes, and bindings that are elaborated when first used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from midsl.diagnostics.model import MiError, fail
from midsl.sema.context import Context
from midsl.sema.values import Poison, PoisonError, Value
from midsl.source import Span

if TYPE_CHECKING:
    from midsl.sema.agree import Signature


class Lazy:
    """A binding that is elaborated when first used; a refused one poisons its users silently."""

    def __init__(self, name: str, span: Span, make: Callable[[], Value], ctx: Context) -> None:
        self.name, self.span, self.make, self.ctx = name, span, make, ctx
        self.value: Value | None = None
        self.busy = False

    def get(self) -> Value:
        if self.value is not None:
            return self.value
        if self.busy:
            raise fail(
                "MI0211",
                f"`{self.name}` is defined by itself",
                self.span,
                label="this needs its own value",
                help="use another name on one side: `let next = last + 1`",
            )
        self.busy = True
        try:
            self.value = self.make()
        except MiError as err:
            for call in reversed(self.ctx.calls):  # a binding of a function
                err = err.seen_from(call, "called here")
            self.ctx.bag.extend(err.diagnostics)
            self.value = Poison()
        except PoisonError:
            self.value = Poison()
        finally:
            self.busy = False
        return self.value


class Scope:
    """Names, and the scope around them."""

    def __init__(
        self,
        names: Mapping[str, Value | Lazy],
        parent: Scope | None = None,
        signature: Signature | None = None,
    ) -> None:
        self.names, self.parent, self.signature = dict(names), parent, signature

    def child(self, names: Mapping[str, Value | Lazy], signature: Signature | None = None) -> Scope:
        """A scope inside this one; that of a call has what its arguments and types agreed on."""
        return Scope(names, self, signature)

    def find(self, name: str) -> Value | None:
        """The value of a name, or None where it is not bound."""
        scope: Scope | None = self
        while scope is not None:
            hit = scope.names.get(name)
            if hit is not None:
                return hit.get() if isinstance(hit, Lazy) else hit
            scope = scope.parent
        return None

    def all_names(self) -> list[str]:
        """Every name in reach, for suggestions."""
        found: list[str] = []
        scope: Scope | None = self
        while scope is not None:
            found += (n for n in scope.names if not n.startswith("@"))
            scope = scope.parent
        return found
