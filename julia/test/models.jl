using LinearAlgebra: dot, norm
using Random: Xoshiro
using Test
using TwinGrad
using TwinGrad:
    BatchNorm, Convolution, Flux, MODELS, backpropagation, batch_norm, build, check_arrays, in_mode
using TwinGrad: append, contradiction, model_spec, move, normalise_by, rectify, shortcut, to_file_arrays
using TwinGrad: velocity, widen
using Zygote: Zygote

draw = Xoshiro(7)

"Hold the gradients of `f` at arrays along random directions against central differences of fourth order."
function differentiates(f, arrays...; tolerance=1e-8)
    weights, h = randn(draw, size(f(arrays...))), 1e-3
    value(arrays...) = dot(weights, f(arrays...))
    gradients = Zygote.gradient(value, arrays...)
    return all(eachindex(arrays)) do place
        v = randn(draw, size(arrays[place]))
        moved(h) = value((i == place ? a + h * v : a for (i, a) in enumerate(arrays))...)
        difference = (8(moved(h) - moved(-h)) - (moved(2h) - moved(-2h))) / 12h
        isapprox(dot(gradients[place], v), difference; rtol=tolerance, atol=tolerance)
    end
end

apart(a, b) = norm(a .- b) / norm(b)

# ---- operations

@testset "batch norm differentiates right" begin
    for size in ((4, 3, 2, 5), (1, 1, 3, 4), (3, 2, 1, 1)), eps in (1e-5, 0.5)
        x, w, b = 1 .+ 2randn(draw, size), randn(draw, size[3]), randn(draw, size[3])
        @test differentiates((x, w, b) -> first(batch_norm(x, w, b, eps)), x, w, b)
    end
end

@testset "batch norm is as exact in float32 as its type" begin
    x, w, b = Float32.(5 .+ randn(draw, 28, 28, 2, 16)), Float32[1, -2], Float32[0, 3]
    exact, μ, v = batch_norm(Float64.(x), Float64.(w), Float64.(b), 1e-5)
    found, mean32, var32 = batch_norm(x, w, b, 1e-5)
    @test mean32 ≈ μ rtol = 2e-7
    @test var32 ≈ v rtol = 5e-7
    @test found ≈ exact rtol = 5e-7
end

@testset "batch norm by given statistics differentiates right" begin
    for size in ((4, 3, 2, 5), (1, 1, 3, 1))
        x, w, b, μ, v = randn(draw, size), (randn(draw, size[3]) for _ in 1:3)..., rand(draw, size[3])
        @test differentiates((x, w, b) -> normalise_by(μ, v, x, w, b, 1e-2), x, w, b)
        for channel in 1:size[3]
            expected =
                (x[:, :, channel, :] .- μ[channel]) ./ sqrt(v[channel] + 1e-2) .* w[channel] .+ b[channel]
            @test normalise_by(μ, v, x, w, b, 1e-2)[:, :, channel, :] ≈ expected
        end
    end
end

@testset "rectify differentiates right, and at its kink to 0" begin
    x = randn(draw, 4, 3)
    x .+= sign.(x)  # no step of a difference crosses the kink
    @test rectify(x) == [max(value, 0) for value in x]
    @test differentiates(rectify, x)
    @test only(Zygote.gradient(x -> sum(rectify(x)), [-1.0, -0.0, 0.0, 2.0])) == [0, 0, 0, 1]
    @test rectify(Float32[-1, 2]) isa Vector{Float32}
end

@testset "velocity and move differentiate right" begin
    K, b, y = randn(draw, 3, 3), randn(draw, 3), randn(draw, 3, 4)
    @test velocity(K, b, y) ≈ tanh.(K * y .+ b)
    @test differentiates(velocity, K, b, y)
    dt, u, v = [0.7], randn(draw, 3, 4), randn(draw, 3, 4)
    for (coefficients, velocities) in ((Float64[], ()), ([0.5], (u,)), ([0.0, -2.0], (u, v)))
        moved(y, dt, velocities...) = move(0.9, y, dt, coefficients, [velocities...])
        total = mapreduce(*, +, coefficients, velocities; init=zero(y))
        @test moved(y, dt, velocities...) ≈ 0.9y + 0.7total
        @test differentiates(moved, y, dt, velocities...)
    end
    @test differentiates((u, v) -> move(1, y, dt, [2.0, -0.3], append([u], v)), u, v)
    @test move(0.9, ones(Float32, 1, 1), [1.0f0], [0.1], [ones(Float32, 1, 1)]) isa Matrix{Float32}
