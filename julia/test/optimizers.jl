using Random: Xoshiro
using Test
using TwinGrad
using TwinGrad:
    AdamWSettings, COMPARED, Optimizer, SGDSettings, TorchMomentum, moments, rate, restore!, step!

draw = Xoshiro(5)

shapes = ("a" => (4, 3), "b" => (4,), "c" => (2, 2), "d" => (1,), "e" => (3, 1, 2))
random_params() = [name => randn(Xoshiro(3), shape...) for (name, shape) in shapes]
"Gradients of each step; their sizes differ, so that some are clipped."
random_gradients(steps) = [[(0.1 + k % 3) .* randn(draw, shape...) for (_, shape) in shapes] for k in 1:steps]

schedule = (learning_rate=0.3, min_learning_rate=0.02, warmup=3, decay=9)
adamw = (; schedule..., beta1=0.8, beta2=0.95, weight_decay=0.2)
descent = (; schedule..., momentum=0.7, weight_decay=0.2)
kinds = [
    "adamw" => clip -> AdamWSettings(; adamw..., clip),
    "adam" => clip -> AdamWSettings(; adamw..., clip, weight_decay=0.0),
    "sgd" => clip -> SGDSettings(; descent..., clip),
    "gradient descent" => clip -> SGDSettings(; descent..., clip, momentum=0.0, weight_decay=0.0),
]

"Step t = 1, 2, ... by the formulas; m and v are the moments."
function formula!(settings::AdamWSettings, w, m, v, g, η, t)
    β1, β2 = settings.beta1, settings.beta2
    m .= β1 .* m .+ (1 - β1) .* g
    v .= β2 .* v .+ (1 - β2) .* g .^ 2
    ndims(w) > 1 && (w .*= 1 - η * settings.weight_decay)
    w .-= η .* (m ./ (1 - β1^t)) ./ (sqrt.(v ./ (1 - β2^t)) .+ settings.eps)
end
function formula!(settings::SGDSettings, w, m, v, g, η, t)
    m .= settings.momentum .* m .+ g .+ (ndims(w) > 1 ? settings.weight_decay : 0.0) .* w
    w .-= η .* m
end

@testset "steps are their formulas: $kind, clip $clip" for (kind, make) in kinds, clip in (2.5, 0.0)
    settings, params = make(clip), random_params()
    expected = [copy(array) for (_, array) in params]
    m, v = [zero.(expected) for _ in 1:2]
    optimizer, clipped = Optimizer(params, settings), 0
    for (t, grads) in enumerate(random_gradients(12))
        total = sqrt(sum(sum(abs2, g) for g in grads))
        shrink = clip > 0 ? min(1, clip / (total + 1e-6)) : 1
        clipped += shrink < 1
        η, found = step!(optimizer, deepcopy(grads))
        @test η == rate(settings, t - 1) && found ≈ total
        for i in eachindex(expected)
            formula!(settings, expected[i], m[i], v[i], shrink .* grads[i], η, t)
            @test last(params[i]) ≈ expected[i] rtol = 1e-13
        end
    end
    @test optimizer.steps_taken == 12 && (clip == 0) == (clipped == 0)
    @test moments(optimizer)[1] ≈ m
    settings isa AdamWSettings ? (@test moments(optimizer)[2] ≈ v) : @test moments(optimizer)[2] === nothing
end

@testset "momentum forgets the learning rates of earlier steps" begin
    settings = SGDSettings(;
        learning_rate=1.0, min_learning_rate=1e-3, warmup=0, decay=1, momentum=0.5, weight_decay=0.0,
        clip=0.0,
    )
    params, g = ["w" => randn(draw, 3, 2)], randn(draw, 3, 2)
    optimizer = Optimizer(params, settings)
    step!(optimizer, [copy(g)])
    before = copy(last(params[1]))
    step!(optimizer, [zero(g)])
    @test before .- last(params[1]) ≈ 1e-3 * 0.5 .* g rtol = 1e-10
