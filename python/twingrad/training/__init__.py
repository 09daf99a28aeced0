"""Training: settings that both sides share, and the PyTorch side's loops."""
