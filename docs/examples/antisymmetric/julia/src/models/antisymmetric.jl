# A residual network whose layers are stable. Beside it: `python/twingrad/models/antisymmetric.py`.
#
# y_{k+1} = y_k + h tanh((K_k - K_kᵀ - γ I) y_k + b_k): the eigenvalues of an antisymmetric matrix are imaginary, γ moves them to
# the left. Source: Haber, Ruthotto, "Stable architectures for deep neural networks", Inverse Problems 34(1), 2018.

using LinearAlgebra: I

"""
    Antisymmetric(config, params)

Antisymmetric layers with a linear classifier at the end.

`params` by name: `K` (d, d, N) with `K[:, :, k]` (out, in), `b` (d, N), `classifier.weight` (classes, d), `classifier.bias`
(classes,); they become the model's arrays, uncopied.
"""
struct Antisymmetric{A3<:AbstractArray{<:Real,3},A2<:AbstractMatrix,L<:Dense}
    config::AntisymmetricConfig
    K::A3
    b::A2
    classifier::L
end
Flux.@layer Antisymmetric trainable = (K, b, classifier)

Antisymmetric(config::AntisymmetricConfig, params::AbstractDict) = Antisymmetric(
    config,
    params["K"],
    params["b"],
    Dense(params["classifier.weight"], params["classifier.bias"]),
)

"Scores (classes, samples) of states x (d, samples)."
function (m::Antisymmetric)(x)
    h, γ = convert.(eltype(x), (m.config.h, m.config.gamma))  # a Float64 would make Float32 states Float64
    for k in axes(m.K, 3)
        K = m.K[:, :, k]
        x = x .+ h .* tanh.((K - K' - γ * I) * x .+ m.b[:, k])
    end
    return m.classifier(x)
end

"""
    loss(m::Antisymmetric, scores, labels)

Mean cross-entropy of scores (classes, samples) for labels (samples,), which count from 1.
"""
loss(::Antisymmetric, scores, labels) = cross_entropy(scores, labels)
