# The Flux side's worker: `julia julia/twingrad.jl serve` answers requests on its standard input.
# The protocol is described in `docs/protocol.md`; the same program on the Python side is `python/twingrad/worker.py`.

using HDF5: HDF5

const PROTOCOL = 1

"What computes here: language, framework, linear algebra, processor, threads."
function versions()
    blas = join((basename(lib.libname) for lib in BLAS.get_config().loaded_libs), ", ")
    device = MLDataDevices.functional(MLDataDevices.CUDADevice) ? "CUDA" : "no GPU"
    return Dict{String,Any}(
        "language" => "Julia $VERSION",
        "framework" => "Flux $(pkgversion(Flux)), Zygote $(pkgversion(Zygote))",
        "hdf5" => "HDF5.jl $(pkgversion(HDF5)), library $(HDF5.API.h5_get_libversion())",
        "blas" => blas,
        "processor" => strip(first(Sys.cpu_info()).model),
        "device" => device,
        "threads" => BLAS.get_num_threads(),
    )
end

"Evaluate the case in file `case`; write the result to `out`. Options: dtype, device, steps."
function answer_run(arguments, progress)
    case = read_case(arguments["case"])
    options = (;
        (
            Symbol(name) => arguments[name] for
            name in ("dtype", "device", "steps") if haskey(arguments, name)
        )...
    )
    result = live_result(case; options...)
    write_result(arguments["out"], result)
    return Dict("loss" => result.arrays["loss"][])
end

"Train a control network with `settings` up to `iterations` steps; the file is `out`."
function answer_train(arguments, progress)
    settings = control_settings(arguments["settings"])
    done = train_control(settings, arguments["iterations"], arguments["out"]; versions=versions(), progress)
    return Dict("iteration" => done.iteration, "status" => done.status)
end

const VERBS = Dict("run" => answer_run, "train" => answer_train)

"The reply to one request: \"result\" => ... or \"error\" => ..."
function answer(request, progress)
    verb = get(request, "verb", nothing)
    try
        haskey(VERBS, verb) ||
            throw(InputError("verb"; expected=join(sort!(collect(keys(VERBS))), ", "), found=repr(verb)))
        return "result" => VERBS[verb](get(request, "arguments", Dict()), progress)
    catch error
        if error isa InputError
            fields = Dict(String(name) => getfield(error, name) for name in fieldnames(InputError))
            return "error" => merge(fields, Dict("kind" => "input"))
        end
        showerror(stderr, error, catch_backtrace())
        println(stderr)
        message = first(split(sprint(showerror, error), '\n'))
        return "error" => Dict("kind" => "failure", "message" => "$(nameof(typeof(error))): $message")
    end
end

"""
    serve()

Answer requests until the input ends. Whatever a library prints goes to stderr, never into the protocol.
"""
function serve()
    channel = fdio(ccall(:dup, Cint, (Cint,), 1), true)
    redirect_stdout(stderr)
    BLAS.set_num_threads(parse(Int, get(ENV, "OPENBLAS_NUM_THREADS", string(BLAS.get_num_threads()))))
    function send(message)
        println(channel, JSON.json(message))
        flush(channel)
    end
    send(Dict("hello" => Dict("protocol" => PROTOCOL, "side" => "flux", "versions" => versions())))
    for line in eachline(stdin)
        request = JSON.parse(line)
        number = get(request, "id", nothing)
        reply = answer(request, state -> send(Dict("id" => number, "progress" => state)))
        send(Dict("id" => number, reply))
    end
    return 0
end
