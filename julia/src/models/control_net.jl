# A residual network as a discretised control problem. Beside it: `python/twingrad/models/control_net.py`.
#
# Source: Benning, Celledoni, Ehrhardt, Owren, Schönlieb, "Deep learning as optimal control problems: models and
# numerical methods", J. Comput. Dyn. 6(2), 2019.

using Flux: Flux, sigmoid

"""
    ControlNet(config, K, b, W, mu, dt)

y' = tanh(K(t) y + b(t)), discretised in N steps, with a logistic classifier at the end.

`K` (d, d, N) with `K[:, :, k]` (out, in), `b` (d, N), `W` (1, d), `mu` (1,), `dt` (N,), floating point.
"""
struct ControlNet{A3<:AbstractArray{<:Real,3},A2<:AbstractMatrix,A1<:AbstractVector}
    config::ControlNetConfig
    K::A3
    b::A2
    W::A2
    mu::A1
    dt::A1
end
Flux.@layer ControlNet trainable = (K, b, W, mu, dt)

ControlNet(config, params::AbstractDict) =
    ControlNet(config, (params[name] for name in ("K", "b", "W", "mu", "dt"))...)

"The state y_{k+1} (d, samples) after y_k; one-number slices, since GPU arrays refuse single elements."
function next_state(m::ControlNet, k, y)
    K, b, dt = m.K[:, :, k], m.b[:, k], m.dt[k:k]
    return step(tableau(m.config.method), Y -> velocity(K, b, Y), y, dt, alpha(m.config))
end

"""
    states(m, x)

The states y_0 = x, y_1, ..., y_N, each (d, samples).
"""
states(m::ControlNet, x) = accumulate((y, k) -> next_state(m, k, y), axes(m.K, 3); init=x) |> ys -> [[x]; ys]

"sigmoid(W y + μ) of states (d, samples): predictions (samples,) in (0, 1)."
classify(m::ControlNet, y) = vec(sigmoid.(m.W * y .+ m.mu))

"Predictions (samples,) for initial states x (d, samples)."
function (m::ControlNet)(x)
    y = x
    for k in axes(m.K, 3)
        y = next_state(m, k, y)
    end
    return classify(m, y)
end

"""
    loss(m, prediction, c)

J = s ½ Σ (prediction - c)² with s = 1/samples ("mean") or 1 ("sum"); labels c (samples,).
"""
function loss(m::ControlNet, prediction, c)
    total = sum(abs2, prediction .- c) / 2
    return m.config.scale == "mean" ? total / length(c) : total
end