end

@testset "widen differentiates right" begin
    for (size, stride, channels) in (((4, 4, 2, 3), 2, 4), ((5, 3, 2, 1), 2, 5), ((3, 2, 1, 2), 1, 2))
        @test differentiates(x -> widen(x, stride, channels), randn(draw, size))
    end
end

@testset "batch norm against plain formulas" begin
    x, w, b = randn(draw, 3, 2, 2, 4), [2.0, -1.0], [0.5, 3.0]
    y, means, variances = batch_norm(x, w, b, 1e-2)
    for channel in 1:2
        values = vec(x[:, :, channel, :])
        μ = sum(values) / 24
        v = sum(abs2, values .- μ) / 24
        @test means[channel] ≈ μ && variances[channel] ≈ v
        @test y[:, :, channel, :] ≈ (x[:, :, channel, :] .- μ) ./ sqrt(v + 1e-2) .* w[channel] .+ b[channel]
    end
end

@testset "widen takes the first pixel of each square and appends zeros" begin
    x = reshape(collect(1.0:60.0), 5, 3, 2, 2)
    y = widen(x, 2, 5)
    @test size(y) == (3, 2, 5, 2)
    for n in 1:2, c in 1:5, j in 1:2, i in 1:3
        @test y[i, j, c, n] == (c <= 2 ? x[2i-1, 2j-1, c, n] : 0)
    end
    @test widen(x, 1, 2) == x
end

@testset "batch norm is Flux's layer over several steps" begin
    theirs = Flux.f64(Flux.BatchNorm(3; eps=1e-5, momentum=0.1))
    theirs.γ .= randn(draw, 3)
    theirs.β .= randn(draw, 3)
    arrays = copy.((theirs.γ, theirs.β, theirs.μ, theirs.σ²))
    for training in (true, true, true, false)
        Flux.testmode!(theirs, !training)
        x = 3 .+ 2randn(draw, 4, 2, 3, 5)
        @test BatchNorm(arrays..., training)(x) ≈ theirs(x) rtol = 1e-12
        @test arrays[3] ≈ theirs.μ rtol = 1e-14
        @test arrays[4] ≈ theirs.σ² rtol = 1e-14
    end
end

@testset "batch norm in numbers: scale $scale" for scale in (1.0, 1e-3)  # at the second, eps is most of the variance
    norm, values = BatchNorm([2.0], [0.5], [10.0], [3.0], true), scale .* [1.0, 2.0, 3.0, 4.0]
    x = reshape(values, 2, 1, 1, 2)
    @test vec(norm(x)) ≈ 0.5 .+ 2 .* (values .- 2.5scale) ./ sqrt(1.25scale^2 + 1e-5) rtol = 1e-13
    @test norm.running_mean ≈ [9 + 0.25scale] rtol = 1e-14
    @test norm.running_var ≈ [2.7 + 0.1 * 5 / 3 * scale^2] rtol = 1e-14
    fixed = BatchNorm([2.0], [0.5], [9.25], [2scale^2], false)
    @test vec(fixed(x)) ≈ 0.5 .+ 2 .* (values .- 9.25) ./ sqrt(2scale^2 + 1e-5) rtol = 1e-13
    @test fixed.running_mean == [9.25] && fixed.running_var == [2scale^2]
end

