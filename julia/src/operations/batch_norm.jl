# Batch norm with its gradient, by the statistics of the batch or by others.

"""
    batch_norm(x, weight, bias, eps)

`(y, mean, variance)` of x (W, H, C, N): y = weight (x - mean) / √(variance + eps) + bias in each channel, mean and biased variance
(C,) over batch and pixels. Only y has a gradient. Source: Ioffe and Szegedy, "Batch normalization", ICML 2015.
"""
function batch_norm(x, weight, bias, eps)
    n, _, μ, v = normalised_batch(x, eps)
    return by_channel(weight) .* n .+ by_channel(bias), μ, v
end

by_channel(values) = reshape(values, 1, 1, :, 1)
over_channel(x) = vec(channel_sum(identity, x))

"""
Σ f(x) in each channel of x (W, H, C, N), as (1, 1, C, 1): image by image, which Julia adds pairwise. All at once it adds
number after number, and a mean in Float32 would be ten times less exact.
"""
channel_sum(f, x) = sum(sum(f, x; dims=(1, 2)); dims=4)

"(n, r, mean, variance): n = (x - mean) r, r = 1 / √(variance + eps), in each channel."
function normalised_batch(x::AbstractArray{T,4}, eps) where {T}
    count = length(x) ÷ size(x, 3)
    μ = channel_sum(identity, x) ./ count
    n = x .- μ
    v = channel_sum(abs2, n) ./ count
    r = inv.(sqrt.(v .+ T(eps)))
    n .*= r
    return n, r, vec(μ), vec(v)
end

function ChainRulesCore.rrule(::typeof(batch_norm), x, weight, bias, eps)
    n, r, μ, v = normalised_batch(x, eps)
    function batch_norm_pullback(d)
        dy = unthunk(d[1])
        dbias, dweight = over_channel(dy), over_channel(dy .* n)
        count = length(n) ÷ length(weight)
        dx =
            by_channel(weight) .* r .* (dy .- by_channel(dbias) ./ count .- n .* by_channel(dweight) ./ count)
        return NoTangent(), dx, dweight, dbias, NoTangent()
    end
    return (by_channel(weight) .* n .+ by_channel(bias), μ, v), batch_norm_pullback
end

"""
    normalise_by(mean, variance, x, weight, bias, eps)

The same by a given mean and variance (C,), which are constants.
"""
normalise_by(μ, v, x, weight, bias, eps) = first(scaled_by(μ, v, x, weight, eps)) .+ by_channel(bias)

"(weight n, n, weight r), with n = (x - mean) r, r = 1 / √(variance + eps), in each channel."
function scaled_by(μ, v, x::AbstractArray{T,4}, weight, eps) where {T}
    r = inv.(sqrt.(v .+ T(eps)))
    n = by_channel(r) .* (x .- by_channel(μ))
    return by_channel(weight) .* n, n, weight .* r
end

function ChainRulesCore.rrule(::typeof(normalise_by), μ, v, x, weight, bias, eps)
    y, n, scale = scaled_by(μ, v, x, weight, eps)
    function normalise_by_pullback(d)
        dy = unthunk(d)
        dx, dweight, dbias = by_channel(scale) .* dy, over_channel(dy .* n), over_channel(dy)
        return NoTangent(), NoTangent(), NoTangent(), dx, dweight, dbias, NoTangent()
    end
    return y .+ by_channel(bias), normalise_by_pullback
end
