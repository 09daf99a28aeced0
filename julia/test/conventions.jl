# What docs/conventions.md says of Flux and its friends, row by row; what it says of PyTorch is in tests/test_conventions.py.
# tests/test_guide.py sees to it that rows and tests belong together and that the page's numbers are those of the tests.
using HDF5: API, attributes, attrs, datatype, h5open
using LinearAlgebra: norm
using Random: Random, Xoshiro
using Test
using TwinGrad
using TwinGrad: Flux, NNlib, Optimisers, case_files, median
using Zygote: Zygote

"What a step by gradient `g` makes of the number 1."
function stepped(rule, g)
    model = (w=[1.0],)
    Optimisers.update!(Optimisers.setup(rule, model), model, (w=g,))
    return only(model.w)
end

"The middle of many absolute values, which a uniform distribution has at half its bound."
middle(weights) = median(abs.(vec(weights)))

# ---- arrays and axes

@testset "order in memory" begin
    x = reshape(0:5, 3, 2)
    @test strides(collect(x)) == (1, 3)
    @test x == [0 3; 1 4; 2 5]
end

@testset "weight of a linear map" begin
    layer = Flux.Dense(2 => 3)
    @test size(layer.weight) == (3, 2)
    x = ones(Float32, 2, 5)
    @test layer(x) ≈ layer.weight * x .+ layer.bias
end

@testset "weight of an embedding" begin
    @test size(Flux.Embedding(7 => 2).weight) == (2, 7)
end

@testset "weight of a convolution" begin
    @test size(Flux.Conv((5, 3), 4 => 8).weight) == (5, 3, 4, 8)
end

@testset "reshape" begin
    @test reshape([1 2 3; 4 5 6], 3, 2) == [1 5; 4 3; 2 6]
end

@testset "flatten" begin
    images = reshape(0:23, 4, 3, 2, 1)
    @test Flux.flatten(images)[12*1+4*2+3+1, 1] == images[4, 3, 2, 1] == 23
    @test size(Flux.flatten(images)) == (24, 1)
end

@testset "views" begin
    x = zeros(2, 3)
    x[:, 1] .= 1  # an assignment, not a slice
    taken = x[:, 1]
    taken .= 5
    @test sum(x) == 2
    view(x, :, 1) .= 5
    @test sum(x) == 10
end

@testset "broadcasting" begin
    @test zeros(2, 2) .+ [1, 2] == [1 1; 2 2]
    @test size(zeros(2, 3) .+ zeros(2)) == (2, 3)
    @test_throws DimensionMismatch zeros(2, 3) .+ zeros(3)
end

@testset "the star" begin
    A = [1 2; 3 4]
    @test A * A == [7 10; 15 22]
end

@testset "sums along an axis" begin
    @test size(sum(ones(2, 3); dims=2)) == (2, 1)
end

@testset "axis of a softmax" begin
    @test NNlib.softmax([1.0 3.0; 2.0 4.0])[:, 1] ≈ [0.2689, 0.7311] atol = 1e-4
end

@testset "mask of attention" begin
    one_channel, values = ones(1, 2, 1), reshape([1.0, 3.0], 1, 2, 1)
    mask = NNlib.make_causal_mask(one_channel)
    @test mask == [1 1; 0 1]
    @test vec(NNlib.dot_product_attention(one_channel, one_channel, values; mask)[1]) == [1, 2]
end

@testset "axes of a sequence" begin
    @test size(Flux.LSTM(2 => 3)(ones(Float32, 2, 4, 5))) == (3, 4, 5)
end

# ---- indices

@testset "the first index" begin
    x = [10, 20, 30]
    @test x[1] == 10
    @test_throws BoundsError x[0]
    @test_throws BoundsError Flux.Embedding(3 => 2)(0)
end

@testset "negative indices" begin
    x = [10, 20, 30]
    @test_throws BoundsError x[-1]
    @test x[end] == 30
end

@testset "ends of ranges" begin
    x = [10, 20, 30]
    @test length(x[1:2]) == 2
    @test length(0:3) == 4
