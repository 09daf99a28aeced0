using LinearAlgebra: dot, norm
using Random: Xoshiro
using Test
using TwinGrad
using TwinGrad:
    CharTokenizer, Memory, advance, causal_attention, choose, cross_entropy, evaluate_checkpoint,
    find_checkpoint,
    gelu, generate, gpt_params, gpt_settings, group, initial_params, layer_norm, main, open_corpus, preset,
    read_checkpoint, train_gpt, write_checkpoint
using Zygote: Zygote

draw = Xoshiro(1)

"Hold the gradient of `f` at `x` along a random direction against central differences of fourth order."
function holds(f, x::AbstractArray; tolerance=1e-9)
    v, h = randn(draw, size(x)), 1e-3
    v ./= norm(v)
    weights = randn(draw, size(f(x)))
    value(x) = dot(weights, f(x))
    difference = (8(value(x + h * v) - value(x - h * v)) - (value(x + 2h * v) - value(x - 2h * v))) / 12h
    gradient = only(Zygote.gradient(value, x))
    return isapprox(dot(gradient, v), difference; rtol=tolerance, atol=tolerance)
end

@testset "operations differentiate right" begin
    for _ in 1:3
        x, w, b = randn(draw, 5, 3, 2), randn(draw, 5), randn(draw, 5)
        @test holds(x -> layer_norm(x, w, b, 1e-5), x)
        @test holds(w -> layer_norm(x, w, b, 1e-5), w)
        @test holds(b -> layer_norm(x, w, b, 1e-5), b)
        @test holds(gelu, 3x)
        @test holds(x -> advance(x, 0.3, 2x), x)
        @test holds(x -> advance(x, [0.3], 2x), x)
        @test holds(dt -> advance(x, dt, sin.(x)), [0.3])
        qkv = randn(draw, 24, 5, 2)
        @test all(heads -> holds(qkv -> causal_attention(qkv, heads), qkv), (1, 2, 4, 8))
        targets = rand(draw, 1:5, 3, 2)
        @test holds(x -> [cross_entropy(x, targets)], x)
    end
end

@testset "operations against plain formulas" begin
    x, w, b = randn(draw, 6, 4), randn(draw, 6), randn(draw, 6)
    column = x[:, 2]
    μ = sum(column) / 6
    @test layer_norm(x, w, b, 1e-2)[:, 2] ≈ (column .- μ) ./ sqrt(sum(abs2, column .- μ) / 6 + 1e-2) .* w .+ b
    @test gelu([1.0])[1] ≈ 0.5 * (1 + tanh(sqrt(2 / π) * (1 + 0.044715))) rtol = 1e-14
    @test gelu([-40.0, 0.0, 40.0]) ≈ [0.0, 0.0, 40.0]
    qkv = randn(draw, 12, 3, 1)  # two heads of two channels
    for head in 1:2, t in 1:3
        channels = (2head-1):2head
        q, k, v = (qkv[part.+channels, :, 1] for part in (0, 4, 8))
        p = [exp(dot(k[:, s], q[:, t]) / sqrt(2)) for s in 1:t]
        expected = sum(p[s] * v[:, s] for s in 1:t) / sum(p)
        @test causal_attention(qkv, 2)[channels, t, 1] ≈ expected
    end
    @test cross_entropy([0.0 1.0; 0.0 3.0], [1, 2]) ≈ (log(2) + log(1 + exp(-2))) / 2
    @test cross_entropy([1e4 0.0; 0.0 1e4], [2, 2]) ≈ 5e3  # no overflow
    for T in (Float32, Float64)
        @test eltype(layer_norm(T.(x), T.(w), T.(b), 1e-5)) == eltype(gelu(T.(x))) == T
        @test eltype(causal_attention(T.(qkv), 2)) == T
    end
end

small_config(; changes...) =
    GPTConfig(; vocab=11, context=8, layers=2, heads=2, width=8, changes...)
function random_model(; T=Float64, changes...)
    config = small_config(; changes...)
    arrays = Dict(
        name => T.(0.3 .* randn(draw, (spec.linear ? spec.dims : reverse(spec.dims))...)) for
        (name, spec) in gpt_params(config)
    )
    return GPT(config, arrays)
end

@testset "later tokens do not change earlier logits" begin
    m = random_model()
    tokens = rand(draw, 1:11, 8, 3)
    changed = copy(tokens)
    changed[6:8, :] .= mod1.(changed[6:8, :] .+ 3, 11)
    @test m(tokens)[:, 1:5, :] == m(changed)[:, 1:5, :]
    @test m(tokens)[:, 6, :] != m(changed)[:, 6, :]
