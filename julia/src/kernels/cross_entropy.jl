# Cross-entropy of the columns of a matrix, as operations/cross_entropy.jl has it, and its gradient.

"""
    cross_entropy!(d, logits, targets)

The mean of -log softmax(logits)[target] for logits (V, n) and targets (n,) that count from 1; its gradient by the logits goes to d
(V, n), nowhere where that is nothing. Losses are added in Float64.
"""
function cross_entropy!(d, logits::Matrix{T}, targets) where {T}
    n, parts = length(targets), zeros(SUM_PARTS)
    in_parts(n, SUM_PARTS, length(logits)) do columns, number
        total = 0.0
        for l in columns
            total += cross_entropy_column!(d, logits, l, targets[l], inv(T(n)))
        end
        parts[number] = total
    end
    return T(sum(parts) / n)
end

function cross_entropy_column!(d, logits::Matrix{T}, l, target, scale) where {T}
    highest = typemin(T)
    @inbounds @simd for i in axes(logits, 1)
        highest = ifelse(logits[i, l] > highest, logits[i, l], highest)
    end
    total = zero(T)
    @inbounds @simd for i in axes(logits, 1)
        total += exponential(logits[i, l] - highest)
    end
    d === nothing || put_gradient!(d, logits, l, target, highest, scale, scale / total)
    return Float64(log(total)) + Float64(highest - logits[target, l])
end

function put_gradient!(d, logits, l, target, highest, scale, factor)
    @inbounds @simd for i in axes(logits, 1)
        d[i, l] = exponential(logits[i, l] - highest) * factor
    end
    d[target, l] -= scale
end
