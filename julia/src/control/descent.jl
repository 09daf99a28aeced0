# Gradient descent with the adaptive step (backtracking) of Benning et al. 2019.
# The same file on the Python side is `python/twingrad/control/descent.py`.

const FIRST_STEP_CONSTANT = 0.1
const SHRINK, GROW, MAX_TRIES = 0.99, 1.5, 200

"""
    trained_params(config, freeze=())

The parameters that descent changes: K, b, W, mu, and dt where learned, less the frozen ones.
"""
function trained_params(config::ControlNetConfig, freeze=())
    names = learns_dt(config) ? (:K, :b, :W, :mu, :dt) : (:K, :b, :W, :mu)
    return filter(name -> !(String(name) in freeze), names)
end

"[`Costate`](@ref) as a way to the gradient, beside the paths of kernels/workspace.jl."
gradient(work::Costate, m, x, c) = costate_gradient!(work, m, x, c)
objective(work::Costate, m, x, c) = forward!(work, m, x, c)

"""
    Descent(model, way, x, c, trained; step_constant)

Descent on a model's objective over one batch x (d, samples), c (samples,). The model's arrays are changed in place;
`step_constant` is L, the inverse of the step size, of the first try.
"""
mutable struct Descent{M,G,X,C}
    const model::M
    const way::G
    const x::X
    const c::C
    const trained::Tuple{Vararg{Symbol}}
    step_constant::Float64
end
function Descent(model, way, x, c, trained; step_constant=FIRST_STEP_CONSTANT)
    return Descent(model, way, x, c, trained, step_constant)
end

"""
    descend!(descent)

One step; returns (J before, J after, accepted L), or nothing if no try was accepted.

Try δ = -∇J/L, projected where Δt lives on the simplex; accept it when
J(new) <= J(old) + ⟨g, δ⟩ + L/2 ‖δ‖², then L <- 0.99 L; else L <- 1.5 L.
"""
function descend!(descent::Descent)
    m = descent.model
    here = gradient(descent.way, m, descent.x, descent.c)
    grads = here.grads  # objectives leave them as they are
    old = map(name -> copy(getfield(m, name)), descent.trained)
    before, L = Float64(here.loss), descent.step_constant
    for _ in 1:MAX_TRIES
        slope = square = 0.0
        for (name, start) in zip(descent.trained, old)
            grad, param = grads[name], getfield(m, name)
            param .= start .- grad ./ eltype(param)(L)
            if name == :dt && m.config.network == "odenet-simplex"
                param .= project_simplex(param)
            end
            slope += sum(g * (new - was) for (g, new, was) in zip(grad, param, start))
            square += sum(abs2(new - was) for (new, was) in zip(param, start))
        end
        after = Float64(objective(descent.way, m, descent.x, descent.c))
        if after <= before + slope + 0.5 * L * square
            descent.step_constant = SHRINK * L
            return before, after, L
        end
        L *= GROW
    end
    for (name, start) in zip(descent.trained, old)
        getfield(m, name) .= start
    end
    return nothing
end
