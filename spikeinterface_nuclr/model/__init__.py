"""The encoder, reading and writing its checkpoints, and the choice of a device."""