end

@testset "a memory changes nothing: $splitting" for splitting in ("lie", "strang")
    for tied in (true, false), first in (1, 3, 8)
        m = random_model(; splitting, tied, dt=0.7)
        tokens, memory = rand(draw, 1:11, 8, 1), Memory(m)
        found = [m(tokens[1:first, :], memory)]
        for t in (first+1):8
            push!(found, m(tokens[t:t, :], memory))
        end
        @test cat(found...; dims=2) ≈ m(tokens) rtol = 1e-12
        @test memory.length == 8
    end
    m = random_model()
    memory = Memory(m)
    m([1; 2;;], memory)
    @test_throws ArgumentError m([1; 2;;], memory)
end

@testset "generation" begin
    for context in (1, 2, 5)
        m = random_model(; context)
        for temperature in (0.0, 0.9), prompt in ([3], [3, 1, 4, 1, 5, 9, 2, 6])
            cached, plain = Vector{Float64}[], Vector{Float64}[]
            options = (; temperature, top_k=4, seed=2)
            a = generate(m, prompt, 17; options..., on_logits=scores -> push!(cached, scores))
            b = generate(m, prompt, 17; options..., cached=false, on_logits=scores -> push!(plain, scores))
            @test a == b && length(a) == 17 && all(in(0:10), a)
            @test maximum(norm(x - y) / norm(y) for (x, y) in zip(cached, plain)) < 1e-12
        end
    end
    m = random_model()
    @test generate(m, [1, 2], 0) == Int[]
    @test_throws "prompt: expected at least one token" generate(m, Int[], 3)
    @test_throws "prompt: expected token ids 0 to 10, found 11 at position 1" generate(m, [0, 11], 3)
    scores = [0.0, 2.0, 1.0, 2.0]
    @test choose(scores, 0.0, 0, 0.9) == 1  # the first of equals
    p = cumsum(exp.(scores)) ./ sum(exp.(scores))
    @test [choose(scores, 1.0, 0, u) for u in (0.0, p[1] - 1e-9, p[1] + 1e-9, p[3] + 1e-9, 1 - 1e-9)] ==
          [0, 0, 1, 3, 3]
    @test [choose(scores, 1.0, 2, u) for u in (0.0, 0.499, 0.501, 0.999)] == [1, 1, 3, 3]
    @test choose(scores, 1.0, 1, 0.7) == 3  # two are the likeliest one
end

text = join(("$n + $n = $(2n)\n" for n in 1:300))
small_settings(; changes...) = gpt_settings(
    merge(
        preset("gpt", "cpu"),
        Dict{String,Any}(
            "layers" => 1, "heads" => 2, "width" => 8, "context" => 8, "batch" => 2, "iterations" => 9,
            "evaluate_every" => 4, "evaluation_windows" => 5, "warmup" => 2,
        ),
        Dict{String,Any}(String(name) => value for (name, value) in changes),
    ),
)
function in_folder(action)
    mktempdir() do folder
        write(joinpath(folder, "sums.txt"), text)
        action(folder, joinpath(folder, "sums.txt"))
    end
end
train(settings, file, out; options...) =
    train_gpt(settings, file, out; versions=Dict{String,Any}(), options...)
same(a, b) =
    all(path -> path == "history/seconds" || a.arrays[path] == b.arrays[path], keys(a.arrays)) &&
    keys(a.arrays) == keys(b.arrays)

@testset "resumed equals uninterrupted: $dtype" for dtype in ("float64", "float32")
    in_folder() do folder, file
        settings = small_settings(; dtype, accumulation=2)
        whole = train(settings, file, joinpath(folder, "whole"))
        for until in (0, 3, 4, 9)
            train(settings, file, joinpath(folder, "parts"); until)
        end
        parts = read_checkpoint(joinpath(folder, "parts", "flux", "last.h5"))
        @test same(whole, parts) && parts.status == "complete"
        stamp = mtime(joinpath(folder, "parts", "flux", "last.h5"))
        @test same(train(settings, file, joinpath(folder, "parts")), whole)
        @test mtime(joinpath(folder, "parts", "flux", "last.h5")) == stamp
        best = read_checkpoint(find_checkpoint(joinpath(folder, "whole"), "flux"))
        evaluated = group(whole, "history")
        @test best.iteration == evaluated["evaluated"][argmin(evaluated["loss_validation"])]
        @test isempty(group(best, "first_moment")) && !isempty(group(whole, "first_moment"))
    end
end

