# GELU of a layer's scores, as operations/gelu.jl has it: with z = 2 √(2/π) (x + 0.044715 x³), its value is x σ(z).

"""
    gelu!(a, h, bias)

a = gelu(h + bias) for scores h (C, n) and a bias (C,).
"""
function gelu!(a::Matrix{T}, h::Matrix{T}, bias) where {T}
    in_parts(size(h, 2), Threads.nthreads(), length(h)) do columns, _
        for l in columns
            @inbounds @simd for i in axes(h, 1)
                x = h[i, l] + bias[i]
                a[i, l] = x * logistic(scaled_cubic(x))
            end
        end
    end
end

"""
    gelu_with_slope!(a, h, bias)

The same, and gelu'(h + bias) = σ + x σ (1 - σ) dz/dx in the place of h: one exponential serves both.
"""
function gelu_with_slope!(a::Matrix{T}, h::Matrix{T}, bias) where {T}
    in_parts(size(h, 2), Threads.nthreads(), length(h)) do columns, _
        for l in columns
            @inbounds @simd for i in axes(h, 1)
                x = h[i, l] + bias[i]
                s = logistic(scaled_cubic(x))
                a[i, l] = x * s
                slope = T(1.5957691216057308) * muladd(T(0.134145), x * x, one(T))
                h[i, l] = muladd(x * s * (one(T) - s), slope, s)
            end
        end
    end
end

@inline scaled_cubic(x::T) where {T} = T(1.5957691216057308) * x * muladd(T(0.044715), x * x, one(T))
@inline logistic(z::T) where {T} = inv(one(T) + exponential(-z))
