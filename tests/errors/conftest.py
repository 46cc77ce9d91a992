"""Facts for checking that come from the text alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from midsl.sema.filefacts import FileFacts
from midsl.syntax.tables import load_tables


@pytest.fixture
def facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileFacts:
    """What arguments say about a model: no cache of this machine takes part."""
    load_tables()  # these may come from the real cache
    monkeypatch.setenv("MIDSL_CACHE_DIR", str(tmp_path))
    return FileFacts()


@pytest.fixture
def model_files(tmp_path: Path) -> Path:
    """A folder with model files good, damaged and pickled, as bad programs name them."""
    import torch
    import transformers
    from safetensors.torch import save_file

    from midsl.models.toy import toy
    from tests.artefacts.common import LINEAR, sae_lens

    state = toy(layers=1, heads=2, d_model=16, vocab=32, ctx=16, seed=0).module.state_dict()
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "tiny.safetensors")
    (tmp_path / "damaged.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00not a header at all")
    torch.save({"model": torch.nn.Linear(2, 2)}, tmp_path / "pickled.pt")
    config = transformers.GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=32, n_positions=16)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "no-tokenizer")
    sae_lens("standard", LINEAR, "blocks.1.hook_resid_post")(tmp_path / "sae", torch.float32)
    sae_lens("temporal", LINEAR)(tmp_path / "another_sae", torch.float32)
    return tmp_path