@testset "one batch of four is two of two" begin
    in_folder() do folder, file
        one = train(small_settings(; batch=4, dtype="float64"), file, joinpath(folder, "one"))
        two = train(small_settings(; accumulation=2, dtype="float64"), file, joinpath(folder, "two"))
        @test group(one, "history")["loss"] ≈ group(two, "history")["loss"] rtol = 1e-12
    end
end

@testset "what does not fit is refused, and earlier checkpoints stay" begin
    in_folder() do folder, file
        out = joinpath(folder, "out")
        settings = small_settings()
        train(settings, file, out; until=4)
        last = joinpath(out, "flux", "last.h5")
        before = read(last)
        @test_throws "setting seed: expected 2, found 1. Choose another --out" train(
            small_settings(; seed=2), file, out,
        )
        write(joinpath(folder, "other.txt"), text * "!")
        @test_throws "attribute data: expected the text of SHA-256" train(
            settings, joinpath(folder, "other.txt"), out,
        )
        wild = small_settings(; learning_rate=1e30, warmup=0)
        @test_throws r"training step \d+: the loss is .* earlier steps are whole" train(
            wild, file, joinpath(folder, "wild"),
        )
        @test read_checkpoint(joinpath(folder, "wild", "flux", "last.h5")).iteration == 0
        @test read(last) == before
        write(last, before[1:5000])
        @test_throws "damaged" train(settings, file, out)
        write(joinpath(folder, "short.txt"), "too short")
        @test_throws "short.txt: expected a text of at least 81 tokens" train(
            settings, joinpath(folder, "short.txt"), joinpath(folder, "short"),
        )
        @test_throws "settings that go together, found 3 heads do not divide the width 8" small_settings(;
            heads=3,
        )
        @test_throws "splitting: expected one of lie, strang" small_settings(; splitting="trotter")
        @test_throws "Flux has no bfloat16 on the CPU" small_settings(; dtype="bfloat16")
        @test_throws "preset: expected one of cpu, gpu" preset("gpt", "tpu")
        @test_throws "expected a checkpoint or a folder with one, found none" find_checkpoint(folder, "flux")
    end
end

@testset "commands" begin
    told(arguments...) =
        mktempdir() do folder
            out, err = joinpath(folder, "out"), joinpath(folder, "err")
            status = redirect_stdio(() -> main(collect(String, arguments)); stdout=out, stderr=err)
            return status, read(out, String) * read(err, String)
        end
    in_folder() do folder, file
        tiny = ("layers" => 1, "heads" => 1, "width" => 4, "context" => 4, "batch" => 1, "iterations" => 2)
        options = Iterators.flatten(("--$name", "$value") for (name, value) in tiny)
        status, line = told("train", "gpt", "--out", folder, "--text", file, "--dtype", "float64", options...)
        @test status == 0
        @test occursin(
            r"complete after 2 iterations, \d+ tokens/s, loss [\d.]+ \(validation [\d.]+; best",
            line,
        )
        evaluation = ("evaluate", "--checkpoint", folder, "--last", "--dtype", "float64")
        saved = joinpath(folder, "flux", "last.h5")
        loss = evaluate_checkpoint(saved, file, folder, "float64")
        @test told(evaluation..., "--text", file) == (0, "$saved: flux, validation loss $loss\n")
        @test told(evaluation...) ==
              (2, "twingrad: --text: expected a text for the GPT in $saved, found none\n")
        @test told(evaluation..., "--text", file, "--data", folder)[2] ==
              "twingrad: --data: expected nothing: $saved holds a GPT, found $(repr(folder))\n"
    end
end

@testset "a long alphabet survives" begin
    mktempdir() do folder
        file, out = joinpath(folder, "long.txt"), joinpath(folder, "x.h5")
        write(file, join(Char.(0x4e00:(0x4e00+29_999))))
        config = small_config(; vocab=30_000, width=2)
        corpus = open_corpus(file, "char", folder)
        arrays = Dict{String,Array}("params/$n" => Float32.(a) for (n, a) in initial_params(config, 1))
        data = Dict{String,Any}("tokenizer" => TwinGrad.tokenizer_json(corpus.tokenizer))
        none = Dict{String,Any}()
        write_checkpoint(
            out,
            TwinGrad.Checkpoint("gpt", config, data, "flux", "float32", none, none, 0, "imported", arrays),
        )
        found = read_checkpoint(out)
        @test found.data == data && found.arrays == arrays && found.config == config
        @test evaluate_checkpoint(out, file, folder) ≈ log(30_000) atol = 0.1
    end
end
