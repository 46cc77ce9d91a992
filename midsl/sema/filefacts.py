"""Facts that need no torch: sizes from arguments and configuration files, site tables from the cache."""

from __future__ import annotations

from dataclasses import dataclass, field

from midsl.graph.cache import load_info
from midsl.graph.info import ModelInfo
from midsl.ir import nodes as ir
from midsl.models.facts import Facts as ModelFacts
from midsl.models.facts import describe
from midsl.sema.facts import Facts


@dataclass
class FileFacts(Facts):
    """What `check` may know: everything that is cheap to look up."""

    known: dict[str, tuple[dict[str, int], ModelInfo | None]] = field(default_factory=dict)

    def _look(self, model: ir.Node) -> tuple[dict[str, int], ModelInfo | None]:
        model = ir.start_of(model)
        done = self.known.get(model.digest)
        if done is None:
            done = ({}, None)
            if isinstance(model, ir.Model):
                facts = described(model)
                if facts is not None:
                    info = load_info(facts.key)
                    done = (dict(info.sizes) if info else dict(facts.sizes), info)
            self.known[model.digest] = done
        return done

    def info(self, model: ir.Node) -> ModelInfo | None:
        return self._look(model)[1]

    def sizes(self, model: ir.Node) -> dict[str, int]:
        return self._look(model)[0]


def described(model: ir.Model) -> ModelFacts | None:
    """What is known of a model by its recipe alone."""
    args = {k: _plain(v) for k, v in model.args}
    return None if any(v is _UNKNOWN for v in args.values()) else describe(model.ref, args)


_UNKNOWN = object()


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        tag, *items = value
        if tag == "list":
            return [_plain(v) for v in items]
        if tag == "record":
            return {k: _plain(v) for k, v in items}
        return _UNKNOWN
    return _UNKNOWN if isinstance(value, ir.Node) else value
