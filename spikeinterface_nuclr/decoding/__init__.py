"""Decoding of labels and numbers from embeddings: fitting, calibration, abstention and evaluation."""
