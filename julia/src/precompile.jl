# What is compiled when the package is installed, so that the first gradient of a session does not wait for the compiler.

using PrecompileTools: @compile_workload, @setup_workload

@setup_workload begin
    N, d, samples = 2, 2, 3
    groups = Dict{String,Dict{String,Array}}(
        "params" => Dict(
            "K" => ones(d, d, N),
            "b" => zeros(d, N),
            "W" => ones(d, 1),
            "mu" => zeros(1),
            "dt" => fill(1 / N, N),
        ),
        "inputs" => Dict("x" => ones(d, samples)),
        "targets" => Dict("c" => [0.0, 1.0, 0.0]),
    )
    folder = mktempdir()
    file, out = joinpath(folder, "case.h5"), joinpath(folder, "out.h5")
    settings = Dict{String,Any}("layers" => N, "samples" => samples, "samples_test" => samples)
    @compile_workload begin
        for method in METHODS, dtype in keys(DTYPES)
            config = ControlNetConfig("odenet-simplex", method, "mean")
            evaluate("control_net", config, groups; dtype, steps=dtype == "float64" ? 1 : 0)
        end
        arrays = Dict("$group/$name" => array for (group, members) in groups for (name, array) in members)
        text = JSON.json(Dict("network" => "resnet", "method" => "euler", "scale" => "mean"))
        write_file(
            file,
            [
                "format" => CASE_FORMAT,
                "format_version" => 1,
                "name" => "x",
                "model" => "control_net",
                "config" => text,
            ],
            arrays,
        )
        request =
            Dict{String,Any}("verb" => "run", "arguments" => Dict{String,Any}("case" => file, "out" => out))
        JSON.json(Dict("id" => 1, answer(JSON.parse(JSON.json(request)), _ -> nothing)))
        train_control(control_settings(settings), 2, out * ".training"; versions=Dict{String,Any}())
        control_settings(settings)
        parse_args(["run", "--case", file, "--out", out], command_line())
    end
    rm(folder; recursive=true)
end
