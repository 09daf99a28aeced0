# Causal attention in several heads with its gradient, which keeps nothing but the probabilities.

using NNlib: batched_adjoint, batched_mul, softmax!

"""
    causal_attention(qkv, heads)

softmax(Kᵀ Q / √D, over the keys up to each query) applied to V, in each head.

`qkv` (3C, T, B) holds queries, keys and values, each of C = D · heads channels, head after head. Returns (C, T, B).
Source: Vaswani et al., NeurIPS 2017, with queries, keys and values as columns.
"""
causal_attention(qkv, heads) = join_heads(first(attend(split_heads(qkv, heads)...)), heads)

"""
    attend(q, k, v)

Attention of queries (D, T, heads · B) to keys and values (D, S, heads · B); the last query is at the last key, and each sees
the keys up to its own place. Returns it, like `q`, and the probabilities (S, T, heads · B).
"""
function attend(q, k, v)
    T = eltype(q)
    p = batched_mul(batched_adjoint(k), q)
    offset = size(p, 1) - size(p, 2)
    p .= ifelse.(axes(p, 1) .> axes(p, 2)' .+ offset, T(-Inf), p ./ sqrt(T(size(q, 1))))
    softmax!(p; dims=1)
    return batched_mul(v, p), p
end

function ChainRulesCore.rrule(::typeof(causal_attention), qkv, heads)
    q, k, v = split_heads(qkv, heads)
    y, p = attend(q, k, v)
    function causal_attention_pullback(dout)
        scale = inv(sqrt(eltype(p)(size(q, 1))))
        dy = only(split_heads(unthunk(dout), heads, 1))
        dv = batched_mul(dy, batched_adjoint(p))
        ds = batched_mul(batched_adjoint(v), dy)
        ds .= scale .* p .* (ds .- sum(p .* ds; dims=1))  # zero where p is: behind the mask
        dq, dk = batched_mul(k, ds), batched_mul(q, batched_adjoint(ds))
        return NoTangent(), join_heads((dq, dk, dv), heads), NoTangent()
    end
    return join_heads(y, heads), causal_attention_pullback
end

"The `count` parts of x (count · C, T, B), each as (D, T, heads · B)."
function split_heads(x, heads, count=3)
    D, (T, B) = size(x, 1) ÷ (heads * count), size(x)[2:3]
    y = permutedims(reshape(x, D, heads, count, T, B), (1, 4, 2, 5, 3))
    return [reshape(selectdim(y, 5, i), D, T, heads * B) for i in 1:count]
end

"The inverse of [`split_heads`](@ref)."
function join_heads(parts::Tuple, heads)
    D, T, N = size(first(parts))
    y = reshape(cat(parts...; dims=4), D, T, heads, N ÷ heads, length(parts))
    return reshape(permutedims(y, (1, 3, 5, 2, 4)), D * heads * length(parts), T, N ÷ heads)
end
join_heads(part, heads) = join_heads((part,), heads)
