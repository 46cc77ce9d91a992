"""Position rules hold under perturbation, and equal blocks have equal hashes."""

from itertools import pairwise

import pytest

from midsl.graph.rules import check_rules
from tests.graph.families import ALL, graph, rows


@pytest.mark.parametrize("name", ALL)
def test_rules_hold_when_a_token_changes(name: str) -> None:
    mg = graph(name)
    ids, mask = rows(3, 7, 0)
    assert check_rules(mg, ids, mask) == []
    wanted = {"local", "causal"} if mg.info.causal else {"local", "mixing"}
    assert set(mg.rules.values()) == wanted
    assert sum(rule != "local" for rule in mg.rules.values()) >= mg.info.sizes["layer"]


def test_the_check_finds_a_rule_that_does_not_hold() -> None:
    mg = graph("tiny_encoder")
    ids, mask = rows(3, 7, 0)
    honest = dict(mg.rules)
    try:
        mg.rules.update({n: "causal" for n, rule in honest.items() if rule == "mixing"})
        assert any("an earlier position moves" in p for p in check_rules(mg, ids, mask))
        mg.rules.update({n: "local" for n in honest})
        assert any("a later position moves" in p for p in check_rules(mg, ids, mask))
    finally:
        mg.rules.update(honest)


@pytest.mark.parametrize("name", ALL)
def test_blocks_of_one_structure_share_a_hash(name: str) -> None:
    mg = graph(name)
    segments = mg.segments
    kinds = [(s.layer, s.kind) for s in segments]
    assert kinds[0] == (None, "embed") and kinds[-1] == (None, "unembed")
    assert segments[-1].output == mg.parts.frame.output.name
    for one, two in pairwise(segments):
        assert two.input == one.output
    by_layer = [[s.hash for s in segments if s.layer == i] for i in range(2)]
    assert by_layer[0] == by_layer[1]
    assert len(set(by_layer[0])) == len(by_layer[0]) == (2 if ("resid_mid", 0) in mg.sites else 1)


def test_hashes_tell_structures_apart() -> None:
    def attn(name: str) -> str:
        return next(s.hash for s in graph(name).segments if s.kind == "attn")

    assert len({attn(n) for n in ("gpt2", "llama", "gemma2", "tiny_gated", "tiny_bare", "tiny_encoder")}) == 6
