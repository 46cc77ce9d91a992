"""The matrices of a compiled program: entries of the stream for values, scores for what is selected.

What is selected scores `SHARP` and everything else 0: e to the -40 is below the rounding of float64, so that
a mean is over what is selected and nothing else.
"""

from __future__ import annotations

from itertools import pairwise

import torch

from midsl.data.programs.terms import Cell, Count, Mean, Share, Table, Term
from midsl.models.compiled.layout import BOS, Layout, neurons
from midsl.models.tiny import MLP, Attention, Block, TinyTransformer

SHARP = 40.0
LOUD = 10.0
"""How much a value that the output has adds to the logit of its word."""


@torch.no_grad()
def fill(module: TinyTransformer, plan: Layout) -> None:
    """Write a program into a transformer of its configuration."""
    for p in module.parameters():
        p.zero_()
    for layer, block in enumerate(module.blocks):
        assert isinstance(block, Block)
        for h, term in enumerate(plan.heads[layer]):
            _head(block.attn, h, term, plan)
        at = 0
        for part in plan.mlps(layer):
            if isinstance(part, Table):
                _table(block.mlp, at, part, plan)
            else:
                _count(block.mlp, at, part, plan)
            at += neurons(part)
    _ends(module, plan)


def _at(plan: Layout, term: Term, value: Cell) -> int:
    """The entry that is 1 where a term has a value."""
    return plan.slots[term.name][term.domain.index(value)]


def _ends(module: TinyTransformer, plan: Layout) -> None:
    """Tokens and positions in, words out: of a number the nearest word, as -(v - c)^2 is 2vc - c^2 - v^2."""
    module.embed.weight[0, plan.slots[BOS]] = 1.0
    for i, letter in enumerate(plan.tokens.domain):
        module.embed.weight[1 + i, _at(plan, plan.tokens, letter)] = 1.0
    assert module.pos_embed is not None
    for i, index in enumerate(plan.indices.domain):
        module.pos_embed.weight[1 + i, _at(plan, plan.indices, index)] = 1.0
    out = plan.output
    module.unembed.bias.fill_(-LOUD)  # what is no output of the program
    for value in out.domain:
        word = plan.words.index(str(value))
        if out.numeric:
            c = float(value)  # type: ignore[arg-type]
            module.unembed.weight[word, plan.slots[out.name][0]] = 2 * LOUD * c
            module.unembed.bias[word] = -LOUD * c * c
        else:
            module.unembed.weight[word, _at(plan, out, value)] = LOUD
            module.unembed.bias[word] = 0.0


def _head(attn: Attention, h: int, term: Mean | Share, plan: Layout) -> None:
    """Keys say which value they have, and queries which values they look for."""
    first = h * attn.d_head
    keys, queries = term.select.keys, term.select.queries
    for j, key in enumerate(keys.domain):
        attn.k.weight[first + j, _at(plan, keys, key)] = 1.0
        for query in queries.domain:
            if term.select.holds(key, query):
                attn.q.weight[first + j, _at(plan, queries, query)] = SHARP
    out = plan.slots[term.name]
    if isinstance(term, Share):  # every query looks at the beginning, too; the beginning itself at all alike
        j = len(keys.domain)
        attn.k.weight[first + j, plan.slots[BOS]] = 1.0
        attn.q.weight[first + j, plan.slots[queries.name]] = SHARP
        read = plan.slots[BOS]
    else:
        read = plan.slots[term.values.name]
    for j, (i, o) in enumerate(zip(read, out, strict=True)):
        attn.v.weight[first + j, i] = 1.0
        attn.o.weight[o, first + j] = 1.0


def _table(mlp: MLP, at: int, term: Table, plan: Layout) -> None:
    """One neuron for each case: on where all its inputs have their values."""
    for n, (case, value) in enumerate(term.cases):
        for t, v in zip(term.of, case, strict=True):
            mlp.up.weight[at + n, _at(plan, t, v)] = 1.0
        mlp.up.bias[at + n] = 1.0 - len(case)
        if term.numeric:
            mlp.down.weight[plan.slots[term.name][0], at + n] = float(value)  # type: ignore[arg-type]
        else:
            mlp.down.weight[_at(plan, term, value), at + n] = 1.0


def _count(mlp: MLP, at: int, term: Count, plan: Layout) -> None:
    """A step between the shares of two counts; a count is where one step is up and the one before is not."""
    shares = [float(s) for s in term.share.domain]  # type: ignore[arg-type]
    read, out = plan.slots[term.share.name][0], plan.slots[term.name]
    always = at + 2 * (len(shares) - 1)
    mlp.up.bias[always] = 1.0
    mlp.down.weight[out[-1], always] = 1.0
    for w, (above, below) in enumerate(pairwise(shares)):
        steep, middle = 2 / (above - below), (above + below) / 2
        for side, sign in ((0, 1.0), (1, -1.0)):  # relu(x + 1/2) - relu(x - 1/2): from 0 to 1
            n = at + 2 * w + side
            mlp.up.weight[n, read] = steep
            mlp.up.bias[n] = sign / 2 - steep * middle
            mlp.down.weight[out[w], n] += sign
            mlp.down.weight[out[w + 1], n] -= sign
