"""A stranger's spec: it runs no code, reads what it may, writes nowhere else, and shows nothing that acts."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.conftest import Done, Home

Cli = Callable[..., Done]
HEAD = """language mi 1
import std.models as models
from std.tasks import texts
from std.metrics import nll
"""
TOY = "model m = models.toy(layers: 1, heads: 1, d_model: 8, vocab: 16, ctx: 16)\n"
USE = """experiment e {
  let clean = run m on d
  report loss = mean(nll(clean), over: [batch, pos])
}
"""
ROWS = 'data d = texts("rows.jsonl", m.tokenizer, label: "kind")\n'


class Evil:
    """Writes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.fixture
def outside(home: Home) -> Path:
    """A file that nobody may make."""
    return home.folder.parent / f"{home.folder.name}-broken-out"


def refused(cli: Cli, home: Home, outside: Path, text: str, *codes: str) -> Done:
    (home.folder / "evil.mi").write_text(text, encoding="utf-8")
    done = cli("run", "evil.mi")
    assert done.code in (2, 4) and any(c in done.err for c in codes), done.err
    assert not outside.exists() and "Traceback" not in done.err
    assert not home.store.exists() or not list((home.store / "runs").glob("*/parts/*")), (
        "nothing half written"
    )
    return done


def test_code_of_the_specs_own(cli: Cli, home: Home, outside: Path) -> None:
    call = f'model m = f("touch {outside}")\n{ROWS}{USE}'
    for ref in ("os:system", "evil:run", "builtins:eval", "midsl.plan.jobs:subprocess.run", "bind:f"):
        text = f'{HEAD}extern fn f(command: String) -> Model = "{ref}"\n{call}'
        (home.folder / "evil.py").write_text(f"open({str(outside)!r}, 'w')", encoding="utf-8")
        refused(cli, home, outside, text, "MI0605")


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_pickles(cli: Cli, home: Home, outside: Path, suffix: str) -> None:
    with (home.folder / f"w{suffix}").open("wb") as f:
        pickle.dump({"wte.weight": Evil(outside)}, f)
    model = f'model m = models.state_dict("w{suffix}")\n'
    refused(cli, home, outside, HEAD + model + ROWS + USE, "MI0508", "MI0510")
    lens = f'{TOY}{ROWS}decomposition sae = decomp.stored("w{suffix}", at: m.blocks[0].resid_post)\n'
    refused(
        cli,
        home,
        outside,
        HEAD + "import std.decomp as decomp\n" + lens + USE,
        "MI0508",
        "MI0510",
        "MI0203",
        "MI0504",
        "MI0514",
    )


def test_a_models_own_code(cli: Cli, home: Home, outside: Path) -> None:
    folder = home.folder / "model"
    folder.mkdir()
    config = {
        "model_type": "strange",
        "auto_map": {"AutoModelForCausalLM": "evil.Model"},
        "architectures": ["Model"],
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "evil.py").write_text(f"open({str(outside)!r}, 'w')", encoding="utf-8")
    refused(cli, home, outside, f'{HEAD}model m = models.file("model")\n{ROWS}{USE}', "MI0605")


def test_paths_of_saves_and_imports(cli: Cli, home: Home, outside: Path) -> None:
    (home.folder / "rows.jsonl").write_text('{"text": "1 2 3", "kind": "a"}', encoding="utf-8")
    for name in (f"../{outside.name}", str(outside), "..", "a/b", "x\\u0000y", "", ".hidden/../../x"):
        text = (
            HEAD
            + TOY
            + ROWS
            + USE.replace("  report", f'  save clean[m.blocks[0].resid_post] as "{name}"\n  report')
        )
        refused(cli, home, outside, text, "MI0315", "MI0101", "MI0103", "MI01")
    secret = home.folder.parent / f"{home.folder.name}-secret.mi"
    secret.write_text("the secret of somebody else\n", encoding="utf-8")
    (home.folder / "link.mi").symlink_to(secret)
    (home.folder / "plain.txt").write_text("the secret of somebody else\n", encoding="utf-8")
    for path in (f"../{secret.name}", str(secret), "link.mi", "plain.txt", "/etc/passwd"):
        done = refused(
            cli, home, outside, f'{HEAD}from "{path}" import x\n{TOY}{ROWS}{USE}', "MI0605", "MI0202"
        )
        assert "secret of" not in done.err and "root:" not in done.err, "its lines are not shown"
    secret.unlink()