@testset "convolution does not flip its kernel: size $size, stride $stride" for size in (1, 3, 7),
    stride in (1, 2)

    x, w, pad = randn(draw, 8, 7, 2, 3), randn(draw, size, size, 2, 4), size ÷ 2
    y = Convolution(w, stride)(x)
    theirs = Flux.Conv(reverse(w; dims=(1, 2)), false; stride, pad)
    @test y ≈ theirs(x) rtol = 1e-12
    frame = zeros(8 + 2pad, 7 + 2pad, 2, 3)
    frame[(1:8).+pad, (1:7).+pad, :, :] .= x
    for i in axes(y, 1), j in axes(y, 2)
        window = frame[(i-1)*stride.+(1:size), (j-1)*stride.+(1:size), :, 2]
        @test y[i, j, 3, 2] ≈ dot(window, w[:, :, :, 3])
    end
end

# ---- the multilayer perceptron

mlp_config(sizes, activation, loss) =
    model_spec("mlp", "").config(
        Dict{String,Any}("sizes" => sizes, "activation" => activation, "loss" => loss),
        "config",
    )
function random_mlp(sizes, activation, loss; samples=7, T=Float64)
    config = mlp_config(sizes, activation, loss)
    params = Dict(name => randn(draw, reverse(spec.dims)...) for (name, spec) in MODELS["mlp"].params(config))
    labels = rand(draw, 1:max(2, sizes[end]), samples)
    return build("mlp", config, params, T), T.(randn(draw, sizes[1], samples)), labels
end
shapes = ([4, 5, 3], [3, 4, 2], [3, 4, 1], [3, 4, 5, 4, 3], [1, 1, 1], [3, 1], [4, 3])

"Scores and loss of one sample, unit by unit."
function by_units(m, x, label)
    σ = m.config.activation == "relu" ? z -> max(z, 0.0) : z -> 1 / (1 + exp(-z))
    a = x
    for (number, layer) in enumerate(m.layers)
        W, b = layer.weight, layer.bias
        z = [b[i] + sum(W[i, j] * a[j] for j in eachindex(a)) for i in eachindex(b)]
        a = number < length(m.layers) ? σ.(z) : z
    end
    if m.config.loss == "mse"
        y = length(a) == 1 ? [label - 1] : [k == label for k in eachindex(a)]
        return a, sum((a .- y) .^ 2)
    end
    p = length(a) == 1 ? 1 / (1 + exp(-a[1])) : exp(a[label]) / sum(exp.(a))
    return a, -log(length(a) == 1 && label == 1 ? 1 - p : p)
end

@testset "mlp: $activation, $criterion" for activation in ("sigmoid", "relu"),
    criterion in ("mse", "cross-entropy")

    for sizes in shapes, samples in (1, 7)
        m, x, labels = random_mlp(sizes, activation, criterion; samples)
        plain = [by_units(m, x[:, n], labels[n]) for n in 1:samples]
        @test m(x) ≈ hcat(first.(plain)...) rtol = 1e-13
        @test loss(m, m(x), labels) ≈ sum(last.(plain)) / samples rtol = 1e-12
        by_hand, automatic = backpropagation(m, x, labels), automatic_gradient(m, x, labels)
        @test by_hand.loss ≈ automatic.loss && by_hand.output ≈ automatic.output
        for (mine, theirs) in zip(by_hand.grads.layers, automatic.grads.layers), part in (:weight, :bias)
            @test norm(mine[part] .- theirs[part]) <= 1e-12 * norm(theirs[part])
        end
        @test norm(by_hand.grads_input .- automatic.grads_input) <= 1e-12 * norm(automatic.grads_input)
    end
    m, x, labels = random_mlp([3, 4, 2], activation, criterion)
    moved(x) = sum(last(by_units(m, x[:, n], labels[n])) for n in 1:7) / 7
    v = randn(draw, size(x))
    difference = (moved(x + 1e-6v) - moved(x - 1e-6v)) / 2e-6
    @test dot(backpropagation(m, x, labels).grads_input, v) ≈ difference rtol = 1e-6 atol = 1e-8
end

