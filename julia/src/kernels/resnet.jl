# The fast path of residual networks: models/resnet.jl with channels first in memory, in arrays that are made once, and its gradient by hand.
#
# Through a block y = rectify(bn(conv(... x)) + shortcut(x)) the gradient goes back as follows: that of y, zero where y is not above 0, goes
# through the last batch norm and convolution, then from rectifier to rectifier; to what comes out of the first convolution is added
# what comes through the shortcut. Rectifiers keep nothing but their results, batch norms their inputs.

using LinearAlgebra: mul!

"Room for a convolution and the batch norm after it."
struct UnitRoom{T}
    plan::ConvolutionPlan
    norm::BatchNormRoom{T}
    z::Vector{T}  # between the two
    dz::Vector{T}  # shared by all units whose results lie alike
    weight_grad::Array{T,4}
end

"""
    BlockRoom

Room for a block: its units, the one of its shortcut where that has a convolution, what comes out of the rectifiers and its
gradients, of which that of the last belongs to the block after as well.
"""
struct BlockRoom{T}
    units::Vector{UnitRoom{T}}
    downsample::Union{Nothing,UnitRoom{T}}
    outputs::Vector{Vector{T}}
    gradients::Vector{Vector{T}}
    shortcut::Vector{T}  # what it gives, where it is not the input
end

"""
    ResNetKernels(m, x; convolution=:simd)

Room for the fast path of residual networks like `m` for images (W, H, C, N) like `x`. Convolutions are computed by register tiles (:simd)
or as matrix products by BLAS (:blas).
"""
struct ResNetKernels{T,G<:NamedTuple} <: Workspace
    products::ProductRoom{T}
    images::Vector{T}
    images_gradient::Vector{T}
    stem::UnitRoom{T}
    stem_output::Vector{T}
    stem_gradient::Vector{T}
    blocks::Vector{BlockRoom{T}}
    input::Vector{T}  # of the first block, and its gradient: those of the stem where there is no pooling
    input_gradient::Vector{T}
    features::Matrix{T}  # (channels, N)
    features_gradient::Matrix{T}
    logits::Matrix{T}
    logits_gradient::Matrix{T}
    grads::G
    grads_input::Array{T,4}
end

function ResNetKernels(m::ResNet, x::Array{T,4}; convolution=:simd) where {T<:Union{Float32,Float64}}
    shared = Dict{ImageLayout,Vector{T}}()
    W, H, channels, N = size(x)
    pad, stride = size(m.conv1.weight, 1) ÷ 2, m.conv1.stride
    images = ImageLayout(channels, W, H, N, pad)
    gradient = ImageLayout(padded_channels(T, channels), W, H, N, 0)
    stem = unit_room(T, m.conv1, images, shared, max(1, cld(pad, stride)), gradient)
    stem_output, stem_gradient = (image_room(T, stem.plan.y) for _ in 1:2)
    layout, input, input_gradient = stem.plan.y, stem_output, stem_gradient
    if !is_cifar(m.config)
        layout = ImageLayout(layout.channels, pooled_size(layout.width), pooled_size(layout.height), N, 1)
        input, input_gradient = (image_room(T, layout) for _ in 1:2)
    end
    rooms, last_gradient = BlockRoom{T}[], input_gradient
    for block in all_blocks(m)
        push!(rooms, block_room(T, block, layout, shared, last_gradient))
        layout, last_gradient = rooms[end].units[end].plan.y, rooms[end].gradients[end]
    end
    classes, features = size(m.fc.weight)
    units = [stem; reduce(vcat, [filter(!isnothing, [room.units; room.downsample]) for room in rooms])]
    return ResNetKernels(
        ProductRoom(T, [unit.plan for unit in units], convolution),
        image_room(T, images),
        image_room(T, gradient),
        stem,
        stem_output,
        stem_gradient,
        rooms,
        input,
        input_gradient,
        (zeros(T, shape) for shape in ((features, N), (features, N), (classes, N), (classes, N)))...,
        resnet_gradients(m, stem, rooms),
        similar(x),
    )
end

all_blocks(m::ResNet) = Iterators.flatten((m.layer1, m.layer2, m.layer3, m.layer4))

"The convolutions of a block and the batch norms after them."
function block_layers(block::ResidualBlock)
    pairs = [(block.conv1, block.bn1), (block.conv2, block.bn2)]
    return block.conv3 === nothing ? pairs : [pairs; (block.conv3, block.bn3)]
