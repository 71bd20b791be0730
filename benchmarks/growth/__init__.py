"""How time and memory grow with batch, resolution and model size."""
