using LinearAlgebra: norm
using Random: Xoshiro
using Test
using TwinGrad
using TwinGrad:
    ARRAYS_FORMAT, COMPARED, IMPLEMENTATIONS, JSON, LATEST, LAYERS, MODELS, Optimizer, answer, bench_call
using TwinGrad: build, checksum, descent_by, generate, peak_bytes, step!, take_samples, visit, write_file

"Arrays that suit a model or a layer: axes as HDF5.jl gives them; letters stand for the numbers in `sizes`."
function random_arrays(spec, config, sizes=Dict())
    draw = Xoshiro(4)
    function random(name, array)
        dims = reverse(map(dim -> dim isa String ? sizes[dim] : dim, array.dims))
        array.type == Int64 && return rand(draw, 0:1, dims)
        name == "c" && return Float64.(rand(draw, 0:1, dims))
        name == "dt" && return fill(1 / prod(dims), dims)
        values = 0.7 .* randn(draw, dims...)
        return endswith(name, "running_var") ? abs.(values) : values
    end
    group(table) = Dict{String,Array}(name => random(name, array) for (name, array) in table(config))
    return Dict(
        "params" => group(spec.params),
        "inputs" => group(spec.inputs),
        "targets" => group(spec.targets),
    )
end

workload(kind, subject, quantity, config; changes...) = merge(
    Dict{String,Any}(
        "name" => "w", "kind" => kind, "subject" => subject, "quantity" => quantity, "config" => config,
        "dtype" => "float64", "device" => "cpu", "implementation" => "twingrad",
    ),
    Dict{String,Any}(String(name) => value for (name, value) in changes),
)

"Arrays in a file as the harness writes it, for `action(file)`."
function with_file(action, groups; format=ARRAYS_FORMAT)
    mktempdir() do folder
        file = joinpath(folder, "arrays.h5")
        arrays = Dict("$group/$name" => array for (group, members) in groups for (name, array) in members)
        write_file(file, ["format" => format, "format_version" => 1], arrays)
        action(file)
    end
end

quickly(workload, file) = visit(workload, file; seconds=0.0, samples=1, first=true)

models = Dict(
    "control_net" => (
        Dict("network" => "odenet", "method" => "kutta4", "scale" => "mean"),
        Dict("N" => 4, "d" => 2, "samples" => 5),
    ),
    "gpt" => (
        Dict("vocab" => 5, "context" => 6, "layers" => 2, "heads" => 2, "width" => 4),
        Dict("B" => 2, "T" => 3),
    ),
    "mlp" => (
        Dict("sizes" => [3, 4, 2], "activation" => "sigmoid", "loss" => "cross-entropy"),
        Dict("samples" => 5),
    ),
    "resnet" => (
        Dict("variant" => "resnet20", "in_channels" => 1, "classes" => 2, "width" => 1),
        Dict("N" => 2, "H" => 5, "W" => 4),
    ),
)
layers = Dict(
    "linear" => Dict("inputs" => 3, "outputs" => 4, "batch" => 5),
    "layer-norm" => Dict("width" => 6, "batch" => 5),
    "attention" => Dict("width" => 6, "heads" => 2, "context" => 4, "batch" => 3),
    "gelu-mlp" => Dict("width" => 3, "batch" => 5),
    "convolution" => Dict("inputs" => 2, "outputs" => 3, "size" => 5, "batch" => 2),
    "batch-norm" => Dict("channels" => 3, "size" => 4, "batch" => 2),
    "cross-entropy" => Dict("classes" => 4, "batch" => 6),
    "adamw" => Dict("width" => 2, "arrays" => 3),
)
settings_of(table, subject, config) = table[subject].config(config, "config")
arrays_of_model(model) =
    random_arrays(MODELS[model], settings_of(MODELS, model, models[model][1]), models[model][2])
arrays_of_layer(layer) = random_arrays(LAYERS[layer], settings_of(LAYERS, layer, layers[layer]))

"The implementations of a subject and their quantities."
implementations(kind, subject) = [
    (implementation, quantity) for (implementation, kinds) in IMPLEMENTATIONS if
    haskey(get(kinds, kind, Dict()), subject) for quantity in keys(kinds[kind][subject].calls)
]

@testset "$model: loss, gradients and steps are those of an evaluation" for (model, (config, _)) in models
    groups = arrays_of_model(model)
    expected = evaluate(model, settings_of(MODELS, model, config), groups; steps=3)
    with_file(groups) do file
        for (implementation, quantity) in implementations("model", model)
            # The gradients of Flux's own layers are Flux's: to compile them for one small model is enough.
            implementation == "flux-layers" && quantity != "forward" && model != "mlp" && continue
            call = bench_call(workload("model", model, quantity, config; implementation), file)
            result = call()
            @test checksum(result) ≈ expected["loss"][] rtol = 1e-12
            if quantity in ("gradient", "costate", "backpropagation")
                grads = [array for (path, array) in expected if startswith(path, "grads/")]
                @test checksum(result.grads) ≈ checksum(grads) rtol = 1e-11
            elseif quantity == "step" && model != "control_net"
                name, next = model == "gpt" ? "adamw" : "sgd", [call() for _ in 1:2]
                own = implementation in ("twingrad", "reference")
                @test own ? isapprox(next, expected["steps/$name/losses"][2:3]; rtol=1e-12) :
                      next[1] != result
            end
        end
    end