@testset "a perceptron in closed form" begin
    for criterion in ("mse", "cross-entropy")
        m, x, labels = random_mlp([3, 1], "sigmoid", criterion)
        s = vec(m.layers[1].weight * x) .+ m.layers[1].bias
        r = (criterion == "mse" ? 2 .* (s .- (labels .- 1)) : 1 ./ (1 .+ exp.(-s)) .- (labels .- 1)) ./ 7
        for way in (backpropagation, automatic_gradient)
            found = way(m, x, labels)
            @test found.grads.layers[1].weight ≈ r' * x' && found.grads.layers[1].bias ≈ [sum(r)]
            @test found.grads_input ≈ m.layers[1].weight' * r'
        end
    end
end

@testset "a relu at its kink is flat" begin
    m, x, labels = random_mlp([2, 3, 2], "relu", "mse")
    m.layers[1].weight .= 0
    m.layers[1].bias .= [0, 1, -1]
    for way in (backpropagation, automatic_gradient)
        @test map(!iszero, way(m, x, labels).grads.layers[1].bias) == [false, true, false]
    end
end

@testset "large scores are no overflow" begin
    labels, scores = [1, 2], [-1e4 1e4]
    one, two = (first(random_mlp([2, outputs], "relu", "cross-entropy")) for outputs in (1, 2))
    @test loss(one, scores, labels) == 0 && loss(one, -scores, labels) == 1e4
    @test loss(two, [zero(scores); scores], labels) == 0 && loss(two, [zero(scores); -scores], labels) == 1e4
end

@testset "names, order and number of the parameters of an mlp" begin
    params = MODELS["mlp"].params(mlp_config([784, 16, 16, 10], "sigmoid", "mse"))
    @test first.(params) == ["layers.$n.$part" for n in 0:2 for part in ("weight", "bias")]
    @test [prod(spec.dims) for (_, spec) in params] == [12_544, 16, 256, 16, 160, 10]
    @test sum(prod(spec.dims) for (_, spec) in params) == 12_560 + 272 + 170 == 13_002
end

# ---- the ResNets

resnet_config(; settings...) = model_spec("resnet", "").config(
    Dict{String,Any}(String(name) => value for (name, value) in settings), "config",
)
"Weights as the cases have them: after He et al. 2015, norms near the identity."
function random_param(name, spec)
    normal = randn(draw, reverse(spec.dims)...)
    ndims(normal) > 1 && return sqrt(2 / prod(spec.dims[2:end])) .* normal
    endswith(name, "running_var") && return 0.5 .+ normal .^ 2 ./ (1 .+ normal .^ 2)
    endswith(name, ".weight") && return 1 .+ 0.2 .* normal
    return 0.2 .* normal
end
function random_resnet(; images=3, size=(6, 7), T=Float64, settings...)
    config = resnet_config(; in_channels=2, classes=3, width=2, settings...)
    params = Dict{String,Array}(
        name => random_param(name, spec) for (name, spec) in MODELS["resnet"].params(config)
    )
    return build("resnet", config, params, T),
    T.(randn(draw, size..., 2, images)),
    rand(draw, 1:3, images),
    params
end

blocks =
    Dict(
        "resnet20" => (3, 3, 3),
        "resnet32" => (5, 5, 5),
        "resnet18" => (2, 2, 2, 2),
        "resnet50" => (3, 4, 6, 3),
    )
