# The mini-GPT of models/gpt.jl by kernels: the residual stream through its sublayers, and back.
#
# A sublayer is one step x ← x + Δt f(LN x) of the splitting, f attention or MLP; a Lie block has two of them, a Strang block three,
# of which the first and the last share their weights. Back through it goes p ← p + Δt (∂f(LN x)/∂x)ᵀ p: the costate equation; the gradient by a
# learned Δt is ⟨p, f(LN x)⟩.

using LinearAlgebra: BLAS, dot

"What a sublayer keeps of the way forward: LN x as `y` (C, n), means and inverse deviations (n,), and `inner` that f needs."
struct Sublayer{T,R}
    y::Matrix{T}
    μ::Vector{T}
    r::Vector{T}
    inner::R
end

"Queries, keys, values (3C, n), probabilities (tokens, tokens, heads · texts), output of the heads (C, n)."
struct AttentionRoom{T}
    qkv::Matrix{T}
    p::Array{T,3}
    o::Matrix{T}
end

"Scores, later the slope of GELU there (4C, n), and its values (4C, n)."
struct MLPRoom{T}
    h::Matrix{T}
    a::Matrix{T}
end

"Arrays that all sublayers use in turn on the way back."
struct Scratch{T}
    narrow::Matrix{T}   # (C, n)
    dy::Matrix{T}       # (C, n)
    wide::Matrix{T}     # (4C, n)
    dqkv::Matrix{T}     # (3C, n)
    ds::Array{T,3}      # (tokens, tokens, threads)
    partial::Array{T,3} # (C, 2, SUM_PARTS)
    ones::Vector{T}     # (n,)
end

"""
    GPTKernels(m, tokens)

The [`Workspace`](@ref) of a [`GPT`](@ref) at token ids (T, B).
"""
struct GPTKernels{T,G<:NamedTuple} <: Workspace
    attentions::Vector{Sublayer{T,AttentionRoom{T}}}  # per block
    mlps::Vector{Sublayer{T,MLPRoom{T}}}              # per block one, or two with Strang splitting
    x::Vector{Matrix{T}}  # (C, n): the residual stream before each sublayer and at the end
    last::Sublayer{T,Nothing}
    dx::Matrix{T}         # (C, n)
    logits::Array{T,3}    # (V, T, B)
    dlogits::Matrix{T}    # (V, n)
    scratch::Scratch{T}
    grads::G
end

function GPTKernels(m::GPT, tokens)
    (; width, heads, layers, vocab, splitting) = m.config
    T, (count, texts) = eltype(m.wte.weight), size(tokens)
    n, halves = count * texts, splitting == "strang" ? 2 : 1
    room(rows) = Matrix{T}(undef, rows, n)
    sublayer(inner) = Sublayer(room(width), Vector{T}(undef, n), Vector{T}(undef, n), inner)
    probabilities() = Array{T}(undef, count, count, heads * texts)
    attentions = [sublayer(AttentionRoom(room(3width), probabilities(), room(width))) for _ in 1:layers]
    mlps = [sublayer(MLPRoom(room(4width), room(4width))) for _ in 1:(halves*layers)]
    ds, partial = Array{T}(undef, count, count, Threads.nthreads()), Array{T}(undef, width, 2, SUM_PARTS)
    scratch = Scratch(room(width), room(width), room(4width), room(3width), ds, partial, ones(T, n))
    x = [room(width) for _ in 0:((1+halves)*layers)]
    logits = Array{T}(undef, vocab, count, texts)
    return GPTKernels(
        attentions, mlps, x, sublayer(nothing), room(width), logits, room(vocab), scratch, like_trained(m),
    )
end
workspace(m::GPT, tokens::Array) = GPTKernels(m, tokens)

"Arrays like the model's trained ones, in the structure of a gradient."
like_trained(m::GPT) = (
    wte=(weight=similar(m.wte.weight),),
    wpe=(weight=similar(m.wpe.weight),),
    h=map(like_trained, m.h),
    ln_f=like_trained(m.ln_f),
    lm_head=m.lm_head === nothing ? nothing : (weight=similar(m.lm_head.weight),),
    dt=m.dt === nothing ? nothing : similar(m.dt),
)
like_trained(block::Block) = (
    ln_1=like_trained(block.ln_1),
    attn=(c_attn=like_trained(block.attn.c_attn), c_proj=like_trained(block.attn.c_proj)),
    ln_2=like_trained(block.ln_2),
    mlp=(c_fc=like_trained(block.mlp.c_fc), c_proj=like_trained(block.mlp.c_proj)),
)
like_trained(layer::Union{Dense,LayerNorm}) = (weight=similar(layer.weight), bias=similar(layer.bias))

