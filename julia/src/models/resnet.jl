# Residual networks for images. Beside it: `python/twingrad/models/resnet.py`.
#
# Source: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR 2016. The family for small images
# (resnet20 ... resnet110) has shortcut A: where a block halves the image and doubles the channels, the shortcut takes every
# second pixel and appends channels of zeros. resnet18, 34 and 50 are torchvision's, with its parameter names.

const BATCH_NORM_EPS = 1e-5
"The part of the new statistics in the running ones: running <- 0.9 running + 0.1 batch, the variance unbiased."
const MOMENTUM = 0.1

"Batch norm over batch and pixels, with the statistics of the batch in training and the running ones else."
struct BatchNorm{V<:AbstractVector}
    weight::V
    bias::V
    running_mean::V
    running_var::V
    training::Bool
end
Flux.@layer BatchNorm trainable = (weight, bias)

"x (W, H, C, N) -> (W, H, C, N)."
function (norm::BatchNorm)(x::AbstractArray{T,4}) where {T}
    statistics = (norm.running_mean, norm.running_var)
    norm.training || return normalise_by(statistics..., x, norm.weight, norm.bias, BATCH_NORM_EPS)
    y, μ, v = batch_norm(x, norm.weight, norm.bias, BATCH_NORM_EPS)
    ChainRulesCore.ignore_derivatives() do
        count = length(x) ÷ length(μ)
        norm.running_mean .+= T(MOMENTUM) .* (μ .- norm.running_mean)
        norm.running_var .+= T(MOMENTUM) .* (v .* T(count / (count - 1)) .- norm.running_var)
    end
    return y
end

"A convolution (cross-correlation) without bias that keeps the image's size, but for the stride."
struct Convolution{W<:AbstractArray{<:Any,4}}
    weight::W
    stride::Int
end
Flux.@layer Convolution trainable = (weight,)

"x (W, H, in, N) -> (W / stride, H / stride, out, N)."
(conv::Convolution)(x) =
    NNlib.conv(x, conv.weight; conv.stride, pad=size(conv.weight, 1) ÷ 2, flipped=true)

"Two convolutions of size 3, or three of sizes 1, 3, 1, and a shortcut around them."
struct ResidualBlock{C<:Convolution,B<:BatchNorm}
    plan::BlockPlan
    residual::Bool
    conv1::C
    bn1::B
    conv2::C
    bn2::B
    conv3::Union{Nothing,C}
    bn3::Union{Nothing,B}
    downsample::Union{Nothing,Tuple{C,B}}
end
Flux.@layer ResidualBlock trainable = (conv1, bn1, conv2, bn2, conv3, bn3, downsample)

"x (W, H, inputs, N) -> (W / stride, H / stride, outputs, N)."
function (block::ResidualBlock)(x)
    y = block.bn2(block.conv2(rectify(block.bn1(block.conv1(x)))))
    block.conv3 === nothing || (y = block.bn3(block.conv3(rectify(y))))
    return block.residual ? rectify(y .+ shortcut(block, x)) : rectify(y)
end

"The input, in the shape of the output."
function shortcut(block::ResidualBlock, x)
    block.downsample === nothing || return block.downsample[2](block.downsample[1](x))
    reshapes(block.plan) || return x
    return widen(x, block.plan.stride, block.plan.outputs)
end

"""
    ResNet(config, params)

A first convolution, stages of blocks, the mean over the pixels, a linear classifier.

`params` by name as `specs/resnet.jl` has them, running statistics included; they become the model's arrays, uncopied.
"""
struct ResNet{C<:Convolution,B<:BatchNorm,F<:Dense}
    config::ResNetConfig
    conv1::C
    bn1::B
    layer1::Vector{ResidualBlock{C,B}}
    layer2::Vector{ResidualBlock{C,B}}
    layer3::Vector{ResidualBlock{C,B}}
    layer4::Vector{ResidualBlock{C,B}}
    fc::F

    "Stages of one type, also those without blocks."
    function ResNet(config, conv1::C, bn1::B, layer1, layer2, layer3, layer4, fc::F) where {C,B,F}
        return new{C,B,F}(config, conv1, bn1, layer1, layer2, layer3, layer4, fc)
    end
end
Flux.@layer ResNet trainable = (conv1, bn1, layer1, layer2, layer3, layer4, fc)

function ResNet(config::ResNetConfig, params::AbstractDict)
    training = config.mode == "train"
    conv(name, stride=1) = Convolution(params["$name.weight"], stride)
    norm(name) = BatchNorm(
        (params["$name.$part"] for part in ("weight", "bias", "running_mean", "running_var"))..., training,
    )
    function block(plan)
        _, sizes, strides = block_shape(plan, config)
        layers = Any[nothing for _ in 1:6]
        for number in eachindex(sizes)
            layers[2number-1] = conv("$(plan.name).conv$number", strides[number])
            layers[2number] = norm("$(plan.name).bn$number")
        end
        down = "$(plan.name).downsample"
        downsample = projects(plan, config) ? (conv("$down.0", plan.stride), norm("$down.1")) : nothing
        return ResidualBlock(plan, config.residual, layers..., downsample)
    end
    plans = block_plans(config)
    first, first_norm = conv("conv1", is_cifar(config) ? 1 : 2), norm("bn1")
    blocks = ResidualBlock{typeof(first),typeof(first_norm)}
    layer(stage) = blocks[block(plan) for plan in plans if startswith(plan.name, "layer$stage.")]
    fc = Dense(params["fc.weight"], params["fc.bias"])
    return ResNet(config, first, first_norm, map(layer, (1, 2, 3, 4))..., fc)
end

"Logits (classes, N) of images (W, H, in_channels, N)."
function (m::ResNet)(images)
    x = rectify(m.bn1(m.conv1(images)))
    is_cifar(m.config) || (x = NNlib.maxpool(x, (3, 3); pad=1, stride=2))
    for layer in (m.layer1, m.layer2, m.layer3, m.layer4), block in layer
        x = block(x)
    end
    return m.fc(dropdims(mean(x; dims=(1, 2)); dims=(1, 2)))
end

"Mean cross-entropy of logits (classes, N) for labels (N,), which count from 1."
loss(::ResNet, logits, labels) = cross_entropy(logits, labels)

"""
    in_mode(model, training)

The same model, over the same arrays, whose batch norms take the statistics of the batch and update the running ones
where `training`, and take the running ones else.
"""
in_mode(part, training) = part
in_mode(norm::BatchNorm, training) =
    BatchNorm(norm.weight, norm.bias, norm.running_mean, norm.running_var, training)
in_mode(parts::Tuple, training) = map(part -> in_mode(part, training), parts)
in_mode(parts::Vector{T}, training) where {T} = T[in_mode(part, training) for part in parts]
in_mode(block::ResidualBlock, training) = ResidualBlock(in_mode(fields(block), training)...)
in_mode(m::ResNet, training) = ResNet(in_mode(fields(m), training)...)

fields(x) = ntuple(i -> getfield(x, i), Val(fieldcount(typeof(x))))
