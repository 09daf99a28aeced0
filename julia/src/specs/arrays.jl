# Arrays by name, type and shape, and the check that every file goes through.
# The same file on the Python side is `python/twingrad/specs/arrays.py`. Shapes are the file's, that is, Python's.

"""
    ArraySpec(type, dims; linear=false, ids=false, trained=true, check=nothing)

One array of a model. `dims` holds numbers and the letters of sizes that the arrays share. `linear` marks the weight of a
linear map, `ids` integers that count from 0 in the file (`axes.jl` says what becomes of both), `trained` parameters with a
gradient, which running statistics have not; `check` returns `(expected, found)` where the values are wrong, else nothing.
"""
struct ArraySpec
    type::DataType
    dims::Tuple
    linear::Bool
    ids::Bool
    trained::Bool
    check::Function
end
ArraySpec(type, dims; linear=false, ids=false, trained=true, check=_ -> nothing) =
    ArraySpec(type, dims, linear, ids, trained, check)

"Floating-point numbers of any finite value."
numbers(dims...) = ArraySpec(Float64, dims)

"The weight (out, in) of a linear map."
linear_weight(dims...) = ArraySpec(Float64, dims; linear=true)

"A running statistic that the forward pass changes; `positive` for a variance."
function statistic(dims...; positive=false)
    function check(array)
        wrong = positive ? findfirst(<(0), array) : nothing
        return wrong === nothing ? nothing :
               ("numbers >= 0", "$(array[wrong]) at index $(file_index(array, wrong))")
    end
    return ArraySpec(Float64, dims; trained=false, check)
end

"Integers 0 .. count - 1, as token or class ids are."
function ids_below(count, dims...)
    function check(array)
        wrong = findfirst(id -> !(0 <= id < count), array)
        wrong === nothing && return nothing
        return "ids 0 to $(count - 1)", "$(array[wrong]) at index $(file_index(array, wrong))"
    end
    return ArraySpec(Int64, dims; ids=true, check)
end

"An index as the file and Python count it: axes reversed, from 0."
function file_index(array, index)
    return shape_text(reverse(Tuple(CartesianIndices(array)[index])) .- 1)
end

"""
    ModelSpec

One model as files see it: how its settings are read from a dictionary, its arrays by name in the file's order (each table a
function of the settings), and `contradiction(config, groups)`, which gives `(entry, expected, found)` where arrays contradict
the settings, else nothing.
"""
Base.@kwdef struct ModelSpec
    name::String
    config::Function
    params::Function
    inputs::Function
    targets::Function
    outputs::Function
    contradiction::Function
    manual_gradient::Bool = false
end

"""
    check_settings(settings, known, where)

Refuse `settings` that are no dictionary, that lack one of the `known` entries without a default, or that hold another. `known`
maps names to `(default or nothing, (value -> whether it is right), what is expected)`. Returns the completed dictionary.
"""
function check_settings(settings, known, where)
    settings isa AbstractDict ||
        throw(InputError(where; expected="a JSON object", found=first(repr(settings), 60)))
    names = join(first.(known), ", ")
    for name in keys(settings)
        name in first.(known) ||
            throw(InputError("$where, $name"; expected="only $names", found=repr(name)))
    end
    complete = Dict{String,Any}()
    for (name, (default, fits, expected)) in known
        value = get(settings, name, default)
        value === nothing && throw(InputError("$where, $name"; expected="this entry", found="nothing"))
        fits(value) || throw(InputError("$where, $name"; expected, found=first(shown(value), 60)))
        complete[name] = value
    end
    return complete
end

"A value of JSON as a message shows it: lists without Julia's word for their type."
shown(value) = repr(value)
shown(values::AbstractVector) = "[" * join(map(shown, values), ", ") * "]"

"An entry of [`check_settings`](@ref) that must be one of some names."
choice(values; default=nothing) = (default, in(values), one_of(values))

"An entry of [`check_settings`](@ref) that must be an integer of at least `least`."
integer(least; default=nothing) =
    (
        default,
        value -> value isa Integer && !(value isa Bool) && value >= least,
        "an integer, at least $least",
    )

"""
    check_arrays(specs, arrays, where, sizes; floating=Float64)

Check names, types, shapes, finiteness and values of `arrays` (by name, axes as HDF5.jl gives them, reversed).
`sizes` maps the letters of shared sizes to what earlier arrays fixed them to, and is extended; `floating` is the type that
stands for Float64, in files that hold another.
"""
function check_arrays(specs, arrays, where, sizes; floating=Float64)
    names = first.(specs)
    for (name, spec) in specs
        haskey(arrays, name) ||
            throw(
                InputError(
                    "$where/$name";
                    expected="$(dtype_name(spec.type)) array $(shape_text(spec.dims))",
                    found="no such entry",
                ),
            )
    end
    for name in sort!(collect(keys(arrays)))
        name in names ||
            throw(InputError("$where/$name"; expected="only " * join(names, ", "), found="an extra entry"))
    end
    for (name, spec) in specs
        array, place = arrays[name], "$where/$name"
        type = spec.type == Float64 ? floating : spec.type
        eltype(array) == type ||
            throw(
                InputError(
                    place;
                    expected="dtype $(dtype_name(type))",
                    found="dtype $(dtype_name(eltype(array)))",
                ),
            )
        shape = reverse(size(array))
        bound = map(dim -> dim isa String ? get(sizes, dim, dim) : dim, spec.dims)
        fits = length(bound) == length(shape)
        for (dim, len) in zip(bound, shape)
            wanted = dim isa String ? get!(sizes, dim, len) : dim
            fits = fits && len == wanted && len > 0
        end
        if !fits
            expected =
                "shape $(shape_text(spec.dims))" * (bound == spec.dims ? "" : " = $(shape_text(bound))")
            throw(InputError(place; expected, found="shape $(shape_text(shape))"))
        end
        wrong = spec.check(array)
        wrong === nothing || throw(InputError(place; expected=wrong[1], found=wrong[2]))
    end
end

shape_text(dims) = "(" * join(dims, ", ") * (length(dims) == 1 ? ",)" : ")")

"The name of a number type in files: \"float64\", \"float32\" or \"int64\"."
dtype_name(type::Type) =
    type == Float64 ? "float64" : type == Float32 ? "float32" : type == Int64 ? "int64" : string(type)
