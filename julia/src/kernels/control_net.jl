# The fast path of a control network: its costate equation by vector instructions along blocks of samples.
#
# A block goes through all layers and back. With the weighted costates P̃_i = w_i P_i of `control/costate.jl`,
# and so G̃_i and Q̃_i, its equations need no tableau but the method's own:
#
#     P̃_i = w_i p_{k+1} + Δt_k Σ_j a_ji Q̃_j,   G̃_i = (1 - F_i²) ∘ P̃_i,   Q̃_i = K_kᵀ G̃_i,
#     p_k = α p_{k+1} + Δt_k Σ_i Q̃_i,
#     ∂L/∂K_k = Δt_k Σ_i G̃_i Y_iᵀ,   ∂L/∂b_k = Δt_k Σ_i G̃_i,   ∂L/∂Δt_k = Σ_i ⟨P̃_i, F_i⟩.
#
# The states y_k and the velocities F_i are kept on the way forward; the Y_i = y_k + Δt_k Σ_j a_ij F_j are
# computed again. Samples come first in memory: a column is one component of a block, its stages one below the
# other.
# Beside it: `python/twingrad/kernels/control_net.py`.

"The largest d whose products are cheaper by loops than by BLAS."
const FUSED_UP_TO = 16
"The most samples of a block; for threads a batch is cut into up to four where they are half as large."
const MAX_BLOCK = 256
"The samples of a block are a multiple of it, so that vector loops have no remainder."
const LANES = 16
"Gradients are summed in so many parts at most, by however many threads: the order is always the same."
const MAX_PARTS = 16
"So many components of velocities are worth a thread: they take about half a millisecond, a start a tenth."
const THREAD_COMPONENTS = 2^17

"What one thread works on: a block of B samples, S stages; d is here the even number of columns."
struct ControlRoom{T}
    y::Matrix{T}  # (B, d (N + 1)): the states y_0, ..., y_N
    F::Matrix{T}  # (S B, d N): the velocities of the layers
    Y::Matrix{T}  # (S B, d): the stages' states of one layer
    G::Matrix{T}  # the same size: P̃, then G̃
    Q::Matrix{T}  # the same size: Q̃
    p::Matrix{T}  # (B, d): the costate
    r::Matrix{T}  # (B, 1): ∂L/∂(W y_N + μ)
end

"The loss and the gradients summed over some of the blocks; without the factor Δt_k those by K and b."
struct ControlSums{T}
    loss::Vector{T}
    K::Matrix{T}  # (d, d N)
    b::Vector{T}  # (d N,)
    W::Vector{T}
    mu::Vector{T}
    dt::Vector{T}
end

"""
    ControlKernels(m, x; product, block, threads)

Room for the fast path of control networks like `m` at batches like `x` (d, samples). `product` says how K y
is computed: `:fused` by loops, the default for small d, or `:blas`; `block` how many samples go through the
layers together, a multiple of `LANES`; `threads` how many blocks are worked on at once, by default one where
BLAS has threads of its own.
"""
struct ControlKernels{T<:Union{Float32,Float64}} <: Workspace
    tableau::Tableau
    backwards::Vector{Vector{Float64}}  # the columns of A
    all_stages::Vector{Float64}         # S ones
    alpha::T
    is_mean::Bool
    by_blas::Bool
    block::Int            # B
    K::Matrix{T}          # (d, d N): the K of all layers side by side, and each transposed
    K_transposed::Matrix{T}
    b::Vector{T}          # (d N,)
    rooms::Vector{ControlRoom{T}}
    parts::Vector{ControlSums{T}}
    prediction::Vector{T}
    grads::@NamedTuple{K::Array{T,3}, b::Matrix{T}, W::Matrix{T}, mu::Vector{T}, dt::Vector{T}}
    grads_input::Matrix{T}
end

function ControlKernels(
    m::ControlNet, x::AbstractMatrix{T}; product=control_product(x), block=control_block(size(x, 2)),
    threads=product == :blas ? 1 : control_threads(m, x),
) where {T}
    product in (:fused, :blas) || throw(ArgumentError("product: expected :fused or :blas, found :$product"))
    method, by_blas = tableau(m.config.method), product == :blas
    S, N, (d, samples) = length(method.w), size(m.K, 3), size(x)
    even, array = d + isodd(d), (sizes...) -> zeros(T, sizes)
    parts = min(cld(samples, block), MAX_PARTS)
    room() = ControlRoom{T}(
        array(block, even * (N + 1)), array(S * block, even * N),
        (array(S * block, even) for _ in 1:3)..., array(block, even),
        array(block, 1),
    )
    sums() = ControlSums{T}(
        array(1), array(even, even * N), array(even * N), array(d), array(1), array(N),
    )
    return ControlKernels{T}(
        method, [[j > i ? method.A[j][i] : 0.0 for j in 1:S] for i in 1:S], ones(S), alpha(m.config),
        m.config.scale == "mean", by_blas, block, array(even, even * N), array(even, even * N),
        array(even * N),
        [room() for _ in 1:min(threads, parts)], [sums() for _ in 1:parts],
        array(samples), (K=array(d, d, N), b=array(d, N), W=array(1, d), mu=array(1), dt=array(N)),
        array(d, samples),
    )