"Set all arrays of a tree to zero."
clear!(::Nothing) = nothing
clear!(array::Array{<:AbstractFloat}) = fill!(array, 0)
clear!(tree) = foreach(clear!, tree)

"Call f(sublayer, block number, share of the block's Δt, number) for all sublayers of the splitting, in their order or from the last."
function each_sublayer(f::F, work::GPTKernels, m::GPT; backwards=false) where {F}
    (; splitting, layers) = m.config
    strang = splitting == "strang"
    plan = strang ? ((false, 0.5), (true, 1.0), (false, 0.5)) : ((true, 1.0), (false, 1.0))
    for b in (backwards ? (layers:-1:1) : (1:layers)),
        i in (backwards ? (length(plan):-1:1) : (1:length(plan)))

        is_attention, share = plan[i]
        number = (b - 1) * length(plan) + i
        if is_attention
            f(work.attentions[b], b, share, number)
        else
            f(work.mlps[strang ? 2b - (i == 1) : b], b, share, number)
        end
    end
end

"The time step of a sublayer: its share of that of block b."
time_step(m, b, share, T) = T(share * (m.dt === nothing ? m.config.dt : m.dt[b]))

# ---- forward

output!(work::GPTKernels, m, tokens) = forward!(work, m, tokens, false)
objective(work::GPTKernels, m, tokens, targets) =
    cross_entropy!(nothing, columns(output!(work, m, tokens)), vec(targets))

"Logits (V, T, B); with `keep`, what the gradient needs is kept."
function forward!(work::GPTKernels{T}, m, tokens, keep) where {T}
    embed!(work.x[1], m, tokens)
    each_sublayer(work, m) do sublayer, b, share, number
        x, next = work.x[number], work.x[number+1]
        norm, layer = norm_and_layer(sublayer, m.h[b])
        layer_norm!(sublayer.y, x, norm, sublayer.μ, sublayer.r)
        branch!(next, sublayer, layer, x, time_step(m, b, share, T), keep)
    end
    last = work.last
    layer_norm!(last.y, work.x[end], m.ln_f, last.μ, last.r)
    transposed, weight = head_weight(m)
    BLAS.gemm!(transposed, 'N', one(T), weight, last.y, zero(T), columns(work.logits))
    return work.logits
end

columns(x) = reshape(x, size(x, 1), :)
norm_and_layer(::Sublayer{T,AttentionRoom{T}}, block) where {T} = block.ln_1, block.attn
norm_and_layer(::Sublayer{T,MLPRoom{T}}, block) where {T} = block.ln_2, block.mlp

"How BLAS reads the head's weight as (V, C), and the array: the token embedding where they are tied."
head_weight(m) = m.lm_head === nothing ? ('T', m.wte.weight) : ('N', m.lm_head.weight)

"x (C, n): the embeddings of tokens and of their places in their text."
function embed!(x, m, tokens)
    token, place = m.wte.weight, m.wpe.weight
    for l in eachindex(tokens)
        id, t = tokens[l], mod1(l, size(tokens, 1))
        checkbounds(token, 1, id)
        @inbounds @simd for i in axes(x, 1)
            x[i, l] = token[i, id] + place[i, t]
        end
    end
end

"next = x + Δt attention(LN x)"
function branch!(next, sublayer::Sublayer{T,AttentionRoom{T}}, attn, x, Δt, _) where {T}
    (; qkv, p, o) = sublayer.inner
    linear!(qkv, attn.c_attn, sublayer.y)
    attention!(o, p, qkv, attn.heads)
    step_along!(next, x, Δt, attn.c_proj, o)
end

"next = x + Δt MLP(LN x)"
function branch!(next, sublayer::Sublayer{T,MLPRoom{T}}, mlp, x, Δt, keep) where {T}
    (; h, a) = sublayer.inner
    BLAS.gemm!('N', 'N', one(T), mlp.c_fc.weight, sublayer.y, zero(T), h)
    keep ? gelu_with_slope!(a, h, mlp.c_fc.bias) : gelu!(a, h, mlp.c_fc.bias)
    step_along!(next, x, Δt, mlp.c_proj, a)
end

"y = W x + b"
function linear!(y::Matrix{T}, layer, x) where {T}
    y .= layer.bias
    BLAS.gemm!('N', 'N', one(T), layer.weight, x, one(T), y)
end

"next = x + Δt (W a + b)"
function step_along!(next::Matrix{T}, x, Δt, layer, a) where {T}
    next .= x .+ Δt .* layer.bias
    BLAS.gemm!('N', 'N', Δt, layer.weight, a, one(T), next)
end

# ---- backward

