# Convolutions of the fast path and their gradients, by register tiles or by BLAS.
#
# All three products of a convolution are sums over windows. With channels first in memory, the numbers of
# a window that lie in one row of the image are one run in memory, so that for each pixel p of the result
#
#   y[o, p] = Σ_r Σ_q w[o, q, r] x[q, r, p],   x[q, r, p] = x[from[p] + (r - 1) step + q],
#
# with rows r and places q in the run: a column of the window and a channel. Stride, padding and size only
# say where the windows lie. The gradient with respect to x is the same sum over dy with the kernel turned
# round; where the stride is s, the pixels of dx whose coordinates leave the same remainders by s see the
# same part of the kernel, and each of these s² phases is a sum of its own.

using LinearAlgebra: BLAS
using SIMD: Vec, vload, vstore

"So many pixels, or places in a window, times two SIMD vectors of channels are added up in registers at once."
const TILE = 6
"How many tiles are computed with one block of weights before the next block."
const TILES_AT_ONCE = 16
"""
Over so many pixels the gradient of the weights is added up in registers, before it is added to what is in
memory.
"""
const PIXELS_AT_ONCE = 192
"At most so many pixels and, but for a single pixel, numbers of their windows are given to BLAS at once."
const GATHERED_PIXELS, GATHERED_NUMBERS = 1024, 2^16

"""
    Windows(from, to, count, rows, run, step)

Where the windows of `count` pixels lie: of pixel p of the result `from[p] + (r - 1) * step + (1:run)` in
the images that are read, in row r = 1..`rows`; what comes of it goes to the channels after `to[p]`. The
last pixel is repeated until the tile is full.
"""
struct Windows
    from::Vector{Int}
    to::Vector{Int}
    count::Int
    rows::Int
    run::Int
    step::Int
end

"""
    Windows(x, y, size, first, stride, shift, taps)

The windows of `size[1]` x `size[2]` pixels of each of the images `y`, from `first` on in steps of
`stride[2]`. That of pixel number (i, j) of them, counted from 0, is `taps[1]` x `taps[2]` pixels of the images
`x` and begins at stride[1] (i, j) + shift.
"""
function Windows(x::ImageLayout, y::ImageLayout, size, first, stride, shift, taps)
    from, to = Int[], Int[]
    for n in 1:y.count, j in 0:(size[2]-1), i in 0:(size[1]-1)
        push!(from, pixel_offset(x, stride[1] * i + shift[1], stride[1] * j + shift[2], n))
        push!(to, pixel_offset(y, stride[2] * i + first[1], stride[2] * j + first[2], n))
    end
    count = length(from)
    while length(from) % TILE != 0
        push!(from, from[count])
        push!(to, to[count])
    end
    return Windows(from, to, count, taps[2], taps[1] * x.channels, row_step(x))
end

# ---- by register tiles

# The sums of a tile are a tuple for each pixel or place, of one or two SIMD vectors of channels. The
# number that the vectors are multiplied with is loaded just before, so that no more than one such number
# takes a register.

"SIMD vectors from `p` on."
@inline load_vectors(::Type{V}, p, ::Val{N}) where {V,N} =
    ntuple(k -> vload(V, p + VECTOR_BYTES * (k - 1)), Val(N))

"sums + vectors times the number at `p`."
@inline function add_product(sums::Tuple{V,Vararg{V}}, vectors, p) where {V}
    number = V(unsafe_load(p))
    return map((sum, vector) -> muladd(vector, number, sum), sums, vectors)
end

"""
One tile: the sums over the windows of the pixels `tile * TILE + (1:TILE)`, for the `N` vectors of
channels after `channel`, whose weights are block `block` of w (2 vectors, run, rows, blocks).
"""
function window_tile!(::Type{V}, y, x, w, at::Windows, tile, block, channel, add, ::Val{N}) where {V,N}
    size, width = sizeof(eltype(V)), 2VECTOR_BYTES
    GC.@preserve y x w begin
        y_start, x_start = pointer(y) + size * channel, pointer(x)
        to = ntuple(p -> y_start + size * @inbounds(at.to[tile*TILE+p]), Val(TILE))
        from = ntuple(p -> x_start + size * @inbounds(at.from[tile*TILE+p]), Val(TILE))
        none = ntuple(_ -> zero(V), Val(N))
        sums = map(p -> (@inline; add ? load_vectors(V, p, Val(N)) : none), to)
        weights = pointer(w) + width * at.run * at.rows * block
        for _ in 1:at.rows
            sums = add_run(V, sums, weights, from, at.run)
            weights += width * at.run
            from = map(p -> p + size * at.step, from)
        end
        for k in 1:N
            foreach((vectors, p) -> vstore(vectors[k], p + VECTOR_BYTES * (k - 1)), sums, to)
        end
    end
    return nothing
