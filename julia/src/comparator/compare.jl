# The one comparator of the Julia side: arrays in, checks out.
# The same file on the Python side is `python/twingrad/comparator/compare.py`.

using LinearAlgebra: norm
using Printf: @sprintf

const IN_STEPS, FAST = r"^steps/", "fast/"
const BY_HAND = r"^(grads|grads_inputs)_manual/"
const PLAIN_GRADIENT = r"^(grads|grads_inputs)/"

"""
    Check

One array held against another; `left` and `right` name where they come from. `error` is infinite where they cannot be
compared at all, `message` empty for a check that passed.
"""
struct Check
    case::String
    dtype::String
    kind::String
    left::String
    right::String
    array::String
    error::Float64
    bound::Float64
    message::String
end
passed(check::Check) = isempty(check.message)

"The bounds of `shared_fixtures/bounds.toml`: dtype => kind of check => largest error that passes."
read_bounds() = TOML.parsefile(joinpath(shared_fixtures(), "bounds.toml"))

"‖a − b‖₂ / ‖b‖₂, or max|a| where the reference b is zero; infinite if it is not finite."
function relative_error(a, b)
    a, b = Float64.(a), Float64.(b)
    size = norm(b)
    error = size > 0 ? norm(a - b) / size : maximum(abs, a; init=0.0)
    return isfinite(error) ? error : Inf
end

"`(error, message)`: an empty message where `a` is within `bound` of the reference `b`. Indices are told as Python counts them."
function compare_array(a, b, bound)
    size(a) == size(b) || return Inf, "shape $(reverse(size(a))) against $(reverse(size(b)))"
    eltype(a) == eltype(b) ||
        (eltype(a) <: AbstractFloat && eltype(b) == Float64) ||
        return Inf, "dtype $(dtype_name(eltype(a))) against $(dtype_name(eltype(b)))"
    error = relative_error(a, b)
    error <= bound && return error, ""
    worst = argmax(abs.(Float64.(a) .- b))
    index = "[" * join(reverse(Tuple(worst)) .- 1, ", ") * "]"
    text = @sprintf("error %.2e, bound %.0e", error, bound)
    return error, "worst at index $index: $(a[worst]) against $(b[worst]), $text"
end

"Hold two groups of arrays against each other; `right` is the reference. The key sets must be equal."
function compare_arrays(left, right, bound; case, dtype, kind, names)
    return map(sort!(collect(union(keys(left), keys(right))))) do array
        if haskey(left, array) && haskey(right, array)
            error, message = compare_array(left[array], right[array], bound)
        else
            error, message = Inf, "missing on the side of $(haskey(left, array) ? names[2] : names[1])"
        end
        Check(case, dtype, kind, names..., array, error, bound, message)
    end
end

"""
    compare_case(case, results, bounds)

All checks of one case: each result (a vector, all of one dtype) against the oracle, its own hand-derived gradient and its own
fast path, and side against side.
"""
function compare_case(case::Case, results, bounds)
    checks, dtype = Check[], only(unique(result.dtype for result in results))
    function hold(kind, left, right, names)
        haskey(bounds[dtype], kind) && append!(
            checks,
            compare_arrays(left, right, bounds[dtype][kind]; case=case.name, dtype, kind, names),
        )
    end
    chosen(wanted, arrays) = filter(pair -> wanted(first(pair)), arrays)
    untrained(arrays) = chosen(path -> !occursin(IN_STEPS, path), arrays)
    trained(arrays) = chosen(path -> occursin(IN_STEPS, path), arrays)
    for result in results
        reference, fast = split_paths(result.arrays)
        plain = chosen(path -> !occursin(BY_HAND, path), untrained(reference))
        case.oracle === nothing || hold("oracle", plain, case.oracle, (result.side, "oracle"))
        if MODELS[case.model].manual_gradient
            by_hand = Dict(
                replace(path, "_manual/" => "/") => a for (path, a) in reference if occursin(BY_HAND, path)
            )
            automatic = chosen(path -> occursin(PLAIN_GRADIENT, path), plain)
            hold("manual", by_hand, automatic, ("$(result.side) by hand", result.side))
        end
        isempty(fast) && continue
        names = ("$(result.side) fast", result.side)
        case.oracle === nothing || hold("oracle", untrained(fast), case.oracle, (names[1], "oracle"))
        hold("fast", untrained(fast), plain, names)
        hold("steps", trained(fast), trained(reference), names)
    end
    for (i, left) in enumerate(results), right in results[(i+1):end]
        names, arrays = (left.side, right.side), map(r -> first(split_paths(r.arrays)), (left, right))
        hold("sides", map(untrained, arrays)..., names)
        hold("steps", map(trained, arrays)..., names)
    end
    return checks
end

"(the reference's, the fast path's) arrays, those by the names of the reference."
function split_paths(arrays)
    fast = Dict(chopprefix(path, FAST) => array for (path, array) in arrays if startswith(path, FAST))
    return filter(pair -> !startswith(first(pair), FAST), arrays), fast
end
