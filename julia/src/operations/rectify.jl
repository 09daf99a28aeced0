# The rectifier with its gradient.

"""
    rectify(x)

max(x, 0), number by number. At 0 the gradient is 0, as PyTorch has it.
"""
rectify(x) = max.(x, 0)

function ChainRulesCore.rrule(::typeof(rectify), x)
    y = rectify(x)
    rectify_pullback(dy) = NoTangent(), ifelse.(y .> 0, unthunk(dy), zero(eltype(y)))
    return y, rectify_pullback
end
