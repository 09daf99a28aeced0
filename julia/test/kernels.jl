# The fast paths of the mini-GPT and of the perceptron against automatic differentiation, and what they are made of.

using LinearAlgebra: norm
using Random: Xoshiro
using Test
using TwinGrad
using TwinGrad:
    AdamWSettings, MLPConfig, Optimizer, ResNetConfig, SGDSettings, automatic_gradient, build, exponential,
    gradient,
    gradients_of, in_parts, make_path, moments, named_arrays, objective, output!, step!
using Zygote: Zygote

draw = Xoshiro(1)

distance(a, b) = norm(a - b) / (norm(b) == 0 ? 1 : norm(b))

"Random arrays for a model of these settings."
function random_model(name, config, T)
    params = Dict(
        param => randn(draw, reverse(spec.dims)...) ./ 3 for
        (param, spec) in TwinGrad.MODELS[name].params(config)
    )
    return build(name, config, params, T)
end

"A control network of three layers in the plane."
random_control(config) = build(
    "control_net", config,
    Dict(
        "K" => randn(draw, 2, 2, 3), "b" => randn(draw, 2, 3), "W" => randn(draw, 2, 1),
        "mu" => randn(draw, 1),
        "dt" => rand(draw, 3),
    ), Float64,
)

"The largest distance of anything the fast path gives from the reference, in two calls."
function worst(name, m, x, c)
    reference, path = automatic_gradient(m, x, c), Fast()
    expected = last.(named_arrays(name, m.config, reference.grads))
    return maximum(1:2) do _
        errors = [
            distance(output!(path, m, x), reference.output),
            abs(objective(path, m, x, c) / reference.loss - 1),
        ]
        here = gradient(path, m, x, c)
        push!(errors, abs(here.loss / reference.loss - 1), distance(here.output, reference.output))
        reference.grads_input === nothing || push!(errors, distance(here.grads_input, reference.grads_input))
        append!(errors, map(distance, gradients_of(name, m.config, path)(here), expected))
        maximum(errors)
    end
end

@testset "the exponential" begin
    for (T, low, high) in ((Float32, -87, 88), (Float64, -708, 709))
        x = T.(range(low, high; length=4001))
        exact = exp.(big.(x))
        @test maximum(abs.(exponential.(x) .- exact) ./ exact) < 2 * eps(T)
        @test exponential(zero(T)) === one(T) && exponential(-zero(T)) === one(T)
        @test isnan(exponential(T(NaN)))
        @test exponential(T(-Inf)) == exponential(T(low)) && exponential(T(Inf)) == exponential(T(high))
    end
end

sizes(vocab, context, layers, heads, width) = (; vocab, context, layers, heads, width)

@testset "gpt $kind $splitting, $tokens tokens in $texts texts" for (kind, tokens, texts) in (
        (sizes(1, 1, 1, 1, 1), 1, 1),
        (sizes(7, 5, 2, 3, 12), 5, 3),
        (sizes(7, 5, 2, 3, 12), 4, 1),
        (sizes(33, 17, 1, 5, 35), 17, 2),
        (sizes(65, 20, 3, 1, 9), 20, 5),
    ),
    splitting in ("lie", "strang")

    config = GPTConfig(; kind..., splitting, dt=splitting == "lie" ? 1.0 : 0.3, tied=texts != 2)
    ids, targets = rand(draw, 1:(kind.vocab), tokens, texts), rand(draw, 1:(kind.vocab), tokens, texts)
    kind.vocab == 1 || @test worst("gpt", random_model("gpt", config, Float64), ids, targets) < 1e-12
    m = random_model("gpt", config, Float64)
    @test distance(output!(Fast(), m, ids), m(ids)) < 1e-12
end

@testset "gpt in Float32, and in little room" begin
    config = GPTConfig(; sizes(17, 12, 2, 2, 16)...)
    m, ids = random_model("gpt", config, Float32), rand(draw, 1:17, 12, 3)
    @test worst("gpt", m, ids, reverse(ids)) < 2e-5
    path = Fast()
    gradient(path, m, ids, ids)
    @test @allocated(gradient(path, m, ids, ids)) < 20_000
    @test_throws BoundsError output!(path, m, fill(18, 12, 3))
    m.wte.weight[1, ids[1]] = NaN
    @test isnan(gradient(path, m, ids, ids).loss)
end

@testset "mlp $activation $loss $hidden" for activation in ("sigmoid", "relu"),
    loss in ("mse", "cross-entropy"),
    hidden in ([5, 4, 3], [7, 1], [3, 2], [9, 20, 6, 4])

    m = random_model("mlp", MLPConfig(hidden, activation, loss), Float64)
    for samples in (1, 6, 33)
        x, labels = randn(draw, hidden[1], samples), rand(draw, 1:max(2, hidden[end]), samples)
        @test worst("mlp", m, x, labels) < 1e-12
    end
end

