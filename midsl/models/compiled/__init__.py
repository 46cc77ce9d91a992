"""Transformers whose weights are computed from a program, so that their circuits are known.

The programs are those of `midsl.data.programs`. `layout` says where each part of one goes and which edges it
needs (no torch: `check` reads it), `weights` fills the matrices, `load` hands the model over.

Source: the method of Lindner et al., "Tracr: Compiled Transformers as a Laboratory for Interpretability",
2023 (arXiv 2301.05062).
"""
