# What a workload costs on the Flux side: the answer to the verb `bench`. What is inside the timed calls is described in
# `docs/benchmarks.md`. The same file on the Python side is `python/twingrad/bench/measure.py`.

using Chairmarks: @be, Chairmarks
using KernelAbstractions: KernelAbstractions

const ARRAYS_FORMAT = "twingrad-bench-arrays"
"A sample of calls that are shorter is the mean of several that together take so long."
const SAMPLE_SECONDS = 1e-4
const LEAST_SAMPLES = 3

"The project's own models on one path."
function own_models(path)
    common = ("forward" => by_path(objective, path), "gradient" => by_path(gradient, path))
    model(build, calls...) = Implementation(build, Dict{String,Function}(common..., calls...))
    optimized(name, build, rule, calls...) = model(build, "step" => step_by(path, name, rule), calls...)
    return Dict(
        "control_net" => model(ControlNet, "costate" => by_costate, "step" => descent_by(path)),
        "gpt" => optimized("gpt", GPT, "adamw"),
        "mlp" => optimized("mlp", MultilayerPerceptron, "sgd", "backpropagation" => by_backpropagation),
        "resnet" => optimized("resnet", ResNet, "sgd"),
    )
end

"A text that is to be continued has no targets."
const GENERATION = ModelSpec(;
    (field => getfield(GPT_SPEC, field) for field in fieldnames(ModelSpec))..., targets=_ -> [],
)

"The product of two square matrices: how fast this machine can be."
const MATMUL =
    layer_spec("matmul", ("size",); inputs=s -> [name => numbers(s.size, s.size) for name in ("a", "b")])

"The arrays of each kind of workload, by subject."
const BENCH_SPECS = Dict(
    "model" => MODELS,
    "layer" => LAYERS,
    "generate" => Dict("gpt" => GENERATION),
    "ceiling" => Dict("matmul" => MATMUL),
)

"What can be timed: by implementation, kind and subject."
const IMPLEMENTATIONS = Dict(
    "twingrad" => Dict(
        "model" => own_models("fast"),
        "layer" => OWN_LAYERS,
        "generate" => Dict("gpt" => Implementation(GPT, Dict("tokens" => tokens_to_context))),
        "ceiling" =>
            Dict("matmul" => Implementation((_, _) -> nothing, Dict("forward" => matrix_product))),
    ),
    "reference" => Dict("model" => own_models("reference")),
    "flux-layers" => Dict("model" => FLUX_MODELS, "layer" => FLUX_LAYERS),
    "plain" => Dict("model" => PLAIN_MODELS),
)

"""
    Prepared

A workload that is ready to be timed, its first call done: `call()` is one execution of `parts` equal parts.
"""
struct Prepared
    workload::Dict{String,Any}
    file::Union{String,Nothing}
    call::Function
    parts::Int
    first_seconds::Float64
    checksum::Float64
end

"The workload of the last request, kept until another one is asked for."
const LATEST = Ref{Union{Prepared,Nothing}}(nothing)

"""
    visit(workload, file; seconds, samples, first)

Time a workload (docs/protocol.md).

- `workload`: its "name", "kind", "subject", "quantity", "config", "dtype", "device" and "implementation".
- `file`: its arrays, in groups "params", "inputs" and "targets", float64 and int64; nothing for a ceiling.
- `seconds`, `samples`: samples are taken until one of the two is reached, but at least 3.
- `first`: whether the seconds of the very first call are wanted, most of which are compilation, and the largest
  resident set from the time when the workload was made ready.

Returns the reply's entries; those of memory, which are the CPU's, are nothing on a GPU. An InputError where there is no
such workload, or where the file does not fit it.
"""
function visit(workload, file; seconds, samples, first)
    prepared = prepare(workload, file; first)
    found = take_samples(prepared.call, seconds, max(samples, LEAST_SAMPLES))
    total, on_cpu = sum(sample -> sample.time, found), workload["device"] == "cpu"
    bytes = minimum(sample -> sample.bytes, found) / prepared.parts
    return Dict{String,Any}(
        "seconds" => [sample.time / prepared.parts for sample in found],
        "calls" => Int(found[1].evals) * prepared.parts,
        "first_call_seconds" => first ? prepared.first_seconds : nothing,
        "allocated_bytes" => on_cpu ? round(Int, bytes) : nothing,
        "gc_share" => sum(sample -> sample.gc_fraction * sample.time, found) / total,
        "peak_bytes" => first && on_cpu ? peak_bytes() : nothing,
        "checksum" => prepared.checksum,
        "tool" => "Chairmarks $(pkgversion(Chairmarks))",
    )
end

