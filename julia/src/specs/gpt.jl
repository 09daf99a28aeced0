# Settings and arrays of `gpt`. The same file on the Python side is `python/twingrad/specs/gpt.py`.

"The hidden layer of a block's MLP is this many times as wide as the model."
const MLP_WIDTHS = 4
const SPLITTINGS = ("lie", "strang")
"The blocks' time steps: the setting `dt`; parameters; parameters >= 0 whose sum is layers · dt."
const TIME_STEPS = ("fixed", "learned", "simplex")

"""
    GPTConfig(; vocab, context, layers, heads, width, dt=1.0, splitting="lie", tied=true, time_steps="fixed")

Settings of `gpt`. Source: Radford et al., "Language models are unsupervised multitask learners", 2019.
"""
Base.@kwdef struct GPTConfig
    vocab::Int
    context::Int
    layers::Int
    heads::Int
    width::Int
    dt::Float64 = 1.0
    splitting::String = "lie"
    tied::Bool = true
    time_steps::String = "fixed"
end

"The time that all blocks together take; where time steps are learned freely, that at the start."
horizon(config::GPTConfig) = config.layers * config.dt

"Checked settings of a GPT from a dictionary; `where` is named in errors."
function gpt_config(settings, where)
    known = [
        "vocab" => integer(1),
        "context" => integer(1),
        "layers" => integer(1),
        "heads" => integer(1),
        "width" => integer(1),
        "dt" => (1.0, value -> value isa Real && !(value isa Bool) && isfinite(value), "a number"),
        "splitting" => choice(SPLITTINGS; default="lie"),
        "tied" => (true, value -> value isa Bool, "true or false"),
        "time_steps" => choice(TIME_STEPS; default="fixed"),
    ]
    complete = check_settings(settings, known, where)
    config = GPTConfig(; (Symbol(name) => value for (name, value) in complete)...)
    problem = contradiction(config)
    problem === nothing || throw(InputError(where; expected="settings that go together", found=problem))
    return config
end

"What does not go together in the settings."
function contradiction(config::GPTConfig)
    (; width, heads, dt, time_steps) = config
    width % heads == 0 || return "$heads heads do not divide the width $width"
    time_steps == "simplex" && !(dt > 0) || return nothing
    return "time steps on a simplex need a dt above 0, which is their mean, not $dt"
end

"The settings as JSON types."
settings_dict(config::GPTConfig) =
    Dict{String,Any}(String(name) => getfield(config, name) for name in fieldnames(GPTConfig))

"What is wrong where there are more tokens than the context has room for."
function contradiction(config::GPTConfig, groups)
    len = size(groups["inputs"]["tokens"], 1)
    len <= config.context && return nothing
    return "inputs/tokens", "at most $(config.context) tokens, the context", string(len)
end

"nanoGPT's names; a linear weight is (out, in) in the file."
function gpt_params(config::GPTConfig)
    C, V, hidden = config.width, config.vocab, MLP_WIDTHS * config.width
    params = Pair{String,ArraySpec}["wte.weight"=>numbers(V, C), "wpe.weight"=>numbers(config.context, C)]
    for layer in 0:(config.layers-1)
        block = [
            "ln_1.weight" => numbers(C),
            "ln_1.bias" => numbers(C),
            "attn.c_attn.weight" => linear_weight(3C, C),
            "attn.c_attn.bias" => numbers(3C),
            "attn.c_proj.weight" => linear_weight(C, C),
            "attn.c_proj.bias" => numbers(C),
            "ln_2.weight" => numbers(C),
            "ln_2.bias" => numbers(C),
            "mlp.c_fc.weight" => linear_weight(hidden, C),
            "mlp.c_fc.bias" => numbers(hidden),
            "mlp.c_proj.weight" => linear_weight(C, hidden),
            "mlp.c_proj.bias" => numbers(C),
        ]
        append!(params, "h.$layer.$name" => spec for (name, spec) in block)
    end
    push!(params, "ln_f.weight" => numbers(C), "ln_f.bias" => numbers(C))
    config.tied || push!(params, "lm_head.weight" => linear_weight(V, C))
    config.time_steps == "fixed" || push!(params, "dt" => numbers(config.layers))
    return params
end

const GPT_SPEC = ModelSpec(;
    name="gpt",
    config=gpt_config,
    params=gpt_params,
    inputs=config -> ["tokens" => ids_below(config.vocab, "B", "T")],
    targets=config -> ["targets" => ids_below(config.vocab, "B", "T")],
    outputs=config -> ["logits" => numbers("B", "T", config.vocab)],
    contradiction,
)
