"""The model graph: export.py, sites.py, axes.py, rules.py, segments.py, info.py."""
