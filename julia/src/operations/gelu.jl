# GELU in its tanh form with its gradient.

using NNlib: NNlib, tanh_fast

"""
    gelu(x)

x/2 (1 + tanh(√(2/π) (x + 0.044715 x³))) for each number. Source: Hendrycks and Gimpel, "Gaussian error linear units", 2016.
"""
gelu(x::AbstractArray) = gelu.(x)
function gelu(x::T) where {T<:Real}
    c, a = T(0.7978845608028654), T(0.044715)  # √(2/π)
    return x / 2 * (1 + tanh_fast(c * x * (1 + a * x * x)))
end

"The derivative of [`gelu`](@ref)."
function gelu_slope(x::T) where {T<:Real}
    c, a = T(0.7978845608028654), T(0.044715)
    t = tanh_fast(c * x * (1 + a * x * x))
    return (1 + t) / 2 + x / 2 * (1 - t * t) * c * (1 + 3 * a * x * x)
end

function ChainRulesCore.rrule(::typeof(gelu), x::AbstractArray)
    gelu_pullback(dy) = (NoTangent(), unthunk(dy) .* gelu_slope.(x))
    return gelu.(x), gelu_pullback
end
