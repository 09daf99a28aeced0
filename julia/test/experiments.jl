using LinearAlgebra: norm
using Test
using TwinGrad
using TwinGrad: Flow, METHODS, Stream, build, control_settings, convergence, flow_of, gpt_params, logits,
    normal,
    planar, random_flow, read_file, refined, residual_stream, solve, train_control, trained_flow,
    write_convergence

settings = Dict{String,Any}("seed" => 1, "layers" => 2, "dataset" => "spiral2d", "points" => 5)
steps = [1, 2, 4, 8, 16]

@testset "every method shows its order" begin
    found = convergence(flow_of(settings), steps)
    for (method, order) in zip(("euler", "improved-euler", "kutta3", "kutta4"), 1:4),
        kind in ("state", "gradient")

        errors = found["$method/$(kind)_errors"]
        @test log2(errors[end-1] / errors[end]) ≈ order atol = 0.1
    end
    @test found["reference/state_check"][] < 1e-10 && found["reference/gradient_check"][] < 1e-10
    @test size(found["euler/states"]) == (2, 5, 5) && size(found["euler/gradients"]) == (3, 2, 2, 5)
    mktempdir() do folder
        file = joinpath(folder, "a.h5")
        write_convergence(file, found, Dict("language" => "Tongue"))
        @test read_file(file, "twingrad-convergence").arrays == found
    end
end

@testset "the reference is the flow in closed form" begin
    # Where K is diagonal, u = k y + b obeys u' = k tanh u, which is sinh u(t) = exp(k t) sinh u(0).
    k, b, dt = [0.9 0.4; -1.3 1.1], [0.2 -0.5; -0.1 0.3], [0.5, 0.25]
    x, c = planar("spiral2d", "test", 6, 1)
    K = [i == j ? k[i, layer] : 0.0 for i in 1:2, j in 1:2, layer in 1:2]
    exact = x
    for layer in 1:2
        rate, shift = k[:, layer], b[:, layer]
        exact = (asinh.(exp.(rate .* dt[layer]) .* sinh.(rate .* exact .+ shift)) .- shift) ./ rate
    end
    params = Dict{String,Array}("K" => K, "b" => b, "W" => ones(2, 1), "mu" => zeros(1), "dt" => dt)
    found = convergence(Flow(params, x, c), [1, 16])
    error = maximum(abs, found["reference/state"] .- exact) / maximum(abs, exact)
    @test error < 2e-12
    @test found["reference/state_check"][] ≈ 15 * error rtol = 0.05  # order 4: 16 times the error, less it
    for method in METHODS, (place, final) in enumerate(eachslice(found["$method/states"]; dims=3))
        expected = maximum(abs, final .- exact) / maximum(abs, exact)
        @test found["$method/state_errors"][place] ≈ expected rtol = 1e-3 atol = 2e-12
    end
end

@testset "the gradient is the derivative by the controls of the flow" begin
    flow, h = random_flow(3, 2, "donut2d", 5), 1e-5
    _, gradient = solve(flow, "kutta3", 4)
    direction = reshape(normal(Stream(3, "direction"), length(gradient)), size(gradient))
    function value(h)
        params = copy(flow.params)
        params["K"], params["b"] =
            params["K"] .+ h .* direction[1:2, :, :], params["b"] .+ h .* direction[3, :, :]
        net = refined(Flow(params, flow.x, flow.c), "kutta3", 4)
        return loss(net, net(flow.x), flow.c)
    end
    @test sum(gradient .* direction) ≈ (value(h) - value(-h)) / 2h rtol = 1e-8
end

@testset "refinement leaves the controls and the time alone" begin
    flow = random_flow(2, 3, "donut2d", 1)
    fine = refined(flow, "euler", 4)
    @test size(fine.K, 3) == 12
    for k in 1:12
        layer = cld(k, 4)
        @test fine.K[:, :, k] == transpose(flow.params["K"][:, :, layer])
        @test fine.b[:, k] == flow.params["b"][:, layer]
        @test fine.dt[k] == 1 / 3 / 4
    end
end

@testset "random flows are what FORMAT.md says" begin
    flow = random_flow(7, 2, "spiral2d", 5)
    for (name, count) in ("K" => 8, "b" => 4, "W" => 2)
        @test vec(flow.params[name]) == normal(Stream(7, "depth/$name"), count)
    end
    @test flow.params["mu"] == [0.0] && flow.params["dt"] == [0.5, 0.5]
    @test (flow.x, flow.c) == planar("spiral2d", "test", 5, 7)
end

@testset "flows of trained networks" begin
    small = Dict("dataset" => "spiral2d", "layers" => 3, "d" => 3, "samples" => 30, "samples_test" => 20)
    mktempdir() do folder
        train(name, changes...) =
            train_control(
                control_settings(merge(small, Dict(changes...))),
                5,
                joinpath(folder, name);
                versions=Dict{String,Any}(),
            )
        trained = train("odenet.h5", "method" => "kutta3")
        flow = flow_of(Dict("checkpoint" => joinpath(folder, "odenet.h5"), "points" => 20))
        final, gradient = solve(flow, "kutta3", 1)
        @test final ≈ trained.arrays["picture/trajectories"][:, :, end] atol = 1e-14
        @test flow.c == trained.arrays["picture/c"]
        @test size(gradient) == (4, 3, 3)
        train("net.h5", "network" => "net")
        @test_throws "setting network: expected a network that discretises a flow" trained_flow(
            joinpath(folder, "net.h5"),
            5,
        )
        @test_throws "found no such file" trained_flow(joinpath(folder, "none.h5"), 5)
    end
end

@testset "a mini-GPT is one step of its own splitting, and goes to its flow: $splitting, $time_steps" for (
    splitting,
    time_steps,
) in (
    ("lie", "fixed"), ("strang", "learned"),
)
    config = GPTConfig(; vocab=7, context=4, layers=2, heads=2, width=4, dt=0.2, splitting, time_steps)
    draw(name, spec) = 0.4 .* reshape(normal(Stream(1, name), prod(spec.dims)), reverse(spec.dims))
    params = Dict{String,Array}(name => draw(name, spec) for (name, spec) in gpt_params(config))
    time_steps == "learned" && (params["dt"] = [0.1, 0.3])
    m = build("gpt", config, params, Float64)
    tokens, targets = [1 2; 3 4; 5 6; 7 1], [3 4; 5 6; 7 1; 1 2]
    found = residual_stream(m, tokens, targets, [1, 2, 4, 8])
    @test size(found["states"]) == (4, 4, 2, splitting == "strang" ? 7 : 5)
    @test logits(m, found["states"][:, :, :, end]) ≈ m(tokens) rtol = 1e-14
    @test found["$splitting/final"][:, :, :, 1] ≈ found["states"][:, :, :, end] rtol = 1e-14
    @test found["loss"][] ≈ found["$splitting/losses"][1] rtol = 1e-14
    errors(name) =
        [norm(x - found["reference/final"]) for x in eachslice(found["$name/final"]; dims=4)]
    for (name, ratio) in ("lie" => 2, "strang" => 2, "strang-heun" => 4, "unsplit" => 2)
        @test errors(name)[3] / errors(name)[4] ≈ ratio rtol = 0.2
    end
end