def test_huge_headers_and_archives(cli: Cli, home: Home, outside: Path) -> None:
    """Files that promise more than there is: refused at once, with next to nothing read."""
    for length in (2**63, 2**40, 90_000_000):
        (home.folder / "w.safetensors").write_bytes(struct.pack("<Q", length) + b"{}")
        text = f'{HEAD}model m = models.state_dict("w.safetensors")\n{ROWS}{USE}'
        refused(cli, home, outside, text, "MI0510")
    header = json.dumps(
        {"wte.weight": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 4]}}
    ).encode()
    (home.folder / "w.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    refused(cli, home, outside, text, "MI0510", "MI0509")
    deep = b'{"a":' * 200_000
    (home.folder / "w.safetensors").write_bytes(struct.pack("<Q", len(deep)) + deep)
    refused(cli, home, outside, text, "MI0510")


def bomb(path: Path, name: str, start: bytes, size: int) -> None:
    """A zip file that holds far more zeros than it is long."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z,
        z.open(name, "w", force_zip64=True) as f,
    ):
        f.write(start)
        for _ in range(size >> 20):
            f.write(bytes(1 << 20))
    assert path.stat().st_size < size // 500


def test_archives_that_unpack_to_more_than_there_is(cli: Cli, home: Home, outside: Path) -> None:
    """Their tables of contents are read, and nothing is unpacked."""
    use = (
        HEAD
        + "from std.decomp import sae_file\n"
        + TOY
        + ROWS
        + USE
        + 'decomposition sae = sae_file("params.npz", at: m.blocks[0].resid_post)\n'
        + "experiment f { report size = mean(sae.dec, over: [feature, d_model]) }\n"
    )
    start = io.BytesIO()
    shape = (2**27, 4)
    np.lib.format.write_array_header_1_0(start, {"descr": "<f4", "fortran_order": False, "shape": shape})
    bomb(home.folder / "params.npz", "W_enc.npy", start.getvalue(), 2**31)
    refused(cli, home, outside, use, "MI0510")
    bomb(home.folder / "params.npz", "W_enc.npy", start.getvalue(), 2**26)  # says more than it has
    refused(cli, home, outside, use, "MI0510")
    with zipfile.ZipFile(home.folder / "params.npz", "w") as z:
        z.writestr("../../out.npy", b"no array")
    refused(cli, home, outside, use, "MI0510")
    bomb(home.folder / "w.pt", "archive/data/0", b"", 2**30)
    refused(cli, home, outside, f'{HEAD}model m = models.state_dict("w.pt")\n{ROWS}{USE}', "MI0510")


def test_tables_and_settings_made_to_harm(cli: Cli, home: Home, outside: Path) -> None:
    import duckdb

    many = home.folder / "rows.parquet"
    duckdb.sql(
        f"COPY (SELECT '1 2' AS text, 'a' AS kind FROM range(40_000_000)) TO '{many}' (FORMAT parquet)"
    )
    assert many.stat().st_size < 2**21
    refused(cli, home, outside, HEAD + TOY + ROWS.replace("jsonl", "parquet") + USE, "MI0511")
    deep = '{"a":' * 200_000
    (home.folder / "model").mkdir()
    (home.folder / "model" / "config.json").write_text(deep, encoding="utf-8")
    refused(cli, home, outside, f'{HEAD}model m = models.file("model")\n{ROWS}{USE}', "MI0510")
    (home.folder / "rows.jsonl").write_text(deep, encoding="utf-8")
    refused(cli, home, outside, HEAD + TOY + ROWS + USE, "MI0511")


INJECTED = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
ESCAPES = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e"


def test_names_and_texts_that_act(cli: Cli, home: Home) -> None:
    """In the report they are text; in a terminal their control characters are written out."""
    rows = [{"text": "1 2 3", "kind": INJECTED}, {"text": "3 2 1", "kind": ESCAPES}]
    (home.folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    text = f"""{HEAD}{TOY}{ROWS}
## {INJECTED}
experiment e {{
  let clean = run m on d
  report loss = mean(nll(clean), over: [batch, pos])
  report each = mean(nll(clean), over: pos)
  plot bar(each, x: example)
  expect loss > 1000, "{INJECTED}"
}}
"""
    (home.folder / "acts.mi").write_text(text, encoding="utf-8")
    done = cli("run", "acts.mi").expect(3)
    shown = [
        done.out,
        done.err,
        cli("show", "latest").expect(0).out,
        cli("show", "acts.mi", "d").expect(0).out,
    ]
    shown.append(cli("sql", f"SELECT '{ESCAPES}' AS x").expect(0).out)
    for said in shown:
        assert not set(said) & {"\x1b", "\x07", "\x9b", "\u202e"}, "no terminal obeys it"
    assert "\\x1b[2J" in shown[3] and "\\x1b[2J" in shown[4], "it is told, in letters"
    cli("report", "latest", "-o", "page.html").expect(0)
    page = (home.folder / "page.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page and "<img src=x" not in page and "onerror" in page


def test_a_diagnostic_shows_no_escapes(cli: Cli, home: Home) -> None:
    path = home.folder / "acts.mi"
    path.write_text(f'language mi 1\nfrom "{ESCAPES}.mi" import x\n', encoding="utf-8")
    done = cli("check", "acts.mi").expect(2)
    assert not set(done.err) & {"\x1b", "\x07", "\x9b", "\u202e"}
