"""The networks in PyTorch, one readable file each."""
