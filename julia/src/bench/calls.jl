# What is timed: calls without arguments. `docs/benchmarks.md` says what is inside each of them. Beside it:
# `python/twingrad/bench/call.py` and `models.py`.

using LinearAlgebra: mul!

"""
    Implementation(build, calls)

One way to compute a model or a layer.

`build(config, params)` makes it from its parameters by name. `calls` has, by quantity, functions `(m, inputs, targets)`
of what was built and two tuples of arrays; each returns the call without arguments that is timed.
"""
struct Implementation
    build::Any
    calls::Dict{String,Function}
end

# ---- models

output_and_loss(m, (x,), (c,)) = () -> loss(m, m(x), c)

"`compute` (output and loss, or loss, output and gradients) on the path called `name`."
function by_path(compute, name)
    return function (m, (x,), (c,))
        path = path_for(name, x)
        return () -> compute(path, m, x, c)
    end
end

by_backpropagation(m, (x,), (labels,)) = () -> backpropagation(m, x, labels)

function by_costate(m, (x,), (c,))
    work = Costate(m, x)
    return () -> costate_gradient!(work, m, x, c)
end

"""
A step of the adaptive descent on a path, always the same one.

Each call puts the parameters back and starts from the step constant that the call before accepted: all but the first
make one gradient and one try.
"""
function descent_by(name)
    return function (m, (x,), (c,))
        trained = trained_params(m.config)
        params = map(name -> getfield(m, name), trained)
        start = map(copy, params)
        descent = Descent(m, path_for(name, x), x, c, trained)
        return function ()
            foreach(copyto!, params, start)
            before, _, descent.step_constant = step_or_fail!(descent, 1)
            return before
        end
    end
end

"A training step of the model called `model` by an optimizer of `COMPARED`, on a path; each goes on where the last one ended."
function step_by(path_name, model, name)
    return function (m, (x,), (c,))
        path = path_for(path_name, x)
        optimizer = Optimizer(named_arrays(model, m.config, m), COMPARED[name], path; simplex=simplex(m))
        gradients = gradients_of(model, m.config, path)
        return function ()
            here = gradient(path, m, x, c)
            step!(optimizer, gradients(here))
            return here.loss
        end
    end
end

"Continue a text until the context is full; ids count from 0."
function tokens_to_context(m, (prompt,), _)
    ids = vec(Array(prompt)) .- 1
    count = m.config.context - length(ids)
    count > 0 || throw(
        InputError(
            "inputs/tokens";
            expected="fewer tokens than the context, $(m.config.context)",
            found=string(length(ids)),
        ),
    )
    return () -> generate(m, ids, count)
end

# ---- layers

layer_output(layer, (x,), _) = () -> layer(x)

"The layer's output is computed on the way, and pulled back from `cotangent`."
layer_gradient(layer, (x,), (cotangent,)) =
    () -> last(Zygote.pullback((layer, x) -> layer(x), layer, x))(cotangent)

loss_value(loss, (x,), (labels,)) = () -> loss(x, labels)

loss_gradient(loss, (x,), (labels,)) = () -> Zygote.gradient(x -> loss(x, labels), x)

"One update by the same gradients again and again."
function optimizer_update(optimizer::Optimizer, grads, _)
    return function ()
        step!(optimizer, grads)
        return map(last, optimizer.params)
    end
end

function matrix_product(_, (a, b), _)
    product = similar(a)
    return () -> mul!(product, a, b)
end

# ---- what the harness holds both sides against each other by

"A number that shows what a call computed: the loss, the sum of drawn token ids, or the joint 2-norm of all arrays."
checksum(evaluation::Union{Evaluation,Lent}) = Float64(evaluation.loss)
checksum(loss::Real) = Float64(loss)
checksum(ids::AbstractVector{<:Integer}) = Float64(sum(ids))
checksum(arrays) = sqrt(sum_of_squares(arrays))

sum_of_squares(array::AbstractArray{<:Real}) = Float64(sum(abs2, array))
sum_of_squares(arrays::Union{Tuple,NamedTuple,AbstractArray}) = sum(sum_of_squares, arrays; init=0.0)
sum_of_squares(::Union{Nothing,Real}) = 0.0  # no gradient, or that of a setting

"How many equal parts a call has, whose seconds and bytes are reported: tokens, else itself."
parts(ids::AbstractVector{<:Integer}) = length(ids)
parts(_) = 1
