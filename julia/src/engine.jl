# The Flux side's calculation: arrays of a case in, arrays of a result out. No files, no processes.
# The same file on the Python side is `python/twingrad/engine.py`.

using Flux: MLDataDevices

const DTYPES = Dict("float64" => Float64, "float32" => Float32)

"A training step found no acceptable step size, or the like: the side failed, not its input."
struct SideError <: Exception
    message::String
end
Base.showerror(io::IO, e::SideError) = print(io, e.message)

"The number type called `name`; an InputError lists the known ones."
function choose_dtype(name)
    name == "bfloat16" && throw(
        InputError(
            "dtype";
            expected="float64 or float32",
            found="\"bfloat16\"",
            hint="Flux has no bfloat16 on the CPU.",
        ),
    )
    haskey(DTYPES, name) || throw(InputError("dtype"; expected="one of float64, float32", found=repr(name)))
    return DTYPES[name]
end

"The device called `name`, \"cpu\" or \"cuda\"; an InputError where it is unknown or absent."
function choose_device(name)
    name == "cpu" && return Flux.cpu_device()
    name == "cuda" || throw(InputError("device"; expected="one of cpu, cuda", found=repr(name)))
    MLDataDevices.functional(MLDataDevices.CUDADevice) && return Flux.gpu_device()
    hint = "Add CUDA.jl to the environment and load it, or use --device cpu."
    throw(InputError("device"; expected="a CUDA device", found="none that Flux can use", hint))
end

"""
    build(model, config, params, T)

The model called `model` with parameters as the file has them (by name), in numbers of type `T`.
"""
function build(model, config, params, T)
    specs = MODELS[model].params(config)
    arrays = Dict(name => T.(from_file(spec, params[name])) for (name, spec) in specs)
    return CALCULATIONS[model].build(config, arrays)
end

"The part of a model or of its gradient that a dotted name means; numbers in it count from 0."
function part(tree, name)
    for key in eachsplit(name, '.')
        layer = tryparse(Int, key)
        tree = layer === nothing ? getproperty(tree, Symbol(key)) : tree[layer+1]
    end
    return tree
end

"The trained arrays of a model, or their gradients, by name, in the file's order."
named_arrays(model, config, tree) =
    [name => part(tree, name) for (name, spec) in MODELS[model].params(config) if spec.trained]

"""
    gradients_of(model, config, path)

What takes the gradients out of an evaluation on a path, in the file's order. A fast path has them in the same arrays each time, as
long as batches keep their size: they are looked up by name only where they are others.
"""
function gradients_of(model, config, ::Reference)
    return here -> last.(named_arrays(model, config, here.grads))
end
function gradients_of(model, config, ::Fast)
    tree, found = nothing, nothing
    return function (here)
        grads = here.grads
        if grads !== tree
            tree, found = grads, last.(named_arrays(model, config, grads))
        end
        return found
    end
end

"The arrays of a model or of its gradient as the file has them, those that `wanted(spec)` says."
to_file_arrays(model, config, tree, wanted=_ -> true) = [
    name => to_file(spec, Array(part(tree, name))) for
    (name, spec) in MODELS[model].params(config) if wanted(spec)
]

"The only array of a case's group as the model wants it, and its name."
function only_array(specs, arrays, T)
    name, spec = only(specs)
    array = from_file(spec, arrays[name])
    return name, spec.ids ? array : T.(array)
end

"""
    evaluate(model, config, groups; dtype="float64", device="cpu", steps=0)

Evaluate a case.

- `model`: a name in `MODELS`; `config`: its settings.
- `groups`: the arrays of "params", "inputs" and "targets", as HDF5.jl reads the case file.
- `steps`: training steps to take after the gradient.

Returns the datasets of a result file (FORMAT.md): path without leading slash => array, those of the fast path below "fast/".
The output is computed without a gradient, the loss on the way to it: operations have different code for the two. The
hand-derived gradient, the fast path and the training steps are computed on the CPU on every device, the fast path only for the CPU.
"""
function evaluate(model, config, groups; dtype="float64", device="cpu", steps=0)
    T, on_device = choose_dtype(dtype), choose_device(device)
    spec, calculation = MODELS[model], CALCULATIONS[model]
    fresh() = build(model, config, groups["params"], T)
    _, x = only_array(spec.inputs(config), groups["inputs"], T)
    _, c = only_array(spec.targets(config), groups["targets"], T)
    result = on_path(Reference(), model, config, fresh, x, c, on_device, steps)
    if spec.manual_gradient
        add_gradients!(result, model, config, calculation.by_hand(fresh(), x, c), "_manual")
    end
    if device == "cpu"
        for (name, array) in on_path(Fast(), model, config, fresh, x, c, on_device, steps)
            result["fast/$name"] = array
        end
    end
    return result
