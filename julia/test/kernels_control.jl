using LinearAlgebra: norm
using Random: Xoshiro
using Test
using TwinGrad
using TwinGrad: ControlKernels, Flux, LANES, METHODS, branchless_tanh, gradient, objective, output!

"A model with random weights, a batch and its labels."
function random_problem(network, method; N=3, d=2, samples=7, scale="mean", T=Float64)
    draw = Xoshiro(1000d + samples)
    arrays =
        (randn(draw, d, d, N) / sqrt(d), randn(draw, d, N), randn(draw, 1, d), randn(draw, 1), rand(draw, N))
    m = ControlNet(ControlNetConfig(network, method, scale), map(a -> T.(a), arrays)...)
    return m, T.(randn(draw, d, samples)), T.(rand(draw, 0:1, samples))
end

apart(a, b) = norm(a .- b) / norm(b)

"Everything an evaluation has, by name."
everything(here) =
    (;
        here.loss,
        here.output,
        x=here.grads_input,
        here.grads.K,
        here.grads.b,
        here.grads.W,
        here.grads.mu,
        here.grads.dt,
    )

"How far the fast path is from the plain one: the worst of loss, predictions and gradients."
function error_of(work, m, x, c)
    exact = map(Flux.f64, (m, x, c))
    plain = automatic_gradient(exact...)
    worst = max(apart(objective(work, m, x, c), plain.loss), apart(output!(work, m, x), plain.output))
    fast = gradient(work, m, x, c)
    return max(worst, maximum(map(apart, everything(fast), everything(plain))))
end

combinations =
    [("net", "euler"); [(n, m) for n in ("resnet", "odenet", "odenet-simplex") for m in METHODS]]

@testset "tanh without branches: $T" for T in (Float64, Float32)
    numbers = T.([range(-20, 20; length=9972); exp.(range(-80, 4; length=9972))])
    exact = tanh.(big.(numbers))
    @test maximum(abs.(branchless_tanh.(numbers) .- exact) ./ abs.(exact)) < 2eps(T)
    @test all(isequal(branchless_tanh(z), z) for z in T[0, -0.0, NaN, nextfloat(zero(T)), -floatmin(T)])
    @test all(branchless_tanh(sign * z) == sign for z in T[30, 1e30, Inf], sign in (-1, 1))
end

@testset "the fast path is the plain one: $network, $method, $product" for (network, method) in combinations,
    product in (:fused, :blas)

    for d in (1, 2, 3, 5, 16), samples in (1, 7, 64, 130), scale in ("mean", "sum")
        m, x, c = random_problem(network, method; d, samples, scale)
        @test error_of(ControlKernels(m, x; product), m, x, c) < 1e-12
    end
end

@testset "however many blocks and threads: $product" for product in (:fused, :blas)
    m, x, c = random_problem("odenet", "kutta3"; d=3, samples=40LANES - 3)
    work = ControlKernels(m, x; product, block=LANES, threads=1)
    @test error_of(work, m, x, c) < 1e-12
    expected = everything(gradient(work, m, x, c))
    for threads in (2, 3, 16)
        @test everything(gradient(ControlKernels(m, x; product, block=LANES, threads), m, x, c)) == expected
    end
    @test error_of(ControlKernels(m, x; product, block=48LANES), m, x, c) < 1e-12
end

@testset "a depth of one, and of many layers" begin
    for N in (1, 40)
        m, x, c = random_problem("odenet", "kutta4"; N)
        m.dt ./= N
        @test error_of(ControlKernels(m, x), m, x, c) < 1e-12
    end
end

@testset "in float32" begin
    for (network, method) in combinations, d in (2, 5), product in (:fused, :blas)
        m, x, c = random_problem(network, method; d, samples=130, T=Float32)
        work = ControlKernels(m, x; product)
        @test error_of(work, m, x, c) < 2e-5
        @test gradient(work, m, x, c).loss isa Float32
    end
end

@testset "room is used again, for other weights too" begin
    for product in (:fused, :blas)
        m, x, c = random_problem("odenet", "kutta4"; d=3, samples=50)
        work = ControlKernels(m, x; product)
        first = map(copy, everything(gradient(work, m, x, c)))
        other, x_other, c_other = random_problem("odenet", "kutta4"; d=3, samples=50)
        other.K .*= -2
        other.dt .*= 0.5
        @test error_of(work, other, 2x_other, 1 .- c_other) < 1e-12
        @test everything(gradient(work, m, x, c)) == first
        allocated(f) = (f(); @allocated f())
        @test allocated(() -> gradient(work, m, x, c).loss) <= 1024 * Threads.nthreads()^2
        @test allocated(() -> objective(work, m, x, c)) <= 1024 * Threads.nthreads()^2
    end
end

@testset "no number comes out where none goes in" begin
    for product in (:fused, :blas), d in (2, 3), wrong in (NaN, Inf)
        m, x, c = random_problem("net", "euler"; d, samples=20)
        work = ControlKernels(m, x; product)
        right = gradient(work, m, x, c).loss
        x[d, 17] = wrong
        @test !isfinite(objective(work, m, x, c)) && !isfinite(gradient(work, m, x, c).loss)
        x[d, 17] = 0.5
        m.b[1, 2] = NaN
        @test !isfinite(objective(work, m, x, c))
        m.b[1, 2] = 0.5
        @test isfinite(objective(work, m, x, c)) && right != objective(work, m, x, c)
    end
end

@testset "other sizes are refused" begin
    m, x, c = random_problem("odenet", "euler"; samples=7)
    work = ControlKernels(m, x)
    @test_throws "x: expected size (2, 7), found (2, 6)" gradient(work, m, x[:, 1:6], c[1:6])
    @test_throws "c: expected size (7,), found (6,)" objective(work, m, x, c[1:6])
    @test_throws "K: expected size (2, 2, 3), found (2, 2, 4)" output!(
        work, first(random_problem("odenet", "euler"; N=4)), x,
    )
    @test_throws "product: expected :fused or :blas, found :loops" ControlKernels(m, x; product=:loops)
end
