"""The typed logical IR: types.py, nodes.py, program.py, text.py."""