end

"What one path makes of models as `fresh()` gives them, at input x with target c."
function on_path(path, model, config, fresh, x, c, on_device, steps)
    output, result = only(MODELS[model].outputs(config))[1], Dict{String,Array}()
    m, x_there, c_there = on_device((fresh(), x, c))
    T = eltype(last(first(named_arrays(model, config, m))))
    here = gradient(path, m, x_there, c_there)
    result["loss"] = fill(T(here.loss))
    add_gradients!(result, model, config, here, "")
    for (name, array) in to_file_arrays(model, config, m, spec -> !spec.trained)
        result["statistics/$name"] = copy(array)
    end
    result["outputs/$output"] = Array(output!(path, on_device(fresh()), x_there))
    for (name, take!) in (steps > 0 ? CALCULATIONS[model].steps : ())
        trained = fresh()
        result["steps/$name/losses"] = T.(take!(path, trained, x, c, steps))
        for (param, array) in to_file_arrays(model, config, trained)
            result["steps/$name/params_after/$param"] = copy(array)
        end
    end
    return result
end

"Put the gradients of an evaluation into a result, in groups whose names end with `suffix`."
function add_gradients!(result, model, config, here, suffix)
    for (name, grad) in to_file_arrays(model, config, here.grads, spec -> spec.trained)
        result["grads$suffix/$name"] = copy(grad)
    end
    input = only(MODELS[model].inputs(config))[1]
    here.grads_input === nothing || (result["grads_inputs$suffix/$input"] = Array(here.grads_input))
end

"Steps of the adaptive descent; returns the loss before each."
function descent_steps!(path, m, x, c, steps)
    descent = Descent(m, path, x, c, trained_params(m.config))
    return [first(step_or_fail!(descent, number)) for number in 1:steps]
end

function step_or_fail!(descent, number)
    taken = descend!(descent)
    taken === nothing && throw(SideError("training step $number: no step size was accepted"))
    return taken
end

"Steps of an optimizer with its settings in `COMPARED`, on the model called `model`; they return the loss before each."
function optimizer_steps(model, name)
    return function take_steps!(path, m, x, c, steps)
        optimizer = Optimizer(named_arrays(model, m.config, m), COMPARED[name], path; simplex=simplex(m))
        grads = gradients_of(model, m.config, path)
        return map(1:steps) do _
            here = gradient(path, m, x, c)
            step!(optimizer, grads(here))
            here.loss
        end
    end
end

"""
    Calculation(build, steps, by_hand)

How one model is computed: its constructor, its ways to train by name, its hand-derived gradient where it has one.
"""
struct Calculation
    build::Any
    steps::Vector{Pair{String,Function}}
    by_hand::Union{Function,Nothing}
end

by_optimizers(model, names...) =
    Pair{String,Function}[name => optimizer_steps(model, name) for name in names]

const CALCULATIONS = Dict(
    "control_net" => Calculation(
        ControlNet,
        ["descent" => descent_steps!],
        (m, x, c) -> costate_gradient!(Costate(m, x), m, x, c),
    ),
    "gpt" => Calculation(GPT, by_optimizers("gpt", "adamw"), nothing),
    "mlp" => Calculation(
        MultilayerPerceptron,
        by_optimizers("mlp", "gradient-descent", "sgd", "adam", "adamw"),
        backpropagation,
    ),
    "resnet" => Calculation(ResNet, by_optimizers("resnet", "sgd", "adamw"), nothing),
)

"""
    evaluate_arrays(model, config, groups, dtype, steps)

[`evaluate`](@ref) for callers in Python: `config` is JSON text, `groups` any dictionary of dictionaries of arrays, axes reversed.
"""
function evaluate_arrays(model, config, groups, dtype, steps)
    spec = model_spec(String(model), "model")
    settings = spec.config(JSON.parse(String(config)), "config")
    arrays = Dict(
        String(group) =>
            Dict{String,Array}(String(name) => Array(array) for (name, array) in pairs(members)) for
        (group, members) in pairs(groups)
    )
    check_groups(spec, settings, arrays, "")
    return evaluate(String(model), settings, arrays; dtype=String(dtype), steps=Int(steps))
end
