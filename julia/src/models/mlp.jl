# The multilayer perceptron. Beside it: `python/twingrad/models/mlp.py`.
#
# With a_0 = x, layer l = 1..L computes z_l = W_l a_{l-1} + b_l and a_l = σ(z_l), but the last, whose z_L are the scores.
# A perceptron is the same with one layer and one output. Sources: Rosenblatt, Psychological Review 65(6), 1958; Rumelhart,
# Hinton, Williams, "Learning representations by back-propagating errors", Nature 323, 1986.

using Flux: relu, sigmoid
using NNlib: logsigmoid, softmax

"A function of the hidden units and its derivative, written by its value a = σ(z)."
struct Activation{F,S}
    value::F
    slope::S
end

const ACTIVATIONS =
    Dict(
        "sigmoid" => Activation(sigmoid, a -> a * (1 - a)),
        "relu" => Activation(relu, a -> oftype(a, a > 0)),
    )

"""
    MultilayerPerceptron(config, params)

Layers of linear maps with an activation between them.

`params` by name: `layers.N.weight` (out, in), `layers.N.bias` (out,); they become the model's arrays, uncopied.
"""
struct MultilayerPerceptron{L<:Dense}
    config::MLPConfig
    layers::Vector{L}
end
Flux.@layer MultilayerPerceptron trainable = (layers,)

MultilayerPerceptron(config::MLPConfig, params::AbstractDict) = MultilayerPerceptron(
    config,
    [Dense(params["layers.$l.weight"], params["layers.$l.bias"]) for l in 0:(length(config.sizes)-2)],
)

"Scores (outputs, samples) of inputs x (inputs, samples)."
function (m::MultilayerPerceptron)(x)
    σ = ACTIVATIONS[m.config.activation].value
    last = length(m.layers)
    for (number, layer) in enumerate(m.layers)
        x = number < last ? σ.(layer(x)) : layer(x)
    end
    return x
end

"""
    loss(m::MultilayerPerceptron, scores, labels)

The mean over the batch of scores (outputs, samples) for labels (samples,), which count from 1.

"mse": ‖scores − y‖², y one-hot, or the label 0 or 1 itself where there is one output. "cross-entropy":
−log softmax(scores)[label]; where there is one output, of the logistic model, −log σ(±score).
"""
function loss(m::MultilayerPerceptron, scores, labels)
    m.config.loss == "mse" && return sum(abs2, scores .- one_hot(labels, scores)) / length(labels)
    size(scores, 1) == 1 || return cross_entropy(scores, labels)
    y = one_hot(labels, scores)
    return -sum(y .* logsigmoid.(scores) .+ (1 .- y) .* logsigmoid.(.-scores)) / length(labels)
end

"The targets y (outputs, samples) of labels (samples,), which count from 1, in the number type and shape of `like`."
function one_hot(labels, like)
    size(like, 1) == 1 && return reshape(eltype(like).(labels .- 1), 1, :)
    return eltype(like).(reshape(labels, 1, :) .== axes(like, 1))
end
ChainRulesCore.@non_differentiable one_hot(labels, like)

"""
    backpropagation(m, x, labels)

Loss and gradients by the chain rule, layer by layer, without automatic differentiation.

With δ_l = ∂L/∂z_l for each sample,

    δ_L     = 2 (z_L − y) / n   ("mse"),   (softmax(z_L) − y) / n   ("cross-entropy"),
    δ_l     = (W_{l+1}ᵀ δ_{l+1}) ∘ σ'(z_l),
    ∂L/∂W_l = Σ δ_l a_{l-1}ᵀ,   ∂L/∂b_l = Σ δ_l,   ∂L/∂x = W_1ᵀ δ_1,

each sum over the n samples.
"""
function backpropagation(m::MultilayerPerceptron, x, labels)
    σ, L = ACTIVATIONS[m.config.activation], length(m.layers)
    a = [x]  # a[l]: what layer l reads
    for layer in m.layers[1:(L-1)]
        push!(a, σ.value.(layer.weight * a[end] .+ layer.bias))
    end
    scores = m.layers[L].weight * a[L] .+ m.layers[L].bias
    y, n = one_hot(labels, scores), length(labels)

    δ = if m.config.loss == "mse"
        2 .* (scores .- y) ./ n
    elseif size(scores, 1) == 1
        (sigmoid.(scores) .- y) ./ n
    else
        (softmax(scores) .- y) ./ n
    end
    grads = Vector{Any}(undef, L)
    for l in L:-1:1
        grads[l] = (weight=δ * a[l]', bias=vec(sum(δ; dims=2)))
        δ = m.layers[l].weight' * δ
        l > 1 && (δ = δ .* σ.slope.(a[l]))
    end
    return Evaluation(loss(m, scores, labels), scores, (layers=grads,), δ)
end
