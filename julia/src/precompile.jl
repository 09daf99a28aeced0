# What is compiled when the package is installed, so that the first gradient of a session does not wait for the compiler.

using PrecompileTools: @compile_workload, @setup_workload

silent(_) = nothing

"A case file, read, evaluated and answered, and a training: all that a control network needs."
function use_control_net(folder)
    N, d, samples = 2, 2, 3
    params = Dict("K" => ones(d, d, N), "b" => zeros(d, N), "W" => ones(d, 1), "mu" => zeros(1))
    params["dt"] = fill(1 / N, N)
    groups = Dict{String,Dict{String,Array}}(
        "params" => params,
        "inputs" => Dict("x" => ones(d, samples)),
        "targets" => Dict("c" => [0.0, 1.0, 0.0]),
    )
    config = ControlNetConfig("odenet-simplex", "improved-euler", "mean")
    evaluate("control_net", config, groups; steps=1)
    evaluate("control_net", config, groups; dtype="float32")
    arrays = Dict("$group/$name" => array for (group, members) in groups for (name, array) in members)
    text = JSON.json(Dict("network" => "resnet", "method" => "euler", "scale" => "mean"))
    attrs = ["format" => CASE_FORMAT, "format_version" => 1, "name" => "x", "model" => "control_net"]
    file, out = joinpath(folder, "case.h5"), joinpath(folder, "out.h5")
    write_file(file, [attrs; "config" => text], arrays)
    ask("run", Dict("case" => file, "out" => out))
    settings = Dict{String,Any}("layers" => N, "samples" => samples, "samples_test" => samples)
    train_control(control_settings(settings), 2, out * ".training"; versions=Dict{String,Any}())
    parse_args(["run", "--case", file, "--out", out], command_line())
end

"Gradients in Float64, a training in Float32 with its files, an evaluation and a generation: all that a GPT needs."
function use_gpt(folder)
    config = GPTConfig(; vocab=3, context=2, layers=1, heads=1, width=2)
    groups = Dict{String,Dict{String,Array}}(
        "params" => Dict(name => ones(reverse(spec.dims)) for (name, spec) in gpt_params(config)),
        "inputs" => Dict("tokens" => [0; 1;;]),
        "targets" => Dict("targets" => [1; 2;;]),
    )
    evaluate("gpt", config, groups; steps=1)
    text = joinpath(folder, "text.txt")
    write(text, "abc"^20)
    sizes = Dict("layers" => 1, "heads" => 1, "width" => 2, "context" => 2, "batch" => 1)
    tiny = merge(sizes, Dict("iterations" => 2, "evaluation_windows" => 1))
    settings, out = merge(preset("gpt", "cpu"), tiny), joinpath(folder, "gpt")
    ask("train-gpt", Dict("settings" => settings, "text" => text, "out" => out))
    file = joinpath(out, "flux", "last.h5")
    saved = Dict{String,Any}("checkpoint" => file, "dtype" => "float32", "device" => "cpu")
    ask("evaluate", merge(saved, Dict("text" => text, "folder" => folder)))
    drawn = Dict("temperature" => 1.0, "top_k" => 2, "seed" => 1, "count" => 3, "prompt" => [0])
    ask("generate", merge(saved, drawn))
end

"Gradients in Float64, a training in Float32 with its files, a classification and an attack: what classifiers of images need."
function use_classifiers(folder)
    for model in ("mlp", "resnet")
        config, shape = TINY_CLASSIFIERS[model]
        groups = Dict{String,Dict{String,Array}}(
            "params" =>
                Dict(name => ones(reverse(spec.dims)) for (name, spec) in MODELS[model].params(config)),
            "inputs" => Dict(first(only(MODELS[model].inputs(config))) => ones(shape)),
            "targets" => Dict("labels" => [0, 1]),
        )
        evaluate(model, config, groups; steps=1)
    end
    images = joinpath(folder, "images")
    write_tiny_images(mkpath(images))
    tiny = Dict("batch" => 1, "iterations" => 2, "evaluation_images" => 1, "width" => 1, "hidden" => [2])
    for (model, known) in CLASSIFIER_SETTINGS
        own = filter(pair -> first(pair) in first.(known), tiny)
        out = joinpath(folder, model)
        settings = merge(preset(model, "cpu"), own)
        place = Dict{String,Any}("data" => images, "model" => model, "settings" => settings, "out" => out)
        ask("train-classifier", place)
        file = joinpath(out, "flux", "last.h5")
        saved = Dict("checkpoint" => file, "data" => images, "folder" => folder)
        ask("classify", merge(saved, Dict("dtype" => "float32", "device" => "cpu")))
        attacked = Dict(
            "epsilons" => [0.1],
            "count" => 2,
            "examples" => [0],
            "dtype" => "float64",
            "device" => "cpu",
        )
        ask("attack", merge(saved, attacked))
    end
end

const TINY_CLASSIFIERS = Dict(
    "mlp" => (MLPConfig([2, 2, 2], "sigmoid", "cross-entropy"), (2, 2)),
    "resnet" => (ResNetConfig(; variant="resnet20", in_channels=1, classes=2, width=1), (4, 4, 1, 2)),
)

"Two images of zeros as MNIST has them."
function write_tiny_images(folder)
    header(sizes...) = reinterpret(UInt8, hton.(UInt32[IDX_BYTES+length(sizes), sizes...]))
    write(joinpath(folder, IDX_TRAIN[1]), [header(2, 28, 28); zeros(UInt8, 2 * 28^2)])
    write(joinpath(folder, IDX_TRAIN[2]), [header(2); zeros(UInt8, 2)])
end

"The answer to a request, there and back as the worker has it."
function ask(verb, arguments)
    request = JSON.parse(JSON.json(Dict("id" => 1, "verb" => verb, "arguments" => arguments)))
    reply = answer(request, silent)
    first(reply) == "result" || error("$verb: $(last(reply))")
    return JSON.json(Dict("id" => 1, reply))
end

@setup_workload begin
    folder = mktempdir()
    @compile_workload begin
        use_control_net(folder)
        use_gpt(folder)
        use_classifiers(folder)
        precompile(main, (Vector{String},))
    end
    rm(folder; recursive=true)
end
