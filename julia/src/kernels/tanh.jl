# The hyperbolic tangent without branches, so that a loop over an array becomes vector instructions.
#
# With t = -2|x| = n ln 2 + r, |r| <= ln(2)/2, s = 2ⁿ, and R(r) = r coth(r/2), whose series is even and short,
#
#     exp(r) - 1 = 2r/q,   q = R(r) - r,
#     tanh|x| = (1 - exp t)/(1 + exp t) = ((1 - s) q - 2 s r)/((1 + s) q + 2 s r).
#
# No small number comes from near ones: where s = 1, the numerator is -2r alone. After the reduction and the
# rational form of exp in fdlibm's e_exp.c (Sun Microsystems, 1993).

"R(r) = Σ_k c_k r^{2k} with c_k = 2 B_{2k}/(2k)! by Bernoulli's numbers: as many c_k as the type can see."
coth_series(::Type{Float64}) =
    (2.0, 1 / 6, -1 / 360, 1 / 15120, -1 / 604800, 1 / 23950080, -691 / 653837184000)
coth_series(::Type{Float32}) = (2.0f0, Float32(1 / 6), Float32(-1 / 360), Float32(1 / 15120))

"""
    branchless_tanh(x)

tanh x of a Float64 or Float32 within 2 units in the last place; ±0 and NaN stay what they are.
"""
@inline function branchless_tanh(x::T) where {T<:Union{Float32,Float64}}
    t = -2abs(x)
    t = ifelse(t < -T(60), -T(60), t)
    r, s = split_by_log2(t)
    q = evalpoly(r * r, coth_series(T)) - r
    sr = 2s * r
    return copysign(muladd(1 - s, q, -sr) / muladd(1 + s, q, sr), x)
end
