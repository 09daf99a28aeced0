# The fast path of residual networks: models/resnet.jl with channels first in memory, in arrays that are
# made once, and its gradient by hand.
#
# Through a block y = rectify(bn(conv(... x)) + shortcut(x)) the gradient goes back as follows: that of y,
# zero where y is not above 0, goes through the last batch norm and convolution, then from rectifier to
# rectifier; to what comes out of the first convolution is added what comes through the shortcut.
# Rectifiers keep nothing but their results, batch norms their inputs.

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

Room for a block: its units, the one of its shortcut where that has a convolution, what comes out of the
rectifiers and its gradients, of which that of the last belongs to the block after as well.
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

Room for the fast path of residual networks like `m` for images (W, H, C, N) like `x`. Convolutions are
computed by register tiles (:simd) or as matrix products by BLAS (:blas).
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
    stem = unit_room(m.conv1, images, shared, max(1, cld(pad, stride)), gradient)
    stem_output, stem_gradient = image_room(T, stem.plan.y), image_room(T, stem.plan.y)
    layout, input, input_gradient = stem.plan.y, stem_output, stem_gradient
    if !is_cifar(m.config)
        layout = ImageLayout(layout.channels, pooled_size(layout.width), pooled_size(layout.height), N, 1)
        input, input_gradient = image_room(T, layout), image_room(T, layout)
    end
    rooms, plans, before = BlockRoom{T}[], [stem.plan], input_gradient
    for block in all_blocks(m)
        room = block_room(block, layout, shared, before)
        push!(rooms, room)
        append!(plans, convolution_plans(room))
        layout, before = room.units[end].plan.y, room.gradients[end]
    end
    classes, features = size(m.fc.weight)
    return ResNetKernels(
        ProductRoom(T, plans, convolution),
        image_room(T, images),
        image_room(T, gradient),
        stem,
        stem_output,
        stem_gradient,
        rooms,
        input,
        input_gradient,
        zeros(T, features, N),
        zeros(T, features, N),
        zeros(T, classes, N),
        zeros(T, classes, N),
        resnet_gradients(m, stem, rooms),
        zeros(T, size(x)),
    )
end

"The blocks of all stages in one vector."
function all_blocks(m::ResNet)
    blocks = Any[]
    for layer in Any[m.layer1, m.layer2, m.layer3, m.layer4]
        append!(blocks, layer)
    end
    return blocks
end

"Convolution `number` of a block and the batch norm after it."
block_layer(block::ResidualBlock, number) =
    number == 1 ? (block.conv1, block.bn1) :
    number == 2 ? (block.conv2, block.bn2) : (block.conv3, block.bn3)

"Where the convolutions of a block find their windows."
function convolution_plans(room::BlockRoom)
    plans = [unit.plan for unit in room.units]
    room.downsample === nothing || push!(plans, room.downsample.plan)
    return plans
end

"Room for a convolution of images `x` and a batch norm."
function unit_room(conv, x::ImageLayout, shared::Dict{ImageLayout,Vector{T}}, border=1, dx=x) where {T}
    outputs = size(conv.weight, 4)
    y = ImageLayout(
        padded_channels(T, outputs), cld(x.width, conv.stride), cld(x.height, conv.stride), x.count,
        border,
    )
    plan = ConvolutionPlan(size(conv.weight), conv.stride, x, y, dx)
    haskey(shared, y) || (shared[y] = image_room(T, y))
    norm = BatchNormRoom(T, y, outputs)
    return UnitRoom(plan, norm, image_room(T, y), shared[y], zeros(T, size(conv.weight)))
end

"Room for a block of images that lie as `layout` says; the gradient of its input is in `before`."
function block_room(block, layout::ImageLayout, shared::Dict{ImageLayout,Vector{T}}, before) where {T}
    units, outputs, gradients = UnitRoom{T}[], Vector{T}[], Vector{T}[]
    count, changes, x = block.conv3 === nothing ? 2 : 3, reshapes(block.plan), layout
    for number in 1:count
        push!(units, unit_room(first(block_layer(block, number)), x, shared))
        x = units[end].plan.y
        push!(outputs, image_room(T, x))
        push!(gradients, number < count || changes ? image_room(T, x) : before)
    end
    down = block.downsample === nothing ? nothing : unit_room(first(block.downsample), layout, shared)
    return BlockRoom(units, down, outputs, gradients, changes && block.residual ? image_room(T, x) : T[])
end

"The gradients as automatic differentiation has them, in the arrays of the rooms."
function resnet_gradients(m::ResNet, stem::UnitRoom, rooms)
    blocks = Any[block_gradients(room) for room in rooms]
    stages, done = Vector{Any}[], 0
    for layer in Any[m.layer1, m.layer2, m.layer3, m.layer4]
        push!(stages, blocks[done.+(1:length(layer))])
        done += length(layer)
    end
    return (
        conv1=conv_gradient(stem),
        bn1=norm_gradient(stem),
        layer1=stages[1],
        layer2=stages[2],
        layer3=stages[3],
        layer4=stages[4],
        fc=(weight=zero(m.fc.weight), bias=zero(m.fc.bias)),
    )
end

conv_gradient(room::UnitRoom) = (weight=room.weight_grad,)
norm_gradient(room::UnitRoom) = (weight=room.norm.weight_grad, bias=room.norm.bias_grad)

