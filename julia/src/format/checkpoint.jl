# Checkpoints: a model with its weights and, while it is trained, all that is needed to go on.
# The same file on the Python side is `python/twingrad/format/checkpoint.py`.

const CHECKPOINT_FORMAT = "twingrad-checkpoint"
const CHECKPOINT_COVERED =
    ("model", "config", "data", "side", "dtype", "versions", "created", "settings", "iteration", "status")
const CHECKPOINT_GROUPS = ("params", "first_moment", "second_moment", "history")
const CHECKPOINT_STATUSES = ("running", "complete", "imported")
const PER_STEP = ("loss", "learning_rate", "gradient_norm", "seconds")
"What the history holds of each evaluation, for a GPT and for the other models."
const PER_EVALUATION = Dict(
    "gpt" => ("evaluated", "loss_train", "loss_validation"),
    "classifier" => ("evaluated", "loss_train", "loss_test", "accuracy_train", "accuracy_test"),
)

"""
    Checkpoint

A checkpoint. `arrays` holds, as the file has them, `params/...` in Float32 or Float64, `first_moment/...` and
`second_moment/...` (the optimizer's, of the trained ones, absent where no training goes on from here or where the optimizer
has none) and `history/...` as FORMAT.md lists them. `data` says what the model's arrays mean to people (for `gpt`: its
tokenizer, for classifiers: their images), `settings` what determines the training.
"""
struct Checkpoint
    model::String
    config::Any
    data::Dict{String,Any}
    side::String
    dtype::String
    versions::Dict{String,Any}
    settings::Dict{String,Any}
    iteration::Int
    status::String
    arrays::Dict{String,Array}
end

"The arrays of one group, by name."
function group(checkpoint::Checkpoint, name)
    prefix = name * "/"
    return Dict{String,Array}(
        chopprefix(path, prefix) => array for (path, array) in checkpoint.arrays if startswith(path, prefix)
    )
end

"The checkpoint as one that no training goes on from."
function without_moments(checkpoint::Checkpoint)
    arrays = filter(pair -> !occursin("_moment/", first(pair)), checkpoint.arrays)
    fields = (getfield(checkpoint, name) for name in fieldnames(Checkpoint) if name != :arrays)
    return Checkpoint(fields..., arrays)
end

"The names of what the history of this model holds of each evaluation."
per_evaluation(model) = get(PER_EVALUATION, model, PER_EVALUATION["classifier"])

"The trained arrays of a model, in the file's order."
trained_specs(model, config) = filter(pair -> last(pair).trained, MODELS[model].params(config))

"Write a checkpoint atomically."
function write_checkpoint(file, checkpoint::Checkpoint)
    covered = [
        "model" => checkpoint.model,
        "config" => JSON.json(settings_dict(checkpoint.config)),
        "data" => JSON.json(checkpoint.data),
        "side" => checkpoint.side,
        "dtype" => checkpoint.dtype,
        "versions" => JSON.json(checkpoint.versions),
        "created" => now_utc(),
        "settings" => JSON.json(checkpoint.settings),
        "iteration" => checkpoint.iteration,
        "status" => checkpoint.status,
    ]
    write_sealed(file, CHECKPOINT_FORMAT, covered, checkpoint.arrays)
end

"Read and check a checkpoint; an InputError names file and entry."
function read_checkpoint(file)
    contents = read_sealed(file, CHECKPOINT_FORMAT, CHECKPOINT_COVERED, CHECKPOINT_GROUPS)
    object(name) = json_object(contents, name)
    spec = model_spec(attribute(contents, "model"), "$file, attribute model")
    checkpoint = Checkpoint(
        spec.name,
        spec.config(object("config"), "$file, attribute config"),
        object("data"),
        attribute(contents, "side"),
        attribute(contents, "dtype"),
        object("versions"),
        object("settings"),
        attribute(contents, "iteration", Integer),
        attribute(contents, "status"),
        contents.arrays,
    )
    check_checkpoint(file, checkpoint)
    return checkpoint
