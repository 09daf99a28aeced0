"""Data that both languages draw alike: the random numbers and the planar data sets."""
