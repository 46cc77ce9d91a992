"""One file, one pass; pipeline.py runs them in order."""
