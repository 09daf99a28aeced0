# Causal attention of all heads, as operations/attention.jl has it, and its gradient: products by BLAS on slices of one matrix of
# queries, keys and values, without copies of them.

"""
    attention!(o, p, qkv, heads)

o (C, n) from qkv (3C, n) for texts of T tokens one after the other, n = T B; the probabilities (keys, queries, heads · B) in `p`
(T, T, heads · B).
"""
function attention!(o::Matrix{T}, p::Array{T,3}, qkv::Matrix{T}, heads) where {T}
    scale = inv(sqrt(T(size(o, 1) ÷ heads)))
    in_parts(size(p, 3), Threads.nthreads(), length(p)) do parts, _
        for i in parts
            q, k, v = (head_slice(qkv, 3 * heads, size(p, 1), i, heads, which) for which in 0:2)
            probabilities = view(p, :, :, i)
            BLAS.gemm!('T', 'N', scale, k, q, zero(T), probabilities)
            causal_softmax!(probabilities)
            BLAS.gemm!(
                'N',
                'N',
                one(T),
                v,
                probabilities,
                zero(T),
                head_slice(o, heads, size(p, 1), i, heads, 0),
            )
        end
    end
end

"Head number i, of all texts' heads, of a matrix with `count` slices of channels in a column; `which` of its groups of heads."
function head_slice(x, count, tokens, i, heads, which)
    D = size(x, 1) ÷ count
    text, number = divrem(i - 1, heads)
    first = (which * heads + number) * D
    return view(x, (first+1):(first+D), (text*tokens+1):((text+1)*tokens))
end

"The softmax of each column's entries up to the diagonal, and zeros below it."
function causal_softmax!(p::AbstractMatrix{T}) where {T}
    @inbounds for t in axes(p, 2)
        highest = typemin(T)
        @simd for s in 1:t
            highest = ifelse(p[s, t] > highest, p[s, t], highest)
        end
        total = zero(T)
        @simd for s in 1:t
            e = exponential(p[s, t] - highest)
            p[s, t] = e
            total += e
        end
        factor = inv(total)
        @simd for s in 1:t
            p[s, t] *= factor
        end
        @simd for s in (t+1):size(p, 1)
            p[s, t] = zero(T)
        end
    end
end

"""
    attention_gradient!(dqkv, ds, do_, p, qkv, heads)

The gradient by qkv in dqkv (3C, n), from that by the output, `do_` (C, n), and the probabilities p; `ds` (T, T, threads) is room.

For each head dV = dO Pᵀ, dS = P ∘ (Vᵀ dO - Σ P ∘ Vᵀ dO) / √D, dQ = K dS, dK = Q dSᵀ.
"""
function attention_gradient!(dqkv::Matrix{T}, ds, do_, p, qkv, heads) where {T}
    tokens, scale = size(p, 1), inv(sqrt(T(size(do_, 1) ÷ heads)))
    in_parts(size(p, 3), size(ds, 3), length(p)) do parts, number
        room = view(ds, :, :, number)
        for i in parts
            q, k, v = (head_slice(qkv, 3 * heads, tokens, i, heads, which) for which in 0:2)
            dq, dk, dv = (head_slice(dqkv, 3 * heads, tokens, i, heads, which) for which in 0:2)
            dout, probabilities = head_slice(do_, heads, tokens, i, heads, 0), view(p, :, :, i)
            BLAS.gemm!('N', 'T', one(T), dout, probabilities, zero(T), dv)
            BLAS.gemm!('T', 'N', one(T), v, dout, zero(T), room)
            softmax_gradient!(room, probabilities, scale)
            BLAS.gemm!('N', 'N', one(T), k, room, zero(T), dq)
            BLAS.gemm!('N', 'T', one(T), q, room, zero(T), dk)
        end
    end
end

"ds <- scale p ∘ (ds - Σ p ∘ ds) for each column; p is zero below the diagonal."
function softmax_gradient!(ds::AbstractMatrix{T}, p, scale) where {T}
    @inbounds for t in axes(p, 2)
        total = zero(T)
        @simd for s in 1:t
            total += p[s, t] * ds[s, t]
        end
        @simd for s in 1:t
            ds[s, t] = scale * p[s, t] * (ds[s, t] - total)
        end
        @simd for s in (t+1):size(p, 1)
            ds[s, t] = zero(T)
        end
    end
end
