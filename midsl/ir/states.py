"""What a run of states begins with: the edit that writes its state (see ``midsl.sema.states``)."""

from __future__ import annotations

from collections.abc import Callable

from midsl.ir import nodes as ir


def begins(edit: ir.Node) -> bool:
    """Whether an edit is the one that a run of an emulator begins with: no other there is absolute."""
    return isinstance(edit, ir.Edit) and edit.site.name == "state" and edit.absolute


def of_states(run: ir.Forward) -> bool:
    """Whether a run is one of an emulator."""
    return any(map(begins, run.edits))


def step_before(run: ir.Node) -> ir.Forward | None:
    """The step before, of whose output a step of a rollout begins."""
    edits = run.edits if isinstance(run, ir.Forward) else ()
    value = next((e.value for e in edits if begins(e)), None)
    return value.run if isinstance(value, ir.Read) and value.site.name == "output" else None


def earlier(run: ir.Node, known: Callable[[ir.Forward], bool]) -> list[ir.Forward]:
    """The steps before a run, the first one first, from the last one on that is known.

    Whoever walks down a rollout takes them in this order, so that a long one is no depth of calls.
    """
    found: list[ir.Forward] = []
    while (before := step_before(run)) is not None and not known(before):
        found.append(before)
        run = before
    return found[::-1]


def step_of(run: ir.Forward) -> int:
    """Which step of a rollout of states a run is; 0 for one that starts from the data."""
    return len(earlier(run, lambda _: False))


def from_data(edit: ir.Node) -> bool:
    """Whether an edit writes the states of the data, and nothing computed."""
    return begins(edit) and isinstance(edit.value, ir.Column)  # type: ignore[attr-defined]
