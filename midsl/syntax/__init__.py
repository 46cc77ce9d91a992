"""Text to AST: parse.py (Lark), ast.py (the tree), comments attached to it."""