end

@testset "argmax of equal numbers" begin
    @test argmax([3, 5, 5]) == 2
    @test Flux.onecold([3, 5, 5]) == 2
end

@testset "one-hot labels" begin
    @test Flux.onehotbatch([0, 2], 0:2) == [1 0; 0 0; 0 1]
    @test_throws ErrorException Flux.onehotbatch([0, 2], 1:3)
end

@testset "division of integers" begin
    @test (-7) ÷ 2 == -3
    @test (-7) % 2 == -1
    @test fld(-7, 2) == -4
    @test mod(-7, 2) == 1
    @test 1 / 2 isa Float64
end

# ---- numbers and types

@testset "literals" begin
    @test eltype(Float32[1] .* 0.1) == Float64
    @test eltype(Float32[1] .* 0.1f0) == Float32
end

@testset "default type" begin
    @test eltype([0.1]) == Float64
    layer = Flux.Dense(1 => 1)
    @test eltype(layer.weight) == Float32
    @test (@test_logs (:warn,) match_mode = :any layer([0.1])) isa Vector{Float32}
end

@testset "sums in float32" begin
    x = fill(0.1f0, 28, 28, 1, 500)
    exact = sum(Float64, x)
    @test 2e-7 < abs(only(sum(x; dims=(1, 2, 4))) - exact) / exact < 1e-4
end

@testset "spread of a sample" begin
    @test Flux.Statistics.var([0.0, 2.0]) == 2
    @test Flux.normalise([0.0, 2.0]) ≈ [-1, 1]
end

@testset "single elements of a GPU array" begin
    # No GPU is needed: it is this check that an array on one asks first.
    @test_throws "Scalar indexing is disallowed" NNlib.GPUArraysCore.assertscalar("getindex")
end

# ---- layers

@testset "initial weights of a linear map" begin
    Random.seed!(0)
    layer = Flux.Dense(16 => 8)
    @test 0.45 < maximum(abs, layer.weight) <= 0.5
    @test all(iszero, layer.bias)
end

@testset "initial weights of a convolution" begin
    Random.seed!(0)
    layer = Flux.Conv((2, 2), 4 => 2)
    @test 0.3 < maximum(abs, layer.weight) <= 0.5
    @test size(layer.bias) == (2,) && all(iszero, layer.bias)
end

@testset "initial weights of an embedding" begin
    Random.seed!(0)
    weights = Flux.Embedding(100 => 16).weight
    @test middle(weights) ≈ 0.6745 atol = 0.05
end

@testset "the kernel's direction" begin
    pulse, kernel = reshape([0.0, 1, 0, 0], 4, 1, 1), reshape([1.0, 2, 3], 3, 1, 1)
    @test vec(NNlib.conv(pulse, kernel; pad=1)) == [1, 2, 3, 0]
    @test vec(Flux.CrossCor(kernel, [0.0]; pad=1)(pulse)) == [3, 2, 1, 0]
end

@testset "same padding" begin
    layer = Flux.Conv(ones(2, 1, 1), [0.0]; pad=Flux.SamePad())
    @test vec(layer(reshape([1.0, 2, 4], 3, 1, 1))) == [1, 3, 6]
end

@testset "size of a pooled image" begin
    @test size(Flux.MaxPool((2,))(ones(5, 1, 1)), 1) == 2
end

@testset "padding of a mean" begin
    x = fill(3.0, 3, 1, 1)
    @test vec(Flux.MeanPool((3,); pad=1, stride=1)(x)) == [2, 3, 2]
end

@testset "eps in layer norm" begin
    @test Flux.LayerNorm(2; eps=0.1)([-0.3, 0.3])[2] ≈ 0.9487 atol = 1e-4
end

@testset "eps of batch norm" begin
    @test Flux.BatchNorm(1).ϵ === 1.0f-5
    @test Float64(1.0f-5) != 1e-5
end

