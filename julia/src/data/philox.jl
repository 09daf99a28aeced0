# The random numbers that both languages draw alike, bit for bit: Philox4x32-10.
#
# Specified in `shared_fixtures/FORMAT.md`; the same file on the Python side is `python/twingrad/data/philox.py`.
# Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

const MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
const KEY_INCREMENTS = (0x9E3779B9, 0xBB67AE85)
const ROUNDS = 10

"""
    philox4x32(counter, key)

Ten rounds of Philox on `counter`, four UInt32, under `key`, two UInt32.
"""
function philox4x32(counter::NTuple{4,UInt32}, key::NTuple{2,UInt32})
    c, k = counter, key
    for _ in 1:ROUNDS
        p0, p1 = widemul(MULTIPLIERS[1], c[1]), widemul(MULTIPLIERS[2], c[3])
        high0, high1 = (p0 >> 32) % UInt32, (p1 >> 32) % UInt32
        c = (high1 ⊻ c[2] ⊻ k[1], p1 % UInt32, high0 ⊻ c[4] ⊻ k[2], p0 % UInt32)
        k = k .+ KEY_INCREMENTS
    end
    return c
end

"64-bit FNV-1a hash of the name's UTF-8 bytes."
function fnv1a(name::AbstractString)
    value = 0xCBF29CE484222325
    for byte in codeunits(name)
        value = (value ⊻ byte) * 0x00000100000001B3
    end
    return value
end

"""
    Stream(seed, name)

The numbers of one named stream under one seed, 0 <= seed < 2^63. Number i depends on nothing but i.
"""
struct Stream
    seed::UInt64
    name::String
end

"Words first, ..., first + count - 1 of a stream, 64 bits each and counted from 0; 0 <= first < 2^63."
function words(stream::Stream, count; first=0)
    key = (stream.seed % UInt32, (stream.seed >> 32) % UInt32)
    id = fnv1a(stream.name)
    blocks = div(first, 2):(div(first + count + 1, 2)-1)
    drawn = Vector{UInt64}(undef, 2length(blocks))
    for (i, block) in enumerate(blocks)
        counter = (block % UInt32, (block >> 32) % UInt32, id % UInt32, (id >> 32) % UInt32)
        r = UInt64.(philox4x32(counter, key))
        drawn[2i-1] = r[1] | r[2] << 32
        drawn[2i] = r[3] | r[4] << 32
    end
    skipped = first % 2
    return drawn[(skipped+1):(skipped+count)]
end

"The first `count` uniform numbers in [0, 1) of a stream."
uniform(stream::Stream, count) = [(word >> 11) * 2.0^-53 for word in words(stream, count)]

"The first `count` standard normal numbers of a stream (Box and Muller)."
function normal(stream::Stream, count)
    u = uniform(stream, count + count % 2)
    drawn = similar(u)
    for i in 1:2:length(u)
        radius = sqrt(-2.0 * portable_log(1.0 - u[i]))
        cosine, sine = portable_circle(u[i+1])
        drawn[i], drawn[i+1] = radius * cosine, radius * sine
    end
    return resize!(drawn, count)
end

"Natural logarithm of u > 0 from operations that IEEE 754 rounds exactly: equal on every machine."
function portable_log(u::Float64)
    m, e = frexp(u)
    if m < 0.7071067811865476
        m, e = 2.0 * m, e - 1
    end
    s = (m - 1.0) / (m + 1.0)
    q, p = s * s, 0.0
    for k in 23:-2:1
        p = p * q + 1.0 / k
    end
    return e * 0.6931471805599453 + (2.0 * s) * p
end

"(cos 2πv, sin 2πv) of v in [0, 1], equal on every machine like `portable_log`."
function portable_circle(turns::Float64)
    n = floor(4.0 * turns + 0.5)
    theta = 6.283185307179586 * (turns - n / 4.0)
    q = theta * theta
    c = s = 1.0
    for k in 17:-2:1
        c = 1.0 - (q / (k * (k + 1))) * c
    end
    for k in 18:-2:2
        s = 1.0 - (q / (k * (k + 1))) * s
    end
    s = theta * s
    quadrant = Int(n) % 4
    return quadrant == 0 ? (c, s) : quadrant == 1 ? (-s, c) : quadrant == 2 ? (-c, -s) : (s, -c)
end
