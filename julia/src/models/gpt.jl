# A decoder-only transformer as a splitting method in time. Beside it: `python/twingrad/models/gpt.py`.
#
# One block is one time step Δt of x' = Attn(LN x) + MLP(LN x) on the residual stream x, split in two:
#
#     lie     x ← x + Δt Attn(LN₁ x),   x ← x + Δt MLP(LN₂ x)                                    (Δt = 1: the usual GPT)
#     strang  x ← x + Δt/2 MLP(LN₂ x),  x ← x + Δt Attn(LN₁ x),  x ← x + Δt/2 MLP(LN₂ x)
#
# Δt is a setting, or one parameter for each block, as in the networks `odenet` and `odenet-simplex` of `control_net.jl`.
#
# Sources: Vaswani et al., NeurIPS 2017; Radford et al., "Language models are unsupervised multitask learners", 2019;
# for the reading as an ODE, Lu et al., "Understanding and improving transformer from a multi-particle dynamic system
# point of view", 2019. Parameter names are nanoGPT's; arrays have channels first: (C, T, B).

using Flux: Dense, Embedding

"Added to the variance, not to its root."
const LAYER_NORM_EPS = 1e-5

"Layer norm over the channels; Flux's own adds eps² to the variance."
struct LayerNorm{V<:AbstractVector}
    weight::V
    bias::V
end
Flux.@layer LayerNorm
(norm::LayerNorm)(x) = layer_norm(x, norm.weight, norm.bias, LAYER_NORM_EPS)

"Each token looks at itself and the ones before it, in several heads."
struct CausalSelfAttention{A<:Dense,P<:Dense}
    heads::Int
    c_attn::A
    c_proj::P
end
Flux.@layer CausalSelfAttention trainable = (c_attn, c_proj)

"x (C, T, B) -> (C, T, B)."
(attn::CausalSelfAttention)(x) = attn.c_proj(causal_attention(attn.c_attn(x), attn.heads))

"Two layers applied to each token by itself, with GELU in its tanh form."
struct MLP{F<:Dense,P<:Dense}
    c_fc::F
    c_proj::P
end
Flux.@layer MLP

"x (C, T, B) -> (C, T, B)."
(mlp::MLP)(x) = mlp.c_proj(gelu(mlp.c_fc(x)))

"One time step: attention and MLP, by Lie or Strang splitting."
struct Block{N<:LayerNorm,A<:CausalSelfAttention,M<:MLP}
    strang::Bool
    ln_1::N
    attn::A
    ln_2::N
    mlp::M
end
Flux.@layer Block trainable = (ln_1, attn, ln_2, mlp)

"x (C, T, B) -> (C, T, B); `attention` replaces the block's own, for generation."
function (block::Block)(x, dt, attention=block.attn)
    if block.strang
        x = advance(x, dt / 2, block.mlp(block.ln_2(x)))
    end
    x = advance(x, dt, attention(block.ln_1(x)))
    return advance(x, block.strang ? dt / 2 : dt, block.mlp(block.ln_2(x)))
end

"""
    GPT(config, params)

Token and position embeddings, blocks, a last layer norm, and a head tied to the token embedding.

`params` by name as `specs/gpt.jl` has them, linear weights as (out, in); they become the model's arrays, uncopied.
"""
struct GPT{E<:Embedding,B<:Block,N<:LayerNorm,H<:Dense,V<:AbstractVector}
    config::GPTConfig
    wte::E
    wpe::E
    h::Vector{B}
    ln_f::N
    lm_head::Union{Nothing,H}
    dt::Union{Nothing,V}

    "Of one type, with a head and learned time steps or without: what is compiled for the one serves the others."
    function GPT(config, wte::E, wpe::E, h::Vector{B}, ln_f::N, lm_head, dt) where {E,B,V,N<:LayerNorm{V}}
        H = Dense{typeof(identity),typeof(wte.weight),Bool}
        return new{E,B,N,H,V}(config, wte, wpe, h, ln_f, lm_head, dt)
    end
end
Flux.@layer GPT trainable = (wte, wpe, h, ln_f, lm_head, dt)

