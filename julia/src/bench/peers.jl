# Peers: the same networks as a user of Flux and Zygote would write them, without this project's layers and gradients.
# Beside it: `python/twingrad/bench/peers.py`.

using Flux: Chain, SkipConnection, onehotbatch

"The error of an implementation that does not know some settings."
peer_error(name, expected, config) =
    InputError("implementation $name"; expected, found=string(config))

# ---- plain: the control network as a loop

euler(f, y, h) = y .+ h .* f(y)

function kutta4(f, y, h)
    k1 = f(y)
    k2 = f(y .+ (h / 2) .* k1)
    k3 = f(y .+ (h / 2) .* k2)
    k4 = f(y .+ h .* k3)
    return y .+ (h / 6) .* (k1 .+ 2 .* k2 .+ 2 .* k3 .+ k4)
end

const PLAIN_METHODS = Dict("euler" => euler, "kutta4" => kutta4)

"A loop over the layers, by Euler's method or the classical one of Runge and Kutta; every gradient is left to Zygote."
struct PlainControlNet{F,A3,A2,A1}
    method::F
    K::A3
    b::A2
    W::A2
    mu::A1
    dt::A1
end
Flux.@layer PlainControlNet

function PlainControlNet(config, params::AbstractDict)
    haskey(PLAIN_METHODS, config.method) && config.network != "net" && config.scale == "mean" ||
        throw(peer_error("plain", "a residual network, euler or kutta4, scale mean", config))
    arrays = (params[name] for name in ("K", "b", "W", "mu", "dt"))
    return PlainControlNet(PLAIN_METHODS[config.method], arrays...)
end

"Predictions (samples,) for initial states x (d, samples)."
function (m::PlainControlNet)(x)
    for k in axes(m.K, 3)
        K, b = m.K[:, :, k], m.b[:, k]
        x = m.method(y -> tanh.(K * y .+ b), x, m.dt[k])
    end
    return vec(sigmoid.(m.W * x .+ m.mu))
end

loss(::PlainControlNet, prediction, c) = Flux.mse(prediction, c) / 2

# ---- flux-layers: Flux's own layers

"Layers of Flux with mean cross-entropy on one-hot targets."
struct FluxClassifier{M}
    layers::M
end
Flux.@layer FluxClassifier
(m::FluxClassifier)(x) = m.layers(x)
loss(::FluxClassifier, logits, labels) =
    Flux.logitcrossentropy(logits, onehotbatch(labels, axes(logits, 1)))

"Layer norm; Flux's own adds the square of its eps to the variance."
flux_layer_norm(weight, bias) = Flux.LayerNorm(
    identity, Flux.Scale(weight, bias), sqrt(eltype(weight)(LAYER_NORM_EPS)), size(weight), true,
)

"Batch norm in training; the arrays are the layer's."
function flux_batch_norm(weight, bias, running_mean, running_var, σ=identity)
    T, training = eltype(weight), true
    numbers = (T(BATCH_NORM_EPS), T(MOMENTUM))
    return Flux.BatchNorm(
        σ,
        bias,
        weight,
        running_mean,
        running_var,
        numbers...,
        true,
        true,
        training,
        length(weight),
    )
end

"A convolution whose kernel is turned around beforehand, since Flux's own does so."
flux_convolution(weight, stride=1) =
    Flux.Conv(reverse(weight; dims=(1, 2)), false; stride, pad=size(weight, 1) ÷ 2)

"Flux's attention with the mask that hides later tokens."
struct FluxAttention{A<:Flux.MultiHeadAttention}
    heads::A
end
Flux.@layer FluxAttention
(attn::FluxAttention)(x) = first(attn.heads(x; mask=NNlib.make_causal_mask(x)))

"The attention whose projections to queries, keys and values are the thirds of c_attn."
function flux_attention(params, name, heads)
    weight, bias = params["$(name)c_attn.weight"], params["$(name)c_attn.bias"]
    width = size(weight, 2)
    projections = map(0:2) do third
        rows = (third*width+1):((third+1)*width)
        Dense(weight[rows, :], bias[rows])
    end
    output = dense(params, "$(name)c_proj")
    return FluxAttention(Flux.MultiHeadAttention(heads, projections..., Flux.Dropout(0.0), output))
end

flux_mlp(params, name="") = Chain(dense(params, "$(name)c_fc", Flux.gelu), dense(params, "$(name)c_proj"))

"Embeddings of tokens and of positions, blocks and a norm; the head is the embedding of tokens."
struct FluxGPT{E,B,N}
    wte::E
    wpe::E
    blocks::B
    ln_f::N
end
Flux.@layer FluxGPT

