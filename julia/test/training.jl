using Test
using TwinGrad
using TwinGrad: DEFAULT_SETTINGS, control_settings, read_training, train_control, write_training

small = Dict{String,Any}("dataset" => "spiral2d", "layers" => 3, "samples" => 30, "samples_test" => 20)
run_training(file, iterations; changes...) = train_control(
    control_settings(merge(small, Dict{String,Any}(String(k) => v for (k, v) in changes))), iterations,
    file; versions=Dict{String,Any}(),
)

@testset "resumed equals uninterrupted: $network, $gradient" for network in ("resnet", "odenet-simplex"),
    gradient in ("manual", "ad")

    mktempdir() do folder
        whole = run_training(joinpath(folder, "whole.h5"), 23; network, gradient)
        parts = nothing
        for iterations in (4, 11, 23)
            parts = run_training(joinpath(folder, "parts.h5"), iterations; network, gradient)
        end
        @test whole.arrays == parts.arrays
        @test (whole.iteration, whole.step_constant, whole.status) ==
              (parts.iteration, parts.step_constant, parts.status)
        @test read_training(joinpath(folder, "whole.h5")).arrays == whole.arrays
        @test issorted(whole.arrays["history/objective"]; rev=true)
    end
end

@testset "the first time step of a $network" for (network, own) in
                                                 ("resnet" => 1 / 3, "odenet" => 1 / 3, "net" => 1.0)
    mktempdir() do folder
        @test all(==(own), run_training(joinpath(folder, "own.h5"), 6; network).arrays["initial/dt"])
        network == "net" && return
        trained = run_training(joinpath(folder, "set.h5"), 6; network, dt=0.1)
        @test all(==(0.1), trained.arrays["initial/dt"])
        @test all(==(0.1), trained.arrays["params/dt"]) == (network == "resnet")
    end
end

@testset "a file from before a setting goes on" begin
    mktempdir() do folder
        file = joinpath(folder, "parts.h5")
        whole = run_training(joinpath(folder, "whole.h5"), 9)
        first_part = run_training(file, 4)
        delete!(first_part.settings, "dt")
        write_training(file, first_part)
        @test_throws "setting dt: expected 0.5, found 0.0" run_training(file, 9; dt=0.5)
        @test run_training(file, 9).arrays == whole.arrays
    end
end

@testset "another training in the file is refused" begin
    mktempdir() do folder
        file = joinpath(folder, "flux.h5")
        run_training(file, 5)
        @test_throws "setting seed: expected 2, found 1. Choose another --out" run_training(file, 5; seed=2)
        @test_throws "attribute iteration: expected at most 3, found 5" run_training(file, 3)
    end
end

@testset "bad settings" begin
    bad(words, changes...) = @test_throws words control_settings(Dict(changes...))
    bad(
        "dataset: expected one of donut1d, donut2d, spiral2d, squares2d, found \"moons\"",
        "dataset" => "moons",
    )
    bad("network: expected one of net", "network" => "unet")
    bad("method: expected one of euler", "method" => "rk4")
    bad("layers: expected an integer, at least 1, found 0", "layers" => 0)
    bad("dt: expected a number, at least 0", "dt" => -0.1)
    bad("dt: expected a number, at least 0", "dt" => Inf)
    bad(
        "dt: expected 0, since network 'net' starts from time steps of 1, found 0.1",
        "network" => "net",
        "dt" => 0.1,
    )
    bad("dt: expected 0, since network 'odenet-simplex'", "network" => "odenet-simplex", "dt" => 0.1)
    bad("freeze: expected among", "freeze" => ["Q"])
    bad("is no time discretisation", "network" => "net", "method" => "kutta4")
    bad("colour: expected only", "colour" => "red")
end
