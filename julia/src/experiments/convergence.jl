# Orders of convergence: the flow of a control network, solved with more and more layers, on the Flux side.
#
# A control network with Runge-Kutta steps is a discretisation of y' = tanh(K(t) y + b(t)). Here the flow stays the same
# while the network gets deeper: each layer becomes m layers of Δt/m, and the errors of the final states and of the
# gradient fall like m to the power of minus the method's order. Source: Hairer, Nørsett, Wanner, "Solving Ordinary
# Differential Equations I", II.1 to II.3.
#
# The same file on the Python side is `python/twingrad/experiments/convergence.py`.

const CONVERGENCE_FORMAT = "twingrad-convergence"
const REFERENCE_METHOD = "kutta4"
"The reference takes so many times the steps of the finest grid: its error is 8⁴ times smaller than kutta4's there."
const REFERENCE_FACTOR = 8

"""
    Flow(params, x, c)

A flow with piecewise constant controls, a classifier at its end, and points to start from.

The controls are constant on each of the N layers of the coarsest grid, and so within every step of every finer one:
each step then solves an equation with a smooth right-hand side, and a method keeps its order. A layer has one
control; were it the value of a smooth control at the step's left end, every method would be of order 1.

`params` holds `K`, `b`, `W`, `mu` and `dt` as files have them, Float64; points `x` (d, points), labels `c` (points,).
"""
struct Flow
    params::Dict{String,Array}
    x::Matrix{Float64}
    c::Vector{Float64}
end

"""
    random_flow(seed, layers, dataset, points)

A flow in the plane on [0, 1] with random controls in `layers` layers of equal length. K, b and W are standard normal
(streams `depth/K`, `depth/b`, `depth/W`), μ is 0; the points are test data.
"""
function random_flow(seed, layers, dataset, points)
    draw(name, size...) = reshape(normal(Stream(seed, "depth/$name"), prod(size)), size)
    params = Dict{String,Array}(
        "K" => draw("K", 2, 2, layers),
        "b" => draw("b", 2, layers),
        "W" => draw("W", 2, 1),
    )
    params["mu"], params["dt"] = zeros(1), fill(1.0 / layers, layers)
    return Flow(params, planar(dataset, "test", points, seed)...)
end

"""
    trained_flow(file, points)

The flow that a trained control network discretises: its layers and time steps, and its first test data. An InputError
where the file is no whole training file, or of the network `net`, which discretises nothing.
"""
function trained_flow(file, points)
    training = read_training(file)
    settings = control_settings(training.settings)
    if settings["network"] == "net"
        expected = "a network that discretises a flow: resnet, odenet or odenet-simplex"
        throw(InputError("$file, setting network"; expected, found=repr(settings["network"])))
    end
    prefix = "params/"
    params = Dict{String,Array}(
        chopprefix(path, prefix) => array for (path, array) in training.arrays if startswith(path, prefix)
    )
    specs = MODELS["control_net"].params(ControlNetConfig(settings["network"], settings["method"], "mean"))
    check_arrays(specs, params, "$file, /params", Dict{String,Int}("d" => settings["d"]))
    return Flow(params, planar(settings["dataset"], "test", points, settings["seed"], settings["d"])...)
end

"The flow of a request: the settings of `random_flow`, or of `trained_flow` with the file as `checkpoint`."
function flow_of(settings)
    haskey(settings, "checkpoint") && return trained_flow(settings["checkpoint"], settings["points"])
    return random_flow((settings[name] for name in ("seed", "layers", "dataset", "points"))...)
end

"The network that takes m steps of `method` in each layer of the flow: controls repeated, Δt divided."
function refined(flow::Flow, method, m)
    params = copy(flow.params)
    params["K"], params["b"] = repeat(params["K"]; inner=(1, 1, m)), repeat(params["b"]; inner=(1, m))
    params["dt"] = repeat(params["dt"] ./ m; inner=m)
    return build("control_net", ControlNetConfig("odenet", method, "mean"), params, Float64)
end

"""
    solve(flow, method, m)

Final states (d, points), and the gradient of the loss by the flow's controls as files have it, (d + 1, d, N), in m
steps a layer.

Entry k of the gradient is [∂L/∂K_k  ∂L/∂b_k], the sum over the m layers that share K_k and b_k. It is the exact
derivative of the discrete loss (Sanz-Serna, SIAM Review 58(1), 2016): the method applied to the flow and its
variational equation together, and so of the same order.
"""
function solve(flow::Flow, method, m)
    net = refined(flow, method, m)
    final = foldl((y, k) -> next_state(net, k, y), axes(net.K, 3); init=flow.x)
    evaluation = costate_gradient!(Costate(net, flow.x), net, flow.x, flow.c)
    grads = Dict(to_file_arrays("control_net", net.config, evaluation.grads))
    K, b = (sum_by_layer(grads[name], m) for name in ("K", "b"))
    return final, [K; reshape(b, 1, size(b)...)]
end

function sum_by_layer(grad, m)
    steps = reshape(grad, size(grad)[1:(end-1)]..., m, :)
    return dropdims(sum(steps; dims=ndims(grad)); dims=ndims(grad))
end

"max|found - reference| / max|reference|; the largest difference alone where the reference is zero."
function largest_error(found, reference)
    scale = maximum(abs, reference)
    return maximum(abs, found .- reference) / (iszero(scale) ? one(scale) : scale)
end

"""
    convergence(flow, steps; progress)

Errors of every method on every grid, against a reference on a much finer one. `steps` are the steps per layer of each
grid, rising; `progress` is told how many of the solutions are done.

Returns, by name and as FORMAT.md lists them under "Convergence", `steps`, `reference/...`, and for each method
`states`, `gradients`, `state_errors` and `gradient_errors`.
"""
function convergence(flow::Flow, steps; progress=_ -> nothing)
    total, done = length(METHODS) * length(steps) + 2, 0
    function solution(method, m)
        solved = solve(flow, method, m)
        done += 1
        progress(Dict("solutions" => done, "of" => total))
        return solved
    end

    reference = solution(REFERENCE_METHOD, REFERENCE_FACTOR * last(steps))
    halved = solution(REFERENCE_METHOD, REFERENCE_FACTOR * last(steps) ÷ 2)
    arrays = Dict{String,Array}("steps" => collect(Int64, steps))
    for (place, kind) in enumerate(("state", "gradient"))
        arrays["reference/$kind"] = reference[place]
        arrays["reference/$(kind)_check"] = fill(largest_error(halved[place], reference[place]))
    end
    for method in METHODS
        solved = [solution(method, m) for m in steps]
        for (place, kind) in enumerate(("state", "gradient"))
            found = [one[place] for one in solved]
            arrays["$method/$(kind)s"] = stack(found)
            arrays["$method/$(kind)_errors"] = [largest_error(one, reference[place]) for one in found]
        end
    end
    return arrays
end

"Write what `convergence` gave, with what computed it."
function write_convergence(file, arrays, versions)
    covered = ["side" => "flux", "versions" => JSON.json(versions), "created" => now_utc()]
    write_sealed(file, CONVERGENCE_FORMAT, covered, arrays)
end
