# AdamW with the schedule, clipping and decay of `schedule.jl`.
# The same file on the Python side is `python/twingrad/optimizers.py`.

using LinearAlgebra: norm
using Optimisers: Optimisers

"Added to the norm that gradients are divided by when they are clipped; PyTorch's value."
const CLIP_EPS = 1e-6

"""
    AdamW(params, settings; steps_taken=0)

Optimisers' AdamW on `params`, name => array, with the schedule, the clipping and the decay of `settings`.
"""
mutable struct AdamW{P,S}
    const settings::AdamWSettings
    const params::P
    const states::S
    steps_taken::Int
end

function AdamW(params, settings::AdamWSettings; steps_taken=0)
    states = map(params) do (_, param)
        decay = ndims(param) >= 2 ? settings.weight_decay : 0.0
        betas = (settings.beta1, settings.beta2)
        Optimisers.setup(Optimisers.AdamW(settings.learning_rate, betas, decay, settings.eps), param)
    end
    return AdamW(settings, params, states, steps_taken)
end

"""
    step!(optimizer, grads)

Take a step by `grads`, in the order of the parameters, where they are finite; returns the learning rate and their joint norm
before clipping.
"""
function step!(optimizer::AdamW, grads)
    settings = optimizer.settings
    η, total = rate(settings, optimizer.steps_taken), norm(map(norm, grads))
    isfinite(total) || return η, total
    scale = settings.clip > 0 ? min(1.0, settings.clip / (total + CLIP_EPS)) : 1.0
    for (state, (_, param), grad) in zip(optimizer.states, optimizer.params, grads)
        Optimisers.adjust!(state, η)
        Optimisers.update!(state, param, eltype(param)(scale) .* grad)
    end
    optimizer.steps_taken += 1
    return η, total
end

"""
    moments(optimizer)

The running means of the gradients and of their squares, each in the order of the parameters.
"""
moments(optimizer::AdamW) =
    [state.state[1] for state in optimizer.states], [state.state[2] for state in optimizer.states]

"Go on from the moments of an earlier run after `steps_taken` steps."
function restore!(optimizer::AdamW, first, second)
    for (state, m, v) in zip(optimizer.states, first, second)
        powers = eltype(m).((optimizer.settings.beta1, optimizer.settings.beta2))
        # As the rule has them: multiplied step by step, so that the last bit is the same.
        β = foldl((β, _) -> β .* powers, 1:optimizer.steps_taken; init=powers)
        state.state = (m, v, β)
    end
end