@testset "mode of batch norm" begin
    x, layer = Float32[0 2], Flux.BatchNorm(1)
    @test vec(layer(x)) ≈ [0, 2] atol = 1e-4
    output = Zygote.withgradient(x -> (y = layer(x); (sum(y), y)), x).val[2]
    @test vec(output) ≈ [-1, 1] atol = 1e-4
end

@testset "running statistics" begin
    layer = Flux.trainmode!(Flux.BatchNorm(1))
    layer(Float32[0 2])
    @test layer.μ ≈ [0.1]
    @test layer.σ² ≈ [1.1]
end

@testset "dropout" begin
    x, layer = ones(100), Flux.Dropout(0.5)
    @test unique(layer(x)) == [1]
    output = Zygote.withgradient(x -> (y = layer(x); (sum(y), y)), x).val[2]
    @test sort(unique(output)) == [0, 2]
    @test sort(unique(NNlib.dropout(x, 0.5))) == [0, 2]
end

@testset "GELU" begin
    @test NNlib.gelu(1.0) ≈ 0.8411920 atol = 1e-7
    @test NNlib.gelu_erf(1.0) ≈ 0.8413447 atol = 1e-7
end

@testset "gates of an LSTM" begin
    cell = Flux.LSTMCell(1 => 1)
    @test iszero(cell.bias) && length(cell.bias) == 4
    cell.Wi .= [1; 2; 3; 4]
    cell.Wh .= 0
    h, c = last(cell([1.0f0], ([0.0f0], [1.0f0])))
    @test h ≈ [0.9063] atol = 1e-4
    @test c ≈ [1.6082] atol = 1e-4
end

@testset "bias of a GRU" begin
    cell = Flux.GRUCell(1 => 1)
    cell.Wi .= [0.1; 0.2; 0.3]
    cell.Wh .= [0.5; -0.4; 0.7]
    cell.b .= [0.2, -0.1, 0.6]
    @test last(cell([1.0f0], [0.5f0])) ≈ [0.6618] atol = 1e-4
end

# ---- losses

@testset "mean of squares" begin
    @test Flux.mse([1.0 2; 3 4], zeros(2, 2)) == 7.5
end

@testset "cross-entropy" begin
    scores, y = [1.0 2; 3 4], Flux.onehotbatch([1, 2], 1:2)
    @test Flux.logitcrossentropy(scores, y) ≈ 1.1269 atol = 1e-4
    @test Flux.crossentropy(NNlib.softmax(scores), y) ≈ 1.1269 atol = 1e-4
end

@testset "Kullback-Leibler" begin
    @test Flux.kldivergence([0.25 0.5; 0.75 0.5], fill(0.5, 2, 2)) ≈ 0.0719 atol = 1e-4
end

@testset "label smoothing" begin
    @test vec(Flux.label_smoothing(Flux.onehotbatch([1], 1:4), 0.1)) ≈ [0.925, 0.025, 0.025, 0.025]
end

@testset "probability zero" begin
    @test Flux.binarycrossentropy([0.0], [1.0]) ≈ 36.04 atol = 0.01
end

# ---- optimizers

@testset "decay of AdamW" begin
    @test stepped(Optimisers.AdamW(0.1, (0.9, 0.999), 0.1), [0.0]) ≈ 0.99
    @test stepped(Optimisers.AdamW(0.1, (0.9, 0.999), 0.1; couple=false), [0.0]) ≈ 0.9
end

@testset "default decay of AdamW" begin
    @test Optimisers.AdamW().lambda == 0
end

@testset "eps of Adam" begin
    @test stepped(Optimisers.Adam(0.1), [1e-8]) ≈ 0.95
end

@testset "momentum and the learning rate" begin
    model = (w=[0.0],)
    state = Optimisers.setup(Optimisers.Momentum(1.0, 0.9), model)
    Optimisers.update!(state, model, (w=[1.0],))
    before = only(model.w)
    Optimisers.adjust!(state, 0.1)
    Optimisers.update!(state, model, (w=[1.0],))
    @test before - only(model.w) ≈ 1.0
