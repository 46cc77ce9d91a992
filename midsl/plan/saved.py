"""A saved tensor: its axes, what their indices stand for, and its file.

The file is safetensors: the tensor under its own name, `lengths` (real positions of each row, where it has
positions), and in the header the axes in order, a label for each index as JSON, and the unit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from midsl.store.rows import Artifact

LENGTHS = "lengths"
"""What goes beside a tensor that has positions; no tensor may be saved under this name."""


@dataclass(frozen=True, eq=False)
class Saved:
    """A tensor as a spec saved it.

    Attributes:
        value: [axes..].
        labels: what each index along an axis stands for: layers, heads, positions, strengths.
        lengths: int64 [batch], how many positions of each row are real; None without positions.
    """

    experiment: str
    name: str
    value: Tensor
    axes: tuple[str, ...]
    labels: Mapping[str, Sequence[object]]
    unit: str = ""
    lengths: Tensor | None = None

    @property
    def title(self) -> str:
        return f"{self.experiment}.{self.name}"

    def artifact(self, folder: Path) -> Artifact:
        """The file, written into a folder, as the store takes it in."""
        path = folder / f"{self.name}.safetensors"
        self.write(path)
        return Artifact("tensors", self.title, path=path)

    def write(self, path: Path) -> None:
        """Write the file."""
        tensors = {self.name: self.value.contiguous()}
        if self.lengths is not None:
            tensors[LENGTHS] = self.lengths.to(torch.int64).contiguous()
        header = {
            "axes": json.dumps(self.axes),
            "labels": json.dumps({k: list(v) for k, v in self.labels.items()}),
            "unit": self.unit,
            "experiment": self.experiment,
        }
        save_file(tensors, path, metadata=header)

    def about(self) -> str:
        """Shape and axes, for people."""
        shape = " x ".join(f"{a} {n}" for a, n in zip(self.axes, self.value.shape, strict=True))
        return f"{self.title}: {shape or 'a number'}"