end

"The sums, with those over one run of the windows added."
@inline function add_run(::Type{V}, sums::NTuple{TILE,NTuple{N,V}}, weights, from, run) where {V,N}
    for q in 0:(run-1)
        vectors = load_vectors(V, weights + 2VECTOR_BYTES * q, Val(N))
        skip = sizeof(eltype(V)) * q
        sums = map((vs, p) -> (@inline; add_product(vs, vectors, p + skip)), sums, from)
    end
    return sums
end

"The blocks of two vectors that so many channels make, and whether the last has one vector only."
vector_blocks(T, channels) = (cld(channels, 2lanes(T)), channels % 2lanes(T) != 0)

"The tiles in the range `parts` of sets of `TILES_AT_ONCE`; `channels` of the result are computed."
function window_tiles!(parts, y::Vector{T}, x, w, at::Windows, channels, add) where {T}
    number, half = vector_blocks(T, channels)
    for part in parts, block in 0:(number-1)
        tiles = (part-1)*TILES_AT_ONCE:min(part * TILES_AT_ONCE, length(at.from) ÷ TILE)-1
        channel = 2lanes(T) * block
        if half && block == number - 1
            for tile in tiles
                window_tile!(Vec{lanes(T),T}, y, x, w, at, tile, block, channel, add, Val(1))
            end
        else
            for tile in tiles
                window_tile!(Vec{lanes(T),T}, y, x, w, at, tile, block, channel, add, Val(2))
            end
        end
    end
end

"""
One tile of the gradient of the weights: dw[o, q, r] += Σ_p dy[o, p] x[q, r, p] over the pixels `range`,
for the `N` vectors of channels of `block`, row `row` and the places `group * TILE + (1:TILE)`.
"""
function weight_tile!(::Type{V}, dw, dy, x, at::Windows, range, block, row, group, ::Val{N}) where {V,N}
    size, width = sizeof(eltype(V)), 2VECTOR_BYTES
    columns = cld(at.run, TILE) * TILE
    GC.@preserve dw dy x begin
        x_start = pointer(x) + size * (row * at.step + group * TILE)
        dy_start = pointer(dy) + width * block
        places = ntuple(q -> size * (q - 1), Val(TILE))
        sums = ntuple(_ -> (@inline; ntuple(_ -> zero(V), Val(N))), Val(TILE))
        for p in range
            from = x_start + size * @inbounds(at.from[p])
            vectors = load_vectors(V, dy_start + size * @inbounds(at.to[p]), Val(N))
            sums = map((vs, skip) -> (@inline; add_product(vs, vectors, from + skip)), sums, places)
        end
        to = pointer(dw) + width * (columns * (row + at.rows * block) + group * TILE)
        for q in 1:TILE, k in 1:N
            place = to + width * (q - 1) + VECTOR_BYTES * (k - 1)
            vstore(vload(V, place) + sums[q][k], place)
        end
    end
    return nothing
end

"""
The tiles of the gradient of the weights in a range of all, which are counted by block, row and group of
places.
"""
function weight_tiles!(tiles, dw, dy::Vector{T}, x, at::Windows, channels) where {T}
    number, half = vector_blocks(T, channels)
    groups = cld(at.run, TILE)
    for first in 1:PIXELS_AT_ONCE:at.count
        range = first:min(first + PIXELS_AT_ONCE - 1, at.count)
        for tile in tiles
            rest, group = divrem(tile - 1, groups)
            block, row = divrem(rest, at.rows)
            if half && block == number - 1
                weight_tile!(Vec{lanes(T),T}, dw, dy, x, at, range, block, row, group, Val(1))
            else
                weight_tile!(Vec{lanes(T),T}, dw, dy, x, at, range, block, row, group, Val(2))
            end
        end
    end
end

# ---- by BLAS

"""
The same sums as `window_tiles!` over the pixels in the range `parts` of sets of GATHERED_NUMBERS, by
matrix products: windows are gathered in the columns of a matrix. The weights are one block (channels,
run, rows).
"""
function window_products!(y::Vector{T}, x, w, at::Windows, channels, add, room) where {T}
    size = at.run * at.rows
    weights = reshape(view(w, 1:(channels*size)), channels, size)
    for range in gathered_ranges(at, size)
        columns = gather_windows!(room.windows, x, at, range)
        products = reshape(view(room.pixels, 1:(channels*length(range))), channels, length(range))
        BLAS.gemm!('N', 'N', one(T), weights, columns, zero(T), products)
        scatter_pixels!(y, products, at, range, add)
    end
end