"Logits (V, T, B) for the tokens after `tokens` (T, B)."
function (m::FluxGPT)(tokens)
    x = m.ln_f(m.blocks(m.wte(tokens) .+ m.wpe(1:size(tokens, 1))))
    return reshape(m.wte.weight' * reshape(x, size(x, 1), :), :, size(tokens)...)
end

function flux_gpt(config::GPTConfig, params)
    (config.splitting, config.dt, config.tied, config.time_steps) == ("lie", 1.0, true, "fixed") ||
        throw(peer_error("flux-layers", "the usual GPT: splitting lie, dt 1, tied", config))
    norm(name) = flux_layer_norm(params["$name.weight"], params["$name.bias"])
    blocks = map(0:(config.layers-1)) do layer
        h = "h.$layer"
        attention = Chain(norm("$h.ln_1"), flux_attention(params, "$h.attn.", config.heads))
        Chain(
            SkipConnection(attention, +),
            SkipConnection(Chain(norm("$h.ln_2"), flux_mlp(params, "$h.mlp.")), +),
        )
    end
    wte, wpe = Embedding(params["wte.weight"]), Embedding(params["wpe.weight"])
    return FluxClassifier(FluxGPT(wte, wpe, Chain(blocks), norm("ln_f")))
end

function flux_perceptron(config::MLPConfig, params)
    config.loss == "cross-entropy" && config.sizes[end] > 1 ||
        throw(peer_error("flux-layers", "loss cross-entropy of two outputs or more", config))
    σ, L = ACTIVATIONS[config.activation].value, length(config.sizes) - 1
    layers = (dense(params, "layers.$(l-1)", l < L ? σ : identity) for l in 1:L)
    return FluxClassifier(Chain(layers...))
end

function flux_resnet(config::ResNetConfig, params)
    is_cifar(config) && config.residual && config.mode == "train" ||
        throw(peer_error("flux-layers", "a residual network for small images, in training", config))
    conv(name, stride=1) = flux_convolution(params["$name.weight"], stride)
    norm(name, σ=identity) = flux_batch_norm(with_statistics(params, "$name.")..., σ)
    function block((; name, stride, inputs, outputs))
        layers =
            (conv("$name.conv1", stride), norm("$name.bn1", relu), conv("$name.conv2"), norm("$name.bn2"))
        shortcut(x) =
            NNlib.pad_zeros(x[1:stride:end, 1:stride:end, :, :], (0, outputs - inputs); dims=3)
        connection = stride == 1 ? (y, x) -> relu.(y .+ x) : (y, x) -> relu.(y .+ shortcut(x))
        return SkipConnection(Chain(layers...), connection)
    end
    first, blocks = (conv("conv1"), norm("bn1", relu)), Chain(map(block, block_plans(config)))
    return FluxClassifier(Chain(first..., blocks, Flux.GlobalMeanPool(), Flux.flatten, dense(params, "fc")))
end

"The optimiser of a user: the first step's learning rate for good, and decay for every array."
flux_rule(settings::AdamWSettings) = Optimisers.AdamW(
    rate(settings, 0), (settings.beta1, settings.beta2), settings.weight_decay, settings.eps,
)
flux_rule(settings::SGDSettings) = Optimisers.OptimiserChain(
    Optimisers.WeightDecay(settings.weight_decay),
    Optimisers.Momentum(rate(settings, 0), settings.momentum),
)

"Loss and gradients by the model's parameters, and by nothing else."
function flux_gradient(m, (x,), (c,))
    return function ()
        value, (grads,) = Flux.withgradient(m -> loss(m, m(x), c), m)
        return Evaluation(value, nothing, grads, nothing)
    end
end

"The gradient and a step of one of Flux's optimisers; nothing is clipped, since Flux has no joint norm."
function flux_step(settings)
    return function (m, inputs, targets)
        differentiate, state = flux_gradient(m, inputs, targets), Flux.setup(flux_rule(settings), m)
        return function ()
            here = differentiate()
            Flux.update!(state, m, here.grads)
            return here.loss
        end
    end
end

"One update of a tuple of arrays; the gradients are clipped by their joint norm in two lines of Julia."
function flux_update(params, grads, _)
    settings = COMPARED["adamw"]
    state = Flux.setup(flux_rule(settings), params)
    return function ()
        scale = min(1, settings.clip / (norm(map(norm, grads)) + CLIP_EPS))
        Flux.update!(state, params, map(grad -> eltype(grad)(scale) .* grad, grads))
        return params
    end
end

# ---- tables

const PLAIN_MODELS = Dict(
    "control_net" =>
        Implementation(PlainControlNet, Dict("forward" => output_and_loss, "gradient" => flux_gradient)),
)

flux_model(build, optimizer) = Implementation(
    build,
    Dict("forward" => output_and_loss, "gradient" => flux_gradient, "step" => flux_step(COMPARED[optimizer])),
)

const FLUX_MODELS = Dict(
    "gpt" => flux_model(flux_gpt, "adamw"),
    "mlp" => flux_model(flux_perceptron, "sgd"),
    "resnet" => flux_model(flux_resnet, "sgd"),
)

const FLUX_LAYERS = Dict(
    "layer-norm" =>
        Implementation((_, params) -> flux_layer_norm(params["weight"], params["bias"]), LAYER_CALLS),
    "attention" =>
        Implementation((sizes, params) -> flux_attention(params, "", sizes.heads), LAYER_CALLS),
    "gelu-mlp" => Implementation((_, params) -> flux_mlp(params), LAYER_CALLS),
    "convolution" => Implementation((_, params) -> flux_convolution(params["weight"]), LAYER_CALLS),
    "batch-norm" =>
        Implementation((_, params) -> flux_batch_norm(with_statistics(params)...), LAYER_CALLS),
    "cross-entropy" => Implementation(
        (_, _) -> (logits, labels) -> loss(FluxClassifier(identity), logits, labels), LOSS_CALLS,
    ),
    "adamw" => Implementation(
        (sizes, params) -> Tuple(params[name] for (name, _) in update_arrays(sizes)),
        Dict{String,Function}("step" => flux_update),
    ),
)
