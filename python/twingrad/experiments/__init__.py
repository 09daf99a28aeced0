"""Experiments with both sides: what is computed on a side, and what is made of the answers of several."""
