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
    return ControlNet(config, Dict(name => T.(from_file(spec, params[name])) for (name, spec) in specs))
end

"The arrays of a model or of its gradient by name, as the file has them."
function to_file_arrays(model, config, arrays)
    specs = MODELS[model].params(config)
    return [name => to_file(spec, Array(getproperty(arrays, Symbol(name)))) for (name, spec) in specs]
end

"""
    evaluate(model, config, groups; dtype="float64", device="cpu", steps=0)

Evaluate a case.

- `model`: a name in `MODELS`; `config`: its settings.
- `groups`: the arrays of "params", "inputs" and "targets", as HDF5.jl reads the case file.
- `steps`: training steps to take after the gradient.

Returns the datasets of a result file (FORMAT.md): path without leading slash => array. The hand-derived gradient is
computed on the CPU on every device.
"""
function evaluate(model, config, groups; dtype="float64", device="cpu", steps=0)
    T, on_device = choose_dtype(dtype), choose_device(device)
    m = build(model, config, groups["params"], T)
    x, c = T.(groups["inputs"]["x"]), T.(groups["targets"]["c"])
    work = Costate(m, x)
    ways = ("" => automatic_gradient(on_device((m, x, c))...), "_manual" => costate_gradient!(work, m, x, c))

    result = Dict{String,Array}()
    for (suffix, value) in ways
        if isempty(suffix)
            result["loss"] = fill(T(value.loss))
            result["outputs/prediction"] = Array(value.prediction)
        end
        for (name, grad) in to_file_arrays(model, config, value.grads)
            result["grads$suffix/$name"] = copy(grad)
        end
        result["grads_inputs$suffix/x"] = Array(value.grads_inputs)
    end

    if steps > 0
        descent = Descent(m, Automatic(), x, c, trained_params(config))
        result["losses"] = T[first(step_or_fail!(descent, number)) for number in 1:steps]
        for (name, param) in to_file_arrays(model, config, m)
            result["params_after/$name"] = param
        end
    end
    return result
end

function step_or_fail!(descent, number)
    taken = descend!(descent)
    taken === nothing && throw(SideError("training step $number: no step size was accepted"))
    return taken
end

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
    sizes = Dict{String,Int}()
    for (group, specs) in
        ("params" => spec.params(settings), "inputs" => spec.inputs, "targets" => spec.targets)
        check_arrays(specs, arrays[group], group, sizes)
    end
    return evaluate(String(model), settings, arrays; dtype=String(dtype), steps=Int(steps))
end
