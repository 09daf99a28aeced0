# What the fast paths of all models have in common.

"""
Room for the fast path of one model at batches of one size; the arrays of its results belong to it and change at
the next call.
"""
abstract type Workspace end