end

@testset "gradient descent on a parabola is a product" begin
    settings = Dict(kinds)["gradient descent"](0.0)
    params = random_params()
    start, optimizer, factor = deepcopy(last.(params)), Optimizer(params, settings), 1.0
    for step in 0:9
        step!(optimizer, [1.7 .* array for (_, array) in params])
        factor *= 1 - 1.7 * rate(settings, step)
    end
    @test last.(params) ≈ factor .* start rtol = 1e-13
end

@testset "only arrays of two axes or more decay: $kind" for (kind, make) in kinds[[1, 3]]
    params = random_params()
    before = deepcopy(last.(params))
    η, _ = step!(Optimizer(params, make(0.0)), zero.(before))
    for (array, old) in zip(last.(params), before)
        @test array ≈ (ndims(array) > 1 ? 1 - η * 0.2 : 1) .* old rtol = 1e-14
    end
end

@testset "restored moments go on bit for bit: $kind" for (kind, make) in kinds
    whole, grads = Optimizer(random_params(), make(2.5)), random_gradients(9)
    foreach(g -> step!(whole, deepcopy(g)), grads[1:4])
    part = Optimizer([name => copy(array) for (name, array) in whole.params], make(2.5); steps_taken=4)
    restore!(part, map(moment -> moment === nothing ? nothing : copy.(moment), moments(whole))...)
    for g in grads[5:9]
        @test step!(whole, deepcopy(g)) == step!(part, deepcopy(g))
    end
    @test last.(part.params) == last.(whole.params) && part.steps_taken == whole.steps_taken == 9
end

@testset "no step is taken by a gradient that is not finite: $kind" for (kind, make) in kinds[[1, 3]]
    optimizer = Optimizer(random_params(), make(2.5))
    before = deepcopy(last.(optimizer.params))
    grads = only(random_gradients(1))
    grads[3][1] = NaN
    @test isnan(last(step!(optimizer, grads)))
    @test last.(optimizer.params) == before && optimizer.steps_taken == 0
end

@testset "float32 stays float32" begin
    for (_, make) in kinds
        params = ["w" => ones(Float32, 2, 2)]
        optimizer = Optimizer(params, make(1.0))
        step!(optimizer, [ones(Float32, 2, 2)])
        @test all(moment -> moment === nothing || eltype(only(moment)) == Float32, moments(optimizer))
        @test last(params[1]) isa Matrix{Float32} && all(<(1), last(params[1]))
    end
end

@testset "the learning rate climbs, falls and rests" begin
    settings = AdamWSettings(; learning_rate=0.1, min_learning_rate=0.01, warmup=2, decay=6)
    @test [rate(settings, step) for step in 0:7] ≈
          [0.1 / 3, 0.2 / 3, 0.1, 0.055 + 0.045 * cosd(45), 0.055, 0.055 - 0.045 * cosd(45), 0.01, 0.01]
end

@testset "compared steps have the settings of FORMAT.md" begin
    adam = (learning_rate=1e-2, min_learning_rate=1e-3, beta1=0.9, beta2=0.95, eps=1e-6, clip=2.0)
    sgd, shared = (learning_rate=5e-2, min_learning_rate=5e-3), (warmup=3, decay=8)
    @test COMPARED == Dict(
        "adamw" => AdamWSettings(; adam..., shared..., weight_decay=0.1),
        "adam" => AdamWSettings(; adam..., shared..., weight_decay=0.0),
        "sgd" => SGDSettings(; sgd..., shared..., momentum=0.9, weight_decay=0.01, clip=2.0),
        "gradient-descent" => SGDSettings(; sgd..., shared..., momentum=0.0, weight_decay=0.0, clip=0.0),
    )
    @test TwinGrad.rule(COMPARED["sgd"], 0.01) == TorchMomentum(5e-2, 0.9, 0.01)
end
