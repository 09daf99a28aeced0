# What determines a training, checked. The same file on the Python side is `python/twingrad/training/settings.py`.

const ANOTHER_OUT = "Choose another --out, or remove the file."

"The settings of `train gpt` that no preset holds, with their defaults."
const GPT_DEFAULTS = Dict{String,Any}(
    "tokenizer" => "char", "dt" => 1.0, "splitting" => "lie", "tied" => true, "seed" => 1,
    "dtype" => "float32",
)

at_least(least; below=Inf) = (
    nothing,
    value -> value isa Real && !(value isa Bool) && least <= value < below,
    "a number, at least $least" * (isfinite(below) ? " and below $below" : ""),
)

"Names and checks of the settings of `train gpt`, in the order of Python's."
const GPT_SETTINGS = [
    "tokenizer" => choice(TOKENIZER_KINDS),
    "layers" => integer(1),
    "heads" => integer(1),
    "width" => integer(1),
    "context" => integer(1),
    "dt" => (nothing, value -> value isa Real && isfinite(value), "a number"),
    "splitting" => choice(SPLITTINGS),
    "tied" => (nothing, value -> value isa Bool, "true or false"),
    "batch" => integer(1),
    "accumulation" => integer(1),
    "iterations" => integer(1),
    "learning_rate" =>
        (nothing, value -> value isa Real && isfinite(value) && value > 0, "a number above 0"),
    "min_learning_rate" => at_least(0),
    "warmup" => integer(0),
    "beta1" => at_least(0; below=1),
    "beta2" => at_least(0; below=1),
    "weight_decay" => at_least(0),
    "clip" => at_least(0),
    "seed" => integer(0),
    "dtype" => choice(("float32", "float64", "bfloat16")),
    "evaluate_every" => integer(1),
    "evaluation_windows" => integer(0),
]

"""
    gpt_settings(values)

Checked settings of a training on text; an InputError names the setting.
"""
function gpt_settings(values)
    settings = check_settings(merge(GPT_DEFAULTS, Dict{String,Any}(values)), GPT_SETTINGS, "train gpt")
    model_config(settings, 1)
    choose_dtype(settings["dtype"])
    for (name, value) in settings  # as JSON has them
        value isa AbstractFloat && (settings[name] = Float64(value))
    end
    return settings
end

"The settings of the model for a vocabulary of this size."
function model_config(settings, vocab)
    shared = ("context", "layers", "heads", "width", "dt", "splitting", "tied")
    return gpt_config(
        merge(Dict("vocab" => vocab), Dict(name => settings[name] for name in shared)),
        "train gpt",
    )
end

"The settings of the optimizer."
function optimizer_settings(settings)
    shared = ("learning_rate", "min_learning_rate", "warmup", "beta1", "beta2", "weight_decay", "clip")
    return AdamWSettings(;
        decay=settings["iterations"],
        (Symbol(name) => settings[name] for name in shared)...,
    )
end

"The settings of `shared_fixtures/presets.toml` by the name of a preset."
function preset(model, name)
    presets = TOML.parsefile(joinpath(shared_fixtures(), "presets.toml"))[model]
    haskey(presets, name) ||
        throw(InputError("preset"; expected=one_of(sort!(collect(keys(presets)))), found=repr(name)))
    return Dict{String,Any}(presets[name])
end

"Refuse to go on from a file that another training wrote, or one that is already further."
function resume_check(file, saved, settings, iterations)
    hint = ANOTHER_OUT
    saved.side == "flux" ||
        throw(InputError("$file, attribute side"; expected="'flux'", found="'$(saved.side)'", hint))
    for (name, value) in settings
        found = get(saved.settings, name, nothing)
        found == value ||
            throw(InputError("$file, setting $name"; expected=repr(value), found=repr(found), hint))
    end
    saved.iteration <= iterations ||
        throw(
            InputError(
                "$file, attribute iteration";
                expected="at most $iterations",
                found="$(saved.iteration)",
                hint,
            ),
        )
end