"The same network of Flux's own layers, weights copied, in a plain function of the images; its norms by name."
function flux_network(config, params)
    norms = Dict{String,Flux.BatchNorm}()
    array(name) = copy(params[name])
    function conv(x, name, stride=1)
        w = reverse(array("$name.weight"); dims=(1, 2))
        return Flux.Conv(w, false; stride, pad=size(w, 1) ÷ 2)(x)
    end
    function norm(x, name)
        layer = get!(norms, name) do
            made = Flux.f64(Flux.BatchNorm(size(x, 3); eps=1e-5, momentum=0.1))
            for (target, part) in
                zip((made.γ, made.β, made.μ, made.σ²), ("weight", "bias", "running_mean", "running_var"))
                target .= array("$name.$part")
            end
            Flux.testmode!(made, config.mode == "eval")
        end
        return layer(x)
    end
    function branch(x, name, stride)
        if config.variant != "resnet50"
            y = Flux.relu.(norm(conv(x, "$name.conv1", stride), "$name.bn1"))
            return norm(conv(y, "$name.conv2"), "$name.bn2")
        end
        y = Flux.relu.(norm(conv(x, "$name.conv1"), "$name.bn1"))
        y = Flux.relu.(norm(conv(y, "$name.conv2", stride), "$name.bn2"))
        return norm(conv(y, "$name.conv3"), "$name.bn3")
    end
    function around(x, y, name, stride)
        haskey(params, "$name.downsample.0.weight") &&
            return norm(conv(x, "$name.downsample.0", stride), "$name.downsample.1")
        z = zero(y)
        z[:, :, axes(x, 3), :] .= x[1:stride:end, 1:stride:end, :, :]
        return z
    end
    function pass(x)
        is_small = length(blocks[config.variant]) == 3
        x = Flux.relu.(norm(conv(x, "conv1", is_small ? 1 : 2), "bn1"))
        is_small || (x = Flux.MaxPool((3, 3); stride=2, pad=1)(x))
        for (stage, count) in enumerate(blocks[config.variant]), block in 0:(count-1)
            name, stride = "layer$stage.$block", stage > 1 && block == 0 ? 2 : 1
            y = branch(x, name, stride)
            x = Flux.relu.(config.residual ? y .+ around(x, y, name, stride) : y)
        end
        pooled = Flux.flatten(Flux.GlobalMeanPool()(x))
        return array("fc.weight")' * pooled .+ array("fc.bias")
    end
    return pass, norms
end

nets = [
    (variant="resnet20",),
    (variant="resnet20", mode="eval"),
    (variant="resnet20", residual=false),
    (variant="resnet32", size=(4, 4)),
    (variant="resnet18", size=(35, 33)),
    (variant="resnet18", size=(30, 17), mode="eval"),
    (variant="resnet50", size=(33, 34), width=1),
    (variant="resnet50", size=(33, 34), width=1, mode="eval"),
]

@testset "a pass is that of Flux's own layers: $(values(net))" for net in nets
    m, x, _, params = random_resnet(; net...)
    pass, norms = flux_network(m.config, deepcopy(params))
    logits = m(x)
    @test norm(logits) > 0.1
    @test apart(logits, pass(x)) < 1e-10
    after = Dict(to_file_arrays("resnet", m.config, m, spec -> !spec.trained))
    for (name, layer) in norms
        @test apart(after["$name.running_mean"], layer.μ) < 1e-10
        @test apart(after["$name.running_var"], layer.σ²) < 1e-10
        @test (after["$name.running_var"] == params["$name.running_var"]) == (m.config.mode == "eval")
    end
    @test length(after) == 2length(norms)
end

@testset "the gradient of a ResNet is the slope of Flux's own layers: $mode" for mode in ("train", "eval")
    m, x, labels, params = random_resnet(; variant="resnet20", mode)
    trained = [name for (name, spec) in MODELS["resnet"].params(m.config) if spec.trained]
    v = Dict(name => randn(draw, size(params[name])) for name in trained)
    v_x = randn(draw, size(x))
    function moved(h)
        changed = Dict(name => haskey(v, name) ? array + h * v[name] : array for (name, array) in params)
        logits = first(flux_network(m.config, changed))(x + h * v_x)
        return Flux.logitcrossentropy(logits, Flux.onehotbatch(labels, 1:3))
    end
    here = automatic_gradient(m, x, labels)
    @test here.loss ≈ moved(0.0) rtol = 1e-12
    grads = Dict(to_file_arrays("resnet", m.config, here.grads, spec -> spec.trained))
    slope = dot(here.grads_input, v_x) + sum(dot(grads[name], v[name]) for name in trained)
    @test slope ≈ (moved(1e-7) - moved(-1e-7)) / 2e-7 rtol = 1e-5
end

@testset "a block adds its input, reshaped by shortcut A" begin
    m, _, _, _ = random_resnet(; variant="resnet20")
    x = reshape(collect(1.0:40.0), 5, 2, 2, 2)
    @test shortcut(m.layer1[1], x) === x
    @test shortcut(m.layer2[1], x) == widen(x, 2, 4)
