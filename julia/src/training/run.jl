# One training on the Flux side, whatever is trained: steps, evaluations, checkpoints, and going on from them.
# The same file on the Python side is `python/twingrad/training/run.py`.

const RUN_CHECKPOINT_SECONDS = 30.0
const DIVERGED =
    "The checkpoints of earlier steps are whole. " *
    "Try a smaller --learning-rate or a longer --warmup, in another --out."

"""
    TrainingTask

What is trained, and on what. A task has the fields

- `model`: the model's name; `config`: its settings; `settings`: those of the training.
- `data`: what a checkpoint says of the data, whose digest stands at `data[source(task)]["digest"]`.

and the methods

- `source(task)`; `best(task)`: the evaluated loss whose least value makes best.h5, or nothing.
- `unit(task)`, `units_per_step(task)`: they tell how fast it goes.
- `initial_params(task)`: the model's arrays at the start, as a file has them.
- `training_batch(task, first, count)`: inputs and targets of samples first, ..., first + count - 1 of the whole training,
  counted from 0.
- `evaluate(task, model, device)`: the numbers of an evaluation, name in the history => value; `device` moves arrays.
"""
abstract type TrainingTask end

"""
    Run(task, out, versions, device, path)

One training: model, optimizer, history and files.

- `task`: what is trained, and on what.
- `out`: the folder for flux/last.h5 and flux/best.h5.
- `versions`: what computes, for the files.
- `device`: "cpu" or "cuda". `path`: "reference" or "fast".

An InputError says where an earlier checkpoint in `out` does not fit.
"""
mutable struct Run{K<:TrainingTask,M,O<:Optimizer,D,P,G}
    const task::K
    const folder::String
    const versions::Dict{String,Any}
    const device::D
    const path::P
    const gradients::G
    const model::M
    const optimizer::O
    const history::Dict{String,Vector}
    const resumed::Bool
    iteration::Int
end

function Run(task::TrainingTask, out, versions, device, path)
    path = make_path(path, device)
    folder, there, settings = joinpath(out, "flux"), choose_device(device), task.settings
    device == "cuda" || (versions = merge(versions, Dict("device" => "CPU")))
    saved = saved_state(task, folder)
    if saved === nothing
        iteration, params, history = 0, initial_params(task), empty_history(task.model)
    else
        iteration, params = saved.iteration, group(saved, "params")
        history = Dict{String,Vector}(group(saved, "history"))
    end
    model = there(build(task.model, task.config, params, choose_dtype(settings["dtype"])))
    arrays = named_arrays(task.model, task.config, model)
    optimizer = Optimizer(
        arrays, optimizer_settings(settings), path; steps_taken=iteration, simplex=simplex(model),
    )
    iteration > 0 && has_moments(optimizer.settings) && restore!(optimizer, saved_moments(saved, there)...)
    gradients = gradients_of(task.model, task.config, path)
    resumed = saved !== nothing
    return Run(
        task, folder, versions, there, path, gradients, model, optimizer, history, resumed, iteration,
    )
end

"The last checkpoint in a folder, which is made where it is missing; nothing where there is none."
function saved_state(task, folder)
    file = joinpath(folder, "last.h5")
    if !isfile(file)
        make_folder(folder)
        return nothing
    end
    saved = read_checkpoint(file)
    refuse(where, expected, found) = throw(InputError(where; expected, found, hint=ANOTHER_OUT))
    saved.model == task.model || refuse("$file, attribute model", "'$(task.model)'", "'$(saved.model)'")
    defaults = task.model == "gpt" ? GPT_DEFAULTS : CLASSIFIER_DEFAULTS
    resume_check(file, saved, task.settings, task.settings["iterations"]; defaults)
    name = source(task)
    digest, found = task.data[name]["digest"], get(get(saved.data, name, Dict()), "digest", nothing)
    found == digest || refuse("$file, attribute data", "the $name of SHA-256 $digest", string(found))
    needs_moments = saved.iteration > 0 && has_moments(optimizer_settings(task.settings))
    whole =
        !isempty(group(saved, "history")) && (!needs_moments || !isempty(group(saved, "first_moment")))
    whole || refuse(file, "the moments and the history of a training that goes on", "the model alone")
    return saved
end

function empty_history(model)
    history = Dict{String,Vector}(name => Float64[] for name in (PER_STEP..., per_evaluation(model)...))
    history["evaluated"] = Int64[]
    return history
end

"Whether an optimizer remembers anything of earlier steps: gradient descent does not."
has_moments(::AdamWSettings) = true
has_moments(settings::SGDSettings) = settings.momentum > 0

"The first and the second moment of a checkpoint as an optimizer has them; nothing where there is none."
function saved_moments(saved, device)
    specs = trained_specs(saved.model, saved.config)
    return map(("first_moment", "second_moment")) do name
        arrays = group(saved, name)
        isempty(arrays) && return nothing
        return [device(copy(from_file(spec, arrays[key]))) for (key, spec) in specs]
    end