end

workspace(m::ControlNet, x::Matrix) = ControlKernels(m, x)

control_product(x) = size(x, 1) <= FUSED_UP_TO ? :fused : :blas

"Samples per block: all blocks are nearly full."
function control_block(samples)
    blocks = max(cld(samples, MAX_BLOCK), min(4, cld(samples, MAX_BLOCK ÷ 2)))
    return LANES * cld(cld(samples, blocks), LANES)
end

function control_threads(m, x)
    components = length(x) * size(m.K, 3) * length(tableau(m.config.method).w)
    return clamp(components ÷ THREAD_COMPONENTS, 1, Threads.nthreads())
end

"The predictions (samples,) of `m` at samples x (d, samples), which are here their own labels."
function output!(work::ControlKernels, m::ControlNet, x)
    run_blocks!(work, m, x, work.prediction, false)
    return work.prediction
end

"The loss at samples x (d, samples) with labels c (samples,)."
function objective(work::ControlKernels, m::ControlNet, x, c)
    run_blocks!(work, m, x, c, false)
    return total_loss(work)
end

"Loss and gradients at samples x (d, samples) with labels c (samples,); the arrays belong to `work`."
function gradient(work::ControlKernels, m::ControlNet, x, c)
    run_blocks!(work, m, x, c, true)
    grads, (d, N) = work.grads, size(work.grads.b)
    for grad in grads
        fill!(grad, 0)
    end
    for part in work.parts
        add_part!(grads, part, m.dt)
    end
    return Evaluation(total_loss(work), work.prediction, grads, work.grads_input)
end

"½ Σ (prediction - c)², or its mean."
function total_loss(work::ControlKernels)
    total = sum(part -> part.loss[1], work.parts) / 2
    return work.is_mean ? total / length(work.prediction) : total
end

check_control_size(name, array, like) =
    size(array) == size(like) ||
    throw(DimensionMismatch("$name: expected size $(size(like)), found $(size(array))"))

"Send all blocks through the layers, and back where a gradient is wanted."
function run_blocks!(work::ControlKernels, m, x, c, with_gradient)
    check_control_size("x", x, work.grads_input)
    check_control_size("c", c, work.prediction)
    check_control_size("K", m.K, work.grads.K)
    take_params!(work, m)
    rooms = eachindex(work.rooms)
    if length(rooms) == 1
        run_parts!(work, m, x, c, with_gradient, 1)
    else
        Threads.@threads :static for place in rooms
            run_parts!(work, m, x, c, with_gradient, place)
        end
    end
end

"The parts of one room, one after the other: each has the blocks whose numbers leave the same remainder."
function run_parts!(work::ControlKernels, m, x, c, with_gradient, place)
    room, samples, parts = work.rooms[place], length(work.prediction), length(work.parts)
    for number in place:length(work.rooms):parts
        sums = work.parts[number]
        clear!(sums)
        for first in ((number-1)*work.block):(parts*work.block):(samples-1)
            here = (first+1):min(first + work.block, samples)
            forward!(work, room, m, x, here)
            classify!(work, room, sums, m, c, here)
            with_gradient && backward!(work, room, sums, m, here)
        end
    end
end

function clear!(sums::ControlSums)
    fill!(sums.K, 0)
    for array in (sums.loss, sums.b, sums.W, sums.mu, sums.dt)
        fill!(array, 0)
    end
end

"Add what some of the blocks have summed; here the gradients by K and b take their factor Δt_k."
function add_part!(grads, part::ControlSums, dt)
    d, even = size(grads.K, 1), size(part.K, 1)
    grads.mu[1] += part.mu[1]
    for r in 1:d
        grads.W[1, r] += part.W[r]
    end
    for k in eachindex(dt), c in 1:d
        column = even * (k - 1) + c
        for r in 1:d
            grads.K[r, c, k] += dt[k] * part.K[r, column]
        end
        grads.b[c, k] += dt[k] * part.b[column]
    end
    for k in eachindex(dt)
        grads.dt[k] += part.dt[k]
    end
