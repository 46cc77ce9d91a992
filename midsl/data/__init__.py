"""Tokenizers, data sets, tasks and their columns."""
