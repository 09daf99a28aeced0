# An exponential that vectorises: a polynomial on [-ln 2 / 2, ln 2 / 2] and a shift of the exponent, without branches.

"How a number type is laid out: its bits, 1.5 · 2^(mantissa bits), mantissa bits, exponent of 1, ln 2 in two parts, range."
layout(::Type{Float32}) = (
    bits=UInt32, magic=1.2582912f7, mantissa=23, one=0x3f800000, ln2=(0.6933594f0, -2.1219444f-4),
    low=-87.0f0,
    high=88.0f0,
)
layout(::Type{Float64}) = (
    bits=UInt64, magic=6.755399441055744e15, mantissa=52, one=0x3ff0000000000000,
    ln2=(0.693145751953125, 1.42860682030941723212e-6), low=-708.0, high=709.0,
)

"1/n! for n = 0, 1, ...: as many as the number type can tell on [-ln 2 / 2, ln 2 / 2]."
taylor(::Type{Float32}) =
    (1.0f0, 1.0f0, 0.5f0, 0.16666667f0, 0.041666668f0, 0.008333334f0, 0.0013888889f0, 0.0001984127f0)
taylor(::Type{Float64}) = TAYLOR
const TAYLOR = ntuple(n -> 1 / factorial(n - 1), 14)

"""
    exponential(x)

exp(x) to two units in the last place, for Float32 in [-87, 88] and Float64 in [-708, 709], and the value at the nearer end beyond
them; NaN at NaN. Written so that a loop of it is vectorised, which `Base.exp` is not.
"""
@inline function exponential(x::T) where {T<:Union{Float32,Float64}}
    (; bits, magic, mantissa, one, ln2, low, high) = layout(T)
    x = ifelse(x < low, low, ifelse(x > high, high, x))
    shifted = muladd(x, T(1.4426950408889634), magic)  # its last bits are round(x / ln 2)
    k = shifted - magic
    r = muladd(-k, ln2[2], muladd(-k, ln2[1], x))
    power = reinterpret(T, (reinterpret(bits, shifted) << mantissa) + one)
    return evalpoly(r, taylor(T)) * power
end
