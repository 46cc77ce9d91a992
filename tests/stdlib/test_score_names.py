"""What stands in a store under the name of a score was always worked out in one way.

Each formula of `std.scores` is kept by a digest of its text. A formula that is to be another one gets another
name (`fvu_v2`); a change that is none, such as a layout, may update the golden file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from midsl.ide.library import read
from midsl.resources import resource_dir
from midsl.syntax import ast
from tests.conftest import Golden


def test_a_formula_keeps_its_name(golden: Golden) -> None:
    root = resource_dir("stdlib")
    lines = []
    for path in (root / "scores.mi", *sorted((root / "scores").glob("*.mi"))):
        for decl in read(path).decls:
            if isinstance(decl, ast.Fn):
                text = "".join(decl.span.text.split())
                lines.append(f"{path.stem} {decl.name} {hashlib.sha256(text.encode()).hexdigest()[:12]}")
    assert len(lines) > 40
    golden(Path(__file__).with_name("score_names.txt"), "\n".join(lines) + "\n")
