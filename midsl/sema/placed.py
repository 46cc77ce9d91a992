"""What is told of places that a run finds: values that are records, and become tables of a report."""

from __future__ import annotations

from dataclasses import dataclass

from midsl.sema.values import RecordV, TensorV


@dataclass(frozen=True)
class PlacesV(RecordV):
    """A `value` at places that a run finds: `beside` columns say where, `kept` whether there is one."""

    beside: tuple[str, ...] = ()
    kept: TensorV | None = None


@dataclass(frozen=True)
class ContextsV(RecordV):
    """Tables of where units are largest: of the units, and of places (see ``midsl.sema.contexts``)."""

    kind = "Contexts"
