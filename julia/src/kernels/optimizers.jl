# The rules of optimizers.jl in one pass over each parameter, as Optimisers has them.

using Base.FastMath: sqrt_fast

"The joint 2-norm of all arrays, added in Float64."
joint_norm(::Fast, arrays) = sqrt(sum(squared_norm, arrays; init=0.0))

function squared_norm(x::Array)
    total = 0.0
    @inbounds @simd for i in eachindex(x)
        total += abs2(Float64(x[i]))
    end
    return total
end

"One step of an optimizer's rule by the gradient `scale` · grad."
function update_param!(::Fast, state, param, grad, scale)
    state.state = update_in_place!(state.rule, state.state, param, grad, scale)
end

"""
    update_in_place!(rule, state, w, g, scale)

One step by the gradient `scale` g: m <- β₁ m + (1 - β₁) g, v <- β₂ v + (1 - β₂) g²,
w <- w - η (m / (1 - β₁ᵗ) / (√(v / (1 - β₂ᵗ)) + ε) + λ w). `state` is Optimisers' own, (m, v, (β₁ᵗ, β₂ᵗ)); the next is returned.
"""
function update_in_place!(rule::Optimisers.AdamW, (m, v, βt), w::Array{T}, g, scale) where {T}
    η, λ, ε, (β₁, β₂) = T(rule.eta), T(rule.lambda), T(rule.epsilon), T.(rule.beta)
    c₁, c₂ = inv(1 - βt[1]), inv(1 - βt[2])
    in_parts(length(w), Threads.nthreads()) do places, _
        @inbounds @simd for i in places
            d = scale * g[i]
            m[i] = muladd(β₁, m[i], (1 - β₁) * d)
            v[i] = muladd(β₂, v[i], (1 - β₂) * d * d)
            root = sqrt_fast(v[i] * c₂)  # `sqrt` has a branch for numbers below 0, and is not vectorised
            w[i] -= η * (m[i] * c₁ / (root + ε) + λ * w[i])
        end
    end
    return m, v, βt .* (β₁, β₂)
end

"v <- ρ v + (g + λ w), w <- w - η v, with g = `scale` · grad."
function update_in_place!(rule::TorchMomentum, v, w::Array{T}, grad, scale) where {T}
    η, ρ, λ = T(rule.eta), T(rule.rho), T(rule.lambda)
    in_parts(length(w), Threads.nthreads()) do places, _
        @inbounds @simd for i in places
            v[i] = ρ * v[i] + (scale * grad[i] + λ * w[i])
            w[i] -= η * v[i]
        end
    end
    return v
end