end

"""
    train_until!(run, until, progress)

Train up to the step `until`, or the last where it is nothing; returns the last checkpoint. `progress` is called now and then
with a dictionary of iteration, loss, the last evaluation and the speed.
"""
function train_until!(run::Run, until, progress::Function)
    iterations = run.task.settings["iterations"]
    last = until === nothing ? iterations : min(until, iterations)
    run.resumed && run.iteration >= last || train!(run, last, progress)
    return checkpoint(run)
end

"Steps up to `last`."
function train!(run::Run, last, progress::Function)
    settings, saved_at, shown_at = run.task.settings, time(), time()
    while run.iteration < last
        run.iteration % settings["evaluate_every"] == 0 && not_evaluated(run) && evaluate!(run)
        step!(run)
        if time() - shown_at > PROGRESS_SECONDS
            progress(report(run))
            shown_at = time()
        end
        if time() - saved_at > RUN_CHECKPOINT_SECONDS
            save(run, "last")
            saved_at = time()
        end
    end
    if run.iteration == settings["iterations"] && not_evaluated(run)
        evaluate!(run)
    else
        save(run, "last")
    end
    run.iteration > 0 && progress(report(run))
end

"The present state."
function checkpoint(run::Run)
    task, arrays = run.task, Dict{String,Array}()
    for (name, array) in to_file_arrays(task.model, task.config, run.model)
        arrays["params/$name"] = copy(array)
    end
    if run.iteration > 0 && has_moments(run.optimizer.settings)
        for (kind, moment) in zip(("first_moment", "second_moment"), moments(run.optimizer))
            moment === nothing && continue
            for ((name, spec), array) in zip(trained_specs(task.model, task.config), moment)
                arrays["$kind/$name"] = to_file(spec, Array(array))
            end
        end
    end
    for (name, values) in run.history
        arrays["history/$name"] = copy(values)
    end
    status = run.iteration == task.settings["iterations"] ? "complete" : "running"
    return Checkpoint(
        task.model, task.config, task.data, "flux", task.settings["dtype"], run.versions, task.settings,
        run.iteration, status, arrays,
    )
end

"One step on the joint batch of the present iteration."
function step!(run::Run)
    start, task, settings = time_ns(), run.task, run.task.settings
    parts, batch = settings["accumulation"], settings["batch"]
    total, grads = 0.0, nothing
    for part in 0:(parts-1)
        first = (run.iteration * parts + part) * batch
        x, c = run.device(training_batch(task, first, batch))
        here = gradient(run.path, run.model, x, c)
        total += here.loss / parts
        grads = parts == 1 ? run.gradients(here) : add_part(grads, run.gradients(here), parts)
    end
    learning_rate, size = step!(run.optimizer, grads)
    isfinite(total) && isfinite(size) || throw(
        SideError(
            "training step $(run.iteration + 1): the loss is $total, the gradients' norm $size. $DIVERGED",
        ),
    )
    run.iteration += 1
    for (name, value) in zip(PER_STEP, (total, learning_rate, size, (time_ns() - start) / 1e9))
        push!(run.history[name], value)
    end
end

"The sum of gradients and of `found`, divided by the number of parts, in arrays of their own."
function add_part(sums, found, parts)
    scaled = [grad ./ eltype(grad)(parts) for grad in found]
    return sums === nothing ? scaled : sums .+ scaled
end

not_evaluated(run::Run) = isempty(run.history["evaluated"]) || run.history["evaluated"][end] != run.iteration

"The numbers of an evaluation; the best model so far is kept, the last one too."
function evaluate!(run::Run)
    numbers, history, key = evaluate(run.task, run.model, run.device), run.history, best(run.task)
    all(isfinite, last.(numbers)) || throw(
        SideError(
            "evaluation after step $(run.iteration): the losses are $(join(last.(numbers), " and ")). $DIVERGED",
        ),
    )
    is_best = key !== nothing && Dict(numbers)[key] < minimum(history[key]; init=Inf)
    for (name, value) in ("evaluated" => run.iteration, numbers...)
        push!(history[name], value)
    end
    run.iteration > 0 && is_best && save(run, "best")
    save(run, "last")
end

function save(run::Run, name)
    state = checkpoint(run)
    write_checkpoint(joinpath(run.folder, "$name.h5"), name == "best" ? without_moments(state) : state)
end

function report(run::Run)
    recent = last(run.history["seconds"], 20)
    latest(name) = isempty(run.history[name]) ? nothing : run.history[name][end]
    state = Dict{String,Any}(name => latest(name) for name in per_evaluation(run.task.model)[2:end])
    state["iteration"], state["loss"] = run.iteration, run.history["loss"][end]
    state["$(unit(run.task))_per_second"] = units_per_step(run.task) * length(recent) / sum(recent)
    return state
end
