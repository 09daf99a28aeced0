# The residual stream of a trained mini-GPT, and the flow that its blocks discretise, on the Flux side.
#
# Block k takes a time step Δt_k of x' = Attn_k(LN₁ x) + MLP_k(LN₂ x). Here the weights stay and each block is solved in m
# steps of Δt_k / m, by the model's own splittings and by others; the last stream and the loss come nearer to those of the
# flow as m grows, at the order of the scheme. Sources: Lu et al., "Understanding and improving transformer from a
# multi-particle dynamic system point of view", 2019; for splittings, McLachlan and Quispel, Acta Numerica 11, 2002.
#
# The same file on the Python side is `python/twingrad/experiments/residual_stream.py`.

const STREAM_FORMAT = "twingrad-residual-stream"

"""
How a block is solved: the Runge-Kutta method of its parts, and the parts with their shares of the time step.

`lie` and `strang` are the model's own; `strang-heun` solves the parts to second order, `unsplit` adds them up.
"""
const SCHEMES = [
    "lie" => ("euler", [("attention", 1.0), ("mlp", 1.0)]),
    "strang" => ("euler", [("mlp", 0.5), ("attention", 1.0), ("mlp", 0.5)]),
    "strang-heun" => ("improved-euler", [("mlp", 0.5), ("attention", 1.0), ("mlp", 0.5)]),
    "unsplit" => ("euler", [("both", 1.0)]),
]
const REFERENCE_SCHEME = ("kutta4", [("both", 1.0)])

"The right-hand side of a block, or one part of it, at the stream x (C, T, B)."
function velocity(block::Block, part, x)
    part == "attention" && return block.attn(block.ln_1(x))
    part == "mlp" && return block.mlp(block.ln_2(x))
    return velocity(block, "attention", x) .+ velocity(block, "mlp", x)
end

"The stream (C, T, B) at the start and after each sublayer of the model as it is, at tokens (T, B)."
function states(m::GPT, tokens)
    _, parts = only(scheme for (name, scheme) in SCHEMES if name == m.config.splitting)
    found = [embed(m, tokens, axes(tokens, 1))]
    for (k, block) in enumerate(m.h), (part, share) in parts
        x = last(found)
        push!(found, advance(x, share * time_step(m, k), velocity(block, part, x)))
    end
    return found
end

"The last stream (C, T, B), each block solved in `count` steps of a scheme."
function solve(m::GPT, tokens, (method, parts), count)
    x = embed(m, tokens, axes(tokens, 1))
    for (k, block) in enumerate(m.h), _ in 1:count, (part, share) in parts
        h = share .* time_step(m, k) ./ count
        x = step(tableau(method), y -> velocity(block, part, y), x, vcat(h), 1)
    end
    return x
end

"""
    residual_stream(m, tokens, targets, steps; progress)

The stream of the model `m`, in Float64, as it is at tokens (T, B), and what refinement makes of its end. `steps` are the
numbers of steps in a block, rising; `progress` is told how many of the solutions are done.

Returns the arrays by name, as FORMAT.md lists them under "Residual stream".
"""
function residual_stream(m::GPT, tokens, targets, steps; progress=_ -> nothing)
    total, done = length(SCHEMES) * length(steps) + 2, 0
    function solution(scheme, count)
        x = solve(m, tokens, scheme, count)
        done += 1
        progress(Dict("solutions" => done, "of" => total))
        return x
    end
    loss_of(x) = loss(m, logits(m, x), targets)

    stream = states(m, tokens)
    reference, half =
        solution(REFERENCE_SCHEME, last(steps)), solution(REFERENCE_SCHEME, last(steps) ÷ 2)
    arrays = Dict{String,Array}(
        "steps" => collect(Int64, steps),
        "states" => stack(stream),
        "time_steps" => [only(time_step(m, k)) for k in eachindex(m.h)],
        "loss" => fill(loss_of(last(stream))),
        "reference/final" => reference,
        "reference/half" => half,
        "reference/loss" => fill(loss_of(reference)),
    )
    for (name, scheme) in SCHEMES
        solved = [solution(scheme, count) for count in steps]
        arrays["$name/final"] = stack(solved)
        arrays["$name/losses"] = loss_of.(solved)
    end
    return arrays
end

"""
    stream_of(file, text, folder, count, steps; progress)

[`residual_stream`](@ref) of the GPT in a checkpoint, on `count` windows of the validation part of a text. An InputError where the
checkpoint is none of a GPT, or the text none of its characters.
"""
function stream_of(file, text, folder, count, steps; progress=_ -> nothing)
    saved = read_checkpoint(file)
    m = load_gpt(saved, file, "float64", "cpu")
    context = m.config.context
    tokens = split(checkpoint_corpus(saved, file, text, folder), "validation", context)
    x, c = window_batch(tokens, context, windows(length(tokens), context, count))
    return residual_stream(m, x, c, steps; progress)
end

"Write what `residual_stream` gave, with what computed it."
function write_stream(file, arrays, versions)
    covered = ["side" => "flux", "versions" => JSON.json(versions), "created" => now_utc()]
    write_sealed(file, STREAM_FORMAT, covered, arrays)
end
