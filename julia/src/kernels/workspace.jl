# The fast path: each model's gradient by hand, in kernels that reuse their arrays. The reference is the same model by
# automatic differentiation (`models/`, `operations/`), which these files are held against; docs/kernels.md says how.

"""
    Workspace

Room for the fast path of one model at batches of one size: arrays that are made once. What it computes from them belongs to it
and changes at its next call. `workspace(m, x)` makes the one for models like `m` and batches like `x`; its methods are

- `output!(work, m, x)`: the model's output, without a gradient.
- `objective(work, m, x, c)`: the loss.
- `gradient(work, m, x, c)`: an [`Evaluation`](@ref) like `automatic_gradient`'s.

The parameters are those of `m` at the call.
"""
abstract type Workspace end

"""
    Reference()

The path by automatic differentiation of the plain layers.
"""
struct Reference end
output!(::Reference, m, x) = m(x)
objective(::Reference, m, x, c) = loss(m, m(x), c)
gradient(::Reference, m, x, c) = automatic_gradient(m, x, c)

"""
    Fast()

The path by kernels, on the CPU. It makes a model's [`Workspace`](@ref) when it meets a batch of another size or number type.

The gradient is an [`Evaluation`](@ref) that is [`Lent`](@ref).
"""
mutable struct Fast
    work::Union{Nothing,Workspace}
    size::Any
    calls::Int
end
Fast() = Fast(nothing, nothing, 0)

"The workspace for models like `m` at batches like `x`."
function workspace!(path::Fast, m, x)
    x isa Array || throw(InputError("path"; expected="\"reference\" on a GPU", found="\"fast\""))
    size = (typeof(m), m.config, typeof(x), Base.size(x))
    if path.size != size
        path.work, path.size = nothing, nothing  # what was there is freed before there is more
        path.work, path.size = workspace(m, x), size
    end
    path.calls += 1
    return path.work
end

output!(path::Fast, m, x) = output!(workspace!(path, m, x), m, x)
objective(path::Fast, m, x, c) = objective(workspace!(path, m, x), m, x, c)
gradient(path::Fast, m, x, c) = Lent(gradient(workspace!(path, m, x), m, x, c), path, path.calls)

"""
    Lent

An [`Evaluation`](@ref) whose arrays are lent until the path's next call: to look at it later is an error.
"""
struct Lent{E<:Evaluation}
    evaluation::E
    path::Fast
    call::Int
end
function Base.getproperty(lent::Lent, name::Symbol)
    path = getfield(lent, :path)
    path.calls == getfield(lent, :call) || throw(
        ArgumentError(
            "this evaluation was of call $(getfield(lent, :call)) of a fast path, whose arrays were used again by " *
            "call $(path.calls): take what you need before, or give each its own Fast()",
        ),
    )
    return getproperty(getfield(lent, :evaluation), name)
end

"""
    objective(Fast(), m, x, c)

The loss, which `Flux.gradient(m -> objective(path, m, x, c), m)` differentiates by the kernels: gradients are the caller's own, and
have the structure that Zygote gives them.
"""
objective

function ChainRulesCore.rrule(::typeof(objective), path::Fast, m, x, c)
    evaluation = getfield(gradient(path, m, x, c), :evaluation)
    grads, grads_input = own(evaluation.grads), own(evaluation.grads_input)
    function objective_pullback(d)
        by_m = ChainRulesCore.Tangent{typeof(m)}(; scaled(unthunk(d), grads)...)
        by_x = grads_input === nothing ? NoTangent() : scaled(unthunk(d), grads_input)
        return NoTangent(), NoTangent(), by_m, by_x, NoTangent()
    end
    return evaluation.loss, objective_pullback
end

"A copy of all arrays of a tree."
own(tree) = scaled(1, tree)

scaled(_, ::Nothing) = nothing
scaled(factor, array::AbstractArray{T}) where {T<:AbstractFloat} = T(factor) .* array
scaled(factor, tree) = map(part -> scaled(factor, part), tree)

"The paths by name; each call makes one."
const PATHS = Dict{String,Any}("reference" => Reference, "fast" => Fast)

"""
    make_path(name, device="cpu")

The path called `name`, "reference" or "fast"; an InputError lists them. On a GPU there is the reference alone.
"""
function make_path(name, device="cpu")
    haskey(PATHS, name) ||
        throw(InputError("path"; expected=one_of(sort!(collect(keys(PATHS)))), found=repr(name)))
    return device == "cpu" ? PATHS[name]() : Reference()
end

"The path called `name` for arrays like `x`."
path_for(name, x) = make_path(name, x isa Array ? "cpu" : "cuda")

"A loop over fewer numbers is done before a second thread has begun."
const NUMBERS_FOR_THREADS = 2^15

"""
    in_parts(f, count, most, numbers=count)

Call f(part, number) for equal parts of 1:count, at most `most`, by all threads where there are many `numbers` to work on. Which
parts there are does not depend on the threads.
"""
function in_parts(f::F, count, most, numbers=count) where {F}
    parts = min(count, most)
    part(i) = (1+(i-1)*count÷parts):(i*count÷parts)
    if Threads.nthreads() == 1 || numbers < NUMBERS_FOR_THREADS
        for i in 1:parts
            f(part(i), i)
        end
    else
        Threads.@threads :static for i in 1:parts
            f(part(i), i)
        end
    end
end
