# The Flux side's worker: `julia julia/twingrad.jl serve` answers requests on its standard input.
# The protocol is described in `docs/protocol.md`; the same program on the Python side is `python/twingrad/worker.py`.

using HDF5: HDF5

const PROTOCOL = 1
const PR_SET_PDEATHSIG, SIGKILL = Cint(1), Culong(9)

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

"Train a control network with `settings` up to `iterations` steps; the file is `out`. Option: path."
function answer_train_control(arguments, progress)
    settings, path = control_settings(arguments["settings"]), get(arguments, "path", "fast")
    done = train_control(
        settings,
        arguments["iterations"],
        arguments["out"];
        versions=versions(),
        progress,
        path,
    )
    return Dict("iteration" => done.iteration, "status" => done.status)
end

"Train a GPT with `settings` on the file `text`; `out` is the folder. Options: until, device, path."
function answer_train_gpt(arguments, progress)
    settings, options = gpt_settings(arguments["settings"]), training_options(arguments)
    done = train_gpt(settings, arguments["text"], arguments["out"]; versions=versions(), progress, options...)
    return Dict("iteration" => done.iteration, "status" => done.status)
end

"The options of a training that its settings do not hold, and what they are where they are not given."
const TRAINING_OPTIONS = ("until" => nothing, "device" => "cpu", "path" => "fast")

"Those that were given, and the others."
function training_options(arguments)
    get(arguments, "compiled", false) &&
        throw(InputError("compile"; expected="side torch", found="side flux, which Julia compiles anyway"))
    until, device, path = (get(arguments, name, default) for (name, default) in TRAINING_OPTIONS)
    return (; until, device, path)
end

"""
Train the classifier `model` with `settings` on the images in `data`, null for the digits; `out` is the folder.

Options: until, device, path.
"""
function answer_train_classifier(arguments, progress)
    model, options = arguments["model"], training_options(arguments)
    settings, place = classifier_settings(model, arguments["settings"]), (arguments["data"], arguments["out"])
    done = train_classifier(model, settings, place...; versions=versions(), progress, options...)
    return Dict("iteration" => done.iteration, "status" => done.status)
end

"Classify the test images in `data` with the model in file `checkpoint`; `folder` is for the images file."
function answer_classify(arguments, progress)
    names = ("checkpoint", "data", "folder", "dtype", "device")
    found = evaluate_classifier((arguments[name] for name in names)...)
    return Dict(
        "loss" => found.loss,
        "accuracy" => accuracy(found),
        "labels" => found.labels .- 1,
        "predictions" => found.predictions .- 1,
        "confidences" => found.confidences,
    )
end

"The loss of the GPT in file `checkpoint` on the last tenth of the file `text`; `folder` is for its tokens."
function answer_evaluate(arguments, progress)
    names = ("checkpoint", "text", "folder", "dtype", "device")
    return Dict("loss" => evaluate_checkpoint((arguments[name] for name in names)...))
end

"Continue the token ids `prompt` by `count` tokens of the GPT in file `checkpoint`; each new one is progress."
function answer_generate(arguments, progress)
    file = arguments["checkpoint"]
    model = load_gpt(read_checkpoint(file), file, arguments["dtype"], arguments["device"])
    temperature, top_k, seed = (arguments[name] for name in ("temperature", "top_k", "seed"))
    on_token(token) = progress(Dict("token" => token))
    prompt, count = arguments["prompt"], arguments["count"]
    return Dict("tokens" => generate(model, prompt, count; temperature, top_k, seed, on_token))
end

"""
Attack the classifier in file `checkpoint` by FGSM with each of `epsilons`, on its test data (see `answer_classify`).

`count` is how many of them, 0 for all; `examples` are the samples whose gradients' signs are wanted.
"""
function answer_attack(arguments, progress)
    files = (arguments[name] for name in ("checkpoint", "data", "folder", "epsilons"))
    names = (:count, :dtype, :device, :examples)
    found = attack(files...; progress, (name => arguments[String(name)] for name in names)...)
    return Dict(
        "kind" => found.kind,
        "vanished" => found.vanished,
        "labels" => found.labels .- 1,
        "predictions" => collect.(eachcol(found.predictions .- 1)),
        "confidences" => collect.(eachcol(found.confidences)),
        "correct" => correct(found),
        "accuracies" => accuracies(found),
        "signs" => collect.(eachcol(found.signs)),
    )
end

"Solve the `flow` with every method on grids of `steps` per layer; the errors are in the file `out`."
function answer_convergence(arguments, progress)
    arrays = convergence(flow_of(arguments["flow"]), arguments["steps"]; progress)
    write_convergence(arguments["out"], arrays, versions())
    return Dict("reference_check" => arrays["reference/state_check"][])
end

"The residual stream of the GPT in file `checkpoint` at `windows` windows of `text`, refined by `steps`; in `out`."
function answer_stream(arguments, progress)
    files = (arguments[name] for name in ("checkpoint", "text", "folder", "windows", "steps"))
    arrays = stream_of(files...; progress)
    write_stream(arguments["out"], arrays, versions())
    return Dict("loss" => arrays["loss"][])
end

"Time `workload` on the arrays in the file `arrays`, null for a ceiling; see `visit`."
function answer_bench(arguments, progress)
    names = (:seconds, :samples, :first)
    return visit(
        arguments["workload"], arguments["arrays"]; (name => arguments[String(name)] for name in names)...,
    )
end

"A digest of what is in `file`, of the given `kind`; `folder` is for tokens and images."
answer_read(arguments, progress) =
    Dict("digest" => read_digest((arguments[name] for name in ("kind", "file", "folder"))...))

const VERBS = Dict(
    "run" => answer_run,
    "train-control" => answer_train_control,
    "train-gpt" => answer_train_gpt,
    "train-classifier" => answer_train_classifier,
    "classify" => answer_classify,
    "evaluate" => answer_evaluate,
    "generate" => answer_generate,
    "attack" => answer_attack,
    "convergence" => answer_convergence,
    "stream" => answer_stream,
    "bench" => answer_bench,
    "read" => answer_read,
)

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
Have the kernel kill this process, a worker, when the harness dies, even in the middle of a computation.

On Linux alone: elsewhere the end of its input, or of its output, tells a worker, when it reads or writes next.
"""
function leave_with_harness()
    Sys.islinux() && ccall(:prctl, Cint, (Cint, Culong...), PR_SET_PDEATHSIG, SIGKILL)
    return nothing
end

"""
    serve()

Answer requests until the input ends. Whatever a library prints goes to stderr, never into the protocol.
"""
function serve()
    channel = fdio(ccall(:dup, Cint, (Cint,), 1), true)
    redirect_stdout(stderr)
    leave_with_harness()
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