"The same as `weight_tiles!`, by matrix products; dw is one block (channels, run, rows)."
function weight_products!(dw, dy::Vector{T}, x, at::Windows, channels, room) where {T}
    size = at.run * at.rows
    sums = reshape(view(dw, 1:(channels*size)), channels, size)
    for range in gathered_ranges(at, size)
        columns = gather_windows!(room.windows, x, at, range)
        pixels = gather_pixels!(room.pixels, dy, at, range, channels)
        BLAS.gemm!('N', 'T', one(T), pixels, columns, one(T), sums)
    end
end

"Ranges of pixels whose windows, `size` numbers each, fit into the room for them."
gathered_ranges(at::Windows, size) =
    Iterators.partition(1:at.count, clamp(GATHERED_NUMBERS ÷ max(size, 1), 1, GATHERED_PIXELS))

"The windows of the pixels in a range as columns of a matrix (run * rows, pixels)."
function gather_windows!(room, x, at::Windows, range)
    size = at.run * at.rows
    for (column, p) in enumerate(range), r in 0:(at.rows-1)
        copyto!(room, size * (column - 1) + at.run * r + 1, x, at.from[p] + at.step * r + 1, at.run)
    end
    return reshape(view(room, 1:(size*length(range))), size, length(range))
end

"The channels of the pixels in a range as columns of a matrix (channels, pixels)."
function gather_pixels!(room, y, at::Windows, range, channels)
    for (column, p) in enumerate(range)
        copyto!(room, channels * (column - 1) + 1, y, at.to[p] + 1, channels)
    end
    return reshape(view(room, 1:(channels*length(range))), channels, length(range))
end

"Columns (channels, pixels) to the pixels in a range."
function scatter_pixels!(y::Vector{T}, columns, at::Windows, range, add) where {T}
    for (column, p) in enumerate(range)
        @inbounds @simd ivdep for c in axes(columns, 1)
            y[at.to[p]+c] = columns[c, column] + (add ? y[at.to[p]+c] : zero(T))
        end
    end
end

"Whether products of convolutions are computed by register tiles or by BLAS, and the room that either needs."
struct ProductRoom{T}
    by_tiles::Bool
    weights::Vector{T}  # those of one convolution in the order in which they are read
    windows::Vector{T}
    pixels::Vector{T}
end

"Channels that lie next to each other in the weights for so many channels of the result."
block_length(room::ProductRoom{T}, channels) where {T} = room.by_tiles ? 2lanes(T) : channels

"Places in a run that have room in the gradient of the weights."
room_of_run(room::ProductRoom, run) = room.by_tiles ? cld(run, TILE) * TILE : run

"""
y = the sums over the windows in x, times the weights in the room, for all `channels`; added to y where
`add`.
"""
function sum_windows!(y, x, at::Windows, channels, add, room::ProductRoom)
    if room.by_tiles
        parts = cld(length(at.from), TILE * TILES_AT_ONCE)
        over_threads(window_tiles!, parts, y, x, room.weights, at, channels, add)
    else
        window_products!(y, x, room.weights, at, channels, add, room)
    end
    return nothing
end

"The gradient of the weights of such sums goes to the room for weights."
function sum_weights!(dy, x, at::Windows, channels, room::ProductRoom{T}) where {T}
    number = cld(channels, block_length(room, channels))
    columns = room_of_run(room, at.run)
    fill!(view(room.weights, 1:(number*block_length(room, channels)*at.rows*columns)), 0)
    if room.by_tiles
        tiles = columns ÷ TILE * at.rows * number
        over_threads(weight_tiles!, tiles, room.weights, dy, x, at, channels)
    else
        weight_products!(room.weights, dy, x, at, channels, room)
    end
    return nothing
end

"""
    ProductRoom(T, plans, by)

Room for the convolutions of these plans, which are computed `by` :simd, register tiles, or :blas.
"""
function ProductRoom(T, plans, by)
    by in (:simd, :blas) || throw(ArgumentError("expected convolution :simd or :blas, found $(repr(by))"))
    weights = zeros(T, maximum(plan -> weights_needed(T, plan), plans))
    by == :simd && return ProductRoom(true, weights, T[], T[])
    channels = maximum(plan -> max(plan.dx.channels, plan.y.channels), plans)
    window = maximum(plan -> maximum(at -> at.run * at.rows, all_windows(plan)), plans)
    return ProductRoom(
        false, weights, zeros(T, max(GATHERED_NUMBERS, window)), zeros(T, channels * GATHERED_PIXELS),
    )
end

# ---- a convolution