end

"Copy K, its transpose, and b; where d is odd, the last row and column stay zero."
function take_params!(work::ControlKernels, m)
    even = size(work.K, 1)
    for k in axes(m.K, 3), c in axes(m.K, 2)
        before = even * (k - 1)
        for r in axes(m.K, 1)
            work.K[r, before+c] = work.K_transposed[c, before+r] = m.K[r, c, k]
        end
        work.b[before+c] = m.b[c, k]
    end
end

"""
The states y_0, ..., y_N and velocities of the samples `here`. Where a block is not full, its other rows keep
what an earlier block left; their costate is zero, so they add nothing to a gradient.
"""
function forward!(work::ControlKernels, room, m, x, here)
    (; y, F, Y) = room
    (; A, w) = work.tableau
    B, even, d = work.block, size(Y, 2), size(x, 1)
    for c in 1:d
        for (l, sample) in enumerate(here)
            y[l, c] = x[c, sample]
        end
    end
    for k in axes(m.K, 3)
        now, dt = even * (k - 1), m.dt[k]
        for i in eachindex(w)
            stage_states!(room, A[i], dt, now, d, B, i)
            multiply!(work, F, now, Y, work.K_transposed, now, B, i)
            for c in 1:d
                velocity!(F, now + c, work.b[now+c], B, i)
            end
        end
        for c in 1:d
            combine!(y, now + even + c, 0, work.alpha, y, now + c, dt, w, F, now + c, B)
        end
    end
end

"""
Y_i = y_k + Δt Σ_j a_ij F_j, where `now` columns are before the layer's; a column that makes d even stays
zero.
"""
function stage_states!(room::ControlRoom, coefficients, dt, now, d, B, i)
    for c in 1:d
        combine!(room.Y, c, (i - 1) * B, one(dt), room.y, now + c, dt, coefficients, room.F, now + c, B)
    end
end

"""
Column `to` of `into`, after `above` rows: factor · column `from` of `base` + Δt Σ_j coefficients[j] · stage j
of column `of` of `terms`.
"""
function combine!(into::Matrix{T}, to, above, factor, base, from, dt, coefficients, terms, of, B) where {T}
    @inbounds @simd for l in 1:B
        into[above+l, to] = factor * base[l, from]
    end
    for j in eachindex(coefficients)
        iszero(coefficients[j]) && continue
        scaled, start = T(coefficients[j]) * dt, (j - 1) * B
        @inbounds @simd for l in 1:B
            into[above+l, to] = muladd(scaled, terms[start+l, of], into[above+l, to])
        end
    end
end

"Stage i of Z, after `now` columns: stage i of Y (B, d) times the d columns of M that come after `layer`."
function multiply!(work::ControlKernels, Z, now, Y::Matrix{T}, M, layer, B, i) where {T}
    even, start = size(Y, 2), (i - 1) * B
    if work.by_blas
        stage, matrix = block_view(Y, start, B, 0, even), block_view(M, 0, even, layer, even)
        BLAS.gemm!('N', 'N', one(T), stage, matrix, zero(T), block_view(Z, start, B, now, even))
    else
        for r in 1:2:even
            multiply_columns!(Z, now + r, Y, M, layer + r, start, B)
        end
    end
    return nothing
end

"Rows and columns of a matrix after so many: one type for all that BLAS is given."
block_view(array, above, rows, before, columns) =
    view(array, (above+1):(above+rows), (before+1):(before+columns))

"Two columns of the product by loops, two columns of Y at a time."
function multiply_columns!(Z, to, Y, M, r, start, B)
    for c in 1:2:size(Y, 2)
        m11, m21, m12, m22 = M[c, r], M[c+1, r], M[c, r+1], M[c+1, r+1]
        if c == 1
            @inbounds @simd for l in (start+1):(start+B)
                Z[l, to] = muladd(m11, Y[l, 1], m21 * Y[l, 2])
                Z[l, to+1] = muladd(m12, Y[l, 1], m22 * Y[l, 2])
            end
        else
            @inbounds @simd for l in (start+1):(start+B)
                Z[l, to] = muladd(m11, Y[l, c], muladd(m21, Y[l, c+1], Z[l, to]))
                Z[l, to+1] = muladd(m12, Y[l, c], muladd(m22, Y[l, c+1], Z[l, to+1]))
            end
        end
    end
end

"F_i = tanh(F_i + b) in one column."
function velocity!(F, column, b, B, i)
    start = (i - 1) * B
    @inbounds @simd for l in (start+1):(start+B)
        F[l, column] = branchless_tanh(F[l, column] + b)
    end