end

"Room for a convolution of images `x` and a batch norm."
function unit_room(T, conv::Convolution, x::ImageLayout, shared, border=1, dx=x)
    outputs = size(conv.weight, 4)
    y = ImageLayout(
        padded_channels(T, outputs), cld(x.width, conv.stride), cld(x.height, conv.stride), x.count, border,
    )
    plan = ConvolutionPlan(size(conv.weight), conv.stride, x, y, dx)
    dz = get!(() -> image_room(T, y), shared, y)
    return UnitRoom(plan, BatchNormRoom(T, y, outputs), image_room(T, y), dz, zeros(T, size(conv.weight)))
end

"Room for a block of images that lie as `layout` says; the gradient of its input is in `before`."
function block_room(T, block::ResidualBlock, layout::ImageLayout, shared, before)
    units = UnitRoom{T}[]
    for (conv, _) in block_layers(block)
        push!(units, unit_room(T, conv, isempty(units) ? layout : units[end].plan.y, shared))
    end
    down = block.downsample === nothing ? nothing : unit_room(T, block.downsample[1], layout, shared)
    y, changes = units[end].plan.y, reshapes(block.plan)
    gradients = [image_room(T, unit.plan.y) for unit in units[1:end-1]]
    push!(gradients, changes ? image_room(T, y) : before)
    shortcut = changes && block.residual ? image_room(T, y) : T[]
    return BlockRoom(units, down, [image_room(T, unit.plan.y) for unit in units], gradients, shortcut)
end

"The gradients as automatic differentiation has them, in the arrays of the rooms."
function resnet_gradients(m::ResNet, stem::UnitRoom{T}, rooms) where {T}
    conv(unit) = (weight=unit.weight_grad,)
    norm(unit) = (weight=unit.norm.weight_grad, bias=unit.norm.bias_grad)
    function block(room)
        layers = Pair{Symbol,Any}[]
        for (number, unit) in enumerate(room.units)
            push!(layers, Symbol("conv$number") => conv(unit), Symbol("bn$number") => norm(unit))
        end
        down = room.downsample
        down === nothing || push!(layers, :downsample => (conv(down), norm(down)))
        return (; layers...)
    end
    stages, done = Vector{NamedTuple}[], 0
    for layer in (m.layer1, m.layer2, m.layer3, m.layer4)
        push!(stages, [block(room) for room in rooms[done.+eachindex(layer)]])
        done += length(layer)
    end
    layer1, layer2, layer3, layer4 = stages
    fc = (weight=similar(m.fc.weight), bias=similar(m.fc.bias))
    return (; conv1=conv(stem), bn1=norm(stem), layer1, layer2, layer3, layer4, fc)
end

# ---- forward

function output!(work::ResNetKernels, m::ResNet, images)
    stem = work.stem
    load_images!(work.images, stem.plan.x, images)
    convolve!(stem.z, work.images, m.conv1.weight, stem.plan, work.products)
    batch_norm!(work.stem_output, stem.z, m.bn1, nothing, true, stem.norm)
    if work.input !== work.stem_output
        layout = work.blocks[1].units[1].plan.x
        in_parts(pool_images!, layout.count, work.input, work.stem_output, layout, stem.plan.y)
    end
    x = work.input
    for (block, room) in zip(all_blocks(m), work.blocks)
        x = block_output!(room, block, x, work.products)
    end
    pixel_means!(work.features, x, work.blocks[end].units[end].plan.y)
    mul!(work.logits, m.fc.weight, work.features)
    work.logits .+= m.fc.bias
    return work.logits
end

"What the block makes of x, in its room."
function block_output!(room::BlockRoom, block::ResidualBlock, x, products)
    given = block_shortcut!(room, block, x, products)
    layers = block_layers(block)
    for (number, unit) in enumerate(room.units)
        conv, norm = layers[number]
        convolve!(unit.z, x, conv.weight, unit.plan, products)
        x = room.outputs[number]
        batch_norm!(x, unit.z, norm, number == length(layers) ? given : nothing, true, unit.norm)
    end
    return x
end

"What the shortcut adds: nothing without one."
function block_shortcut!(room::BlockRoom, block::ResidualBlock, x, products)
    block.residual || return nothing
    reshapes(block.plan) || return x
    unit = room.downsample
    if unit === nothing
        from, to = room.units[1].plan.x, room.units[end].plan.y
        widen!(room.shortcut, x, to, from, block.plan.stride, block.plan.inputs)
    else
        conv, norm = block.downsample
        convolve!(unit.z, x, conv.weight, unit.plan, products)
        batch_norm!(room.shortcut, unit.z, norm, nothing, false, unit.norm)
    end
    return room.shortcut
