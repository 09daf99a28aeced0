# What each model is made of: its settings, and the names, types and shapes of its arrays.
# The same file on the Python side is `python/twingrad/specs.py`. Shapes are the file's, that is, Python's.

"""
    ArraySpec(type, dims; linear=false, check=nothing)

One array of a model. `dims` holds numbers and the letters of sizes that the arrays share; `linear` marks the weight of a
linear map, which is transposed on reading (`axes.jl`); `check` returns what is wrong with the values, or an empty text.
"""
struct ArraySpec
    type::DataType
    dims::Tuple
    linear::Bool
    check::Function
end
ArraySpec(type, dims; linear=false, check=_ -> "") = ArraySpec(type, dims, linear, check)

const NETWORKS = ("net", "resnet", "odenet", "odenet-simplex")
const METHODS = ("euler", "improved-euler", "kutta3", "kutta4")
const SCALES = ("mean", "sum")

"""
    ControlNetConfig(network, method, scale)

Settings of `control_net`. Source: Benning et al., J. Comput. Dyn. 6(2), 2019.
"""
struct ControlNetConfig
    network::String
    method::String
    scale::String
end

"The factor of y_k in y_{k+1}: 0 for a plain network, 1 for a residual one."
alpha(config::ControlNetConfig) = config.network == "net" ? 0.0 : 1.0

"Whether training changes the time steps."
learns_dt(config::ControlNetConfig) = config.network in ("odenet", "odenet-simplex")

"`(parameter, expected, found)` where the time steps contradict the network, or nothing."
function contradiction(config::ControlNetConfig, params)
    dt, tolerance = params["dt"], 1e-12
    fixed = config.network == "net" ? 1.0 : config.network == "resnet" ? 1 / length(dt) : nothing
    if fixed !== nothing && maximum(abs, dt .- fixed) > tolerance
        return ("dt", "every time step $fixed (network '$(config.network)')", string(dt))
    elseif config.network == "odenet-simplex" && (minimum(dt) < -tolerance || abs(sum(dt) - 1) > tolerance)
        return (
            "dt",
            "time steps >= 0 with sum 1 (network 'odenet-simplex')",
            "smallest $(minimum(dt)), sum $(sum(dt))",
        )
    end
    return nothing
end

function zero_or_one(labels)
    wrong = findfirst(label -> label != 0 && label != 1, labels)
    return wrong === nothing ? "" : "$(labels[wrong]) at index $(wrong - 1)"
end

"""
    ModelSpec

One model as files see it: how its settings are read from a dictionary, and its arrays by name, in the file's order.
"""
struct ModelSpec
    name::String
    config::Function
    params::Function
    inputs::Vector{Pair{String,ArraySpec}}
    targets::Vector{Pair{String,ArraySpec}}
    outputs::Vector{Pair{String,ArraySpec}}
    manual_gradient::Bool
end

"Checked settings of a control network from a dictionary; `where` is named in errors."
function control_net_config(settings, where)
    known = ["network" => NETWORKS, "method" => METHODS, "scale" => SCALES]
    settings isa AbstractDict || throw(InputError(where; expected="a JSON object", found=string(settings)))
    for name in keys(settings)
        name in first.(known) ||
            throw(
                InputError(
                    "$where, $name";
                    expected="only the settings " * join(first.(known), ", "),
                    found="'$name'",
                ),
            )
    end
    for (name, values) in known
        haskey(settings, name) || throw(InputError("$where, $name"; expected="this setting", found="nothing"))
        settings[name] in values ||
            throw(InputError("$where, $name"; expected=one_of(values), found=repr(settings[name])))
    end
    network, method, scale = (String(settings[name]) for name in ("network", "method", "scale"))
    if network == "net" && method != "euler"
        found = "network 'net' is no time discretisation and takes method 'euler', not '$method'"
        throw(InputError(where; expected="settings that go together", found))
    end
    return ControlNetConfig(network, method, scale)
end

const MODELS = Dict(
    "control_net" => ModelSpec(
        "control_net",
        control_net_config,
        config -> [
            "K" => ArraySpec(Float64, ("N", "d", "d"); linear=true),
            "b" => ArraySpec(Float64, ("N", "d")),
            "W" => ArraySpec(Float64, (1, "d"); linear=true),
            "mu" => ArraySpec(Float64, (1,)),
            "dt" => ArraySpec(Float64, ("N",)),
        ],
        ["x" => ArraySpec(Float64, ("samples", "d"))],
        ["c" => ArraySpec(Float64, ("samples",); check=zero_or_one)],
        ["prediction" => ArraySpec(Float64, ("samples",))],
        true,
    ),
)

"The model called `name`; an InputError names `where` if there is none."
function model_spec(name, where)
    haskey(MODELS, name) ||
        throw(InputError(where; expected=one_of(sort!(collect(keys(MODELS)))), found=repr(name)))
    return MODELS[name]
end

"""
    check_arrays(specs, arrays, where, sizes)

Check names, types, shapes, finiteness and values of `arrays` (by name, axes as HDF5.jl gives them, reversed).
`sizes` maps the letters of shared sizes to what earlier arrays fixed them to, and is extended.
"""
function check_arrays(specs, arrays, where, sizes)
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
        eltype(array) == spec.type ||
            throw(
                InputError(
                    place;
                    expected="dtype $(dtype_name(spec.type))",
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
        isempty(wrong) || throw(InputError(place; expected="labels 0 or 1", found=wrong))
    end
end

shape_text(dims) = "(" * join(dims, ", ") * (length(dims) == 1 ? ",)" : ")")

"The name of a number type in files: \"float64\", \"float32\" or \"int64\"."
dtype_name(type::Type) =
    type == Float64 ? "float64" : type == Float32 ? "float32" : type == Int64 ? "int64" : string(type)
