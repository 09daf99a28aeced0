# Layer norm with its gradient.

using Statistics: mean

"""
    layer_norm(x, weight, bias, eps)

(x - mean) / √(variance + eps) over the first axis of `x` (C, ...), times `weight` (C,), plus `bias` (C,). The variance is the
biased one and `eps` is added to it, as PyTorch has it; Flux's own layer adds eps².
Source: Ba, Kiros, Hinton, "Layer normalization", 2016.
"""
layer_norm(x, weight, bias, eps) = weight .* normalised(x, eps)[1] .+ bias

"(n, r): n = (x - mean) r, r = 1 / √(variance + eps), over the first axis."
function normalised(x::AbstractArray{T}, eps) where {T}
    centred = x .- mean(x; dims=1)
    r = inv.(sqrt.(mean(abs2, centred; dims=1) .+ T(eps)))
    centred .*= r
    return centred, r
end

function ChainRulesCore.rrule(::typeof(layer_norm), x, weight, bias, eps)
    n, r = normalised(x, eps)
    function layer_norm_pullback(dy)
        dy = unthunk(dy)
        rest = Tuple(2:ndims(dy))
        dbias, dweight = vec(sum(dy; dims=rest)), vec(sum(dy .* n; dims=rest))
        dn = dy .* weight
        dx = r .* (dn .- mean(dn; dims=1) .- n .* mean(dn .* n; dims=1))
        return NoTangent(), dx, dweight, dbias, NoTangent()
    end
    return weight .* n .+ bias, layer_norm_pullback
end