function GPT(config::GPTConfig, params::AbstractDict)
    dense(name) = Dense(params["$name.weight"], params["$name.bias"])
    norm(name) = LayerNorm(params["$name.weight"], params["$name.bias"])
    blocks = map(0:(config.layers-1)) do layer
        h = "h.$layer"
        attn = CausalSelfAttention(config.heads, dense("$h.attn.c_attn"), dense("$h.attn.c_proj"))
        mlp = MLP(dense("$h.mlp.c_fc"), dense("$h.mlp.c_proj"))
        Block(config.splitting == "strang", norm("$h.ln_1"), attn, norm("$h.ln_2"), mlp)
    end
    wte, wpe = Embedding(params["wte.weight"]), Embedding(params["wpe.weight"])
    head = config.tied ? nothing : Dense(params["lm_head.weight"], false)
    return GPT(config, wte, wpe, blocks, norm("ln_f"), head, get(params, "dt", nothing))
end

"Δt of block k: the setting, or a slice of the parameters, since the numbers of a GPU are not read one by one."
time_step(m::GPT, k) = m.dt === nothing ? m.config.dt : m.dt[k:k]

"The parameters that an optimizer keeps >= 0 with a fixed sum, and that sum."
simplex(_) = Pair{String,Float64}[]
simplex(m::GPT) = m.config.time_steps == "simplex" ? ["dt" => horizon(m.config)] : Pair{String,Float64}[]

"Logits (V, T, B) for the tokens after `tokens` (T, B), which count from 1."
function (m::GPT)(tokens)
    x = embed(m, tokens, 1:size(tokens, 1))
    for (k, block) in enumerate(m.h)
        x = block(x, time_step(m, k))
    end
    return logits(m, x)
end

"The embeddings (C, T, B) of tokens (T, B) at their positions, which count from 1."
embed(m::GPT, tokens, positions) = m.wte(tokens) .+ m.wpe.weight[:, positions]

"Logits (V, T, B) of the residual stream x (C, T, B)."
logits(m::GPT, x) = head(m, m.lm_head, m.ln_f(x))
head(_, lm_head::Dense, x) = lm_head(x)
head(m, ::Nothing, x) = reshape(m.wte.weight' * reshape(x, size(x, 1), :), :, size(x, 2), size(x, 3))

"Mean cross-entropy, in nats per token, of logits (V, T, B) for targets (T, B)."
loss(::GPT, logits, targets) = cross_entropy(logits, targets)

"""
    Memory(m)

What a [`GPT`](@ref) remembers of up to `context` tokens of a text: the key/value cache of generation.
"""
mutable struct Memory{A}
    const keys::Vector{A}    # per layer (D, context, heads)
    const values::Vector{A}
    length::Int
end
function Memory(m::GPT)
    (; context, heads, layers, width) = m.config
    room() = [similar(m.wte.weight, width ÷ heads, context, heads) for _ in 1:layers]
    return Memory(room(), room(), 0)
end

"Logits (V, T, 1) for the tokens after `tokens` (T, 1), which follow the remembered ones: several at first, then one at a time."
function (m::GPT)(tokens, memory::Memory)
    past, new = memory.length, size(tokens, 1)
    past > 0 && new > 1 && throw(ArgumentError("after the first tokens, a memory takes one token at a time"))
    x = embed(m, tokens, (past+1):(past+new))
    for (k, (block, keys, values)) in enumerate(zip(m.h, memory.keys, memory.values))
        x = block(x, time_step(m, k), x -> remembering(block.attn, x, keys, values, past))
    end
    memory.length = past + new
    return logits(m, x)
end

"Attention of the new tokens x (C, T, 1) after `past` remembered ones, whose keys and values are kept."
function remembering(attn::CausalSelfAttention, x, keys, values, past)
    q, k, v = split_heads(attn.c_attn(x), attn.heads)
    seen = past + size(x, 2)
    keys[:, (past+1):seen, :] .= k
    values[:, (past+1):seen, :] .= v
    past == 0 && return attn.c_proj(join_heads(first(attend(q, k, v)), attn.heads))
    return attn.c_proj(join_heads(first(attend(q, keys[:, 1:seen, :], values[:, 1:seen, :])), attn.heads))
end
