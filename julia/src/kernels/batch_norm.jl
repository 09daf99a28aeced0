# Batch norm of the fast path, with the shortcut and the rectifier after it, and its gradient.
#
# In each channel y = scale (x - mean) + bias with scale = weight r, r = 1 / √(variance + eps). By the
# statistics of the batch (operations/batch_norm.jl) dx = scale (dy - Σ dy / count - n Σ dy n / count)
# with n = (x - mean) r, by other statistics dx = scale dy. Sums are made row by row, then image by image,
# then in double precision: none is a long chain of additions.

using SIMD: vifelse

"""
    BatchNormRoom(T, layout, channels)

Room for one batch norm of images that lie so, of which `channels` are not padding: where they are, all
numbers are zero.
"""
struct BatchNormRoom{T}
    layout::ImageLayout
    mean::Vector{T}
    variance::Vector{T}
    r::Vector{T}
    scale::Vector{T}
    bias::Vector{T}
    constant::Vector{T}  # dx = scale dy + slope (x - mean) + constant
    slope::Vector{T}
    sums::Vector{T}  # of each channel and image
    products::Vector{T}
    weight_grad::Vector{T}
    bias_grad::Vector{T}
end
function BatchNormRoom(T, layout::ImageLayout, channels)
    all() = zeros(T, layout.channels)
    each() = zeros(T, layout.channels * layout.count)
    return BatchNormRoom(
        layout, all(), all(), all(), all(), all(), all(), all(), each(), each(), zeros(T, channels),
        zeros(T, channels),
    )
end

pixels_of_image(layout::ImageLayout) = layout.width * layout.height

"The numbers that a channel has."
count_of_channel(layout::ImageLayout) = pixels_of_image(layout) * layout.count

# ---- forward

"""
The mean of each channel and image, and the sum of the squares of what differs from it, for the images in
a range.
"""
function image_moments!(images, means, squares, x::Vector{T}, l::ImageLayout) where {T}
    V = Vec{lanes(T),T}
    for n in images, c in 1:lanes(T):l.channels
        mean = sum_over_rows(V, (v, _) -> v, x, zero(V), l, n, c) / T(pixels_of_image(l))
        square = sum_over_rows(V, (v, mean) -> (v - mean) * (v - mean), x, mean, l, n, c)
        @inbounds vstore(mean, means, c + l.channels * (n - 1))
        @inbounds vstore(square, squares, c + l.channels * (n - 1))
    end
end

"Σ f(x, constant) over the pixels of image n for the vector of channels that begins with c, row by row."
@inline function sum_over_rows(::Type{V}, f, x, constant, l::ImageLayout, n, c) where {V}
    total = zero(V)
    for j in 1:l.height
        row, start = zero(V), pixel_offset(l, 1, j, n) + c
        for i in 0:(l.width-1)
            row += f(@inbounds(vload(V, x, start + l.channels * i)), constant)
        end
        total += row
    end
    return total
end

"The sum for channel c of all images, in double precision."
function sum_over_images(sums, c, l::ImageLayout)
    total = 0.0
    for n in 1:l.count
        total += @inbounds sums[c+l.channels*(n-1)]
    end
    return total
end

"""
The statistics of the batch from those of its images: the mean of the means, and variance = (Σ squares +
pixels Σ (mean of image - mean)²) / count (Chan, Golub, LeVeque, The American Statistician 37(3), 1983).
"""
function batch_moments!(room::BatchNormRoom{T}) where {T}
    layout = room.layout
    for c in eachindex(room.bias_grad)
        mean = sum_over_images(room.sums, c, layout) / layout.count
        squares = sum_over_images(room.products, c, layout)
        for n in 1:layout.count
            squares += pixels_of_image(layout) * (@inbounds(room.sums[c+layout.channels*(n-1)]) - mean)^2
        end
        room.mean[c] = mean
        room.variance[c] = squares / count_of_channel(layout)
    end
end

"""
Mean, variance and factors for the images x: by their own statistics, which also go to the running ones,
or by those.
"""
function prepare_norm!(room::BatchNormRoom{T}, x, norm::BatchNorm) where {T}
    own = eachindex(norm.weight)
    if norm.training
        over_threads(image_moments!, room.layout.count, room.sums, room.products, x, room.layout)
        batch_moments!(room)
        count = count_of_channel(room.layout)
        for c in own
            norm.running_mean[c] += T(MOMENTUM) * (room.mean[c] - norm.running_mean[c])
            norm.running_var[c] +=
                T(MOMENTUM) * (room.variance[c] * T(count / (count - 1)) - norm.running_var[c])
        end
    else
        copyto!(room.mean, norm.running_mean)
        copyto!(room.variance, norm.running_var)
    end
    for c in own
        room.r[c] = inv(sqrt(room.variance[c] + T(BATCH_NORM_EPS)))
        room.scale[c] = norm.weight[c] * room.r[c]
        room.bias[c] = norm.bias[c]
    end
