# Settings and arrays of `resnet`. The same file on the Python side is `python/twingrad/specs/resnet.py`.

const IMAGENET_BLOCKS =
    Dict("resnet18" => (2, 2, 2, 2), "resnet34" => (3, 4, 6, 3), "resnet50" => (3, 4, 6, 3))
const CIFAR_VARIANTS = ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110")
const RESNET_VARIANTS = (CIFAR_VARIANTS..., sort!(collect(keys(IMAGENET_BLOCKS)))...)
"A bottleneck block has this many times as many channels after its last convolution as in it."
const BOTTLENECK_WIDTHS = 4

"""
    ResNetConfig(; variant, in_channels=3, classes=10, width=0, residual=true, mode="train")

Settings of `resnet`. Source: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR 2016.

`width` is the number of channels of the first stage; each further stage has twice as many. `mode` says what the batch norms do:
"train" takes the statistics of the batch and updates the running ones, "eval" takes the running ones.
"""
Base.@kwdef struct ResNetConfig
    variant::String
    in_channels::Int = 3
    classes::Int = 10
    width::Int = 0
    residual::Bool = true
    mode::String = "train"
end

"Whether it is of the family for small images: 6n + 2 layers, three stages, shortcuts without parameters."
is_cifar(config::ResNetConfig) = config.variant in CIFAR_VARIANTS

"The channels of the first stage."
first_width(config::ResNetConfig) = config.width > 0 ? config.width : is_cifar(config) ? 16 : 64

"Whether a block has three convolutions, the outer ones of size 1."
has_bottlenecks(config::ResNetConfig) = config.variant == "resnet50"

"How many blocks each stage has."
function stages(config::ResNetConfig)
    is_cifar(config) || return IMAGENET_BLOCKS[config.variant]
    n = (parse(Int, chopprefix(config.variant, "resnet")) - 2) ÷ 6
    return (n, n, n)
end

"One residual block: its name, its channels and its stride."
struct BlockPlan
    name::String
    inputs::Int
    width::Int
    outputs::Int
    stride::Int
end

"Whether the shortcut cannot be the identity."
reshapes(plan::BlockPlan) = plan.stride != 1 || plan.inputs != plan.outputs

"All blocks from the input on, by torchvision's names."
function block_plans(config::ResNetConfig)
    plans, inputs = BlockPlan[], first_width(config)
    for (stage, count) in enumerate(stages(config)), number in 0:(count-1)
        width = first_width(config) * 2^(stage - 1)
        outputs = width * (has_bottlenecks(config) ? BOTTLENECK_WIDTHS : 1)
        stride = stage > 1 && number == 0 ? 2 : 1
        push!(plans, BlockPlan("layer$stage.$number", inputs, width, outputs, stride))
        inputs = outputs
    end
    return plans
end

"The channels before, between and after the convolutions of a block, their sizes and their strides."
block_shape(plan::BlockPlan, config::ResNetConfig) =
    has_bottlenecks(config) ?
    ((plan.inputs, plan.width, plan.width, plan.outputs), (1, 3, 1), (1, plan.stride, 1)) :
    ((plan.inputs, plan.width, plan.outputs), (3, 3), (plan.stride, 1))

"Whether a block's shortcut has a convolution."
projects(plan::BlockPlan, config::ResNetConfig) = reshapes(plan) && config.residual && !is_cifar(config)

"Checked settings of a ResNet from a dictionary; `where` is named in errors."
function resnet_config(settings, where)
    is_bool(value) = value isa Bool
    known = [
        "variant" => choice(RESNET_VARIANTS),
        "in_channels" => integer(1; default=3),
        "classes" => integer(1; default=10),
        "width" => integer(0; default=0),
        "residual" => (true, is_bool, "true or false"),
        "mode" => choice(("train", "eval"); default="train"),
    ]
    complete = check_settings(settings, known, where)
    return ResNetConfig(; (Symbol(name) => value for (name, value) in complete)...)
end

"The settings as JSON types."
settings_dict(config::ResNetConfig) =
    Dict{String,Any}(String(name) => getfield(config, name) for name in fieldnames(ResNetConfig))

"How many pixels of an image's side one pixel of the last stage stands for."
reduction(config::ResNetConfig) = is_cifar(config) ? 4 : 32

"A batch whose statistics exist: the variance of one number in each channel is none."
function contradiction(config::ResNetConfig, groups)
    width, height, _, n = size(groups["inputs"]["images"])
    values = n * cld(height, reduction(config)) * cld(width, reduction(config))
    (config.mode == "eval" || values > 1) && return nothing
    expected = "mode \"eval\", more images, or images of more than $(reduction(config)) pixels a side"
    found = "one value per channel in the last stage, of one $height x $width image"
    return "inputs/images", expected, found
end

"torchvision's names; in the file a convolution's weight is (out, in, height, width), a linear one (out, in)."
function resnet_params(config::ResNetConfig)
    params = Pair{String,ArraySpec}[]
    conv!(name, inputs, outputs, size) = push!(params, "$name.weight" => numbers(outputs, inputs, size, size))
    norm!(name, channels) = push!(
        params,
        "$name.weight" => numbers(channels),
        "$name.bias" => numbers(channels),
        "$name.running_mean" => statistic(channels),
        "$name.running_var" => statistic(channels; positive=true),
    )
    conv!("conv1", config.in_channels, first_width(config), is_cifar(config) ? 3 : 7)
    norm!("bn1", first_width(config))
    plans = block_plans(config)
    for plan in plans
        widths, sizes, _ = block_shape(plan, config)
        for (number, size) in enumerate(sizes)
            conv!("$(plan.name).conv$number", widths[number], widths[number+1], size)
            norm!("$(plan.name).bn$number", widths[number+1])
        end
        if projects(plan, config)
            conv!("$(plan.name).downsample.0", plan.inputs, plan.outputs, 1)
            norm!("$(plan.name).downsample.1", plan.outputs)
        end
    end
    push!(
        params,
        "fc.weight" => linear_weight(config.classes, plans[end].outputs),
        "fc.bias" => numbers(config.classes),
    )
    return params
end

const RESNET_SPEC = ModelSpec(;
    name="resnet",
    config=resnet_config,
    params=resnet_params,
    inputs=config -> ["images" => numbers("N", config.in_channels, "H", "W")],
    targets=config -> ["labels" => ids_below(config.classes, "N")],
    outputs=config -> ["logits" => numbers("N", config.classes)],
    contradiction,
)
