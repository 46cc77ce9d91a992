"""Compiled programs as models: what `check` knows of one, and the model itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from midsl.models.compiled.layout import BOS, layout
from midsl.models.facts import Facts
from midsl.models.tokens import plain_tokenizer
from midsl.models.toy import tiny_facts

if TYPE_CHECKING:
    from midsl.models.loaded import LoadedModel


def describe_compiled(program: str, length: int = 4, beside: str = "") -> Facts:
    """Return the facts of `compiled` with these arguments, its circuit among them; raises as it does."""
    plan = layout(program, length, beside)
    return replace(tiny_facts(plan.config), circuit=plan.circuit)


def compiled(program: str, length: int = 4, beside: str = "") -> LoadedModel:
    """Build a transformer that computes a program, exactly.

    Args:
        program, length, beside: as `layout.layout`, which says what is refused.
    """
    from midsl.models.compiled.weights import fill
    from midsl.models.loaded import loaded
    from midsl.models.tiny import TinyTransformer

    plan = layout(program, length, beside)
    module = TinyTransformer(plan.config)
    fill(module, plan)
    tokenizer = plain_tokenizer(len(plan.words), words=plan.words, bos=BOS)
    return loaded(
        describe_compiled(program, length, beside), module, module, tokenizer, "blocks", plan.config.ctx
    )
