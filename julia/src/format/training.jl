# Trainings of a control network: history, parameters and what the figures show.
# The same file on the Python side is `python/twingrad/format/training.py`.

const TRAINING_FORMAT = "twingrad-training"
const TRAINING_COVERED = ("side", "versions", "created", "settings", "iteration", "step_constant", "status")

"""
    Training

The state of a training, enough to go on from and to draw. `arrays` holds `params/...`, `initial/...`, `history/...` and, once
the training has ended, `picture/...` as FORMAT.md lists them.
"""
struct Training
    side::String
    versions::Dict{String,Any}
    settings::Dict{String,Any}
    iteration::Int
    step_constant::Float64
    status::String
    arrays::Dict{String,Array}
end

"Write a training file."
function write_training(file, training::Training)
    covered = [
        "side" => training.side,
        "versions" => JSON.json(training.versions),
        "created" => now_utc(),
        "settings" => JSON.json(training.settings),
        "iteration" => training.iteration,
        "step_constant" => training.step_constant,
        "status" => training.status,
    ]
    write_sealed(file, TRAINING_FORMAT, covered, training.arrays)
end

"Read and check a training file; an InputError names file and entry."
function read_training(file)
    groups = ("params", "initial", "history", "picture")
    contents = read_sealed(file, TRAINING_FORMAT, TRAINING_COVERED, groups)
    parsed(name) = Dict{String,Any}(parse_json(attribute(contents, name), "$file, attribute $name"))
    return Training(
        attribute(contents, "side"),
        parsed("versions"),
        parsed("settings"),
        attribute(contents, "iteration", Integer),
        attribute(contents, "step_constant", Float64),
        attribute(contents, "status"),
        contents.arrays,
    )
end
