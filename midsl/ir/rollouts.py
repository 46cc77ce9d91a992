"""Rows that a model goes on writing: a rollout is a data set, and what is read of it is read of a run on it.

`Room` is what a rollout starts from, `Rollout` what comes of it. Both stand where a `Data` stands, behind a
`Part`; their `name` is what axes belong to, so that passes may write the expressions inside otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from midsl.ir.base import Json, Node


@dataclass(frozen=True, eq=False)
class Room(Node):
    """The rows of a part, each with room for `steps` more tokens."""

    part: Any
    steps: int
    name: str = ""


@dataclass(frozen=True, eq=False)
class Rollout(Node):
    """Rows that `model`, with `edits` in force, has written on from `room` (a `Part` of a `Room`).

    `options`: temperature, seed, stop. The rows are a choice point: the likeliest token of each step, or the
    greatest after the noise of its seed.
    """

    model: Node
    room: Any
    edits: tuple[Node, ...]
    options: tuple[tuple[str, Json], ...]
    name: str = ""