end

@testset "in evaluation an image does not know the others" begin
    for (mode, alone) in (("eval", true), ("train", false))
        m, x, _, _ = random_resnet(; variant="resnet20", mode)
        @test isapprox(m(x)[:, 1:2], m(x[:, :, :, 1:2]); rtol=1e-10) == alone
    end
end

@testset "in another mode it is the same network over the same arrays" begin
    m, x, _, params = random_resnet(; variant="resnet20")
    still = in_mode(m, false)
    settled = resnet_config(; variant="resnet20", in_channels=2, classes=3, width=2, mode="eval")
    @test still(x) == build("resnet", settled, params, Float64)(x)
    @test still.layer2[1].conv1.weight === m.layer2[1].conv1.weight
    @test still.bn1.running_mean === m.bn1.running_mean == params["bn1.running_mean"]
    in_mode(still, true)(x)
    @test m.bn1.running_mean != params["bn1.running_mean"]
end

@testset "an evaluation leaves the case alone and gives the statistics after one pass" begin
    m, x, labels, params = random_resnet(; variant="resnet20")
    file_params = Dict(to_file_arrays("resnet", m.config, m))
    groups = Dict(
        "params" => deepcopy(file_params), "inputs" => Dict{String,Array}("images" => x),
        "targets" => Dict{String,Array}("labels" => labels .- 1),
    )
    found = evaluate("resnet", m.config, groups; steps=2)
    @test groups["params"] == file_params
    m(x)
    for (name, array) in to_file_arrays("resnet", m.config, m, spec -> !spec.trained)
        @test found["statistics/$name"] ≈ array
        @test !(found["steps/sgd/params_after/$name"] ≈ array)
    end
    @test found["steps/sgd/losses"][1] == found["steps/adamw/losses"][1] == found["loss"][]
end

@testset "numbers of parameters as published" begin
    count(; settings...) =
        sum(
            prod(spec.dims) for
            (_, spec) in MODELS["resnet"].params(resnet_config(; settings...)) if spec.trained
        )
    # He et al., table 6: 0.27, 0.46, 0.66, 0.85 and 1.7 million.
    family = (20 => 269_722, 32 => 464_154, 44 => 658_586, 56 => 853_018, 110 => 1_727_962)
    @test all(count(; variant="resnet$layers") == number for (layers, number) in family)
    # torchvision's.
    large = (18 => 11_689_512, 34 => 21_797_672, 50 => 25_557_032)
    @test all(count(; variant="resnet$layers", classes=1000) == number for (layers, number) in large)
    names = first.(MODELS["resnet"].params(resnet_config(; variant="resnet50")))
    @test length(names) == 267 &&
          names[[1, 2, 5, 6, end]] ==
          ["conv1.weight", "bn1.weight", "bn1.running_var", "layer1.0.conv1.weight", "fc.bias"]
    @test "layer2.0.downsample.1.running_mean" in names && !("layer2.1.downsample.0.weight" in names)
end

@testset "float32 stays float32" begin
    m, x, labels = random_mlp([3, 4, 1], "relu", "cross-entropy"; T=Float32)
    @test backpropagation(m, x, labels).loss isa Float32
    @test eltype(backpropagation(m, x, labels).grads_input) == Float32
    for mode in ("train", "eval")
        m, x, _, _ = random_resnet(; variant="resnet20", mode, T=Float32)
        @test eltype(m(x)) == Float32
    end
end

# ---- what is refused