end

# ---- backward

function gradient(work::ResNetKernels, m::ResNet, images, labels)
    output!(work, m, images)
    loss = cross_entropy_gradient!(work.logits_gradient, work.logits, labels)
    classifier_gradient!(work, m)
    for (place, block) in Iterators.reverse(enumerate(collect(all_blocks(m))))
        first_block = place == 1
        x = first_block ? work.input : work.blocks[place-1].outputs[end]
        dx = first_block ? work.input_gradient : work.blocks[place-1].gradients[end]
        block_gradient!(dx, work.blocks[place], block, x, work.products)
    end
    stem = work.stem
    if work.input !== work.stem_output
        layout = work.blocks[1].units[1].plan.x
        arrays = (work.stem_gradient, work.input_gradient, work.input, work.stem_output)
        in_parts(pool_gradient_images!, layout.count, arrays..., layout, stem.plan.y)
    end
    dy, y = work.stem_gradient, work.stem_output
    unit_gradient!(work.images_gradient, dy, y, stem, m.conv1, m.bn1, work.images, work.products, false)
    store_images!(work.grads_input, work.images_gradient, stem.plan.dx)
    return Evaluation(loss, work.logits, work.grads, work.grads_input)
end

objective(work::ResNetKernels, m::ResNet, images, labels) =
    cross_entropy_gradient!(work.logits_gradient, output!(work, m, images), labels)

"The gradient of the classifier and of what it reads."
function classifier_gradient!(work::ResNetKernels, m::ResNet)
    d, fc = work.logits_gradient, work.grads.fc
    mul!(fc.weight, d, work.features')
    sum!(fc.bias, d)
    mul!(work.features_gradient, m.fc.weight', d)
    room = work.blocks[end]
    pixel_means_gradient!(room.gradients[end], work.features_gradient, room.units[end].plan.y)
end

"dx, the gradient of the block's input x, from that of its output, which is in the room and may be the same array as dx."
function block_gradient!(dx, room::BlockRoom, block::ResidualBlock, x, products)
    layers, dy = block_layers(block), room.gradients[end]
    changes, unit = reshapes(block.plan), room.downsample
    for number in length(layers):-1:1
        before = number == 1 ? x : room.outputs[number-1]
        d_before = number == 1 ? dx : room.gradients[number-1]
        add = number == 1 && block.residual && !changes
        d, y = room.gradients[number], room.outputs[number]
        unit_gradient!(d_before, d, y, room.units[number], layers[number]..., before, products, add)
    end
    if unit !== nothing
        unit_gradient!(dx, dy, nothing, unit, block.downsample..., x, products, true)
    elseif block.residual && changes
        from, to = room.units[1].plan.x, room.units[end].plan.y
        add_widen_gradient!(dx, dy, to, from, block.plan.stride, block.plan.inputs)
    end
end

"""
dx, or what is added to it, from the gradient dy of what a unit makes of x: of its rectified result y, or of that of the batch norm where y is
nothing. The gradients of weights and biases go to the room.
"""
function unit_gradient!(dx, dy, y, room::UnitRoom, conv, norm, x, products, add)
    batch_norm_gradient!(room.dz, dy, y, room.z, norm.training, room.norm)
    convolution_weight_gradient!(room.weight_grad, room.dz, x, room.plan, products)
    convolution_input_gradient!(dx, room.dz, conv.weight, room.plan, products, add)
end

"""
The mean of -log softmax(logits)[label] over the columns of logits (classes, N); d becomes its gradient, (softmax(logits) - one of
the label) / N.
"""
function cross_entropy_gradient!(d::Matrix{T}, logits, labels) where {T}
    total, count = 0.0, length(labels)
    for n in 1:count
        largest, sum = typemin(T), zero(T)
        for c in axes(logits, 1)
            largest = max(largest, logits[c, n])
        end
        for c in axes(logits, 1)
            d[c, n] = exp(logits[c, n] - largest)
            sum += d[c, n]
        end
        for c in axes(logits, 1)
            d[c, n] /= sum * count
        end
        d[labels[n], n] -= inv(T(count))
        total += log(sum) + largest - logits[labels[n], n]
    end
    return T(total / count)
end
