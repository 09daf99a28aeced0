# Trainings of a control network: history, parameters and what the figures show.
# The same file on the Python side is `python/twingrad/format/training.py`.

const TRAINING_FORMAT = "twingrad-training"
const TRAINING_COVERED = ("side", "versions", "created", "settings", "iteration", "step_constant", "status")
const HISTORY =
    ("objective", "step_constant", "evaluated", "objective_test", "accuracy_train", "accuracy_test")
const PICTURE = ("x", "c", "prediction", "trajectories", "grid_axis", "grid_prediction")
const TRAINING_STATUSES = ("running", "complete", "converged")

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
    training = Training(
        attribute(contents, "side"),
        json_object(contents, "versions"),
        json_object(contents, "settings"),
        attribute(contents, "iteration", Integer),
        attribute(contents, "step_constant", Float64),
        attribute(contents, "status"),
        contents.arrays,
    )
    check_training(file, training)
    return training
end

function check_training(file, training)
    training.status in TRAINING_STATUSES || throw(
        InputError(
            "$file, attribute status";
            expected=one_of(TRAINING_STATUSES),
            found=repr(training.status),
        ),
    )
    for (name, names) in ("history" => HISTORY, "picture" => training.status == "running" ? () : PICTURE)
        prefix = name * "/"
        found =
            sort!([chopprefix(path, prefix) for path in keys(training.arrays) if startswith(path, prefix)])
        listed(names) = isempty(names) ? "no entry" : join(names, ", ")
        found == sort!(collect(String, names)) ||
            throw(InputError("$file, /$name"; expected=listed(names), found=listed(found)))
    end
    for (name, len) in ("objective" => training.iteration + 1, "step_constant" => training.iteration)
        shape = reverse(size(training.arrays["history/$name"]))
        shape == (len,) || throw(
            InputError(
                "$file, /history/$name";
                expected="shape ($len,)",
                found="shape $(shape_text(shape))",
            ),
        )
    end
end
