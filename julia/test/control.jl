using LinearAlgebra: norm
using Random: Xoshiro
using Test
using TwinGrad
using TwinGrad: Costate, Descent, TABLEAUS, adjoint_coefficients, costate_gradient!, descend!,
    forward!, objective,
    project_simplex, step, trained_params

function random_problem(network, method; N=4, d=3, samples=7, scale="mean", T=Float64)
    draw = Xoshiro(1)
    arrays = (randn(draw, d, d, N), randn(draw, d, N), randn(draw, 1, d), randn(draw, 1), rand(draw, N))
    m = ControlNet(ControlNetConfig(network, method, scale), map(a -> T.(a), arrays)...)
    return m, T.(randn(draw, d, samples)), T.(rand(draw, 0:1, samples))
end

relative(a, b) = norm(a .- b) / norm(b)
names = (:K, :b, :W, :mu, :dt)
combinations =
    [("net", "euler"); [(n, m) for n in ("resnet", "odenet", "odenet-simplex") for m in keys(TABLEAUS)]]

@testset "tableau $method" for (method, tableau) in TABLEAUS
    w, partner = tableau.w, adjoint_coefficients(tableau)
    A = [[row; zeros(length(w) - length(row))] for row in tableau.A]
    @test sum(w) ≈ 1
    for i in eachindex(w), j in eachindex(w)
        # Written forwards, the partner has ā_ij = w_j - ã_ij.
        @test w[i] * (w[j] - partner[i][j]) + w[j] * A[j][i] ≈ w[i] * w[j]
    end
end

@testset "order of $method" for (method, order) in
                                ("euler" => 1, "improved-euler" => 2, "kutta3" => 3, "kutta4" => 4)
    K, b, start = [0.3 -1.2; 0.9 0.4], [0.1, -0.3], [1.0; -0.5;;]
    flow(tableau, steps) =
        foldl((y, _) -> step(tableau, Y -> tanh.(K * Y .+ b), y, [1 / steps], 1.0), 1:steps; init=start)
    exact = flow(TABLEAUS["kutta4"], 1000)
    errors = [norm(flow(TABLEAUS[method], steps) - exact) for steps in (16, 32)]
    @test log2(errors[1] / errors[2]) ≈ order atol = 0.15
end

@testset "costate gradient is Zygote's: $network, $method" for (network, method) in combinations
    for (N, d, samples) in ((1, 1, 1), (4, 3, 7), (2, 5, 1), (9, 2, 30))
        m, x, c = random_problem(network, method; N, d, samples, scale=N == 9 ? "sum" : "mean")
        work = Costate(m, x)
        by_hand, automatic = costate_gradient!(work, m, x, c), automatic_gradient(m, x, c)
        @test by_hand.loss ≈ automatic.loss rtol = 1e-13
        @test by_hand.output ≈ m(x) rtol = 1e-13
        for name in names
            @test relative(by_hand.grads[name], automatic.grads[name]) < 1e-12
        end
        @test relative(by_hand.grads_input, automatic.grads_input) < 1e-12
    end
end

@testset "finite differences: $network, $method" for (network, method) in combinations
    m, x, c = random_problem(network, method)
    grads = automatic_gradient(m, x, c).grads
    for name in names
        v = randn(Xoshiro(2), size(getfield(m, name)))
        function moved(h)
            changed = deepcopy(m)
            getfield(changed, name) .+= h .* v
            return loss(changed, changed(x), c)
        end
        h = 1e-3
        difference = (8 * (moved(h) - moved(-h)) - (moved(2h) - moved(-2h))) / 12h
        @test sum(grads[name] .* v) ≈ difference rtol = 1e-8 atol = 1e-10
    end
end

@testset "the costate gradient allocates nothing: $method, $T" for method in keys(TABLEAUS),
    T in (Float64, Float32)

    m, x, c = random_problem("odenet", method; N=20, d=2, samples=50, T)
    work = Costate(m, x)
    allocated(f) = (f(); f(); @allocated f())
    @test allocated(() -> costate_gradient!(work, m, x, c).loss) <= 64  # the closure's own result
    @test allocated(() -> forward!(work, m, x, c)) <= 64
end

@testset "float32 stays float32" begin
    m, x, c = random_problem("odenet", "kutta4"; T=Float32)
    @test eltype(m(x)) == Float32
    automatic = automatic_gradient(m, x, c)
    @test automatic.loss isa Float32
    @test all(eltype(automatic.grads[name]) == Float32 for name in names)
end

@testset "states" begin
    m, x, _ = random_problem("odenet", "kutta3")
    ys = states(m, x)
    @test length(ys) == 5 && ys[1] == x
    @test TwinGrad.classify(m, ys[end]) ≈ m(x)
end

@testset "simplex" begin
    @test project_simplex([0.1, 2.0, -1.0, 0.7, 1.9]) ≈ [0, 0.55, 0, 0, 0.45]
    for n in (1, 2, 5, 40)
        v = 2 .* randn(Xoshiro(n), n)
        x = project_simplex(v)
        @test minimum(x) >= 0 && sum(x) ≈ 1
        theta = (v.-x)[x.>0]
        @test maximum(theta) - minimum(theta) < 1e-13
        @test all((v.-x)[x.==0] .<= maximum(theta) + 1e-13)
    end
end

@testset "descent: $network" for (network, method) in
                                 (("net", "euler"), ("resnet", "kutta3"), ("odenet-simplex", "euler"))
    m, x, c = random_problem(network, method)
    network == "odenet-simplex" && (m.dt .= project_simplex(m.dt))
    frozen = (copy(m.W), copy(m.mu))
    for way in (Costate(m, x), Reference())
        descent = Descent(m, way, x, c, trained_params(m.config, ["W", "mu"]))
        before = objective(way, m, x, c)
        for _ in 1:15
            taken = descend!(descent)
            @test taken[1] ≈ before && taken[2] <= taken[1]
            @test descent.step_constant == 0.99 * taken[3]
            before = taken[2]
        end
    end
    @test (m.W, m.mu) == frozen
    network == "odenet-simplex" && @test sum(m.dt) ≈ 1
end
