# One stage or step of a Runge-Kutta method with its gradient.

"""
    move(alpha, y, dt, coefficients, velocities)

α y + Δt Σ_j c_j v_j for y (d, samples), velocities like y, and `dt` an array of one number; α and the coefficients are constants.
"""
move(alpha, y, dt, coefficients, velocities) =
    eltype(y)(alpha) .* y .+ dt .* combine(coefficients, velocities, y)

"Σ_j coefficients[j] terms[j], an array like y; without the terms whose coefficient is zero."
function combine(coefficients, terms, y)
    total = fill!(similar(y), 0)
    for (c, term) in zip(coefficients, terms)
        iszero(c) || (total .+= eltype(y)(c) .* term)
    end
    return total
end

function ChainRulesCore.rrule(::typeof(move), alpha, y, dt, coefficients, velocities)
    total = combine(coefficients, velocities, y)
    function move_pullback(d)
        dout = unthunk(d)
        T = eltype(dout)
        ddt = reshape(sum(dout .* total; dims=(1, 2)), size(dt))
        dvelocities = [T(c) .* (dt .* dout) for c in coefficients]
        return NoTangent(), NoTangent(), T(alpha) .* dout, ddt, NoTangent(), dvelocities
    end
    return eltype(y)(alpha) .* y .+ dt .* total, move_pullback
end

"The list with one more at its end; a new one, so that it has a gradient."
append(list, last) = [list; [last]]

function ChainRulesCore.rrule(::typeof(append), list, last)
    append_pullback(d) = NoTangent(), d[1:(end-1)], d[end]
    return append(list, last), append_pullback
end
