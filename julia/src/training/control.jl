# Training a control network on planar data, on the Flux side.
# The same file on the Python side is `python/twingrad/training/control.py`.

const CHECKPOINT_SECONDS, PROGRESS_SECONDS = 5.0, 0.2
const GRID_POINTS, GRID_EDGE = 101, 1.2
const FREEZABLE = ("K", "b", "W", "mu", "dt")
const GRADIENTS = ("ad", "manual")

"The networks whose first time steps cannot be chosen, and what they are."
const OWN_STEPS = Dict("net" => "time steps of 1", "odenet-simplex" => "time steps with the sum 1")

"""
The settings of a training that the user need not give. `dt` is the time step at the start, which a `resnet` keeps; 0 for what the
network has: 1/layers, or 1 in a `net`.
"""
const DEFAULT_SETTINGS = Dict{String,Any}(
    "dataset" => "donut2d",
    "network" => "odenet",
    "method" => "euler",
    "layers" => 20,
    "dt" => 0.0,
    "d" => 2,
    "samples" => 500,
    "samples_test" => 500,
    "seed" => 1,
    "freeze" => String[],
    "gradient" => "manual",
    "dtype" => "float64",
    "evaluate_every" => 10,
)

"Names and checks of these settings."
const CONTROL_SETTINGS = [
    "dataset" => choice(sort!(collect(keys(DATASETS)))),
    "network" => choice(NETWORKS),
    "method" => choice(METHODS),
    "layers" => integer(1),
    "dt" => at_least(0),
    "d" => integer(2),
    "samples" => integer(1),
    "samples_test" => integer(1),
    "seed" => integer(0),
    "freeze" => (nothing, names -> all(in(FREEZABLE), names), "among " * join(FREEZABLE, ", ")),
    "gradient" => choice(GRADIENTS),
    "dtype" => choice(sort!(collect(keys(DTYPES)); rev=true)),
    "evaluate_every" => integer(1),
]

"""
    control_settings(values)

Checked settings of a training: `DEFAULT_SETTINGS` with the given ones; an InputError names the setting.
"""
function control_settings(values)
    where = "train control"
    settings = check_settings(merge(DEFAULT_SETTINGS, Dict{String,Any}(values)), CONTROL_SETTINGS, where)
    shared = Dict("network" => settings["network"], "method" => settings["method"], "scale" => "mean")
    control_net_config(shared, where)
    network = settings["network"]
    settings["dt"] = Float64(settings["dt"])
    settings["dt"] > 0 && haskey(OWN_STEPS, network) &&
        throw(
            InputError(
                "$where, dt";
                expected="0, since network '$network' starts from $(OWN_STEPS[network])",
                found="$(settings["dt"])",
            ),
        )
    return settings
end

"Parameters at the start, as a file has them: K and W standard normal, b and μ zero, Δt as set, or as the network has it."
function initial_params(settings)
    N, d = settings["layers"], settings["d"]
    params = Dict{String,Array}(normal_params(["K" => (d, d, N), "W" => (d, 1)], settings["seed"]))
    params["b"], params["mu"] = zeros(d, N), zeros(1)
    own = settings["network"] == "net" ? 1.0 : 1.0 / N
    params["dt"] = fill(settings["dt"] > 0 ? settings["dt"] : own, N)
    return params
end

