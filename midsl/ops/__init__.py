"""Tensor operations over named axes."""
