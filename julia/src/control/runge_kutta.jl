# Explicit Runge-Kutta methods as data, and the one stepper that serves them all.
# The same file on the Python side is `python/twingrad/control/runge_kutta.py`.

using ChainRulesCore: @non_differentiable

"""
    Tableau(A, w)

Coefficients of an explicit method with S stages: `A[i][j]` strictly lower triangular, `w[i]` all nonzero.
"""
struct Tableau{S}
    A::NTuple{S,NTuple{S,Float64}}
    w::NTuple{S,Float64}
end

"""
    adjoint_coefficients(tableau)

ã_ij = w_j a_ji / w_i: the symplectic partner, strictly upper triangular; written for a step backwards from p_{k+1}, which
makes it explicit. Source: Benning et al. 2019, after Hager, Numer. Math. 87, 2000, and Sanz-Serna, SIAM Review 58(1), 2016.
"""
function adjoint_coefficients(tableau::Tableau{S}) where {S}
    A, w = tableau.A, tableau.w
    return ntuple(i -> ntuple(j -> w[j] * A[j][i] / w[i], S), S)
end

const TABLEAUS = Dict{String,Tableau}(
    "euler" => Tableau(((0.0,),), (1.0,)),
    "improved-euler" => Tableau(((0.0, 0.0), (1.0, 0.0)), (1 / 2, 1 / 2)),
    "kutta3" => Tableau(((0.0, 0.0, 0.0), (1 / 2, 0.0, 0.0), (-1.0, 2.0, 0.0)), (1 / 6, 2 / 3, 1 / 6)),
    "kutta4" => Tableau(
        ((0.0, 0.0, 0.0, 0.0), (1 / 2, 0.0, 0.0, 0.0), (0.0, 1 / 2, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0)),
        (1 / 6, 1 / 3, 1 / 3, 1 / 6),
    ),
)

tableau(method) = TABLEAUS[method]
@non_differentiable tableau(::Any)

"Σ_j coefficients[j] terms[j] over a tuple of arrays, without the terms whose coefficient is zero; `false`, a zero, if none."
combine(coefficients, terms::Tuple{}) = false
function combine(coefficients, terms::Tuple)
    c, rest = coefficients[length(terms)], combine(coefficients, Base.front(terms))
    return iszero(c) ? rest : rest .+ eltype(last(terms))(c) .* last(terms)
end

"""
    step(tableau, f, y, dt, alpha)

One step: α y + Δt Σ_i w_i f(Y_i) with Y_i = y + Δt Σ_j a_ij f(Y_j). `dt` is an array of one number, and the control is
constant within the step.
"""
function step(tableau::Tableau{S}, f, y, dt, alpha) where {S}
    stages = ()
    for i in 1:S
        stages = (stages..., f(y .+ dt .* combine(tableau.A[i], stages)))
    end
    return eltype(y)(alpha) .* y .+ dt .* combine(tableau.w, stages)
end