end

function check_checkpoint(file, checkpoint)
    known = ("status" => CHECKPOINT_STATUSES, "dtype" => ("float32", "float64"), "side" => keys(sides()))
    for (name, values) in known
        found = getfield(checkpoint, Symbol(name))
        found in values ||
            throw(InputError("$file, attribute $name"; expected=one_of(values), found=repr(found)))
    end
    checkpoint.iteration >= 0 || throw(
        InputError(
            "$file, attribute iteration";
            expected="a number from 0 on",
            found="$(checkpoint.iteration)",
        ),
    )
    params = group(checkpoint, "params")
    isempty(params) && throw(InputError("$file, /params"; expected="the model's arrays", found="nothing"))
    check_layers(checkpoint.config, params, file)
    for (name, specs) in needed_arrays(checkpoint)
        arrays = group(checkpoint, name)
        isempty(arrays) &&
            !isempty(specs) &&
            throw(InputError("$file, /$name"; expected="the model's arrays", found="nothing"))
        isempty(arrays) && continue
        check_arrays(specs, arrays, "$file, /$name", Dict{String,Int}(); floating=DTYPES[checkpoint.dtype])
    end
    history = group(checkpoint, "history")
    isempty(history) && return
    names = per_evaluation(checkpoint.model)
    expected, found = sort!([PER_STEP..., names...]), sort!(collect(keys(history)))
    expected == found ||
        throw(InputError("$file, /history"; expected=join(expected, ", "), found=join(found, ", ")))
    for (name, array) in history
        len = name in PER_STEP ? checkpoint.iteration : length(history["evaluated"])
        type = name == "evaluated" ? Int64 : Float64
        eltype(array) == type || throw(
            InputError(
                "$file, /history/$name";
                expected="dtype $(dtype_name(type))",
                found="dtype $(dtype_name(eltype(array)))",
            ),
        )
        size(array) == (len,) || throw(
            InputError(
                "$file, /history/$name";
                expected="shape ($len,)",
                found="shape $(shape_text(reverse(size(array))))",
            ),
        )
    end
end

"The arrays that each group must hold; a group for which there are none may be missing."
function needed_arrays(checkpoint)
    has(name) = !isempty(group(checkpoint, name))
    trained = trained_specs(checkpoint.model, checkpoint.config)
    moments_if(needed) = needed ? trained : empty(trained)
    return (
        "params" => MODELS[checkpoint.model].params(checkpoint.config),
        "first_moment" => moments_if(has("first_moment") || has("second_moment")),
        "second_moment" =>
            moments_if(has("second_moment") || has("first_moment") && has_two_moments(checkpoint)),
    )
end

"Whether the training was one by an optimizer with two moments."
has_two_moments(checkpoint) = get(checkpoint.settings, "optimizer", "adamw") in ("adam", "adamw")

"""
    find_checkpoint(place, side, which="best")

The checkpoint file that `place` means: a file; a folder with best.h5 or last.h5; or a folder with one of these for each side,
of which `side` is preferred. `which` is "best" or "last"; the other stands in where there is but one.
"""
function find_checkpoint(place, side, which="best")
    isfile(place) && return place
    names = (which, which == "best" ? "last" : "best")
    holders =
        isdir(joinpath(place, side)) ? [joinpath(place, side)] :
        [joinpath(place, name) for name in sort!(collect(keys(sides())))]
    found = String[]
    for folder in [place; holders]
        files = filter(isfile, [joinpath(folder, "$name.h5") for name in names])
        isempty(files) || push!(found, first(files))
    end
    length(found) == 1 && return only(found)
    isempty(found) || throw(
        InputError(place; expected="one checkpoint", found=join(found, ", "), hint="Name one of them."),
    )
    hint = "'train' writes DIR/SIDE/last.h5 and, for a GPT, DIR/SIDE/best.h5."
    throw(InputError(place; expected="a checkpoint or a folder with one", found="none", hint))
end
