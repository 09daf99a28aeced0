# Settings and arrays of `antisymmetric`. The same file on the Python side is `python/twingrad/specs/antisymmetric.py`.

"""
    AntisymmetricConfig(classes, h, gamma)

Settings of `antisymmetric`: h is the step, γ the damping.
"""
struct AntisymmetricConfig
    classes::Int
    h::Float64
    gamma::Float64
end

"Checked settings of an antisymmetric network from a dictionary; `where` is named in errors."
function antisymmetric_config(settings, where)
    known = [
        "classes" => integer(2),
        "h" => (nothing, value -> value isa AbstractFloat && value > 0, "a number > 0"),
        "gamma" => (nothing, value -> value isa AbstractFloat && value >= 0, "a number >= 0"),
    ]
    complete = check_settings(settings, known, where)
    return AntisymmetricConfig((complete[name] for name in ("classes", "h", "gamma"))...)
end

contradiction(::AntisymmetricConfig, groups) = nothing

const ANTISYMMETRIC = ModelSpec(;
    name="antisymmetric",
    config=antisymmetric_config,
    params=config -> [
        "K" => linear_weight("N", "d", "d"),
        "b" => numbers("N", "d"),
        "classifier.weight" => linear_weight(config.classes, "d"),
        "classifier.bias" => numbers(config.classes),
    ],
    inputs=config -> ["x" => numbers("samples", "d")],
    targets=config -> ["labels" => ids_below(config.classes, "samples")],
    outputs=config -> ["scores" => numbers("samples", config.classes)],
    contradiction,
)
