# Settings of AdamW with its learning-rate schedule; the same file on the Python side is `python/twingrad/schedule.py`.

"""
    AdamWSettings(; learning_rate, min_learning_rate, warmup, decay, beta1, beta2, weight_decay, clip, eps)

Decoupled weight decay (Loshchilov and Hutter, ICLR 2019) on matrices only, as nanoGPT has it.

The learning rate climbs linearly over `warmup` steps, falls along half a cosine until step `decay`, and stays at
`min_learning_rate` from there. Gradients whose joint 2-norm exceeds `clip` are scaled down to it (0: never).
"""
Base.@kwdef struct AdamWSettings
    learning_rate::Float64
    min_learning_rate::Float64
    warmup::Int
    decay::Int
    beta1::Float64 = 0.9
    beta2::Float64 = 0.95
    weight_decay::Float64 = 0.1
    clip::Float64 = 1.0
    eps::Float64 = 1e-8
end

"The learning rate of step 0, 1, ..."
function rate(settings::AdamWSettings, step)
    high, low = settings.learning_rate, settings.min_learning_rate
    step < settings.warmup && return high * (step + 1) / (settings.warmup + 1)
    step >= settings.decay && return low
    turn = π * (step - settings.warmup) / (settings.decay - settings.warmup)
    return low + 0.5 * (1.0 + cos(turn)) * (high - low)
end

"""
The settings of a comparison's training steps (FORMAT.md): ten steps climb, fall and rest, some are clipped.

Adam divides a gradient by its own size. Where that is rounding and nothing else (the keys' biases have no influence), only `eps`
keeps it small, and 1e-8 would let 1e-17 grow to 1e-10.
"""
const COMPARED =
    AdamWSettings(; learning_rate=1e-2, min_learning_rate=1e-3, warmup=3, decay=8, clip=2.0, eps=1e-6)
