# Text from a trained GPT, on the Flux side. The same file on the Python side is `python/twingrad/generation.py`.
# Which token follows is specified in `shared_fixtures/FORMAT.md`, "Generation": both sides draw from the same numbers.

"""
    generate(m, prompt, count; temperature=1.0, top_k=0, seed=1, cached=true, on_token, on_logits)

Continue a text by `count` tokens. All ids count from 0, as in files.

- `prompt`: at least one token id; of a long one the last `context` tokens count.
- `temperature`: divides the logits; 0 takes the likeliest token each time. `top_k`: draw among the k likeliest only; 0 for all.
- `seed`: chooses the draws.
- `cached`: whether keys and values are remembered, which makes a token's cost independent of the tokens before it.
- `on_token`, `on_logits`: called with each new token and with the logits (V,) that it was chosen by.

Returns the new token ids. Where the context is full, the text goes on from the last half context.
"""
function generate(
    m::GPT, prompt, count;
    temperature=1.0, top_k=0, seed=1, cached=true, on_token=_ -> nothing, on_logits=_ -> nothing,
)
    isempty(prompt) && throw(InputError("prompt"; expected="at least one token", found="none"))
    wrong = findfirst(id -> !(0 <= id < m.config.vocab), prompt)
    wrong === nothing || throw(
        InputError(
            "prompt";
            expected="token ids 0 to $(m.config.vocab - 1)",
            found="$(prompt[wrong]) at position $(wrong - 1)",
        ),
    )
    isfinite(temperature) && temperature >= 0 ||
        throw(InputError("temperature"; expected="a finite number from 0 on", found=string(temperature)))
    context = m.config.context
    window, memory, added = last(collect(Int, prompt), context), Memory(m), Int[]
    for draw in uniform(Stream(seed, "sample"), count)
        if length(window) > context
            window, memory = last(window, max(1, context ÷ 2)), Memory(m)
        end
        new = cached ? window[(memory.length+1):end] : window
        tokens = reshape(new .+ 1, :, 1)
        scores = Array((cached ? m(tokens, memory) : m(tokens))[:, end, 1])
        on_logits(scores)
        token = choose(scores, temperature, top_k, draw)
        push!(window, token)
        push!(added, token)
        on_token(token)
    end
    return added
end

"The token that the uniform number `draw` means under logits (V,), computed in Float64; the first of equals."
function choose(scores, temperature, top_k, draw)
    z = Float64.(scores)
    temperature == 0 && return argmax(z) - 1
    if 0 < top_k < length(z)
        least = partialsort(z, top_k; rev=true)
        z[z.<least] .= -Inf
    end
    cumulative = cumsum(exp.((z .- maximum(z)) ./ temperature))
    return min(searchsortedlast(cumulative, draw * cumulative[end]), length(z) - 1)
end
