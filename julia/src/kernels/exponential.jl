# An exponential that vectorises: a polynomial on [-ln 2 / 2, ln 2 / 2] times a power of two, without branches.

"The least and the largest number whose exponential is told."
exponential_range(::Type{Float32}) = (-87.0f0, 88.0f0)
exponential_range(::Type{Float64}) = (-708.0, 709.0)

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
    low, high = exponential_range(T)
    r, power = split_by_log2(ifelse(x < low, low, ifelse(x > high, high, x)))
    return evalpoly(r, taylor(T)) * power
end
