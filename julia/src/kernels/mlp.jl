# The multilayer perceptron of models/mlp.jl by kernels: backpropagation, as `backpropagation` there has it, in reused arrays.

"""
    MLPKernels(m, x)

The [`Workspace`](@ref) of a [`MultilayerPerceptron`](@ref) at inputs x (inputs, samples).
"""
struct MLPKernels{T,G<:NamedTuple} <: Workspace
    a::Vector{Matrix{T}}  # what each layer gives: activations (units, samples), at last the scores
    δ::Vector{Matrix{T}}  # ∂L/∂z of each layer
    dx::Matrix{T}         # (inputs, samples)
    ones::Vector{T}       # (samples,)
    grads::G
end

function MLPKernels(m::MultilayerPerceptron, x::Matrix{T}) where {T}
    rooms() = [Matrix{T}(undef, size(layer.weight, 1), size(x, 2)) for layer in m.layers]
    return MLPKernels(
        rooms(),
        rooms(),
        similar(x),
        ones(T, size(x, 2)),
        (layers=map(like_trained, m.layers),),
    )
end
workspace(m::MultilayerPerceptron, x::Matrix) = MLPKernels(m, x)

function output!(work::MLPKernels, m, x)
    σ, last = ACTIVATIONS[m.config.activation].value, length(m.layers)
    for (l, layer) in enumerate(m.layers)
        linear!(work.a[l], layer, l == 1 ? x : work.a[l-1])
        l < last && map!(σ, work.a[l], work.a[l])
    end
    return work.a[last]
end

objective(work::MLPKernels, m, x, labels) = score!(nothing, m, output!(work, m, x), labels)

function gradient(work::MLPKernels{T}, m, x, labels) where {T}
    (; a, δ, dx, ones, grads) = work
    scores, slope = output!(work, m, x), ACTIVATIONS[m.config.activation].slope
    value = score!(δ[end], m, scores, labels)
    clear!(grads)
    for l in length(m.layers):-1:2
        linear_gradient!(δ[l-1], grads.layers[l], m.layers[l], a[l-1], δ[l], one(T), ones)
        multiply_by_slope!(slope, δ[l-1], a[l-1])
    end
    linear_gradient!(dx, grads.layers[1], m.layers[1], x, δ[1], one(T), ones)
    return Evaluation(value, scores, grads, dx)
end

"δ <- δ ∘ σ'(z), by the values a = σ(z)."
function multiply_by_slope!(slope::F, δ, a) where {F}
    @inbounds @simd for i in eachindex(δ)
        δ[i] *= slope(a[i])
    end
end

"The loss of scores (outputs, samples), and its gradient by them in δ where that is an array."
function score!(δ, m, scores::Matrix{T}, labels) where {T}
    logistic_model = size(scores, 1) == 1
    m.config.loss == "cross-entropy" && !logistic_model && return cross_entropy!(δ, scores, labels)
    if δ !== nothing
        y, n = one_hot(labels, scores), T(length(labels))
        δ .= m.config.loss == "mse" ? 2 .* (scores .- y) ./ n : (sigmoid.(scores) .- y) ./ n
    end
    return loss(m, scores, labels)
end
