"""The grammar, the parser and its recovery."""
