"""Weights in `do`: against the module itself with its parameters changed."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from midsl.diagnostics.model import MiError
from midsl.plan.driver import Compiled, Execution, compile_spec
from midsl.plan.explain import explain

HEAD = """language mi 1
import std.models as models
from std.tasks import pairs
model m = models.hf_random("{family}", config: {{ {config} }}, perturb: 0.1)
data d = pairs(m.tokenizer, clean: ["3 5", "1 2 3 4 5"], corrupt: ["4 5", "1 2 3 4 4"], answer: ["9", "7"])
"""
CONFIGS = {
    "gpt2": "n_layer: 2, n_head: 2, n_embd: 16, vocab_size: 24, n_positions: 32, bos_token_id: 0,"
    " eos_token_id: 0",
    "llama": "num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2, hidden_size: 16,"
    " intermediate_size: 24, vocab_size: 24, max_position_embeddings: 32",
}


def gpt2_out(net: Any) -> None:
    net.transformer.h[1].mlp.c_proj.weight.mul_(0.5)


def gpt2_value(net: Any) -> None:  # one fused [in, q k v] matrix; head 1 is columns 8.. of each third
    net.transformer.h[0].attn.c_attn.weight[:, 32 + 8 : 32 + 16] = 0


def gpt2_unembed(net: Any) -> None:  # tied: what is looked up stays
    net.lm_head.weight = nn.Parameter(net.lm_head.weight * 2.0)


def llama_gate(net: Any) -> None:
    net.model.layers[0].mlp.gate_proj.weight.add_(0.1)


def llama_keys(net: Any) -> None:
    net.model.layers[1].self_attn.k_proj.weight[4:8] = 0.25  # the second of two heads of keys


def llama_all(net: Any) -> None:
    for layer in net.model.layers:
        layer.self_attn.o_proj.weight.mul_(-1.0)


CASES: list[tuple[str, str, Callable[[Any], None]]] = [
    ("gpt2", "m.blocks[1].mlp.W_out := self * 0.5", gpt2_out),
    ("gpt2", "m.blocks[0].attn.W_V[head: 1] := 0", gpt2_value),
    ("gpt2", "m.W_U := self + self", gpt2_unembed),
    ("llama", "m.blocks[0].mlp.W_gate := self + 0.1", llama_gate),
    ("llama", "m.blocks[1].attn.W_K[kv_head: [1]] := 0.25", llama_keys),
    ("llama", "m.blocks[*].attn.W_O := -self", llama_all),
]


def spec(tmp_path: Path, body: str, family: str = "gpt2") -> Compiled:
    path = tmp_path / "spec.mi"
    path.write_text(HEAD.format(family=family, config=CONFIGS[family]) + f"experiment e {{\n{body}\n}}\n")
    return compile_spec(path)


def saved(compiled: Compiled) -> tuple[dict[str, torch.Tensor], Execution]:
    execution = Execution(compiled)
    execution.run()
    return {s.title.split(".")[-1]: s.value for stage in execution.stages for s in stage.saves}, execution


@pytest.mark.parametrize("family, edit, change", CASES, ids=[c[2].__name__ for c in CASES])
def test_as_the_module_with_other_parameters(
    family: str, edit: str, change: Callable[[Any], None], tmp_path: Path
) -> None:
    compiled = spec(
        tmp_path,
        f'let r = run m on d.clean do {{ {edit} }}\nsave r.logits as "logits"\n'
        'save (run m on d.clean).logits as "plain"',
        family,
    )
    found, execution = saved(compiled)
    loaded = compiled.binder.loaded(compiled.program.models[0][1])
    part = next(iter(compiled.binder.dataset(compiled.program.datas[0][1]).sides.values()))
    ids = torch.from_numpy(part.tokens)
    mask = (torch.arange(ids.shape[1]) < torch.from_numpy(part.lengths)[:, None]).long()
    net: Any = deepcopy(loaded.module)
    with torch.no_grad():
        for name in ("plain", "logits"):
            want = net(ids, attention_mask=mask).logits
            mine = found[name]
            real = mask.bool()
            assert torch.allclose(mine[real], want[real], atol=1e-5), name
            change(net)
    assert not torch.allclose(found["plain"], found["logits"], atol=1e-4, equal_nan=True)
    assert explain(compiled).optimised.flops == execution.totals.flops


def test_the_model_stays_as_it_was(tmp_path: Path) -> None:
    compiled = spec(tmp_path, 'let r = run m on d.clean do { m.W_U := 0 }\nsave r.logits as "x"')
    before = {
        k: v.clone()
        for k, v in compiled.binder.loaded(compiled.program.models[0][1]).module.state_dict().items()
    }
    found, _ = saved(compiled)
    assert not next(iter(found.values())).nan_to_num().any()
    after = compiled.binder.loaded(compiled.program.models[0][1]).module.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_a_weight_that_is_no_number_is_refused(tmp_path: Path) -> None:
    body = 'let r = run m on d.clean do { m.W_U := self / 0.0 }\nsave r.logits as "x"'
    compiled = spec(tmp_path, body)
    with pytest.raises(MiError) as err:
        saved(compiled)
    assert [d.code for d in err.value.diagnostics] == ["MI0701"] and err.value.exit_code == 4
