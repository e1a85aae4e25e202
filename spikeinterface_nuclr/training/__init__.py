"""Self-supervised training: views of populations, objectives, and the loop."""
