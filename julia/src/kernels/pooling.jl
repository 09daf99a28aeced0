# Max pooling, the mean over the pixels, and the shortcut without parameters on the fast path, with their
# gradients.

const POOL, POOL_STRIDE, POOL_PAD = 3, 2, 1

"The pixels of an image's side of so many pixels that pixel i of the result is the largest of."
pool_window(i, size) =
    max(POOL_STRIDE * (i - 1) + 1 - POOL_PAD, 1):min(POOL_STRIDE * (i - 1) + POOL - POOL_PAD, size)

"How many pixels are left of a side."
pooled_size(size) = (size + 2POOL_PAD - POOL) ÷ POOL_STRIDE + 1

"y = the largest number of each window of 3 x 3 pixels of x, in steps of 2, for the images in a range."
function pool_images!(images, y, x, to::ImageLayout, from::ImageLayout)
    for n in images, j in 1:to.height, i in 1:to.width
        start = pixel_offset(to, i, j, n)
        fill!(view(y, (start+1):(start+to.channels)), typemin(eltype(y)))
        for b in pool_window(j, from.height), a in pool_window(i, from.width)
            place = pixel_offset(from, a, b, n)
            @inbounds for c in 1:to.channels
                y[start+c] = max(y[start+c], x[place+c])
            end
        end
    end
end

"dx, where each number of dy goes to the first of its window that is the largest, for the images in a range."
function pool_gradient_images!(images, dx, dy, y, x, to::ImageLayout, from::ImageLayout)
    for n in images
        for j in 1:from.height
            start = pixel_offset(from, 1, j, n)
            fill!(view(dx, (start+1):(start+from.channels*from.width)), 0)
        end
        for j in 1:to.height, i in 1:to.width, c in 1:to.channels
            give_to_largest!(dx, dy, y, x, pixel_offset(to, i, j, n) + c, from, (i, j, n, c))
        end
    end
end

function give_to_largest!(dx, dy, y, x, at, from::ImageLayout, (i, j, n, c))
    for b in pool_window(j, from.height), a in pool_window(i, from.width)
        place = pixel_offset(from, a, b, n) + c
        @inbounds if x[place] == y[at]
            dx[place] += dy[at]
            return nothing
        end
    end
end

"Means (channels, images) over the pixels, row by row."
function pixel_means!(means::Matrix{T}, x, l::ImageLayout) where {T}
    for n in 1:l.count, c in axes(means, 1)
        total = zero(T)
        for j in 1:l.height
            start = pixel_offset(l, 1, j, n) + c
            row = zero(T)
            for i in 0:(l.width-1)
                row += @inbounds x[start+l.channels*i]
            end
            total += row
        end
        means[c, n] = total / pixels_of_image(l)
    end
end

"The gradient of the pixels from that of their means; channels of padding get none."
function pixel_means_gradient!(dx::Vector{T}, dmeans, l::ImageLayout) where {T}
    for n in 1:l.count, j in 1:l.height, i in 1:l.width
        start = pixel_offset(l, i, j, n)
        for c in 1:l.channels
            @inbounds dx[start+c] = c <= size(dmeans, 1) ? dmeans[c, n] / T(pixels_of_image(l)) : zero(T)
        end
    end
end

"""
y = every `stride`-th pixel of x, then channels of zeros: operations/widen.jl. `channels` of x are no
padding.
"""
function widen!(y, x, to::ImageLayout, from::ImageLayout, stride, channels)
    for n in 1:to.count, j in 1:to.height, i in 1:to.width
        start, place =
            pixel_offset(to, i, j, n), pixel_offset(from, stride * (i - 1) + 1, stride * (j - 1) + 1, n)
        for c in 1:to.channels
            @inbounds y[start+c] = c <= channels ? x[place+c] : 0
        end
    end
end

"dx += the gradient of x from that of such a shortcut."
function add_widen_gradient!(dx, dy, to::ImageLayout, from::ImageLayout, stride, channels)
    for n in 1:to.count, j in 1:to.height, i in 1:to.width
        start, place =
            pixel_offset(to, i, j, n), pixel_offset(from, stride * (i - 1) + 1, stride * (j - 1) + 1, n)
        @inbounds @simd ivdep for c in 1:channels
            dx[place+c] += dy[start+c]
        end
    end
end
