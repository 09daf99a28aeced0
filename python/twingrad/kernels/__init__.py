"""Fast paths of the models on the PyTorch side: gradients by hand, in arrays that are made once and used again."""
