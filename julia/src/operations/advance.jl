# One step along a velocity with its gradient.

"""
    advance(x, dt, velocity)

x + dt · velocity, where `dt` is a setting and not a parameter.
"""
advance(x::AbstractArray{T}, dt, velocity) where {T} = x .+ T(dt) .* velocity

function ChainRulesCore.rrule(::typeof(advance), x, dt, velocity)
    function advance_pullback(dy)
        dy = unthunk(dy)
        return NoTangent(), dy, NoTangent(), eltype(dy)(dt) .* dy
    end
    return advance(x, dt, velocity), advance_pullback
end
