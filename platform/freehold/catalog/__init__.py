"""Data files and their typed loaders: models, GPUs, instances, prices, the pinned release."""
