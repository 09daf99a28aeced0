# Layer norm of the columns of a matrix, as operations/layer_norm.jl has it, and its gradient.

"Parts in which sums over all columns are made: each is short, and any number of threads adds them in the same order."
const SUM_PARTS = 16

"""
    layer_norm!(y, x, norm, μ, r)

y = weight ∘ (x - μ) r + bias for each column of x (C, n), with its mean in μ (n,) and r = 1 / √(variance + eps) (n,).
"""
function layer_norm!(y::Matrix{T}, x::Matrix{T}, norm, μ, r) where {T}
    weight, bias, C = norm.weight, norm.bias, size(x, 1)
    in_parts(size(x, 2), SUM_PARTS, length(x)) do columns, _
        @inbounds for l in columns
            total = zero(T)
            @simd for i in 1:C
                total += x[i, l]
            end
            mean = total / C
            square = zero(T)
            @simd for i in 1:C
                square += abs2(x[i, l] - mean)
            end
            inverse = inv(sqrt(square / C + T(LAYER_NORM_EPS)))
            @simd for i in 1:C
                y[i, l] = muladd(weight[i], (x[i, l] - mean) * inverse, bias[i])
            end
            μ[l], r[l] = mean, inverse
        end
    end
    return y
end

"""
    layer_norm_gradient!(dx, grads, partial, dy, x, norm, μ, r)

Adds the gradient by x to dx (C, n) and those by weight and bias to `grads`; `partial` (C, 2, SUM_PARTS) is room for sums.

With n = (x - μ) r and d = weight ∘ dy: dx += r (d - mean(d) - n mean(d ∘ n)), dweight += Σ dy ∘ n, dbias += Σ dy.
"""
function layer_norm_gradient!(dx::Matrix{T}, grads, partial, dy, x, norm, μ, r) where {T}
    weight, C = norm.weight, size(x, 1)
    partial .= 0
    in_parts(size(x, 2), SUM_PARTS, length(x)) do columns, number
        @inbounds for l in columns
            mean, inverse = μ[l], r[l]
            total = projection = zero(T)
            @simd for i in 1:C
                n, g = (x[i, l] - mean) * inverse, dy[i, l]
                partial[i, 1, number] += g * n
                partial[i, 2, number] += g
                d = g * weight[i]
                total += d
                projection += d * n
            end
            total, projection = total / C, projection / C
            @simd for i in 1:C
                n = (x[i, l] - mean) * inverse
                dx[i, l] += inverse * (dy[i, l] * weight[i] - total - n * projection)
            end
        end
    end
    add_parts!(grads.weight, grads.bias, partial)
end

"Adds partial[:, 1, :] and partial[:, 2, :], summed over the parts, to two vectors."
function add_parts!(first, second, partial)
    for number in axes(partial, 3)
        @inbounds @simd for i in axes(partial, 1)
            first[i] += partial[i, 1, number]
            second[i] += partial[i, 2, number]
        end
    end
end
