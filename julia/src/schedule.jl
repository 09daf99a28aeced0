# Settings of the optimizers with their learning-rate schedule; beside it: `python/twingrad/schedule.py`.

"""
    Schedule

What all optimizers share: `learning_rate`, `min_learning_rate`, `warmup`, `decay`, `weight_decay`, `clip`.

The learning rate climbs linearly over `warmup` steps, falls along half a cosine until step `decay`, and stays at
`min_learning_rate` from there. Gradients whose joint 2-norm exceeds `clip` are scaled down to it (0: never). Weights decay where
an array has two axes or more, as nanoGPT has it.
"""
abstract type Schedule end

"""
    AdamWSettings(; learning_rate, min_learning_rate, warmup, decay, weight_decay, clip, beta1, beta2, eps)

Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019); Adam itself where the decay is 0.
"""
Base.@kwdef struct AdamWSettings <: Schedule
    learning_rate::Float64
    min_learning_rate::Float64
    warmup::Int
    decay::Int
    weight_decay::Float64 = 0.1
    clip::Float64 = 1.0
    beta1::Float64 = 0.9
    beta2::Float64 = 0.95
    eps::Float64 = 1e-8
end

"""
    SGDSettings(; learning_rate, min_learning_rate, warmup, decay, weight_decay, clip, momentum)

Gradient descent with momentum, v <- momentum v + (∇ + decay w), w <- w - η v; plain where momentum is 0.
"""
Base.@kwdef struct SGDSettings <: Schedule
    learning_rate::Float64
    min_learning_rate::Float64
    warmup::Int
    decay::Int
    weight_decay::Float64 = 0.1
    clip::Float64 = 1.0
    momentum::Float64 = 0.9
end

"The learning rate of step 0, 1, ..."
function rate(settings::Schedule, step)
    high, low = settings.learning_rate, settings.min_learning_rate
    step < settings.warmup && return high * (step + 1) / (settings.warmup + 1)
    step >= settings.decay && return low
    turn = π * (step - settings.warmup) / (settings.decay - settings.warmup)
    return low + 0.5 * (1.0 + cos(turn)) * (high - low)
end

const ADAMW_ = (learning_rate=1e-2, min_learning_rate=1e-3, warmup=3, decay=8, clip=2.0, eps=1e-6)
const SGD_ = (learning_rate=5e-2, min_learning_rate=5e-3, warmup=3, decay=8, clip=2.0, weight_decay=1e-2)
"""
The settings of a comparison's training steps (FORMAT.md): ten steps climb, fall and rest, some are clipped.

Adam divides a gradient by its own size. Where that is rounding and nothing else (the keys' biases have no influence), only `eps`
keeps it small, and 1e-8 would let 1e-17 grow to 1e-10.
"""
const COMPARED = Dict{String,Schedule}(
    "adamw" => AdamWSettings(; ADAMW_...),
    "adam" => AdamWSettings(; ADAMW_..., weight_decay=0.0),
    "sgd" => SGDSettings(; SGD_...),
    "gradient-descent" => SGDSettings(; SGD_..., momentum=0.0, weight_decay=0.0, clip=0.0),
)
