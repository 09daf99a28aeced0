# One step along a velocity with its gradient.

"""
    advance(x, dt, velocity)

x + dt · velocity. A number `dt` is a setting and has no gradient; an array of one number is a parameter.
"""
advance(x::AbstractArray{T}, dt::Real, velocity) where {T} = x .+ T(dt) .* velocity
advance(x::AbstractArray, dt::AbstractVector, velocity) = x .+ dt .* velocity

function ChainRulesCore.rrule(::typeof(advance), x, dt::AbstractVector, velocity)
    function advance_pullback(dy)
        dy = unthunk(dy)
        slope = vec(sum(dy .* velocity; dims=ntuple(identity, ndims(dy))))
        return NoTangent(), dy, slope, dt .* dy
    end
    return advance(x, dt, velocity), advance_pullback
end
function ChainRulesCore.rrule(::typeof(advance), x, dt::Real, velocity)
    function advance_pullback(dy)
        dy = unthunk(dy)
        return NoTangent(), dy, NoTangent(), eltype(dy)(dt) .* dy
    end
    return advance(x, dt, velocity), advance_pullback
end