end

@testset "a step of the descent is always the first one" begin
    config = settings_of(MODELS, "control_net", models["control_net"][1])
    groups = arrays_of_model("control_net")
    expected = evaluate("control_net", config, groups; steps=1)
    m = build("control_net", config, groups["params"], Float64)
    arguments = (groups["inputs"]["x"],), (groups["targets"]["c"],)
    for call in (descent_by("fast")(m, arguments...), descent_by("reference")(m, arguments...)), _ in 1:3
        @test call() ≈ only(expected["steps/descent/losses"]) rtol = 1e-13
        for (name, array) in TwinGrad.to_file_arrays("control_net", config, m)
            @test array ≈ expected["steps/descent/params_after/$name"] rtol = 1e-12
        end
    end
end

"What a layer's call must give, by formulas: the output, or the norm of all gradients."
formulas = Dict(
    ("linear", "forward") => (p, x, _) -> p["weight"]' * x .+ p["bias"],
    ("linear", "gradient") => (p, x, y) -> (x * y', sum(y; dims=2), p["weight"] * y),
    ("convolution", "forward") => function (p, x, _)
        w, frame = p["weight"], zeros(7, 7, 2, 2)
        frame[2:6, 2:6, :, :] .= x
        return [
            sum(w[:, :, :, c] .* frame[i:(i+2), j:(j+2), :, n]) for i in 1:5, j in 1:5, c in 1:3, n in 1:2
        ]
    end,
    ("cross-entropy", "forward") =>
        (_, x, labels) -> -sum(x[l+1, n] - log(sum(exp, x[:, n])) for (n, l) in enumerate(labels)) / 6,
    ("cross-entropy", "gradient") =>
        (_, x, labels) -> (exp.(x) ./ sum(exp, x; dims=1) .- ((0:3) .== labels')) ./ 6,
)

@testset "$layer: every implementation gives the same number" for (layer, config) in layers
    groups = arrays_of_layer(layer)
    with_file(groups) do file
        found = Dict{String,Vector{Float64}}()
        for (implementation, quantity) in implementations("layer", layer)
            result = bench_call(workload("layer", layer, quantity, config; implementation), file)()
            push!(get!(found, quantity, Float64[]), checksum(result))
        end
        @test Set(keys(found)) == (layer == "adamw" ? Set(["step"]) : Set(["forward", "gradient"]))
        for (quantity, numbers) in found
            if haskey(formulas, (layer, quantity))
                x, y = (only(values(groups[name])) for name in ("inputs", "targets"))
                push!(numbers, checksum(formulas[layer, quantity](groups["params"], x, y)))
            end
            @test length(numbers) >= 2
            @test all(number -> isapprox(number, numbers[1]; rtol=1e-12), numbers)
        end
    end
end

@testset "an update of adamw is the optimizer's" begin
    groups = arrays_of_layer("adamw")
    names = sort!(collect(keys(groups["params"])))
    params = [name => copy(groups["params"][name]) for name in names]
    optimizer, grads = Optimizer(params, COMPARED["adamw"]), [groups["inputs"][name] for name in names]
    with_file(groups) do file
        call = bench_call(workload("layer", "adamw", "step", layers["adamw"]), file)
        for _ in 1:2
            step!(optimizer, grads)
            @test call() == last.(params)
        end
    end
end

@testset "a reply has the entries of the protocol" begin
    with_file(arrays_of_layer("linear")) do file
        asked = workload("layer", "linear", "gradient", layers["linear"])
        function reply(first)
            arguments = Dict(
                "workload" => asked, "arrays" => file, "seconds" => 10.0, "samples" => 4, "first" =>
                    first,
            )
            request = JSON.parse(JSON.json(Dict("id" => 1, "verb" => "bench", "arguments" => arguments)))
            return JSON.parse(JSON.json(Dict(answer(request, identity))))["result"]
        end
        told = reply(true)
        @test Set(keys(told)) == Set([
            "seconds", "calls", "first_call_seconds", "allocated_bytes", "gc_share", "peak_bytes", "checksum",
            "tool",
        ])
        @test length(told["seconds"]) == 4 && all(>(0), told["seconds"]) && told["calls"] >= 1
        @test told["first_call_seconds"] > 0 && told["allocated_bytes"] > 0 && 0 <= told["gc_share"] <= 1
        @test occursin(r"^Chairmarks \d", told["tool"])
        ready = LATEST[]
        again = reply(false)
        @test LATEST[] === ready && again["checksum"] == told["checksum"]
        @test again["first_call_seconds"] === again["peak_bytes"] === nothing
        asked["quantity"] = "forward"
        reply(false)
        @test LATEST[] !== ready && LATEST[].workload["quantity"] == "forward"
    end
end

@testset "at least three samples, at most as many as wanted" begin
    for (seconds, samples, expected) in ((0.0, 1, 3), (0.0, 9, 3), (60.0, 5, 5), (60.0, 1, 3))
        calls = 0
        call = () -> (calls += 1; sum(abs2, randn(1000)))
        found = take_samples(call, seconds, max(samples, 3))
        @test length(found) == expected
        @test allequal(sample.evals for sample in found)
        @test calls >= sum(Int(sample.evals) for sample in found)
    end
end

@testset "tokens are told one by one" begin
    config = models["gpt"][1]
    groups = arrays_of_model("gpt")
    groups["inputs"]["tokens"] = groups["inputs"]["tokens"][:, 1:1]
    empty!(groups["targets"])
    m = build("gpt", settings_of(MODELS, "gpt", config), groups["params"], Float64)
    expected = generate(m, vec(groups["inputs"]["tokens"]), 3; temperature=1.0, top_k=0, seed=1)
    with_file(groups) do file
        told = quickly(workload("generate", "gpt", "tokens", config), file)
        @test told["checksum"] == sum(expected) && told["calls"] % 3 == 0
        full = workload("generate", "gpt", "tokens", merge(config, Dict("context" => 3)))
        groups["params"]["wpe.weight"] = groups["params"]["wpe.weight"][:, 1:3]
        with_file(groups) do short
            @test_throws "inputs/tokens: expected fewer tokens than the context, 3, found 3" quickly(
                full,
                short,
            )
        end
    end
end

@testset "the ceiling is a product of matrices" begin
    call = bench_call(workload("ceiling", "matmul", "forward", Dict("size" => 4); dtype="float32"), nothing)
    @test call() isa Matrix{Float32} && call.a * call.b == call() && norm(call.a) != norm(call.b)
    @test quickly(workload("ceiling", "matmul", "forward", Dict("size" => 4)), nothing)["allocated_bytes"] <=
          64
end

@testset "the largest resident set" begin
    peak = peak_bytes()
    @test peak === (isfile("/proc/self/status") ? peak : nothing)
    peak === nothing || @test 2^24 < peak < Sys.total_memory()
end

@testset "what is no workload is refused" begin
    control, mlp = models["control_net"][1], models["mlp"][1]
    asked(changes...) = merge(workload("model", "mlp", "forward", mlp), Dict{String,Any}(changes...))
    with_file(arrays_of_model("mlp")) do file
        for (changes, says) in (
            (
                "kind" => "song",
            ) => "workload, kind: expected one of ceiling, generate, layer, model, found \"song\"",
            (
                "subject" => "lstm",
            ) => "workload, subject of kind model: expected one of control_net, gpt, mlp, resnet",
            (
                "quantity" => "costate",
            ) => "workload, quantity of mlp, implementation twingrad: expected one of backpropagation, forward",
            (
                "implementation" => "lux",
            ) => "workload, implementation: expected one of flux-layers, plain, reference, twingrad, found \"lux\"",
            (
                "implementation" => "plain",
            ) => "workload, subject of implementation plain: expected one of control_net, found \"mlp\"",
            (
                "implementation" => "plain",
                "kind" => "layer",
                "subject" => "linear",
            ) => "workload, kind of implementation plain: expected one of model, found \"layer\"",
            (
                "implementation" => "flux-layers",
                "config" => merge(mlp, Dict("loss" => "mse")),
            ) => "implementation flux-layers: expected loss cross-entropy of two outputs or more",
            ("dtype" => "bfloat16",) => "Flux has no bfloat16",
            ("device" => "tpu",) => "device: expected one of cpu, cuda",
            ("config" => Dict("sizes" => [3, 4, 2]),) => "workload w, config, activation",
            (
                "config" => merge(mlp, Dict("sizes" => [3, 5, 2])),
            ) => "expected shape (5, 3), found shape (4, 3)",
        )
            @test_throws says quickly(asked(changes...), file)
        end
        @test_throws "workload, dtype: expected this entry" quickly(delete!(asked(), "dtype"), file)
        @test_throws "no-such.h5: expected a file of format twingrad-bench-arrays" quickly(
            asked(),
            "no-such.h5",
        )
    end
    with_file(arrays_of_model("mlp"); format="twingrad-case") do file
        @test_throws "attribute format: expected \"twingrad-bench-arrays\"" quickly(asked(), file)
    end
    with_file(arrays_of_layer("linear")) do file
        shapes = merge(layers["linear"], Dict("outputs" => 5))
        @test_throws r"/params/weight: expected shape \(5, 3\), found shape \(4, 3\)" quickly(
            workload("layer", "linear", "forward", shapes), file,
        )
    end
end