"""
    train_control(settings, iterations, file; versions, progress, path)

Train until `iterations` steps are taken in all, going on from `file` where it holds an earlier part; the file is rewritten every
few seconds and at the end. `progress` is called now and then with a dictionary of iteration, objective and accuracy.
On the `path` "fast" the costate gradient is computed by kernels; automatic differentiation is the same on both.
"""
function train_control(settings, iterations, file; versions, progress=_ -> nothing, path="fast")
    T = choose_dtype(settings["dtype"])
    data(split, samples) =
        map(array -> T.(array), planar(settings["dataset"], split, samples, settings["seed"], settings["d"]))
    x, c = data("train", settings["samples"])
    x_test, c_test = data("test", settings["samples_test"])
    config = ControlNetConfig(settings["network"], settings["method"], "mean")

    initial = initial_params(settings)
    iteration, step_constant, params = 0, FIRST_STEP_CONSTANT, initial
    history = Dict{String,Vector}()
    if isfile(file)
        saved = read_training(file)
        resume_check(file, saved, settings, iterations; defaults=DEFAULT_SETTINGS)
        finished =
            saved.status == "converged" || (saved.status == "complete" && saved.iteration == iterations)
        finished && return saved
        iteration, step_constant = saved.iteration, saved.step_constant
        group(prefix) =
            Dict(replace(path, prefix => "") => a for (path, a) in saved.arrays if startswith(path, prefix))
        params = group("params/")
        history = Dict{String,Vector}(group("history/"))
    end

    m = build("control_net", config, params, T)
    way = make_path(path)
    if settings["gradient"] == "ad"
        way = Reference()
    elseif path == "reference"
        way = Costate(m, x)
    end
    descent = Descent(m, way, x, c, trained_params(config, settings["freeze"]); step_constant)
    if isempty(history)
        history["objective"] = [Float64(objective(way, m, x, c))]
        history["evaluated"] = Int64[]
        for name in ("objective_test", "accuracy_train", "accuracy_test", "step_constant")
            history[name] = Float64[]
        end
        evaluate!(history, m, iteration, x, c, x_test, c_test)
    end

    function state(status)
        arrays = Dict{String,Array}("initial/$name" => array for (name, array) in initial)
        for (name, param) in to_file_arrays("control_net", config, m)
            arrays["params/$name"] = Float64.(param)
        end
        for (name, values) in history
            arrays["history/$name"] = copy(values)
        end
        status == "running" || merge!(arrays, picture(m, x_test, c_test))
        return Training("flux", versions, settings, iteration, descent.step_constant, status, arrays)
    end

    status, saved_at, shown_at = "complete", time(), time()
    while iteration < iterations
        taken = descend!(descent)
        if taken === nothing
            status = "converged"
            break
        end
        iteration += 1
        push!(history["objective"], taken[2])
        push!(history["step_constant"], taken[3])
        iteration % settings["evaluate_every"] == 0 && evaluate!(history, m, iteration, x, c, x_test, c_test)
        if time() - shown_at > PROGRESS_SECONDS
            progress(report(iteration, history))
            shown_at = time()
        end
        if time() - saved_at > CHECKPOINT_SECONDS
            write_training(file, state("running"))
            saved_at = time()
        end
    end
    progress(report(iteration, history))
    final = state(status)
    write_training(file, final)
    return final
end

function evaluate!(history, m, iteration, x, c, x_test, c_test)
    test = m(x_test)
    push!(history["evaluated"], iteration)
    push!(history["objective_test"], loss(m, test, c_test))
    push!(history["accuracy_train"], accuracy(m(x), c))
    push!(history["accuracy_test"], accuracy(test, c_test))
end

report(iteration, history) = Dict(
    "iteration" => iteration,
    "objective" => history["objective"][end],
    "accuracy_test" => history["accuracy_test"][end],
)

accuracy(prediction, c) = count((prediction .> 0.5) .== (c .> 0.5)) / length(c)

"What the figures show: test samples, their ways through the layers, and predictions on a grid; axes as files have them."
function picture(m, x::Matrix{T}, c) where {T}
    line = T.(range(-GRID_EDGE, GRID_EDGE; length=GRID_POINTS))
    grid = zeros(T, size(x, 1), GRID_POINTS^2)
    grid[1, :] = repeat(line; outer=GRID_POINTS)
    grid[2, :] = repeat(line; inner=GRID_POINTS)
    return Dict{String,Array}(
        "picture/x" => Float64.(x[1:2, :]),
        "picture/c" => Float64.(c),
        "picture/prediction" => Float64.(m(x)),
        "picture/trajectories" => Float64.(stack(states(m, x))),
        "picture/grid_axis" => Float64.(line),
        "picture/grid_prediction" => Float64.(reshape(m(grid), GRID_POINTS, GRID_POINTS)),
    )
end