end

"Predictions σ(W y_N + μ), their loss by labels c, and with it ∂L/∂(W y_N + μ) of the samples `here`."
function classify!(work::ControlKernels, room, sums, m, c, here)
    T, d = eltype(room.r), size(m.W, 2)
    N_columns = size(room.y, 2) - size(room.Y, 2)
    scale, total = work.is_mean ? one(T) / length(c) : one(T), zero(T)
    fill!(room.r, 0)
    for (l, sample) in enumerate(here)
        score = m.mu[1]
        for i in 1:d
            score += m.W[1, i] * room.y[l, N_columns+i]
        end
        prediction, label = sigmoid(score), c[sample]
        work.prediction[sample] = prediction
        total += abs2(prediction - label)
        room.r[l, 1] = scale * (prediction - label) * prediction * (one(T) - prediction)
    end
    sums.loss[1] += total
end

"Add the gradients of the samples `here` to `sums`, from the classifier back to their ∂L/∂x."
function backward!(work::ControlKernels, room, sums, m, here)
    (; y, F, Y, G, Q, p) = room
    (; A, w) = work.tableau
    B, even, d = work.block, size(Y, 2), size(m.W, 2)
    last_state = size(y, 2) - even
    for i in 1:d
        sums.W[i] += column_dot(room.r, 1, y, last_state + i, B)
        for l in 1:B
            p[l, i] = m.W[1, i] * room.r[l, 1]
        end
    end
    sums.mu[1] += sum(room.r)
    for k in reverse(axes(m.K, 3))
        now, dt = even * (k - 1), m.dt[k]
        for i in reverse(eachindex(w))
            stage_states!(room, A[i], dt, now, d, B, i)
            for c in 1:d
                combine!(G, c, (i - 1) * B, eltype(p)(w[i]), p, c, dt, work.backwards[i], Q, c, B)
                by_dt, by_b = through_tanh!(G, c, F, now + c, B, i)
                sums.dt[k] += by_dt
                sums.b[now+c] += by_b
            end
            multiply!(work, Q, 0, G, work.K, now, B, i)
        end
        for c in 1:d
            combine!(p, c, 0, work.alpha, p, c, dt, work.all_stages, Q, c, B)
        end
        add_outer!(work, sums.K, now, G, Y)
    end
    for (l, sample) in enumerate(here), c in 1:d
        work.grads_input[c, sample] = p[l, c]
    end
end

"G̃_i = (1 - F_i²) ∘ P̃_i in one column, in place; returns ⟨P̃_i, F_i⟩ and the sum of G̃_i."
function through_tanh!(G::Matrix{T}, column, F, of, B, i) where {T}
    start, by_dt, by_b = (i - 1) * B, zero(T), zero(T)
    @inbounds @simd for l in (start+1):(start+B)
        P, f = G[l, column], F[l, of]
        g = muladd(-f, f, one(T)) * P
        by_dt = muladd(P, f, by_dt)
        by_b += g
        G[l, column] = g
    end
    return by_dt, by_b
end

function column_dot(a::Matrix{T}, i, b, j, B) where {T}
    total = zero(T)
    @inbounds @simd for l in 1:B
        total = muladd(a[l, i], b[l, j], total)
    end
    return total
end

"Add Gᵀ Y, summed over samples and stages, to the d columns of `sums` after `layer`."
function add_outer!(work::ControlKernels, sums::Matrix{T}, layer, G, Y) where {T}
    rows, even = size(G)
    if work.by_blas
        into = block_view(sums, 0, even, layer, even)
        left, right = block_view(G, 0, rows, 0, even), block_view(Y, 0, rows, 0, even)
        BLAS.gemm!('T', 'N', one(T), left, right, one(T), into)
    else
        for c in 1:2:even, r in 1:2:even
            add_four_dots!(sums, layer, G, r, Y, c)
        end
    end
    return nothing
end

function add_four_dots!(sums::Matrix{T}, layer, G, r, Y, c) where {T}
    s11 = s21 = s12 = s22 = zero(T)
    @inbounds @simd for l in axes(G, 1)
        s11 = muladd(G[l, r], Y[l, c], s11)
        s21 = muladd(G[l, r+1], Y[l, c], s21)
        s12 = muladd(G[l, r], Y[l, c+1], s12)
        s22 = muladd(G[l, r+1], Y[l, c+1], s22)
    end
    sums[r, layer+c] += s11
    sums[r+1, layer+c] += s21
    sums[r, layer+c+1] += s12
    sums[r+1, layer+c+1] += s22
end