@testset "optimizers in place" begin
    adamw = AdamWSettings(; learning_rate=0.1, min_learning_rate=0.01, warmup=2, decay=5, clip=1.0)
    sgd = SGDSettings(; learning_rate=0.1, min_learning_rate=0.01, warmup=2, decay=5, clip=1.0)
    for settings in (adamw, sgd), T in (Float64, Float32)
        start = ["a" => randn(draw, T, 7, 5), "b" => randn(draw, T, 3)]
        optimizers = map((Reference(), Fast())) do path
            Optimizer([name => copy(array) for (name, array) in start], settings, path)
        end
        for _ in 1:6
            grads = [randn(draw, T, size(array)) for (_, array) in start]
            told = map(optimizer -> step!(optimizer, grads), optimizers)
            @test told[1][1] == told[2][1] && told[1][2] ≈ told[2][2]
        end
        for arrays in (o -> last.(o.params), o -> moments(o)[1]), (a, b) in zip(map(arrays, optimizers)...)
            @test distance(a, b) < 10 * eps(T)
            @test 0 < distance(b, zero(b) .+ 1)
        end
        before = map(copy, last.(optimizers[2].params))
        step!(optimizers[2], [fill(T(NaN), size(array)) for (_, array) in start])
        @test before == last.(optimizers[2].params)
    end
end

@testset "a lent evaluation is not read after the next call" begin
    m = random_model("mlp", MLPConfig([3, 2], "relu", "mse"), Float64)
    x, labels, path = randn(draw, 3, 4), [1, 2, 1, 2], Fast()
    first_one = gradient(path, m, x, labels)
    @test first_one.loss isa Float64
    other = gradient(Fast(), m, x, labels)
    gradient(path, m, x, labels)
    error = try
        first_one.grads
    catch caught
        caught
    end
    @test error isa ArgumentError && occursin("call 1", error.msg) && occursin("call 2", error.msg)
    @test other.grads isa NamedTuple
end

@testset "Zygote differentiates by the kernels, and gives arrays of the caller's own" begin
    m = random_model("gpt", GPTConfig(; sizes(7, 5, 2, 3, 12)...), Float64)
    ids, path = rand(draw, 1:7, 5, 2), Fast()
    value, (grads,) = Zygote.withgradient(m -> 2 * objective(path, m, ids, ids), m)
    reference = automatic_gradient(m, ids, ids)
    @test value ≈ 2 * reference.loss
    gradient(path, m, rand(draw, 1:7, 5, 2), ids)
    found, expected = (last.(named_arrays("gpt", m.config, tree)) for tree in (grads, reference.grads))
    @test maximum(map(distance, found, 2 .* expected)) < 1e-12
    net = random_model("mlp", MLPConfig([3, 2], "relu", "mse"), Float64)
    x, labels = randn(draw, 3, 4), [1, 2, 1, 2]
    by_net, by_x = Zygote.gradient((m, x) -> objective(Fast(), m, x, labels), net, x)
    reference = automatic_gradient(net, x, labels)
    @test distance(by_x, reference.grads_input) < 1e-12
    @test distance(by_net.layers[1].weight, reference.grads.layers[1].weight) < 1e-12
end

@testset "batches of other sizes take turns on one path: $name" for (name, config, small, large) in (
    ("control_net", ControlNetConfig("odenet", "kutta3", "mean"), (2, 3), (2, 40)),
    ("gpt", GPTConfig(; sizes(7, 5, 2, 3, 12)...), (3, 1), (5, 4)),
    ("mlp", MLPConfig([3, 4, 2], "sigmoid", "cross-entropy"), (3, 2), (3, 9)),
    (
        "resnet",
        ResNetConfig(; variant="resnet20", in_channels=1, classes=2, width=2),
        (4, 4, 1, 2),
        (5, 6, 1, 3),
    ),
)
    m = name == "control_net" ? random_control(config) : random_model(name, config, Float64)
    path = Fast()
    for shape in (small, large, small, large)
        x = name == "gpt" ? rand(draw, 1:7, shape) : randn(draw, shape)
        c = name == "gpt" ? rand(draw, 1:7, shape) : rand(draw, 1:2, shape[end])
        found, expected = (gradients_of(name, config, way)(gradient(way, m, x, c)) for way in (path, Fast()))
        @test found == expected
        @test size(output!(path, m, x)) == size(output!(Fast(), m, x))
    end
end

@testset "paths by name" begin
    @test make_path("fast") isa Fast
    @test make_path("reference") isa Reference
    @test make_path("fast", "cuda") isa Reference
    @test_throws "expected one of fast, reference, found \"quick\"" make_path("quick")
    @test_throws "path: expected \"reference\" on a GPU" output!(Fast(), nothing, view(ones(2), 1:1))
end

@testset "parts cover everything once" begin
    for count in (1, 5, 16, 17, 100), most in (1, 3, 16)
        seen = zeros(Int, count)
        in_parts((part, _) -> seen[part] .+= 1, count, most)
        @test all(==(1), seen)
    end
end
