"""Programs that a transformer can compute, as functions of a row: `terms` is their language, `known` they.

What a program means is needed for rows and their answers; `midsl.models.compiled` makes transformers of them.

Source: the language of Weiss et al., "Thinking Like Transformers", 2021 (arXiv 2106.06981).
"""
