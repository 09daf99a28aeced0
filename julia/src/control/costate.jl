# The gradient of a control network by hand: the discrete costate equation, without allocation.
#
# With L the loss, p_k = ∂L/∂y_k and f = tanh(K_k y + b_k), one layer of the symplectic partner method reads, from the
# last stage to the first (after Benning et al. 2019):
#
#     P_i = p_{k+1} + Δt_k Σ_j ã_ij Q_j,   G_i = (1 - f(Y_i)²) ∘ P_i,   Q_i = K_kᵀ G_i,
#     p_k = α p_{k+1} + Δt_k Σ_i w_i Q_i,
#     ∂L/∂K_k = Δt_k Σ_i w_i G_i Y_iᵀ,   ∂L/∂b_k = Δt_k Σ_i w_i G_i,   ∂L/∂Δt_k = Σ_i w_i ⟨P_i, f(Y_i)⟩,
#
# each summed over the samples. The same file on the Python side is `python/twingrad/control/costate.py`.

using LinearAlgebra: BLAS

"""
    Costate(m, x)

Room for the costate gradient of models like `m` at batches like `x` (d, samples); a second use allocates nothing.
"""
struct Costate{T<:Union{Float32,Float64}}
    tableau::Tableau
    adjoint::Vector{Vector{Float64}}  # the rows of ã
    Y::Array{T,4}       # (d, samples, stage, layer): the stages' states
    F::Array{T,4}       # the same size: their velocities
    y::Matrix{T}        # (d, samples): the state, at last y_N
    p::Matrix{T}        # (d, samples): the costate, at last ∂L/∂x
    P::Matrix{T}
    G::Matrix{T}
    Q::Array{T,3}       # (d, samples, stage)
    prediction::Vector{T}
    grads::@NamedTuple{K::Array{T,3}, b::Matrix{T}, W::Matrix{T}, mu::Vector{T}, dt::Vector{T}}
end

function Costate(m::ControlNet, x::Matrix{T}) where {T}
    method = tableau(m.config.method)
    S, N, (d, samples) = length(method.w), size(m.K, 3), size(x)
    stages() = Array{T}(undef, d, samples, S, N)
    grads = (K=similar(m.K), b=similar(m.b), W=similar(m.W), mu=similar(m.mu), dt=similar(m.dt))
    Q, prediction = Array{T}(undef, d, samples, S), Vector{T}(undef, samples)
    return Costate(
        method, adjoint_coefficients(method), stages(), stages(), (similar(x) for _ in 1:4)..., Q, prediction,
        grads,
    )
end

"into .= base .+ factor Σ_j coefficients[j] terms[:, :, j]"
function add_combination!(into, base, factor, coefficients, terms)
    into .= base
    for (j, c) in enumerate(coefficients)
        iszero(c) && continue
        scaled = eltype(into)(c) * factor
        for l in axes(into, 2), i in axes(into, 1)
            @inbounds into[i, l] += scaled * terms[i, l, j]
        end
    end
    return into
end

"""
    forward!(work, m, x, c)

The loss at samples x (d, samples) with labels c (samples,); leaves every layer's stages and the predictions in `work`.
"""
function forward!(work::Costate{T}, m::ControlNet, x, c) where {T}
    work.y .= x
    for k in axes(m.K, 3)
        K, Y, F = view(m.K, :, :, k), view(work.Y, :, :, :, k), view(work.F, :, :, :, k)
        for i in eachindex(work.tableau.w)
            Yi, Fi = view(Y, :, :, i), view(F, :, :, i)
            add_combination!(Yi, work.y, m.dt[k], work.tableau.A[i], F)
            BLAS.gemm!('N', 'N', one(T), K, Yi, zero(T), Fi)
            for l in axes(Fi, 2), r in axes(Fi, 1)
                @inbounds Fi[r, l] = tanh(Fi[r, l] + m.b[r, k])
            end
        end
        work.y .*= T(alpha(m.config))
        add_combination!(work.y, work.y, m.dt[k], work.tableau.w, F)
    end
    total = zero(T)
    for l in eachindex(work.prediction)
        score = m.mu[1]
        for r in axes(work.y, 1)
            score += m.W[1, r] * work.y[r, l]
        end
        work.prediction[l] = sigmoid(score)
        total += abs2(work.prediction[l] - c[l])
    end
    return m.config.scale == "mean" ? total / 2 / length(c) : total / 2
end

"""
    costate_gradient!(work, m, x, c)

Loss and gradients of `m` at samples x (d, samples) with labels c (samples,), without automatic differentiation. The arrays
of the result belong to `work` and change at the next call.
"""
function costate_gradient!(work::Costate{T}, m::ControlNet, x, c) where {T}
    value = forward!(work, m, x, c)
    grads, y, p, w = work.grads, work.y, work.p, work.tableau.w
    for grad in grads
        grad .= 0
    end

    # The classifier: prediction = σ(W y_N + μ), r = ∂L/∂(W y_N + μ).
    scale = m.config.scale == "mean" ? one(T) / length(c) : one(T)
    for l in eachindex(work.prediction)
        prediction = work.prediction[l]
        r = scale * (prediction - c[l]) * prediction * (one(T) - prediction)
        grads.mu[1] += r
        for i in axes(y, 1)
            grads.W[1, i] += r * y[i, l]
            p[i, l] = r * m.W[1, i]
        end
    end

    # Backward: the costate equation.
    for k in reverse(axes(m.K, 3))
        K, dt = view(m.K, :, :, k), m.dt[k]
        dK, db = view(grads.K, :, :, k), view(grads.b, :, k)
        work.Q .= 0
        for i in reverse(eachindex(w))
            Y, F, Q = view(work.Y, :, :, i, k), view(work.F, :, :, i, k), view(work.Q, :, :, i)
            wi = T(w[i])
            add_combination!(work.P, p, dt, work.adjoint[i], work.Q)
            for l in axes(F, 2), r in axes(F, 1)
                P, f = work.P[r, l], F[r, l]
                g = (one(T) - f * f) * P
                work.G[r, l] = g
                db[r] += dt * wi * g
                grads.dt[k] += wi * P * f
            end
            BLAS.gemm!('N', 'T', dt * wi, work.G, Y, one(T), dK)
            BLAS.gemm!('T', 'N', one(T), K, work.G, zero(T), Q)
        end
        p .*= T(alpha(m.config))
        add_combination!(p, p, dt, w, work.Q)
    end
    return Evaluation(value, work.prediction, grads, p)
end
