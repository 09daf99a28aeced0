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
    for method in METHODS, dtype in keys(DTYPES)
        config = ControlNetConfig("odenet-simplex", method, "mean")
        evaluate("control_net", config, groups; dtype, steps=dtype == "float64" ? 1 : 0)
    end
    arrays = Dict("$group/$name" => array for (group, members) in groups for (name, array) in members)
    config = JSON.json(Dict("network" => "resnet", "method" => "euler", "scale" => "mean"))
    attrs = ["format" => CASE_FORMAT, "format_version" => 1, "name" => "x", "model" => "control_net"]
    file, out = joinpath(folder, "case.h5"), joinpath(folder, "out.h5")
    write_file(file, [attrs; "config" => config], arrays)
    ask("run", Dict("case" => file, "out" => out))
    settings = Dict{String,Any}("layers" => N, "samples" => samples, "samples_test" => samples)
    train_control(control_settings(settings), 2, out * ".training"; versions=Dict{String,Any}())
    parse_args(["run", "--case", file, "--out", out], command_line())
end

"Gradients, a training with its files, an evaluation and a generation: all that a GPT needs."
function use_gpt(folder)
    for (dtype, tied) in (("float64", true), ("float64", false), ("float32", true))
        config = GPTConfig(; vocab=3, context=2, layers=1, heads=1, width=2, tied)
        groups = Dict{String,Dict{String,Array}}(
            "params" => Dict(name => ones(reverse(spec.dims)) for (name, spec) in gpt_params(config)),
            "inputs" => Dict("tokens" => [0; 1;;]),
            "targets" => Dict("targets" => [1; 2;;]),
        )
        evaluate("gpt", config, groups; dtype, steps=tied ? 1 : 0)
    end
    text = joinpath(folder, "text.txt")
    write(text, "abc"^20)
    tiny = ("layers" => 1, "heads" => 1, "width" => 2, "context" => 2, "batch" => 1, "iterations" => 2)
    for dtype in ("float64", "float32")
        settings = merge(preset("gpt", "cpu"), Dict(tiny..., "evaluation_windows" => 1, "dtype" => dtype))
        out = joinpath(folder, dtype)
        ask("train-gpt", Dict("settings" => settings, "text" => text, "out" => out))
        file = joinpath(out, "flux", "last.h5")
        saved = Dict{String,Any}("checkpoint" => file, "dtype" => dtype, "device" => "cpu")
        ask("evaluate", merge(saved, Dict("text" => text, "folder" => folder)))
        drawn = Dict("temperature" => 1.0, "top_k" => 2, "seed" => 1, "count" => 3, "prompt" => [0])
        ask("generate", merge(saved, drawn))
    end
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
    end
    rm(folder; recursive=true)
end
