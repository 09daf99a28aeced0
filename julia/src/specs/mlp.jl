# Settings and arrays of `mlp`. The same file on the Python side is `python/twingrad/specs/mlp.py`.

const ACTIVATION_NAMES = ("sigmoid", "relu")
const MLP_LOSSES = ("mse", "cross-entropy")

"""
    MLPConfig(sizes, activation, loss)

Settings of `mlp`: `sizes` are the numbers of units, from the inputs to the outputs.
"""
struct MLPConfig
    sizes::Vector{Int}
    activation::String
    loss::String
end

"How many labels there are: one for each output, and two where there is but one output."
classes(config::MLPConfig) = max(2, config.sizes[end])

"Checked settings of a multilayer perceptron from a dictionary; `where` is named in errors."
function mlp_config(settings, where)
    is_size(value) = value isa Integer && !(value isa Bool) && value >= 1
    fits(value) = value isa AbstractVector && length(value) >= 2 && all(is_size, value)
    known = [
        "sizes" => (nothing, fits, "at least two integers, each at least 1"),
        "activation" => choice(ACTIVATION_NAMES),
        "loss" => choice(MLP_LOSSES),
    ]
    complete = check_settings(settings, known, where)
    return MLPConfig(Int.(complete["sizes"]), complete["activation"], complete["loss"])
end

"The settings as JSON types."
settings_dict(config::MLPConfig) =
    Dict{String,Any}("sizes" => config.sizes, "activation" => config.activation, "loss" => config.loss)

contradiction(::MLPConfig, groups) = nothing

"A linear weight is (out, in) in the file."
function mlp_params(config::MLPConfig)
    params = Pair{String,ArraySpec}[]
    for layer in 1:(length(config.sizes)-1)
        inputs, outputs = config.sizes[layer], config.sizes[layer+1]
        push!(params, "layers.$(layer-1).weight" => linear_weight(outputs, inputs))
        push!(params, "layers.$(layer-1).bias" => numbers(outputs))
    end
    return params
end

const MLP_SPEC = ModelSpec(;
    name="mlp",
    config=mlp_config,
    params=mlp_params,
    inputs=config -> ["x" => numbers("samples", config.sizes[1])],
    targets=config -> ["labels" => ids_below(classes(config), "samples")],
    outputs=config -> ["scores" => numbers("samples", config.sizes[end])],
    contradiction,
    manual_gradient=true,
)
