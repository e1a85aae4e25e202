"""The encoder, its checkpoints, where they come from, and the device that computes it."""