end

added(::Nothing, _, v) = v
@inline added(shortcut, at, v) = v + @inbounds vload(typeof(v), shortcut, at)

"y = scale (x - mean) + bias + shortcut, not below `least`, for the images in a range; NaN stays NaN."
function normalise_images!(images, y::Vector{T}, x, shortcut, room::BatchNormRoom, least) where {T}
    V, l = Vec{lanes(T),T}, room.layout
    for n in images, j in 1:l.height, c in 1:lanes(T):l.channels
        @inbounds mean, scale, bias = vload(V, room.mean, c), vload(V, room.scale, c), vload(V, room.bias, c)
        start = pixel_offset(l, 1, j, n) + c
        for i in 0:(l.width-1)
            at = start + l.channels * i
            v = added(shortcut, at, muladd(@inbounds(vload(V, x, at)) - mean, scale, bias))
            @inbounds vstore(vifelse(v < least, V(least), v), y, at)
        end
    end
end

"y = the batch norm of the images x, plus the shortcut where there is one, rectified where `rectified`."
function batch_norm!(y::Vector{T}, x, norm, shortcut, rectified, room::BatchNormRoom) where {T}
    prepare_norm!(room, x, norm)
    least = rectified ? zero(T) : typemin(T)
    over_threads(normalise_images!, room.layout.count, y, x, shortcut, room, least)
end

# ---- backward

"""
For the images in a range: dy = 0 where y, the rectified result, is not above 0, and the sums of dy and dy
(x - mean).
"""
function gradient_sums!(images, dy::Vector{T}, y, x, room::BatchNormRoom) where {T}
    V, l = Vec{lanes(T),T}, room.layout
    for n in images, c in 1:lanes(T):l.channels
        mean, sums, products = (@inbounds vload(V, room.mean, c)), zero(V), zero(V)
        for j in 1:l.height
            row, row_products, start = zero(V), zero(V), pixel_offset(l, 1, j, n) + c
            for i in 0:(l.width-1)
                at = start + l.channels * i
                d = passed_on(y, at, @inbounds vload(V, dy, at))
                @inbounds vstore(d, dy, at)
                row += d
                row_products = muladd(d, @inbounds(vload(V, x, at)) - mean, row_products)
            end
            sums += row
            products += row_products
        end
        @inbounds vstore(sums, room.sums, c + l.channels * (n - 1))
        @inbounds vstore(products, room.products, c + l.channels * (n - 1))
    end
end

passed_on(::Nothing, _, d) = d
@inline passed_on(y, at, d) = vifelse(@inbounds(vload(typeof(d), y, at)) > 0, d, zero(d))

"The gradients of weight and bias, and the factors of dx, from the sums over images."
function prepare_gradient!(room::BatchNormRoom{T}, training) where {T}
    count = count_of_channel(room.layout)
    for c in eachindex(room.bias_grad)
        sums = sum_over_images(room.sums, c, room.layout)
        products = sum_over_images(room.products, c, room.layout)
        room.bias_grad[c], room.weight_grad[c] = sums, products * room.r[c]
        room.constant[c] = training ? -room.scale[c] * sums / count : 0
        room.slope[c] = training ? -room.scale[c] * room.r[c]^2 * products / count : 0
    end
end

"dx = scale dy + slope (x - mean) + constant for the images in a range."
function gradient_images!(images, dx::Vector{T}, dy, x, room::BatchNormRoom) where {T}
    V, l = Vec{lanes(T),T}, room.layout
    for n in images, j in 1:l.height, c in 1:lanes(T):l.channels
        @inbounds mean, scale = vload(V, room.mean, c), vload(V, room.scale, c)
        @inbounds slope, constant = vload(V, room.slope, c), vload(V, room.constant, c)
        start = pixel_offset(l, 1, j, n) + c
        for i in 0:(l.width-1)
            at = start + l.channels * i
            from_x = muladd(slope, @inbounds(vload(V, x, at)) - mean, constant)
            @inbounds vstore(muladd(scale, @inbounds(vload(V, dy, at)), from_x), dx, at)
        end
    end
end

"""
dx, and the gradients of weight and bias in the room, from the gradient dy of the result; dy becomes that
of the result before the rectifier, where `y` is what came out of it, and is left alone where `y` is
nothing.
"""
function batch_norm_gradient!(dx, dy, y, x, training, room::BatchNormRoom)
    over_threads(gradient_sums!, room.layout.count, dy, y, x, room)
    prepare_gradient!(room, training)
    over_threads(gradient_images!, room.layout.count, dx, dy, x, room)
end
