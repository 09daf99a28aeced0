# Where the numbers of a batch of images lie in the fast path: channels first, pixel by pixel, with a
# border of zeros.

"The bytes of a SIMD vector; 32 are a register of AVX2, and two of NEON."
const VECTOR_BYTES = 32

"How many numbers a SIMD vector holds."
lanes(T) = VECTOR_BYTES ÷ sizeof(T)

"The least multiple of the SIMD vector's length that has room for so many channels; the rest is always zero."
padded_channels(T, channels) = cld(channels, lanes(T)) * lanes(T)

"""
    ImageLayout(channels, width, height, count, border)

`count` images in one vector: the `channels` of a pixel, then the pixels of a row, the rows of an image,
the images. Each image has `border` pixels of zeros around it, which windows that reach beyond the image
read.
"""
struct ImageLayout
    channels::Int
    width::Int
    height::Int
    count::Int
    border::Int
end

"From a pixel to the one below it."
row_step(l::ImageLayout) = l.channels * (l.width + 2l.border)

"""
How many numbers lie before pixel (i, j) of image n; they count from 1, and those of the border are below
1 or beyond the size.
"""
pixel_offset(l::ImageLayout, i, j, n) =
    l.channels * (i - 1 + l.border) +
    row_step(l) * (j - 1 + l.border + (l.height + 2l.border) * (n - 1))

"Numbers beyond the last image that the gradient of a convolution's weights may read, and not use."
const READ_BEYOND = 8

"Zeros for images that lie so."
image_room(T, l::ImageLayout) = zeros(T, row_step(l) * (l.height + 2l.border) * l.count + READ_BEYOND)

"""
    over_threads(work!, count, arguments...)

`work!(range, arguments...)` for ranges that together are 1:count, one for each thread.
"""
over_threads(work!::F, count, arguments::Vararg{Any,N}) where {F,N} =
    in_parts((range, _) -> work!(range, arguments...), count, Threads.nthreads(), typemax(Int))

"Images x (W, H, C, N) -> channels first."
function load_images!(y, layout::ImageLayout, x)
    for n in 1:layout.count, c in axes(x, 3), j in 1:layout.height, i in 1:layout.width
        @inbounds y[pixel_offset(layout, i, j, n)+c] = x[i, j, c, n]
    end
end

"Channels first -> images y (W, H, C, N)."
function store_images!(y, x, layout::ImageLayout)
    for n in 1:layout.count, c in axes(y, 3), j in 1:layout.height, i in 1:layout.width
        @inbounds y[i, j, c, n] = x[pixel_offset(layout, i, j, n)+c]
    end
end