@testset "settings that are none are refused" begin
    right = Dict{String,Any}("sizes" => [3, 4, 2], "activation" => "relu", "loss" => "mse")
    for (name, wrong, says) in (
        ("sizes", [3], "config, sizes: expected at least two integers, each at least 1, found [3]"),
        ("sizes", [3, 0], "config, sizes: expected at least two integers, each at least 1, found [3, 0]"),
        (
            "sizes",
            Any[3, 2.5],
            "config, sizes: expected at least two integers, each at least 1, found [3, 2.5]",
        ),
        (
            "sizes",
            Any[3, true],
            "config, sizes: expected at least two integers, each at least 1, found [3, true]",
        ),
        ("sizes", "3, 2", "config, sizes: expected at least two integers, each at least 1, found \"3, 2\""),
        ("activation", "tanh", "config, activation: expected one of sigmoid, relu, found \"tanh\""),
        ("loss", "hinge", "config, loss: expected one of mse, cross-entropy, found \"hinge\""),
        ("bias", true, "config, bias: expected only sizes, activation, loss, found \"bias\""),
        ("loss", nothing, "config, loss: expected this entry, found nothing"),
    )
        @test_throws says model_spec("mlp", "").config(
            merge(right, Dict{String,Any}(name => wrong)),
            "config",
        )
    end
    for (changes, says) in (
        (variant="resnet21",) =>
            "config, variant: expected one of resnet20, resnet32, resnet44, resnet56, resnet110, " *
            "resnet18, resnet34, resnet50, found \"resnet21\"",
        (mode="test",) => "config, mode: expected one of train, eval, found \"test\"",
        (width=-1,) => "config, width: expected an integer, at least 0, found -1",
        (in_channels=0,) => "config, in_channels: expected an integer, at least 1, found 0",
        (classes=true,) => "config, classes: expected an integer, at least 1, found true",
        (residual=1,) => "config, residual: expected true or false, found 1",
        (depth=20,) => "config, depth: expected only variant, in_channels, classes, width, residual, mode",
    )
        @test_throws says resnet_config(; variant="resnet20", changes...)
    end
    @test_throws "config, variant: expected this entry, found nothing" resnet_config()
end

@testset "arrays that contradict the settings are refused" begin
    for (outputs, classes) in ((1, 2), (2, 2), (3, 3)), wrong in (-1, classes)
        targets = MODELS["mlp"].targets(mlp_config([3, outputs], "relu", "mse"))
        check_arrays(targets, Dict("labels" => [0, classes - 1]), "t", Dict())
        says = "t/labels: expected ids 0 to $(classes - 1), found $wrong at index (1,)"
        @test_throws says check_arrays(targets, Dict("labels" => [0, wrong]), "t", Dict())
    end
    params = MODELS["resnet"].params(resnet_config(; variant="resnet20", width=2))
    arrays = Dict{String,Array}(name => ones(reverse(spec.dims)) for (name, spec) in params)
    says(words, name, array) =
        @test_throws words check_arrays(params, merge(arrays, Dict(name => array)), "p", Dict())
    says("p/bn1.running_var: expected numbers >= 0, found -0.5 at index (1,)", "bn1.running_var", [1.0, -0.5])
    says(
        "p/conv1.weight: expected shape (2, 3, 3, 3), found shape (2, 1, 3, 3)",
        "conv1.weight",
        ones(3, 3, 1, 2),
    )
    says("p/bn9.weight: expected only conv1.weight", "bn9.weight", ones(2))
    delete!(arrays, "bn1.running_mean")
    @test_throws "p/bn1.running_mean: expected float64 array (2,), found no such entry" check_arrays(
        params, arrays, "p", Dict(),
    )
end

@testset "a training batch with one value per channel is refused" begin
    for (variant, mode, shape, refused) in (
        ("resnet20", "train", (1, 3, 4, 4), true),
        ("resnet20", "train", (1, 3, 4, 5), false),
        ("resnet20", "train", (2, 3, 4, 4), false),
        ("resnet20", "eval", (1, 3, 4, 4), false),
        ("resnet18", "train", (1, 3, 32, 17), true),
        ("resnet18", "train", (1, 3, 33, 17), false),
    )
        config, images = resnet_config(; variant, mode), zeros(reverse(shape))
        wrong = contradiction(config, Dict("inputs" => Dict("images" => images)))
        @test (wrong !== nothing) == refused
        refused &&
            @test wrong[1] == "inputs/images" && occursin("of one $(shape[3]) x $(shape[4]) image", wrong[3])
    end
end
