"""Decompositions in the file formats of other packages: one file for each format, `write` for all.

Readers look at configurations and at the headers of tensor files, never at the tensors: so `check` can say
what is there, and what is not understood, without torch.
"""
