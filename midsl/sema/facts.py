"""What the elaborator may know of the outside world: asked for, never fetched.

`check` has the facts that files and caches give without torch; `run` has all of them. An answer of
None means "not known yet": types keep symbolic sizes, and nothing is refused for lack of a fact.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midsl.artefacts.graphs.base import GraphFile
from midsl.graph.info import ModelInfo
from midsl.ir.nodes import Node

if TYPE_CHECKING:  # numpy comes with it, which `check` has no use for
    from midsl.data.dataset import Dataset


@dataclass(frozen=True)
class Told:
    """What a function of literals gives: the shape of each of its fields, and a hash of it all."""

    shapes: dict[str, tuple[int, ...]]
    content: str


class Facts:
    """Knows nothing; the base of the real ones."""

    is_bound = False
    """Whether all is there that there will be before anything runs."""

    def code(self, ref: str) -> str:
        """A hash of the file that a function stands in, where that is not midsl's own; "" if unknown."""
        return ""

    def extern(self, ref: str, params: tuple[Any, ...], gives: tuple[Any, ...]) -> Told | None:
        """What a function of literals gives."""
        return None

    def graph_file(self, path: Path) -> GraphFile | None:
        """The graph of a `.pt`, which only torch can tell."""
        return None

    def info(self, model: Node) -> ModelInfo | None:
        """The site table of a model."""
        return None

    def sizes(self, model: Node) -> dict[str, int]:
        """Axis sizes of a model, as far as they are known (`layer`, `head`, `d_model`, ...)."""
        info = self.info(model)
        return dict(info.sizes) if info else {}

    def dataset(self, data: Node) -> Dataset | None:
        """The rows of a data set."""
        return None

    def name_axes(self, model: Node, site: str, axes: tuple[str, ...]) -> None:
        """Take down the names that a spec gives to the axes of a module site."""
