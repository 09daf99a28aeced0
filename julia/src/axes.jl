# The axis rule, in its one place on the Julia side (FORMAT.md, "Axis order").
#
# HDF5.jl gives a tensor of shape (d1, ..., dn) as an array of size (dn, ..., d1), which is what Flux wants. Only the weight
# of a linear map, (out, in) in the file, appears as (in, out) and is transposed, here and nowhere else. Token and class
# ids count from 0 in the file and from 1 in Julia.

"""
    from_file(spec, array)

The array as a model wants it: the first two axes swapped where `spec.linear`, one added where `spec.ids`.
"""
from_file(spec::ArraySpec, array) =
    spec.linear ? swap_first_axes(array) : spec.ids ? array .+ one(eltype(array)) : array

"""
    to_file(spec, array)

The inverse of [`from_file`](@ref): every gradient and parameter goes back through it.
"""
to_file(spec::ArraySpec, array) =
    spec.linear ? swap_first_axes(array) : spec.ids ? array .- one(eltype(array)) : array

swap_first_axes(array) = permutedims(array, (2, 1, 3:ndims(array)...))
