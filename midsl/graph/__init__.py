"""The model graph, in reading order.

`export` (torch.export, cleaned) -> `stream` (blocks and what they add) -> `attention`, `mlp`, `project`
(the inside of a block), gathered in `parts` -> `names` (the table as data), `locate` (where a name is),
`table` and `weights` (what the front end is told: `info`, kept by `cache`) -> `sites` (`build_model_graph`,
`specialise`) with `specialise` and `expand` (rewrites) -> `rules`, `segments`. `axes` and `walk` serve all;
`hooks` is the engine for models that cannot be exported.
"""
