"""Weights of other programs, as checkpoints."""
