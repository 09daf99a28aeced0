# The layers by themselves: their arrays, and how this project's models compute them. Beside it:
# `python/twingrad/bench/layers.py`.

"""
    layer_spec(name, sizes; params, inputs, targets)

One layer as files see it: a model whose settings are `sizes`, a named tuple for the tables of arrays.
"""
function layer_spec(name, sizes; params=_ -> [], inputs, targets=_ -> [])
    known = [size => integer(1) for size in sizes]
    function config(settings, where)
        complete = check_settings(settings, known, where)
        return (; (Symbol(size) => complete[size] for size in sizes)...)
    end
    return ModelSpec(;
        name, config, params, inputs, targets, outputs=_ -> [], contradiction=(_, _) -> nothing,
    )
end

"A weight (out, in) and a bias (out,) for each name; for the name \"\" without it."
linear_params(layers...) = [
    isempty(name) ? part => spec : "$name.$part" => spec for (name, inputs, outputs) in layers for
    (part, spec) in ("weight" => linear_weight(outputs, inputs), "bias" => numbers(outputs))
]
batch_norm_params(channels) = [
    "weight" => numbers(channels),
    "bias" => numbers(channels),
    "running_mean" => statistic(channels),
    "running_var" => statistic(channels; positive=true),
]
update_arrays(sizes) = ["w.$i" => numbers(4 * sizes.width, sizes.width) for i in 0:(sizes.arrays-1)]

"What the output's gradient is taken to be is in the file: `targets/cotangent`, in the shape of the output."
const LAYERS = Dict(
    spec.name => spec for spec in (
        layer_spec(
            "linear",
            ("inputs", "outputs", "batch");
            params=s -> linear_params(("", s.inputs, s.outputs)),
            inputs=s -> ["x" => numbers(s.batch, s.inputs)],
            targets=s -> ["cotangent" => numbers(s.batch, s.outputs)],
        ),
        layer_spec(
            "layer-norm",
            ("width", "batch");
            params=s -> ["weight" => numbers(s.width), "bias" => numbers(s.width)],
            inputs=s -> ["x" => numbers(s.batch, s.width)],
            targets=s -> ["cotangent" => numbers(s.batch, s.width)],
        ),
        layer_spec(
            "attention",
            ("width", "heads", "context", "batch");
            params=s -> linear_params(("c_attn", s.width, 3 * s.width), ("c_proj", s.width, s.width)),
            inputs=s -> ["x" => numbers(s.batch, s.context, s.width)],
            targets=s -> ["cotangent" => numbers(s.batch, s.context, s.width)],
        ),
        layer_spec(
            "gelu-mlp",
            ("width", "batch");
            params=s -> linear_params(
                ("c_fc", s.width, MLP_WIDTHS * s.width),
                ("c_proj", MLP_WIDTHS * s.width, s.width),
            ),
            inputs=s -> ["x" => numbers(s.batch, s.width)],
            targets=s -> ["cotangent" => numbers(s.batch, s.width)],
        ),
        layer_spec(
            "convolution",
            ("inputs", "outputs", "size", "batch");
            params=s -> ["weight" => numbers(s.outputs, s.inputs, 3, 3)],
            inputs=s -> ["x" => numbers(s.batch, s.inputs, s.size, s.size)],
            targets=s -> ["cotangent" => numbers(s.batch, s.outputs, s.size, s.size)],
        ),
        layer_spec(
            "batch-norm",
            ("channels", "size", "batch");
            params=s -> batch_norm_params(s.channels),
            inputs=s -> ["x" => numbers(s.batch, s.channels, s.size, s.size)],
            targets=s -> ["cotangent" => numbers(s.batch, s.channels, s.size, s.size)],
        ),
        layer_spec(
            "cross-entropy",
            ("classes", "batch");
            inputs=s -> ["x" => numbers(s.batch, s.classes)],
            targets=s -> ["labels" => ids_below(s.classes, s.batch)],
        ),
        layer_spec("adamw", ("width", "arrays"); params=update_arrays, inputs=update_arrays),
    )
)

dense(params, name, σ=identity) = Dense(params["$name.weight"], params["$name.bias"], σ)
with_statistics(params, prefix="") =
    (params[prefix*name] for name in ("weight", "bias", "running_mean", "running_var"))

const LAYER_CALLS = Dict{String,Function}("forward" => layer_output, "gradient" => layer_gradient)
const LOSS_CALLS = Dict{String,Function}("forward" => loss_value, "gradient" => loss_gradient)

const OWN_LAYERS = Dict(
    "linear" => Implementation((_, params) -> Dense(params["weight"], params["bias"]), LAYER_CALLS),
    "layer-norm" =>
        Implementation((_, params) -> LayerNorm(params["weight"], params["bias"]), LAYER_CALLS),
    "attention" => Implementation(
        (sizes, params) ->
            CausalSelfAttention(sizes.heads, dense(params, "c_attn"), dense(params, "c_proj")),
        LAYER_CALLS,
    ),
    "gelu-mlp" =>
        Implementation((_, params) -> MLP(dense(params, "c_fc"), dense(params, "c_proj")), LAYER_CALLS),
    "convolution" => Implementation((_, params) -> Convolution(params["weight"], 1), LAYER_CALLS),
    "batch-norm" =>
        Implementation((_, params) -> BatchNorm(with_statistics(params)..., true), LAYER_CALLS),
    "cross-entropy" => Implementation((_, _) -> cross_entropy, LOSS_CALLS),
    "adamw" => Implementation(
        (sizes, params) ->
            Optimizer(
                [name => params[name] for (name, _) in update_arrays(sizes)],
                COMPARED["adamw"],
                Fast(),
            ),
        Dict{String,Function}("step" => optimizer_update),
    ),
)
