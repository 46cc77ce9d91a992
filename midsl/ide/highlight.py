"""Colours for editors: the TextMate grammar and the VS Code extension around it, written from the word table.

`python -m midsl.ide.highlight` writes them into `grammar/highlight/`; a test says when that is due.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from midsl import __version__
from midsl.ide.words import GROUPS
from midsl.resources import resource_dir


def textmate() -> dict[str, Any]:
    """Return the TextMate grammar, scope `source.mi`."""
    words = [
        {"name": f"{scope}.mi", "match": rf"(?<![.\w])({'|'.join(group)})\b(?!\s*:(?!=))"}
        for scope, group in GROUPS.items()
    ]
    patterns = [
        {"name": "comment.line.documentation.mi", "match": r"##.*$"},
        {"name": "comment.line.number-sign.mi", "match": r"#.*$"},
        {
            "name": "string.quoted.double.mi",
            "begin": '"',
            "end": r'"|$',
            "patterns": [{"name": "constant.character.escape.mi", "match": r"\\(u\{[0-9a-fA-F]{1,6}\}|.)"}],
        },
        {"name": "constant.numeric.mi", "match": r"\b[0-9][0-9_]*(\.[0-9][0-9_]*)?([eE][+-]?[0-9]+)?\b"},
        {
            "match": r"\b(let|model|data|site|decomposition|basis|metric|control)\s+([a-z_]\w*)\s*(?=[:=])",
            "captures": {"1": {"name": "storage.type.mi"}, "2": {"name": "variable.other.definition.mi"}},
        },
        {
            "match": r"\b(fn|method|experiment)\s+([a-z_]\w*)",
            "captures": {"1": {"name": "keyword.declaration.mi"}, "2": {"name": "entity.name.function.mi"}},
        },
        {"name": "variable.parameter.label.mi", "match": r"\b[A-Za-z_]\w*(?=\s*:(?!=))"},
        {"name": "variable.other.column.mi", "match": r"(?<![\w)\]])\.[A-Za-z_]\w*"},
        *words,
        {"name": "entity.name.type.mi", "match": r"(?<!\.)\b[A-Z]\w*\b"},
        {"name": "entity.name.function.call.mi", "match": r"\b[a-z_]\w*(?=\()"},
        {"name": "keyword.operator.mi", "match": r":=|=>|->|~=|==|!=|<=|>=|\.\.=?|\*\*|[-+*/%|<>=]"},
    ]
    return {
        "name": "midsl",
        "scopeName": "source.mi",
        "fileTypes": ["mi"],
        "patterns": patterns,
    }


def extension() -> dict[str, Any]:
    """Return the VS Code extension's package.json: language, grammar, and the server to start."""
    return {
        "name": "midsl",
        "displayName": "midsl",
        "description": "The .mi language: colours, brackets, and the language server `midsl lsp`",
        "version": __version__,
        "publisher": "midsl",
        "license": "MIT",
        "engines": {"vscode": "^1.82.0"},
        "categories": ["Programming Languages"],
        "main": "./extension.js",
        "activationEvents": ["onLanguage:mi"],
        "dependencies": {"vscode-languageclient": "^9.0.1"},
        "contributes": {
            "languages": [
                {
                    "id": "mi",
                    "aliases": ["midsl", "mi"],
                    "extensions": [".mi"],
                    "configuration": "./language-configuration.json",
                }
            ],
            "grammars": [{"language": "mi", "scopeName": "source.mi", "path": "./mi.tmLanguage.json"}],
            "configuration": {
                "title": "midsl",
                "properties": {
                    "midsl.command": {
                        "type": "string",
                        "default": "midsl",
                        "description": "The midsl to start as language server",
                    }
                },
            },
        },
    }


def brackets() -> dict[str, Any]:
    """Return VS Code's language configuration: comments, brackets, what a new line does."""
    pairs = [["(", ")"], ["[", "]"], ["{", "}"]]
    closing = [{"open": a, "close": b} for a, b in pairs] + [{"open": '"', "close": '"', "notIn": ["string"]}]
    return {
        "comments": {"lineComment": "#"},
        "brackets": pairs,
        "autoClosingPairs": closing,
        "surroundingPairs": [*pairs, ['"', '"']],
        "indentationRules": {
            "increaseIndentPattern": r"[({\[]\s*(#.*)?$",
            "decreaseIndentPattern": r"^\s*[)}\]]",
        },
    }


CLIENT = """// Starts `midsl lsp` and hands it every .mi file.
const { LanguageClient } = require("vscode-languageclient/node");
const { workspace } = require("vscode");

let client;

exports.activate = () => {
  const command = workspace.getConfiguration("midsl").get("command");
  const server = { command, args: ["lsp"] };
  client = new LanguageClient("midsl", server, { documentSelector: [{ language: "mi" }] });
  return client.start();
};

exports.deactivate = () => client && client.stop();
"""


def files() -> dict[str, str]:
    """Return every generated file by its name under `grammar/highlight/vscode/`."""

    def text(value: dict[str, Any]) -> str:
        return json.dumps(value, indent=2) + "\n"

    return {
        "mi.tmLanguage.json": text(textmate()),
        "package.json": text(extension()),
        "language-configuration.json": text(brackets()),
        "extension.js": CLIENT,
    }


def write(folder: Path) -> None:
    """Write the generated files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(resource_dir("grammar") / "highlight" / "vscode")