"""
    ConvolutionPlan(size, stride, x, y, dx=x)

Where the windows of a convolution lie that leads from images `x` to images `y` by a weight of that size
(width, height, in, out); the gradient of x lies as `dx` says.

With input pixel i = s i' + a of the phase a = 0..s-1, stride s, padding p, kernel place k from 0 and
output pixel o it is i + p = s o + k: the places k = k₀, k₀ + s, ... with k₀ = (a + p) mod s meet the
pixels o = i' + (a + p - k) / s, which lie side by side.
"""
struct ConvolutionPlan
    size::NTuple{4,Int}
    x::ImageLayout
    y::ImageLayout
    dx::ImageLayout
    forward::Windows
    phases::Vector{Tuple{Windows,NTuple{2,StepRange{Int,Int}}}}  # and their places in the kernel, last first
end

function ConvolutionPlan(size, stride, x::ImageLayout, y::ImageLayout, dx=x)
    pad = size[1] ÷ 2
    forward = Windows(x, y, (y.width, y.height), (1, 1), (stride, 1), (1 - pad, 1 - pad), size[1:2])
    phases = map(Iterators.product(0:(stride-1), 0:(stride-1))) do phase
        places = map((a, k) -> reverse(((a+pad)%stride+1):stride:k), phase, size[1:2])
        pixels = map((a, n) -> length((a+1):stride:n), phase, (x.width, x.height))
        shift = map((a, k) -> isempty(k) ? 1 : 1 + (a + pad - (first(k) - 1)) ÷ stride, phase, places)
        Windows(y, dx, pixels, phase .+ 1, (1, stride), shift, length.(places)), places
    end
    return ConvolutionPlan(size, x, y, dx, forward, vec(phases))
end

"The windows in the images, and those of each phase in the gradient of the result."
all_windows(plan::ConvolutionPlan) = Windows[plan.forward; [at for (at, _) in plan.phases]]

"How many weights of a convolution the room must hold."
function weights_needed(T, plan::ConvolutionPlan)
    channels = cld(max(plan.dx.channels, plan.y.channels), 2lanes(T)) * 2lanes(T)
    return channels * maximum(at -> cld(at.run, TILE) * TILE * at.rows, all_windows(plan))
end

"""
Weights (width, height, in, out) to the room, as the sums read them: (channels of the result in a block,
run, rows, blocks), of the kernel's places `i` in a run and `j` in rows. `inputs` channels of a pixel lie
in memory; where there are more than the weight has, they are zeros. `turned` is for the gradient of the
input, whose result are the weight's inputs.
"""
function load_weights!(room::ProductRoom{T}, weight, i, j, inputs, outputs, turned) where {T}
    length_of_block = block_length(room, outputs)
    place = 0
    for block in 1:cld(outputs, length_of_block), b in j, a in i, c in 1:inputs, o in 1:length_of_block
        from, to = turned ? (o + length_of_block * (block - 1), c) : (c, o + length_of_block * (block - 1))
        known = from <= size(weight, 3) && to <= size(weight, 4)
        @inbounds room.weights[place+=1] = known ? weight[a, b, from, to] : zero(T)
    end
end

"The gradient of the weights from the room to the shape that they have in the model."
function store_weights!(grad, room::ProductRoom, plan::ConvolutionPlan)
    length_of_block = block_length(room, plan.y.channels)
    columns = room_of_run(room, plan.forward.run)
    for o in axes(grad, 4), c in axes(grad, 3), b in axes(grad, 2), a in axes(grad, 1)
        block, channel = divrem(o - 1, length_of_block)
        column = plan.x.channels * (a - 1) + c - 1 + columns * (b - 1 + plan.size[2] * block)
        @inbounds grad[a, b, c, o] = room.weights[length_of_block*column+channel+1]
    end
end

"y = the convolution of the images x."
function convolve!(y, x, weight, plan::ConvolutionPlan, room::ProductRoom)
    load_weights!(room, weight, 1:plan.size[1], 1:plan.size[2], plan.x.channels, plan.y.channels, false)
    sum_windows!(y, x, plan.forward, plan.y.channels, false, room)
end

"dx = the gradient of x by that of y, or dx += it where `add`."
function convolution_input_gradient!(dx, dy, weight, plan::ConvolutionPlan, room::ProductRoom, add)
    for (at, (i, j)) in plan.phases
        load_weights!(room, weight, i, j, plan.y.channels, plan.dx.channels, true)
        sum_windows!(dx, dy, at, plan.dx.channels, add, room)
    end
end

"grad = the gradient of the weight, in its shape."
function convolution_weight_gradient!(grad, dy, x, plan::ConvolutionPlan, room::ProductRoom)
    sum_weights!(dy, x, plan.forward, plan.y.channels, room)
    store_weights!(grad, room, plan)
end
