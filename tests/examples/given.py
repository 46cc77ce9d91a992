"""Files that examples are given: published models and tables; a test whose files are not here is skipped."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from tests.examples.common import DATA, EXAMPLES, ask, midsl

STORIES = {"bin": "stories260k/stories260K.bin", "tokenizer": "stories260k/tok512.bin"}


def files(**names: str) -> dict[str, Path]:
    """Parameters that are files of the data folder."""
    found = {k: DATA / v for k, v in names.items()}
    if not all(f.exists() for f in found.values()):
        pytest.skip("its data is not on this machine")
    return found


def written_stories(folder: Path) -> dict[str, Path]:
    """The story model, and a file of what it writes: a story a line, as the docs of the writer say."""
    model = files(**STORIES)
    writer = EXAMPLES / "stories_text.mi"
    options = [x for k, v in model.items() for x in ("-p", f"{k}={v}")]
    done = midsl("run", writer, *options, "--store", folder / "store")
    assert done.exit_code == 0, done.output
    (query,) = re.findall(r"^## SQL: (SELECT .*)$", writer.read_text(encoding="utf-8"), re.M)
    text = str(ask(folder / "store", query)[0]["text"])
    lines = text.splitlines()
    assert len(set(lines)) == 400 and all(x.startswith("Once upon a time") for x in lines)
    (folder / "stories.txt").write_text(text + "\n", encoding="utf-8")
    return {**model, "text": folder / "stories.txt"}


def modular_addition(folder: Path) -> dict[str, Path]:
    """The model of the local interaction basis, and its authors' split of all pairs, written out."""
    model = files(path="rib_modadd/modadd_seed0.pt")
    order = torch.randperm(113 * 113, generator=torch.Generator().manual_seed(0)).tolist()  # as random_split
    for name, part in (("train", order[:3830]), ("test", order[3830:])):
        (folder / f"{name}.txt").write_text("".join(f"{i // 113} {i % 113} 113\n" for i in part))
    return {**model, "train": folder / "train.txt", "test": folder / "test.txt"}
