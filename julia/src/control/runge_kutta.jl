# Explicit Runge-Kutta methods as data, and the one stepper that serves them all.
# The same file on the Python side is `python/twingrad/control/runge_kutta.py`.

using ChainRulesCore: @non_differentiable

"""
    Tableau(A, w)

Coefficients of an explicit method with S stages: row `A[i]` (i - 1,) of stage i, `w` (S,) all nonzero.
"""
struct Tableau
    A::Vector{Vector{Float64}}
    w::Vector{Float64}
end

"""
    adjoint_coefficients(tableau)

ã_ij = w_j a_ji / w_i: the symplectic partner, strictly upper triangular (rows of S numbers); written for a step backwards from
p_{k+1}, which makes it explicit. Source: Benning et al. 2019, after Hager, Numer. Math. 87, 2000, and Sanz-Serna, SIAM
Review 58(1), 2016.
"""
function adjoint_coefficients(tableau::Tableau)
    (; A, w) = tableau
    return [[j > i ? w[j] * A[j][i] / w[i] : 0.0 for j in eachindex(w)] for i in eachindex(w)]
end

const TABLEAUS = Dict{String,Tableau}(
    "euler" => Tableau([[]], [1.0]),
    "improved-euler" => Tableau([[], [1.0]], [1 / 2, 1 / 2]),
    "kutta3" => Tableau([[], [1 / 2], [-1.0, 2.0]], [1 / 6, 2 / 3, 1 / 6]),
    "kutta4" => Tableau([[], [1 / 2], [0.0, 1 / 2], [0.0, 0.0, 1.0]], [1 / 6, 1 / 3, 1 / 3, 1 / 6]),
)

tableau(method) = TABLEAUS[method]
@non_differentiable tableau(::Any)

"""
    step(tableau, f, y, dt, alpha)

One step: α y + Δt Σ_i w_i f(Y_i) with Y_i = y + Δt Σ_j a_ij f(Y_j). `dt` is an array of one number, and the control is
constant within the step.
"""
function step(tableau::Tableau, f, y, dt, alpha)
    velocities = typeof(y)[]
    for i in eachindex(tableau.w)
        velocities = append(velocities, f(move(1, y, dt, tableau.A[i], velocities)))
    end
    return move(alpha, y, dt, tableau.w, velocities)
end
