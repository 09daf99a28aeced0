using LinearAlgebra: norm
using Random: Xoshiro
using Test
using TwinGrad
using TwinGrad: BatchNorm, BatchNormRoom, ConvolutionPlan, ImageLayout, MODELS, NNlib, ProductRoom
using TwinGrad: ResNetConfig, ResNetKernels, batch_norm, batch_norm!, batch_norm_gradient!, build
using TwinGrad: convolution_input_gradient!, convolution_weight_gradient!, convolve!, gradient, image_room
using TwinGrad: load_images!, named_arrays, objective, output!, padded_channels, store_images!, to_file_arrays
using Zygote: Zygote

draw = Xoshiro(11)
apart(a, b) = norm(a .- b) / norm(b)

"Images x (W, H, C, N) as the fast path has them, so far from the border; and how they lie."
function loaded(x::Array{T,4}, border) where {T}
    W, H, C, N = size(x)
    layout = ImageLayout(padded_channels(T, C), W, H, N, border)
    images = image_room(T, layout)
    load_images!(images, layout, x)
    return images, layout
end

"And back."
stored(images, layout, shape) = (x = zeros(eltype(images), shape); store_images!(x, images, layout); x)

# ---- convolutions

"Hold a convolution of random images (W, H, N) and its gradients against NNlib's."
function check_convolution(T, (W, H, N), channels, stride, k, by)
    pad, tolerance = k ÷ 2, T == Float64 ? 1e-13 : 2e-6
    x, weight = randn(draw, T, W, H, channels[1], N), randn(draw, T, k, k, channels...)
    settings = (; stride, pad, flipped=true)
    expected, pullback = Zygote.pullback((x, w) -> NNlib.conv(x, w; settings...), x, weight)
    dy = randn(draw, T, size(expected))
    dx_expected, dw_expected = pullback(dy)

    images, layout = loaded(x, pad)
    d_images, y_layout = loaded(dy, max(pad, 1))
    plan = ConvolutionPlan(size(weight), stride, layout, y_layout)
    room, y, dx, dw = ProductRoom(T, [plan], by), image_room(T, y_layout), image_room(T, layout), zero(weight)
    convolve!(y, images, weight, plan, room)
    @test apart(stored(y, y_layout, size(expected)), expected) < tolerance
    convolution_input_gradient!(dx, d_images, weight, plan, room, false)
    @test apart(stored(dx, layout, size(x)), dx_expected) < tolerance
    convolution_input_gradient!(dx, d_images, weight, plan, room, true)
    @test apart(stored(dx, layout, size(x)), 2dx_expected) < tolerance
    convolution_weight_gradient!(dw, d_images, images, plan, room)
    @test apart(dw, dw_expected) < tolerance
end

@testset "convolutions are NNlib's: $by, $T" for by in (:simd, :blas), T in (Float64, Float32)
    sizes = (
        ((1, 1, 1), (1, 1)),
        ((2, 3, 1), (3, 2)),
        ((5, 7, 3), (2, 5)),
        ((8, 4, 2), (9, 17)),
        ((7, 6, 2), (16, 12)),
    )
    for (size, channels) in sizes, stride in (1, 2), k in (1, 3, 7)
        check_convolution(T, size, channels, stride, k, by)
    end
end

# ---- batch norm

@testset "batch norm in float32 is as exact as its type" begin
    x = 5 .+ randn(draw, Float32, 28, 27, 2, 16)
    norm = BatchNorm(Float32[1, -2], Float32[0, 3], zeros(Float32, 2), ones(Float32, 2), true)
    exact, μ, v = batch_norm(Float64.(x), Float64.(norm.weight), Float64.(norm.bias), 1e-5)
    images, layout = loaded(x, 1)
    room, y = BatchNormRoom(Float32, layout, 2), image_room(Float32, layout)
    batch_norm!(y, images, norm, nothing, false, room)
    @test room.mean[1:2] ≈ μ rtol = 2e-7
    @test room.variance[1:2] ≈ v rtol = 5e-7
    @test stored(y, layout, size(x)) ≈ exact rtol = 5e-7
    @test norm.running_mean ≈ 0.1 .* μ rtol = 2e-6
    @test norm.running_var ≈ 0.9 .+ 0.1 .* v .* (28 * 27 * 16 / (28 * 27 * 16 - 1)) rtol = 2e-6
end

@testset "batch norm with a shortcut and its gradient: training $training" for training in (true, false)
    x, shortcut, dy = (randn(draw, 5, 3, 6, 4) for _ in 1:3)
    norm = BatchNorm(randn(draw, 6), randn(draw, 6), randn(draw, 6), 1 .+ rand(draw, 6), training)
    plain = BatchNorm(map(copy, (norm.weight, norm.bias, norm.running_mean, norm.running_var))..., training)
    f(x, w, b) = max.(BatchNorm(w, b, plain.running_mean, plain.running_var, training)(x) .+ shortcut, 0)
    expected, pullback = Zygote.pullback(f, x, plain.weight, plain.bias)
    dx_expected, dw, db = pullback(dy)
    images, layout = loaded(x, 1)
    room, y, dx = BatchNormRoom(Float64, layout, 6), image_room(Float64, layout), image_room(Float64, layout)
    d, _ = loaded(dy, 1)
    batch_norm!(y, images, norm, first(loaded(shortcut, 1)), true, room)
    batch_norm_gradient!(dx, d, y, images, training, room)
    @test apart(stored(y, layout, size(x)), expected) < 1e-14
    @test stored(d, layout, size(x)) == ifelse.(expected .> 0, dy, 0)
    @test apart(stored(dx, layout, size(x)), dx_expected) < 1e-13
    @test apart(room.weight_grad, dw) < 1e-13 && apart(room.bias_grad, db) < 1e-13
    @test apart(norm.running_mean, plain.running_mean) < 1e-14
    @test apart(norm.running_var, plain.running_var) < 1e-14
