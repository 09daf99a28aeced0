"""Optimal control on the PyTorch side: methods and stepper, costate gradient, descent, simplex projection."""