"""
Samples of the call, at least `LEAST_SAMPLES`: each the mean of as many calls as fill `SAMPLE_SECONDS`.

`call` was called before, so that a slow one needs no further warm-up: of those all calls are samples.
"""
function take_samples(call, seconds, samples)
    one() = only((@be call evals = 1 samples = 0).samples)
    found = [one()]
    if LEAST_SAMPLES * max(found[1].time, SAMPLE_SECONDS) < seconds
        short = (@be call evals = 1 samples = 9 seconds = SAMPLE_SECONDS).samples
        once = minimum(sample -> sample.time, short)
        evals = max(1, ceil(Int, SAMPLE_SECONDS / max(once, eps())))
        found = (@be call evals = evals samples = samples seconds = seconds).samples
    end
    while length(found) < LEAST_SAMPLES
        push!(found, one())
    end
    return found
end

"The workload, ready; what was ready before is forgotten where it is another one."
function prepare(workload, file; first)
    ready = LATEST[]
    ready !== nothing && ready.workload == workload && ready.file == file && return ready
    LATEST[] = nothing
    GC.gc(first)
    first && reset_peak()
    call = bench_call(workload, file)
    started = time_ns()
    result = call()
    first_seconds = (time_ns() - started) / 1e9
    return LATEST[] = Prepared(workload, file, call, parts(result), first_seconds, checksum(result))
end

"What of the workload is timed: a function without arguments, whose arrays are on the device."
function bench_call(workload, file)
    spec, implementation, quantity = parts_of(workload)
    T, on_device = choose_dtype(workload["dtype"]), choose_device(workload["device"])
    config = spec.config(workload["config"], "workload $(workload["name"]), config")
    file = something(file, "arrays")
    groups = workload["kind"] == "ceiling" ? random_matrices(config) : read_arrays(file)
    check_groups(spec, config, groups, "$file, /")
    function arrays(group)
        return map(getfield(spec, group)(config)) do (name, array)
            values = from_file(array, groups[String(group)][name])
            name => on_device(array.ids ? values : T.(values))
        end
    end
    inputs, targets = (Tuple(map(last, arrays(group))) for group in (:inputs, :targets))
    m = implementation.build(config, Dict{String,AbstractArray}(arrays(:params)))
    return synchronised(implementation.calls[quantity](m, inputs, targets), inputs[1])
end

"The arrays, the implementation and the quantity of a workload; an InputError names what is missing or unknown."
function parts_of(workload)
    for name in ("name", "kind", "subject", "quantity", "config", "dtype", "device", "implementation")
        haskey(workload, name) ||
            throw(InputError("workload, $name"; expected="this entry", found="no such entry"))
    end
    kind, subject, quantity, name =
        (workload[field] for field in ("kind", "subject", "quantity", "implementation"))
    spec = entry(entry(BENCH_SPECS, kind, "workload, kind"), subject, "workload, subject of kind $kind")
    kinds = entry(IMPLEMENTATIONS, name, "workload, implementation")
    subjects = entry(kinds, kind, "workload, kind of implementation $name")
    implementation = entry(subjects, subject, "workload, subject of implementation $name")
    entry(implementation.calls, quantity, "workload, quantity of $subject, implementation $name")
    return spec, implementation, quantity
end

"The entry of a table; an InputError names `where` and what there is."
function entry(table, name, where)
    haskey(table, name) ||
        throw(InputError(where; expected=one_of(sort!(collect(keys(table)))), found=repr(name)))
    return table[name]
end

"The arrays of a workload's file, by group."
function read_arrays(file)
    contents = read_file(file, ARRAYS_FORMAT)
    check_names(contents; required=("format", "format_version"), groups=CASE_GROUPS)
    return Dict(group => below(contents, group) for group in CASE_GROUPS)
end

"Square matrices in the place of a file's arrays."
function random_matrices(config)
    inputs, none = Dict(name => randn(config.size, config.size) for name in ("a", "b")), Dict{String,Array}()
    return Dict("params" => none, "inputs" => inputs, "targets" => none)
end

"The call that also waits until the device of `array` has done its work."
function synchronised(call, array)
    backend = KernelAbstractions.get_backend(array)
    backend isa KernelAbstractions.CPU && return call
    return function ()
        result = call()
        KernelAbstractions.synchronize(backend)
        return result
    end
end

"Let the largest resident set count from now on, where the system can, without what was freed before."
function reset_peak()
    try
        ccall(:malloc_trim, Cint, (Csize_t,), 0)  # of the GNU C library
        write("/proc/self/clear_refs", "5")
    catch error
        error isa Union{ErrorException,SystemError,Base.IOError} || rethrow()
    end
end

"The largest resident set of this process in bytes, nothing where the system does not say."
function peak_bytes()
    file = "/proc/self/status"
    isfile(file) || return nothing
    found = match(r"^VmHWM:\s*(\d+) kB"m, read(file, String))
    return found === nothing ? nothing : 1024 * parse(Int, found[1])
end