end

# ---- networks

"A ResNet with parameters that let numbers pass, images and labels."
function random_resnet(shape; T=Float64, settings...)
    config = ResNetConfig(; in_channels=shape[3], classes=3, settings...)
    params = Dict{String,Array{Float64}}()
    for (name, spec) in MODELS["resnet"].params(config)
        a = randn(draw, reverse(spec.dims)...)
        params[name] =
            endswith(name, "running_var") ? 0.2 .+ abs.(a) :
            occursin(r"bn\d.weight|downsample.1.weight", name) ? 1 .+ 0.1a :
            length(spec.dims) == 1 ? 0.3a : 1.4a ./ sqrt(prod(spec.dims[2:end]))
    end
    return build("resnet", config, params, T), randn(draw, T, shape), rand(draw, 1:3, shape[4])
end

"All that an evaluation of a model gives, by name, and its statistics afterwards."
function by_name(m, evaluation)
    found = Dict{String,Any}(named_arrays("resnet", m.config, evaluation.grads))
    found["input"], found["output"] = evaluation.grads_input, evaluation.output
    found["loss"] = [evaluation.loss]
    return merge(found, Dict(to_file_arrays("resnet", m.config, m, spec -> !spec.trained)))
end

const NETWORKS = (
    ((8, 8, 3, 4), (variant="resnet20", width=4)),
    ((7, 5, 1, 3), (variant="resnet20", width=3)),
    ((6, 9, 2, 3), (variant="resnet20", width=5, mode="eval")),
    ((9, 11, 1, 3), (variant="resnet20", width=9, residual=false)),
    ((33, 37, 3, 3), (variant="resnet18", width=3)),
    ((33, 47, 2, 3), (variant="resnet50", width=5)),
    ((34, 33, 1, 2), (variant="resnet50", width=4, mode="eval")),
)

@testset "the fast path is the plain one: $shape, $settings" for (shape, settings) in NETWORKS
    m, x, c = random_resnet(shape; settings...)
    copies = Dict(by => deepcopy(m) for by in (:simd, :blas))
    expected = by_name(m, automatic_gradient(m, x, c))
    @test all(array -> all(isfinite, array) && norm(array) > 1e-6, values(expected))
    for (by, copied) in copies
        found = by_name(copied, gradient(ResNetKernels(copied, x; convolution=by), copied, x, c))
        @test keys(found) == keys(expected)
        @test all(name -> size(found[name]) == size(expected[name]), keys(expected))
        @test maximum(name -> apart(found[name], expected[name]), keys(expected)) < 1e-12
    end
end

@testset "in float32 it is the plain path in float64 to rounding" begin
    m, x, c = random_resnet((12, 12, 3, 8); variant="resnet20", width=8)
    small = deepcopy(m)
    m32 = build("resnet", m.config, Dict(to_file_arrays("resnet", m.config, small)), Float32)
    expected = by_name(m, automatic_gradient(m, x, c))
    for by in (:simd, :blas)
        here = gradient(ResNetKernels(m32, Float32.(x); convolution=by), m32, Float32.(x), c)
        @test here.loss isa Float32 && eltype(here.grads_input) == Float32
        @test here.loss ≈ expected["loss"][1] rtol = 1e-5
        @test apart(here.output, expected["output"]) < 1e-5
        @test apart(here.grads_input, expected["input"]) < 1e-3
    end
end

@testset "room serves again, for other parameters too, and nothing is made anew: $by" for by in (:simd, :blas)
    m, x, c = random_resnet((8, 8, 3, 4); variant="resnet20", width=4)
    other, y, d = random_resnet((8, 8, 3, 4); variant="resnet20", width=4)
    work = ResNetKernels(m, x; convolution=by)
    first_found = deepcopy(gradient(work, m, x, c))
    gradient(work, other, y, d)
    again = gradient(work, m, x, c)
    names = filter(name -> !occursin("running", name), collect(keys(by_name(m, again))))
    @test all(name -> by_name(m, again)[name] == by_name(m, first_found)[name], names)
    @test output!(work, m, x) == first_found.output
    @test objective(work, m, x, c) == first_found.loss
    bytes = @allocated gradient(work, m, x, c)
    tasks = Threads.nthreads() == 1 ? 0 : 300_000 * Threads.nthreads()
    @test bytes < (by == :simd ? 20_000 : 200_000) + tasks
end

@testset "numbers that are none do not get lost: $wrong, $mode" for wrong in (NaN, Inf),
    mode in ("train", "eval")

    m, x, c = random_resnet((33, 33, 2, 2); variant="resnet18", width=2, mode)
    x[5, 6, 1, 2] = wrong
    work = ResNetKernels(m, x)
    @test isfinite(objective(work, m, x, c)) == isfinite(TwinGrad.loss(m, m(x), c))
    x[5, 6, 1, 2] = 0
    @test isfinite(objective(work, m, x, c))
end

@testset "a convolution is computed by :simd or :blas" begin
    m, x, _ = random_resnet((4, 4, 1, 2); variant="resnet20", width=1)
    @test_throws "expected convolution :simd or :blas, found :fft" ResNetKernels(m, x; convolution=:fft)
end