"The same for a block."
function block_gradients(room::BlockRoom)
    first, second, down = room.units[1], room.units[2], room.downsample
    third = length(room.units) < 3 ? nothing : room.units[3]
    return (
        conv1=conv_gradient(first),
        bn1=norm_gradient(first),
        conv2=conv_gradient(second),
        bn2=norm_gradient(second),
        conv3=third === nothing ? nothing : conv_gradient(third),
        bn3=third === nothing ? nothing : norm_gradient(third),
        downsample=down === nothing ? nothing : (conv_gradient(down), norm_gradient(down)),
    )
end

workspace(m::ResNet, x::Array{<:Any,4}) = ResNetKernels(m, x)

# ---- forward

function output!(work::ResNetKernels, m::ResNet, images)
    stem = work.stem
    load_images!(work.images, stem.plan.x, images)
    convolve!(stem.z, work.images, m.conv1.weight, stem.plan, work.products)
    batch_norm!(work.stem_output, stem.z, m.bn1, nothing, true, stem.norm)
    if work.input !== work.stem_output
        layout = work.blocks[1].units[1].plan.x
        over_threads(pool_images!, layout.count, work.input, work.stem_output, layout, stem.plan.y)
    end
    x = work.input
    for (place, block) in enumerate(all_blocks(m))
        x = block_output!(work.blocks[place], block, x, work.products)::typeof(x)
    end
    pixel_means!(work.features, x, work.blocks[end].units[end].plan.y)
    for n in axes(work.logits, 2)
        copyto!(view(work.logits, :, n), m.fc.bias)
    end
    return add_product!(work.logits, 'N', m.fc.weight, 'N', work.features)
end

"c + a b, of which the transposed are meant where the letter is 'T'; c becomes it."
add_product!(c::Matrix{T}, of_a, a, of_b, b) where {T} = BLAS.gemm!(of_a, of_b, one(T), a, b, one(T), c)

"What the block makes of x, in its room."
function block_output!(room::BlockRoom, block::ResidualBlock, x, products)
    given = block_shortcut!(room, block, x, products)
    for number in eachindex(room.units)
        unit, (conv, norm) = room.units[number], block_layer(block, number)
        convolve!(unit.z, x, conv.weight, unit.plan, products)
        x = room.outputs[number]
        batch_norm!(x, unit.z, norm, number == length(room.units) ? given : nothing, true, unit.norm)
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
    loss = cross_entropy!(work.logits_gradient, work.logits, labels)
    classifier_gradient!(work, m)
    blocks = all_blocks(m)
    for place in length(blocks):-1:1
        x = place == 1 ? work.input : work.blocks[place-1].outputs[end]
        dx = place == 1 ? work.input_gradient : work.blocks[place-1].gradients[end]
        block_gradient!(dx, work.blocks[place], blocks[place], x, work.products)
    end
    stem = work.stem
    if work.input !== work.stem_output
        layout = work.blocks[1].units[1].plan.x
        arrays = (work.stem_gradient, work.input_gradient, work.input, work.stem_output)
        over_threads(pool_gradient_images!, layout.count, arrays..., layout, stem.plan.y)
    end
    dy, y = work.stem_gradient, work.stem_output
    unit_gradient!(work.images_gradient, dy, y, stem, m.conv1, m.bn1, work.images, work.products, false)
    store_images!(work.grads_input, work.images_gradient, stem.plan.dx)
    return Evaluation(loss, work.logits, work.grads, work.grads_input)
end

objective(work::ResNetKernels, m::ResNet, images, labels) =
    cross_entropy!(nothing, output!(work, m, images), labels)

"The gradient of the classifier and of what it reads."
function classifier_gradient!(work::ResNetKernels, m::ResNet)
    d, fc = work.logits_gradient, work.grads.fc
    for array in (fc.weight, fc.bias, work.features_gradient)
        fill!(array, 0)
    end
    for n in axes(d, 2), c in axes(d, 1)
        fc.bias[c] += d[c, n]
    end
    add_product!(fc.weight, 'N', d, 'T', work.features)
    add_product!(work.features_gradient, 'T', m.fc.weight, 'N', d)
    room = work.blocks[end]
    pixel_means_gradient!(room.gradients[end], work.features_gradient, room.units[end].plan.y)
end

"""
dx, the gradient of the block's input x, from that of its output, which is in the room and may be the same
array as dx.
"""
function block_gradient!(dx, room::BlockRoom, block::ResidualBlock, x, products)
    dy, changes, unit = room.gradients[end], reshapes(block.plan), room.downsample
    for number in length(room.units):-1:1
        before = number == 1 ? x : room.outputs[number-1]
        d_before = number == 1 ? dx : room.gradients[number-1]
        add = number == 1 && block.residual && !changes
        d, y = room.gradients[number], room.outputs[number]
        conv, norm = block_layer(block, number)
        unit_gradient!(d_before, d, y, room.units[number], conv, norm, before, products, add)
    end
    if unit !== nothing
        conv, norm = block.downsample
        unit_gradient!(dx, dy, nothing, unit, conv, norm, x, products, true)
    elseif block.residual && changes
        from, to = room.units[1].plan.x, room.units[end].plan.y
        add_widen_gradient!(dx, dy, to, from, block.plan.stride, block.plan.inputs)
    end
end

"""
dx, or what is added to it, from the gradient dy of what a unit makes of x: of its rectified result y, or
of that of the batch norm where y is nothing. The gradients of weights and biases go to the room.
"""
function unit_gradient!(dx, dy, y, room::UnitRoom, conv, norm, x, products, add)
    batch_norm_gradient!(room.dz, dy, y, room.z, norm.training, room.norm)
    convolution_weight_gradient!(room.weight_grad, room.dz, x, room.plan, products)
    convolution_input_gradient!(dx, room.dz, conv.weight, room.plan, products, add)
end
