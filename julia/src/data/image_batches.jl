# Which images make a batch, what is done to them, and the numbers a network gets.
#
# Specified in `shared_fixtures/FORMAT.md`, "Images"; the same file on the Python side is
# `python/twingrad/data/image_batches.py`, and both give the same batches bit for bit. Places in a data set count from 0
# here as they do there; labels get one added as they are read, so that they count from 1.

const AUGMENTATION_PAD = 4  # He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR 2016, section 4.2

"""
    TrainingOrder(n, seed)

The order in which a training sees n images: all of them in every epoch, shuffled anew.
"""
mutable struct TrainingOrder
    const n::Int
    const seed::Int
    epoch::Int
    order::Vector{Int}

    function TrainingOrder(n, seed)
        n >= 1 || throw(InputError("images"; expected="at least 1", found="$n"))
        return new(n, seed, 0, epoch_order(n, seed, 0))
    end
end

"""
    training_places(order, first, count)

Which images samples first, ..., first + count - 1 of a training are, counted from 0. Sample k of all is the one at
place k mod batch of iteration k ÷ batch, and at place k mod n of epoch k ÷ n.
"""
training_places(order, first, count) =
    [of_epoch(order, k ÷ order.n)[k%order.n+1] for k in first:(first+count-1)]

function of_epoch(order, epoch)
    if epoch != order.epoch
        order.order = epoch_order(order.n, order.seed, epoch)
        order.epoch = epoch
    end
    return order.order
end

"The numbers 0 .. n - 1 in the order of their random words."
epoch_order(n, seed, epoch) = sortperm(words(Stream(seed, "batch/images/$epoch"), n)) .- 1

"""
    training_batch(data, order, first, count, type=Float32; pad=0, flip=false)

Pixels (W, H, C, count) and labels (count,), Int that count from 1, of samples first, ..., first + count - 1 of a
training. `order` is one of `data.train` images; `pad` and `flip` say how to augment.
"""
function training_batch(data::Images, order, first, count, type=Float32; pad=0, flip=false)
    images, labels = split(data, "train")
    places = training_places(order, first, count) .+ 1
    drawn = augment(images[:, :, :, places], order.seed, first, pad, flip)
    return pixel_values(drawn, data.kind, type), Int.(labels[places]) .+ 1
end

"""
    evaluation_batch(data, split_name, first, count, type=Float32)

Pixels (W, H, C, m) and labels (m,), Int that count from 1, of images first, ..., first + m - 1, from 0, of a split;
m < `count` only at its end.
"""
function evaluation_batch(data, split_name, first, count, type=Float32)
    images, labels = split(data, split_name)
    part = (first+1):min(first + count, length(labels))
    return pixel_values(images[:, :, :, part], data.kind, type), Int.(labels[part]) .+ 1
end

"""
    augment(images, seed, first, pad=4, flip=true)

Samples first, first + 1, ... of a training, images (W, H, C, m) of bytes, each a random crop of itself: an image is
flipped left to right or not, where `flip`, then gets `pad` zeros on each side, and a part of its first size is cut out.
"""
function augment(images, seed, first, pad=AUGMENTATION_PAD, flip=true)
    pad == 0 && !flip && return images
    width, height, channels, m = size(images)
    padded = zeros(UInt8, width + 2pad, height + 2pad, channels, m)
    padded[(pad+1):(pad+width), (pad+1):(pad+height), :, :] = images
    crops = similar(images)
    for (i, word) in enumerate(words(Stream(seed, "augment"), m; first))
        flipped, x, y = crop(word, pad)
        columns = (x+1):(x+width)
        flip && flipped && (columns = (width + 2pad + 1) .- columns)
        crops[:, :, :, i] = padded[columns, (y+1):(y+height), :, i]
    end
    return crops
end

"Whether to flip, the column and the row, from 0, where the crop starts."
function crop(word, pad)
    choices = 2pad + 1
    return word & 1 == 1, Int((word >> 1 & 0x7FFFFFFF) % choices), Int((word >> 32) % choices)
end

"""
    pixel_values(images, kind, type=Float32)

(byte / 255 - mean) / std of images (W, H, C, m), computed in Float64 and then rounded to `type`.
"""
function pixel_values(images, kind, ::Type{T}=Float32) where {T}
    of_byte = T.((collect(0:255) ./ 255.0 .- kind.mean') ./ kind.std')  # (256, C)
    return [of_byte[images[place]+1, place[3]] for place in CartesianIndices(images)]
end
