# The optimizers, with the schedule, clipping and decay of `schedule.jl`.
# The same file on the Python side is `python/twingrad/optimizers.py`.

using LinearAlgebra: norm
using Optimisers: Optimisers

"Added to the norm that gradients are divided by when they are clipped; PyTorch's value."
const CLIP_EPS = 1e-6

"""
    TorchMomentum(eta, rho, lambda)

PyTorch's gradient descent with momentum: v <- ρ v + (∇ + λ w), w <- w - η v. Optimisers' own Momentum has η inside v, which is another
rule as soon as η changes.
"""
struct TorchMomentum <: Optimisers.AbstractRule
    eta::Float64
    rho::Float64
    lambda::Float64
end
Optimisers.init(::TorchMomentum, x::AbstractArray) = zero(x)
function Optimisers.apply!(rule::TorchMomentum, v, x::AbstractArray{T}, dx) where {T}
    η, ρ, λ = T(rule.eta), T(rule.rho), T(rule.lambda)
    @. v = ρ * v + (dx + λ * x)
    return v, η .* v
end

rule(settings::AdamWSettings, decay) = Optimisers.AdamW(
    settings.learning_rate, (settings.beta1, settings.beta2), decay, settings.eps,
)
rule(settings::SGDSettings, decay) = TorchMomentum(settings.learning_rate, settings.momentum, decay)

"""
    Optimizer(params, settings, path=Reference(); steps_taken=0, simplex=[])

One of Optimisers' rules on `params`, name => array, with the schedule, the clipping and the decay of `settings`; on the fast
path by the kernels that do the same in place. The parameters that `simplex` names, with their sums, are projected after each
step (Duchi et al., ICML 2008).
"""
mutable struct Optimizer{O<:Schedule,P,S,K}
    const settings::O
    const params::P
    const states::S
    const path::K
    const simplex::Vector{Pair{String,Float64}}
    steps_taken::Int
end

function Optimizer(
    params, settings::Schedule, path=Reference(); steps_taken=0, simplex=Pair{String,Float64}[],
)
    states = map(params) do (_, param)
        Optimisers.setup(rule(settings, ndims(param) >= 2 ? settings.weight_decay : 0.0), param)
    end
    return Optimizer(settings, params, states, path, simplex, steps_taken)
end

"""
    step!(optimizer, grads)

Take a step by `grads`, in the order of the parameters, where they are finite; returns the learning rate and their joint norm
before clipping.
"""
function step!(optimizer::Optimizer, grads)
    (; settings, path) = optimizer
    η, total = rate(settings, optimizer.steps_taken), joint_norm(path, grads)
    isfinite(total) || return η, total
    scale = settings.clip > 0 ? min(1.0, settings.clip / (total + CLIP_EPS)) : 1.0
    for (state, (_, param), grad) in zip(optimizer.states, optimizer.params, grads)
        Optimisers.adjust!(state, η)
        update_param!(path, state, param, grad, eltype(param)(scale))
    end
    project!(optimizer)
    optimizer.steps_taken += 1
    return η, total
end

"Put the parameters that live on a simplex back on it."
function project!(optimizer)
    for (name, total) in optimizer.simplex
        param = last(optimizer.params[findfirst(==(name) ∘ first, optimizer.params)])
        copyto!(param, project_simplex(Array(param), total))
    end
end

joint_norm(::Reference, grads) = norm(map(norm, grads))
update_param!(::Reference, state, param, grad, scale) = Optimisers.update!(state, param, scale .* grad)

"""
    moments(optimizer)

The first and the second moment of the gradients, each in the order of the parameters; nothing where there is none.
"""
moments(optimizer::Optimizer{AdamWSettings}) =
    [state.state[1] for state in optimizer.states], [state.state[2] for state in optimizer.states]
moments(optimizer::Optimizer{SGDSettings}) = [state.state for state in optimizer.states], nothing

"Go on from the moments of an earlier run after `steps_taken` steps."
function restore!(optimizer::Optimizer{AdamWSettings}, first, second)
    for (state, m, v) in zip(optimizer.states, first, second)
        powers = eltype(m).((optimizer.settings.beta1, optimizer.settings.beta2))
        # As the rule has them: multiplied step by step, so that the last bit is the same.
        β = foldl((β, _) -> β .* powers, 1:optimizer.steps_taken; init=powers)
        state.state = (m, v, β)
    end
end
function restore!(optimizer::Optimizer{SGDSettings}, first, _)
    for (state, v) in zip(optimizer.states, first)
        state.state = v
    end
end
