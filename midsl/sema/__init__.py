"""AST to typed IR: modules.py, types.py, elaborate.py and what they need."""
