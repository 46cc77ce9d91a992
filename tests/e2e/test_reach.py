"""What a spec may read: its own folder, and what whoever starts it points at."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import Done, Home
from tests.e2e.test_hostile import HEAD, ROWS, TOY, USE, outside, refused

__all__ = ["outside"]
Cli = Callable[..., Done]


SECRET = "the secret of somebody else"


@pytest.fixture
def secret(home: Home) -> Path:
    """A folder beside that of the spec, with files that it has no business with."""
    folder = home.folder.parent / f"{home.folder.name}-private"
    folder.mkdir()
    for name in ("rows.jsonl", "text.txt", "w.json", "tok.bin", "config.json", "params.npz"):
        (folder / name).write_text(json.dumps({"text": "1 2 3", "kind": SECRET}), encoding="utf-8")
    (home.folder / "link").symlink_to(folder)
    (home.folder / "rows.jsonl").symlink_to(folder / "rows.jsonl")
    model = home.folder / "model"
    model.mkdir()
    (model / "config.json").symlink_to(folder / "config.json")
    return folder


TINY = "{ n_layer: 1, n_head: 1, n_embd: 8, vocab_size: 64, n_positions: 16 }"
READS = (
    f'{TOY}data d = texts("WHERE/rows.jsonl", m.tokenizer, label: "kind")\n',
    f'{TOY}data d = tasks.corpus("WHERE/text.txt", m.tokenizer, ctx: 4)\n',
    f'model m = models.state_dict("WHERE/w.json")\n{ROWS}',
    f'model m = models.llama2c("WHERE/tok.bin")\n{ROWS}',
    f'model m = models.file("WHERE")\n{ROWS}',
    f'model m = models.hf("WHERE")\n{ROWS}',
    f'model m = models.hf_random("gpt2", config: {TINY}, tokenizer: "WHERE/tok.bin")\n{ROWS}',
    f'{TOY}data d = texts("own.jsonl", tokenizers.words_of("WHERE/text.txt"), label: "kind")\n',
    f'{TOY}data d = texts("own.jsonl", tokenizers.hf("WHERE"), label: "kind")\n',
    f'{TOY}data d = texts("own.jsonl", tokenizers.llama2c("WHERE/tok.bin"), label: "kind")\n',
    f'{TOY}data d = texts("own.jsonl", tokenizers.gpt2("WHERE/w.json", "WHERE/text.txt"), label: "kind")\n',
    f'{TOY}{ROWS.replace("rows", "own")}decomposition sae = sae_file("WHERE", at: m.blocks[0].resid_post)\n',
    f'{TOY}{ROWS.replace("rows", "own")}decomposition sae = sae_file("WHERE/params.npz", at: m.embed)\n',
)
MORE = "import std.tasks as tasks\nimport std.tokenizers as tokenizers\nfrom std.decomp import sae_file\n"


@pytest.mark.parametrize("read", READS)
def test_files_elsewhere(cli: Cli, home: Home, outside: Path, secret: Path, read: str) -> None:
    """By a path up, from the root, or through a link: neither read nor shown."""
    (home.folder / "own.jsonl").write_text('{"text": "1 2 3", "kind": "a"}', encoding="utf-8")
    for where in (f"../{secret.name}", str(secret), "link"):
        done = refused(cli, home, outside, HEAD + MORE + read.replace("WHERE", where) + USE, "MI0516")
        assert "somebody" not in done.err and done.err.count("MI05") == 1, done.err


def test_links_and_shards_of_a_folder(cli: Cli, home: Home, outside: Path, secret: Path) -> None:
    """What lies in the folder of the spec may itself lead elsewhere."""
    refused(cli, home, outside, HEAD + TOY + ROWS + USE, "MI0516")
    model = f'{HEAD}model m = models.file("model")\n{ROWS}{USE}'
    refused(cli, home, outside, model, "MI0516")
    config = home.folder / "model" / "config.json"
    config.unlink()
    config.write_text('{"model_type": "gpt2"}', encoding="utf-8")
    index = {"weight_map": {"wte.weight": f"../../{secret.name}/w.safetensors"}}
    (home.folder / "model" / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    refused(cli, home, outside, model, "MI0516")


def test_no_command_reads_elsewhere(cli: Cli, home: Home, secret: Path) -> None:
    text = f'{HEAD}model m = models.state_dict("../{secret.name}/w.json")\n{ROWS}{USE}'
    (home.folder / "evil.mi").write_text(text, encoding="utf-8")
    for words in (
        ["check", "evil.mi"],
        ["explain", "evil.mi"],
        ["run", "evil.mi", "--dry-run"],
        ["verify", "evil.mi"],
        ["sites", "evil.mi"],
        ["show", "evil.mi", "mean(clean.logits, over: [batch, pos, vocab])"],
        ["export-lens", "evil.mi", "x", "--format", "saelens", "--to", "out"],
    ):
        done = cli(*words).expect(2)
        assert "MI0516" in done.err and "somebody" not in done.err + done.out, words
    fixed = cli("fix", "evil.mi")
    assert "somebody" not in fixed.out + fixed.err and (home.folder / "evil.mi").read_text() == text


def test_what_its_user_points_at_may_be_read(cli: Cli, home: Home, secret: Path) -> None:
    """By a parameter of the command line, `--allow`, or `--trust`: the last two are told, and kept."""
    by_name = (
        HEAD
        + TOY
        + f'param rows: String = "../{secret.name}/rows.jsonl"\n'
        + ROWS.replace('"rows.jsonl"', "rows")
        + USE
    )
    (home.folder / "named.mi").write_text(by_name, encoding="utf-8")
    assert "MI0516" in cli("run", "named.mi").expect(2).err, "its own default is not the user's word"
    given = ["-p", f"rows={secret / 'rows.jsonl'}"]
    assert "MI0607" not in cli("run", "named.mi", *given).expect(0).err
    cli("run", "named.mi", "-p", f"rows=../{secret.name}/rows.jsonl").expect(0)
    for leave in (["--allow", secret], ["--allow", secret / "rows.jsonl"], ["--trust"]):
        said = cli("run", "named.mi", "--no-reuse", *leave).expect(0).err
        assert "note[MI0607]" in said and f"../{secret.name}/rows.jsonl" in said, said
    kept = (
        cli("sql", "SELECT count(*) AS n FROM diagnostics WHERE code = 'MI0607'", "--json").expect(0).json()
    )
    assert kept == [{"n": 3}]
    assert "MI0516" in cli("run", "named.mi", "--allow", home.cache).expect(2).err
    assert "MI0516" in cli("reproduce", "latest").expect(2).err
    cli("reproduce", "latest", "--allow", secret).expect(0)


def test_python_has_the_same_bounds(home: Home, secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import midsl
    from midsl.diagnostics.model import MiError

    monkeypatch.chdir(home.folder)
    text = HEAD + TOY + ROWS.replace("rows.jsonl", f"{secret}/rows.jsonl") + USE
    with pytest.raises(MiError, match="MI0516"):
        midsl.run(text, store=home.store)
    result = midsl.run(text, store=home.store, allow=[secret])
    assert [d.code for d in result.diagnostics] == ["MI0607"]
