# What an evaluation of a model at one point gives, and the gradient by automatic differentiation.
# Beside it: `python/twingrad/evaluation.py`.

using Zygote: Zygote

"""
    Evaluation(loss, output, grads, grads_input)

Loss, output and all gradients at one point; `grads` has the model's structure and axes, `grads_input` is nothing where the
input is made of integers.
"""
struct Evaluation{T,V,G<:NamedTuple,X}
    loss::T
    output::V
    grads::G
    grads_input::X
end

"""
    automatic_gradient(m, x, c)

Loss and gradients of the model `m` at input `x` with target `c` by automatic differentiation (Zygote).
"""
function automatic_gradient(m, x, c)
    function loss_and_output(m, x)
        output = m(x)
        return loss(m, output, c), output
    end
    (value, output), (by_model, by_x) = Zygote.withgradient(loss_and_output, m, x)
    return Evaluation(value, output, by_model, by_x)
end
