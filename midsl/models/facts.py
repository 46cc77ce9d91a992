"""What is known of a model before it is loaded: its architecture, axis sizes and key, without torch.

`check` types a spec from these facts and finds the model's cached graph by its key. Each loader file has a
torch-free `describe_*` beside its loader, and the loader itself starts from it: so the key that `check`
computes and the key of the loaded model cannot differ.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

RECIPE = 2
"""Raised whenever a loader starts to build another graph from the same configuration."""

_DESCRIBERS = {
    "midsl.models.toy:toy": ("midsl.models.toy", "describe_toy"),
    "midsl.models.compiled.load:compiled": ("midsl.models.compiled.load", "describe_compiled"),
    "midsl.models.table:table": ("midsl.models.table", "describe_table"),
    "midsl.models.table:bystander": ("midsl.models.table", "describe_bystander"),
    "midsl.models.bag:bag": ("midsl.models.bag", "describe_bag"),
    "midsl.models.emulator:emulator": ("midsl.models.emulator", "describe_emulator"),
    "midsl.models.emulator:linear_emulator": ("midsl.models.emulator", "describe_linear"),
    "midsl.models.llama2c:llama2c": ("midsl.models.llama2c", "describe_llama2c"),
    "midsl.models.state_dict:state_dict": ("midsl.models.state_dict", "describe_state_dict"),
    "midsl.models.hf:hf": ("midsl.models.hf_files", "describe_hf"),
    "midsl.models.hf:file": ("midsl.models.hf_files", "describe_file"),
    "midsl.models.hf:hf_random": ("midsl.models.hf_files", "describe_hf_random"),
}


def _minor(package: str) -> str:
    """Return the installed major.minor version, "" if it is not installed."""
    try:
        return ".".join(version(package).split(".")[:2])
    except PackageNotFoundError:
        return ""


@dataclass(frozen=True)
class Facts:
    """An architecture, everything that decides its graph, and the axis sizes that follow from it.

    `sizes` has `layer head kv_head d_model d_head d_mlp vocab ctx` (of an emulator `d_state`) and `causal`
    (0 or 1), as far as the configuration says; `packages` are the ones whose version may change the graph.
    """

    arch: str
    config: dict[str, Json]
    sizes: dict[str, int]
    packages: tuple[str, ...] = ("torch",)
    circuit: tuple[str, ...] = ()
    """The edges by which the model does what it does, where that is known: of a compiled program."""

    @cached_property
    def key(self) -> str:
        """sha256 of architecture, configuration, loader recipe and package versions."""
        parts = [self.arch, self.config, RECIPE, {name: _minor(name) for name in self.packages}]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def describe(ref: str, args: Mapping[str, object]) -> Facts | None:
    """Return the facts of the model that a loader would give for these arguments.

    Args:
        ref: a loader of the standard library, ``"midsl.models.toy:toy"``.
        args: its keyword arguments; left out ones take their defaults.

    Returns:
        None if the loader is not one of these, or the facts are not on this machine (a hub model that
        was never fetched) or need the weights themselves (a pickled state dict).

    Raises:
        MiError: MI0504, MI0509 or MI0510 if a local file or the configuration is not usable.
    """
    if ref not in _DESCRIBERS:
        return None
    module, name = _DESCRIBERS[ref]
    describer: Callable[..., Facts | None] = getattr(import_module(module), name)
    return describer(**args)


def static_sizes(ref: str, args: Mapping[str, object]) -> dict[str, int] | None:
    """Return the axis sizes known without weights, or None; see `describe`.

    >>> static_sizes("midsl.models.toy:toy", {"layers": 3, "d_model": 64})["d_head"]
    16
    """
    facts = describe(ref, args)
    return facts.sizes if facts else None


def static_key(ref: str, args: Mapping[str, object]) -> str | None:
    """Return the key that the loaded model will have, or None; see `describe`."""
    facts = describe(ref, args)
    return facts.key if facts else None