end

@testset "clipping by a norm" begin
    model = (a=[0.0], b=[0.0])
    rule = Optimisers.OptimiserChain(Optimisers.ClipNorm(1.0), Optimisers.Descent(1.0))
    Optimisers.update!(Optimisers.setup(rule, model), model, (a=[3.0], b=[4.0]))
    @test -[model.a; model.b] ≈ [1, 1]
end

@testset "tied weights" begin
    w = [1.0]
    model = (a=w, b=w)
    gradient = only(Zygote.gradient(m -> sum(m.a) + sum(m.b), model))
    @test gradient == (a=[1.0], b=[1.0])
    state = Optimisers.setup(Optimisers.Descent(0.1), model)
    Optimisers.update!(state, model, gradient)
    @test model.a === model.b
    @test model.a ≈ [0.8]
end

# ---- gradients

@testset "unused parameters" begin
    @test Zygote.gradient((a, b) -> sum(a), [1.0], [2.0]) == ([1.0], nothing)
end

@testset "steps without a gradient" begin
    rule = Optimisers.AdamW(0.1, (0.9, 0.999), 0.1)
    @test stepped(rule, nothing) == 1
    @test stepped(rule, [0.0]) ≈ 0.99
end

@testset "gradients add up" begin
    a = [1.0]
    @test [only(only(Zygote.gradient(sum, a))) for _ in 1:2] == [1, 1]
end

@testset "changes in place" begin
    @test_throws "Mutating arrays is not supported" Zygote.gradient(x -> (x[1] = 2; sum(x)), [1.0])
end

@testset "kinks" begin
    @test only(Zygote.gradient(x -> sum(NNlib.relu.(x)), [0.0])) == [0]
    @test only(Zygote.gradient(x -> sum(abs.(x)), [0.0])) == [0]
    @test only(Zygote.gradient(x -> sum(clamp.(x, 0, 1)), [0.0, 1.0])) == [1, 0]
end

@testset "ties" begin
    @test collect(Zygote.gradient(max, 1.0, 1.0)) == [0, 1]
    @test only(Zygote.gradient(maximum, [1.0, 1.0])) == [1, 0]
    pooled(x) = sum(NNlib.maxpool(reshape(x, 2, 1, 1), (2,)))
    @test only(Zygote.gradient(pooled, [1.0, 1.0])) == [1, 0]
end

@testset "a norm at zero" begin
    @test only(Zygote.gradient(norm, zeros(2))) == [0, 0]
    @test all(isnan, only(Zygote.gradient(x -> sqrt(sum(abs2, x)), zeros(2))))
end

@testset "gradients by integers" begin
    @test only(Zygote.gradient(x -> x^2, 3)) === 6.0
end

@testset "parts without a gradient" begin
    product(x) = TwinGrad.ChainRulesCore.ignore_derivatives(sum(x)) * x[1]
    @test only(Zygote.gradient(product, [1.0, 2.0])) == [3, 0]
end

# ---- randomness

@testset "random numbers" begin
    @test abs(rand(Xoshiro(0), Float32) - 0.4963) > 1e-3
end

@testset "batches" begin
    batches = collect(Flux.DataLoader(ones(3, 5); batchsize=2))
    @test size.(batches, 2) == [2, 2, 1]
    @test size(first(batches)) == (3, 2)
end

# ---- files

@testset "axes of a dataset" begin
    file = only(file for file in case_files() if endswith(file, "gpt-odd-sizes.h5"))
    @test h5open(h5 -> size(h5["params/wte.weight"]), file) == (15, 13)
end

@testset "text in HDF5" begin
    h5open(tempname(), "w") do file
        attrs(file)["text"] = "abc"
        @test !API.h5t_is_variable_str(datatype(attributes(file)["text"]))
    end
end

@testset "long text in HDF5" begin
    h5open(tempname(), "w") do file
        @test_throws API.H5Error attrs(file)["text"] = "a"^70000
    end
end
