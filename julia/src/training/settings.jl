# What determines a training, checked. The same file on the Python side is `python/twingrad/training/settings.py`.

const ANOTHER_OUT = "Choose another --out, or remove the file."

at_least(least; below=Inf) = (
    nothing,
    value -> value isa Real && !(value isa Bool) && least <= value < below,
    "a number, at least $least" * (isfinite(below) ? " and below $below" : ""),
)
const ABOVE_ZERO = (nothing, value -> value isa Real && isfinite(value) && value > 0, "a number above 0")
const TRUE_OR_FALSE = (nothing, value -> value isa Bool, "true or false")
const DTYPE = choice(("float32", "float64", "bfloat16"))

"The settings of `train gpt` that no preset holds, with their defaults."
const GPT_DEFAULTS = Dict{String,Any}(
    "tokenizer" => "char", "dt" => 1.0, "splitting" => "lie", "tied" => true, "time_steps" => "fixed",
    "seed" => 1, "dtype" => "float32",
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
    "tied" => TRUE_OR_FALSE,
    "time_steps" => choice(TIME_STEPS),
    "batch" => integer(1),
    "accumulation" => integer(1),
    "iterations" => integer(1),
    "learning_rate" => ABOVE_ZERO,
    "min_learning_rate" => at_least(0),
    "warmup" => integer(0),
    "beta1" => at_least(0; below=1),
    "beta2" => at_least(0; below=1),
    "weight_decay" => at_least(0),
    "clip" => at_least(0),
    "seed" => integer(0),
    "dtype" => DTYPE,
    "evaluate_every" => integer(1),
    "evaluation_windows" => integer(0),
]

"""
    gpt_settings(values)

Checked settings of a training on text; an InputError names the setting.
"""
function gpt_settings(values)
    settings = training_settings(values, GPT_DEFAULTS, GPT_SETTINGS, "train gpt")
    model_config(settings, 1)
    return settings
end

"Checked settings, numbers as JSON has them; `defaults` stand in for those that are not given."
function training_settings(values, defaults, known, where)
    settings = check_settings(merge(defaults, Dict{String,Any}(values)), known, where)
    choose_dtype(settings["dtype"])
    for (name, value) in settings
        value isa AbstractFloat && (settings[name] = Float64(value))
    end
    return settings
end

"The settings of the model for a vocabulary of this size."
function model_config(settings, vocab)
    shared = ("context", "layers", "heads", "width", "dt", "splitting", "tied", "time_steps")
    return gpt_config(
        merge(Dict("vocab" => vocab), Dict(name => settings[name] for name in shared)),
        "train gpt",
    )
end

"The settings of `train mlp` and `train resnet` that no preset holds, with their defaults."
const CLASSIFIER_DEFAULTS = Dict{String,Any}("accumulation" => 1, "seed" => 1, "dtype" => "float32")

const MOST_PAD = 1000

"""
Names and checks of the settings that all trainings on images share, in the order of Python's.

`pad` and `flip` augment the training images; an evaluation takes the first `evaluation_images` of either part, or all where
that is 0. `optimizer` "gradient-descent" is "sgd" without momentum and decay, "adam" is "adamw" without decay; what an
optimizer lacks is ignored.
"""
const IMAGE_SETTINGS = [
    "batch" => integer(1),
    "accumulation" => integer(1),
    "iterations" => integer(1),
    "optimizer" => choice(("gradient-descent", "sgd", "adam", "adamw")),
    "learning_rate" => ABOVE_ZERO,
    "min_learning_rate" => at_least(0),
    "warmup" => integer(0),
    "momentum" => at_least(0; below=1),
    "beta1" => at_least(0; below=1),
    "beta2" => at_least(0; below=1),
    "weight_decay" => at_least(0),
    "clip" => at_least(0),
    "pad" => (
        nothing,
        value -> value isa Integer && !(value isa Bool) && 0 <= value <= MOST_PAD,
        "an integer, 0 to $MOST_PAD",
    ),
    "flip" => TRUE_OR_FALSE,
    "seed" => integer(0),
    "dtype" => DTYPE,
    "evaluate_every" => integer(1),
    "evaluation_images" => integer(0),
]

are_sizes(value) =
    value isa AbstractVector && all(size -> size isa Integer && !(size isa Bool) && size >= 1, value)

"Names and checks of all settings of a training on images, by model; `hidden` are the numbers of hidden units."
const CLASSIFIER_SETTINGS = Dict(
    "mlp" => [
        IMAGE_SETTINGS
        "hidden" => (nothing, are_sizes, "integers, each at least 1")
        "activation" => choice(ACTIVATION_NAMES)
        "loss" => choice(MLP_LOSSES)
    ],
    "resnet" => [
        IMAGE_SETTINGS
        "variant" => choice(RESNET_VARIANTS)
        "width" => integer(0)
        "residual" => TRUE_OR_FALSE
    ],
)

"""
    classifier_settings(model, values)

Checked settings of a training of "mlp" or "resnet" on images; an InputError names the setting.
"""
function classifier_settings(model, values)
    haskey(CLASSIFIER_SETTINGS, model) ||
        throw(
            InputError(
                "model";
                expected=one_of(sort!(collect(keys(CLASSIFIER_SETTINGS)))),
                found=repr(model),
            ),
        )
    return training_settings(values, CLASSIFIER_DEFAULTS, CLASSIFIER_SETTINGS[model], "train $model")
end

"The settings of a classifier, by its name, for images of `shape` (W, H, C)."
const CLASSIFIER_CONFIGS = Dict(
    "mlp" =>
        (settings, shape, classes) -> MLPConfig(
            [prod(shape); Int.(settings["hidden"]); classes], settings["activation"], settings["loss"],
        ),
    "resnet" =>
        (settings, shape, classes) -> ResNetConfig(;
            in_channels=shape[3], classes,
            (Symbol(name) => settings[name] for name in ("variant", "width", "residual"))...,
        ),
)

"Samples of one step."
joint_batch(settings) = settings["batch"] * settings["accumulation"]

"The settings of the optimizer."
function optimizer_settings(settings)
    name = get(settings, "optimizer", "adamw")
    shared = ("learning_rate", "min_learning_rate", "warmup", "clip")
    values = (;
        decay=settings["iterations"],
        weight_decay=name in ("sgd", "adamw") ? settings["weight_decay"] : 0.0,
        (Symbol(shared_name) => settings[shared_name] for shared_name in shared)...,
    )
    name in ("adam", "adamw") &&
        return AdamWSettings(; values..., beta1=settings["beta1"], beta2=settings["beta2"])
    return SGDSettings(; values..., momentum=name == "sgd" ? settings["momentum"] : 0.0)
end

"All settings of `shared_fixtures/presets.toml` for a model, by the name of a preset."
presets(model) = TOML.parsefile(shared_file("presets.toml"))[model]

"The settings of `shared_fixtures/presets.toml` by the name of a preset; an InputError for an unknown one."
function preset(model, name)
    known = presets(model)
    haskey(known, name) ||
        throw(InputError("preset"; expected=one_of(sort!(collect(keys(known)))), found=repr(name)))
    return Dict{String,Any}(known[name])
end

"""
Refuse to go on from a file that another training wrote, or one that is already further. `defaults` stand in for settings that
the file lacks, since it is older than they are.
"""
function resume_check(file, saved, settings, iterations; defaults=Dict{String,Any}())
    hint = ANOTHER_OUT
    saved.side == "flux" ||
        throw(InputError("$file, attribute side"; expected="'flux'", found="'$(saved.side)'", hint))
    for (name, value) in settings
        found = get(saved.settings, name, get(defaults, name, nothing))
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