function gradient(work::GPTKernels{T}, m, tokens, targets) where {T}
    (; dlogits, dx, scratch, grads, last) = work
    logits = columns(forward!(work, m, tokens, true))
    value = cross_entropy!(dlogits, logits, vec(targets))
    clear!(grads)
    fill!(dx, 0)
    head_gradient!(scratch.dy, grads, m, last.y, dlogits)
    layer_norm_gradient!(dx, grads.ln_f, scratch.partial, scratch.dy, work.x[end], m.ln_f, last.μ, last.r)
    learned = m.dt !== nothing
    each_sublayer(work, m; backwards=true) do sublayer, b, share, number
        norm, layer = norm_and_layer(sublayer, m.h[b])
        norm_grads, layer_grads = norm_and_layer(sublayer, grads.h[b])
        Δt = time_step(m, b, share, T)
        slope = branch_gradient!(scratch, layer_grads, sublayer, layer, Δt, dx, learned)
        learned && (grads.dt[b] += T(share) * slope)
        x, (; μ, r) = work.x[number], sublayer
        layer_norm_gradient!(dx, norm_grads, scratch.partial, scratch.dy, x, norm, μ, r)
    end
    embedding_gradient!(grads, dx, tokens)
    return Evaluation(value, work.logits, grads, nothing)
end

"The gradient by the head's input in dy, that by its weight added to its own."
function head_gradient!(dy::Matrix{T}, grads, m, y, dlogits) where {T}
    transposed, weight = head_weight(m)
    BLAS.gemm!(transposed == 'T' ? 'N' : 'T', 'N', one(T), weight, dlogits, zero(T), dy)
    if m.lm_head === nothing
        BLAS.gemm!('N', 'T', one(T), y, dlogits, one(T), grads.wte.weight)
    else
        BLAS.gemm!('N', 'T', one(T), dlogits, y, one(T), grads.lm_head.weight)
    end
end

"""
The gradient by LN x in scratch.dy, from that by x + Δt attention(LN x), dx; those by the weights are added to `grads`. Returns that
by Δt where it is `learned`, else 0.
"""
function branch_gradient!(
    scratch, grads, sublayer::Sublayer{T,AttentionRoom{T}}, attn, Δt, dx, learned,
) where {T}
    (; qkv, p, o) = sublayer.inner
    slope = step_gradient!(scratch.narrow, grads.c_proj, attn.c_proj, o, dx, Δt, scratch.ones, learned)
    attention_gradient!(scratch.dqkv, scratch.ds, scratch.narrow, p, qkv, attn.heads)
    linear_gradient!(scratch.dy, grads.c_attn, attn.c_attn, sublayer.y, scratch.dqkv, one(T), scratch.ones)
    return slope
end

"The same for the MLP."
function branch_gradient!(
    scratch, grads, sublayer::Sublayer{T,MLPRoom{T}}, mlp, Δt, dx, learned,
) where {T}
    (; h, a) = sublayer.inner
    slope = step_gradient!(scratch.wide, grads.c_proj, mlp.c_proj, a, dx, Δt, scratch.ones, learned)
    scratch.wide .*= h
    linear_gradient!(scratch.dy, grads.c_fc, mlp.c_fc, sublayer.y, scratch.wide, one(T), scratch.ones)
    return slope
end

"""
Back through x + Δt (W a + b): da = Δt Wᵀ dy, and Δt dy aᵀ and Δt Σ dy are added to the gradients by W and b. Returns
⟨dy, W a + b⟩, the gradient by Δt, where it is `learned`, else 0.
"""
function step_gradient!(da, grads, layer, a, dy::Matrix{T}, Δt, ones, learned) where {T}
    linear_gradient!(da, grads, layer, a, dy, Δt, ones, learned ? one(T) : Δt)
    learned || return zero(T)
    slope = dot(da, a) + dot(layer.bias, dy, ones)
    da .*= Δt
    return slope
end

"Back through α (W x + b): dx = β Wᵀ dy, β being α, and α dy xᵀ and α Σ dy are added to the gradients by W and b."
function linear_gradient!(dx, grads, layer, x, dy::Matrix{T}, α, ones, β=α) where {T}
    BLAS.gemm!('N', 'T', α, dy, x, one(T), grads.weight)
    BLAS.gemv!('N', α, dy, ones, one(T), grads.bias)
    BLAS.gemm!('T', 'N', β, layer.weight, dy, zero(T), dx)
end

"Adds dx (C, n) to the gradients of the embeddings it came from."
function embedding_gradient!(grads, dx, tokens)
    token, place = grads.wte.weight, grads.wpe.weight
    for l in eachindex(tokens)
        id, t = tokens[l], mod1(l, size(tokens, 1))
        @inbounds @simd for i in axes(dx, 1)
            token[i, id] += dx[i, l]
            place[i, t] += dx[i, l]
        end
    end
end
