"""midsl: a small language with a real compiler for mechanistic interpretability."""

__version__ = "0.1.0"
