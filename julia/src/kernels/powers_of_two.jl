# What the exponential and the hyperbolic tangent have in common: x = n ln 2 + r with |r| <= ln(2)/2, and 2ⁿ, without branches.
# After the reduction in fdlibm's e_exp.c (Sun Microsystems, 1993).

"ln 2 as the sum of two numbers, the first with trailing zeros, so that n times it is exact."
split_log2(::Type{Float64}) = (6.93147180369123816490e-01, 1.90821492927058770002e-10)
split_log2(::Type{Float32}) = (6.93359375f-1, -2.12194440f-4)

"A number whose sum with a small y ends in the bits of y rounded to an integer: 1.5 times 2 to the bits of a fraction."
rounding_shift(::Type{Float64}) = 6755399441055744.0
rounding_shift(::Type{Float32}) = 12582912.0f0

"2ⁿ for the integer n in the last bits of `shifted`, which is n plus the rounding shift."
power_of_two(shifted::Float64) = reinterpret(Float64, (reinterpret(Int64, shifted) << 52) + (1023 << 52))
power_of_two(shifted::Float32) =
    reinterpret(Float32, (reinterpret(Int32, shifted) << 23) + (Int32(127) << 23))

"(r, 2ⁿ) of a number x whose 2ⁿ is neither subnormal nor infinite; r is NaN where x is."
@inline function split_by_log2(x::T) where {T}
    shifted = muladd(x, T(1 / log(2)), rounding_shift(T))
    n, (high, low) = shifted - rounding_shift(T), split_log2(T)
    return muladd(-n, low, muladd(-n, high, x)), power_of_two(shifted)
end
