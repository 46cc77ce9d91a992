"""Where each part of a program goes: layers, heads, entries of the stream, and the edges that it needs.

A head stands in the first layer behind all that it reads, an MLP likewise. Every term has entries of the
stream for itself, so what a part reads and who writes it is known, and so is the circuit. No torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from midsl.data.programs.known import program
from midsl.data.programs.terms import Count, Indices, Mean, Share, Table, Term, Tokens
from midsl.diagnostics.model import fail
from midsl.models.config import TinyConfig

BOS = "<s>"
HEADS = (Mean, Share)
MLPS = (Table, Count)


@dataclass(frozen=True)
class Layout:
    """A program, laid out: `output` is what the logits read, `beside` what is computed and read by nobody."""

    output: Term
    beside: tuple[Term, ...]
    tokens: Tokens
    indices: Indices

    @cached_property
    def terms(self) -> tuple[Term, ...]:
        """All terms, inputs first."""
        found: dict[str, Term] = {t.name: t for t in (self.tokens, self.indices)}

        def add(term: Term) -> None:
            for t in term.inputs:
                add(t)
            found.setdefault(term.name, term)

        for root in (self.output, *self.beside):
            add(root)
        return tuple(found.values())

    @cached_property
    def when(self) -> dict[str, int]:
        """When each term is there: -1 at first, 2 l behind attention of block l, 2 l + 1 behind its MLP."""
        found: dict[str, int] = {}
        for t in self.terms:
            at = max((found[i.name] for i in t.inputs), default=-2) + 1
            found[t.name] = at + (
                at % 2 if isinstance(t, HEADS) else (at + 1) % 2 if isinstance(t, MLPS) else 0
            )
        return found

    @cached_property
    def heads(self) -> tuple[tuple[Mean | Share, ...], ...]:
        """The heads of each block."""
        return tuple(
            tuple(t for t in self.terms if isinstance(t, HEADS) and self.when[t.name] == 2 * layer)
            for layer in range(self.layers)
        )

    def mlps(self, layer: int) -> tuple[Table | Count, ...]:
        """What the MLP of a block computes."""
        return tuple(t for t in self.terms if isinstance(t, MLPS) and self.when[t.name] == 2 * layer + 1)

    @property
    def layers(self) -> int:
        return max(self.when.values()) // 2 + 1

    @cached_property
    def slots(self) -> dict[str, range]:
        """The entries of the stream that hold each term; the last one says that this is the beginning."""
        found, at = {}, 0
        for t in self.terms:
            width = 1 if t.numeric else len(t.domain)
            found[t.name] = range(at, at + width)
            at += width
        found[BOS] = range(at, at + 1)
        return found

    @property
    def words(self) -> tuple[str, ...]:
        """The vocabulary: the beginning, the letters, and what the output may be besides."""
        letters = [str(v) for v in self.tokens.domain]
        outputs = [str(v) for v in self.output.domain]
        return (BOS, *letters, *[w for w in outputs if w not in letters])

    @property
    def config(self) -> TinyConfig:
        """The transformer that holds it: no norms, no causal mask, ReLU."""
        heads = [h for layer in self.heads for h in layer]
        keys = [len(h.select.keys.domain) + isinstance(h, Share) for h in heads]
        values = [len(self.slots[h.name]) for h in heads]
        return TinyConfig(
            layers=self.layers,
            heads=max(1, *(len(layer) for layer in self.heads)),
            d_model=self.slots[BOS].stop,
            d_head=max(*keys, *values),
            d_mlp=max(1, *(sum(neurons(t) for t in self.mlps(layer)) for layer in range(self.layers))),
            vocab=len(self.words),
            ctx=len(self.indices.domain) + 1,
            norm="none",
            final_norm=False,
            act="relu",
            causal=False,
            attn_scale=1.0,
            unembed_bias=True,
        )

    def writer(self, term: Term) -> str:
        """Who writes a term: ``embed``, ``pos_embed``, ``a0.h1``, ``m0``."""
        if isinstance(term, (Tokens, Indices)):
            return "embed" if isinstance(term, Tokens) else "pos_embed"
        layer = self.when[term.name] // 2
        if not isinstance(term, HEADS):
            return f"m{layer}"
        return f"a{layer}.h{self.heads[layer].index(term)}"

    @property
    def circuit(self) -> tuple[str, ...]:
        """The edges by which the output comes about, as `m.edges` names them."""
        found = dict.fromkeys(e for t in self._needed(self.output) for e in self._reads(t))
        return (*found, f"{self.writer(self.output)}->logits")

    def _needed(self, term: Term) -> Iterator[Term]:
        for t in term.inputs:
            yield from self._needed(t)
        yield term

    def _reads(self, term: Term) -> Iterator[str]:
        """The edges that end in the part that computes a term."""
        me = self.writer(term)
        if isinstance(term, HEADS):
            select = term.select
            everything = all(select.holds(k, q) for k in select.keys.domain for q in select.queries.domain)
            if not (everything and isinstance(term, Share)):  # which looks at all alike, told or not
                yield f"{self.writer(select.queries)}->{me}<q>"
                yield f"{self.writer(select.keys)}->{me}<k>"
            if isinstance(term, Share):  # the beginning of the row is a key, and what is averaged
                if not everything:
                    yield f"embed->{me}<k>"
                yield f"embed->{me}<v>"
            else:
                yield f"{self.writer(term.values)}->{me}<v>"
        elif isinstance(term, MLPS):
            yield from (f"{self.writer(t)}->{me}" for t in term.inputs)


def neurons(term: Table | Count) -> int:
    """How many neurons compute a term: one for each case, two for each step and one that is always 1."""
    return len(term.cases) if isinstance(term, Table) else 2 * (len(term.domain) - 1) + 1


def layout(name: str, length: int = 4, beside: str = "") -> Layout:
    """Lay a program out.

    Args:
        name: a program of `midsl.data.programs`.
        length: how many tokens a row may have, the one that begins it not counted.
        beside: another program on the same letters, whose output nobody reads.

    Raises:
        MiError: MI0509 for an unknown program, one of other letters, or a length out of range.
    """
    main, others = program(name), [program(beside)] if beside else []
    if not 2 <= length <= 16:
        raise fail("MI0509", f"length is {length}", help="give a length from 2 to 16")
    if any(p.letters != main.letters or beside == name for p in others):
        raise fail(
            "MI0509",
            f'"{beside}" cannot stand beside "{name}"',
            help=f"another program on the letters {' '.join(main.letters)}",
        )
    tokens, indices = main.inputs(length)
    return Layout(main.make(tokens, indices), tuple(p.make(tokens, indices) for p in others), tokens, indices)
