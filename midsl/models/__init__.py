"""Models: one file per source, all of them giving a `LoadedModel`.

Without torch: `config` (the small transformer's configuration), `facts` (sizes and key before loading),
`hf_files` (transformers configurations), `names` (conventions of state dicts), `tokens`. Loaders, which
import torch when they run: `toy`, `hf`, `llama2c`, `state_dict`. With torch: `tiny`, `loaded`.
"""
