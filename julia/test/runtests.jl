# Julia's own tests: `Pkg.test("TwinGrad")`. What both languages must share is tested in `compare/`.
using Aqua: Aqua
using Test: @test, @testset
using TwinGrad: TwinGrad

@testset "TwinGrad" begin
    @testset "package" begin
        Aqua.test_all(TwinGrad)
    end
    for part in (
        "random_numbers",
        "text",
        "images",
        "control",
        "optimizers",
        "gpt",
        "classifier",
        "adversarial",
        "models",
        "kernels",
        "kernels_control",
        "kernels_resnet",
        "format",
        "broken_files",
        "lock",
        "comparator",
        "training",
        "experiments",
        "bench",
        "command",
        "tutorial",
        "notebook",
    )
        @testset "$part" begin
            # Each in a module of its own: what one file defines, no other sees.
            Base.include(Module(Symbol(part, "_tests")), joinpath(@__DIR__, "$part.jl"))
        end
    end
    @testset "conventions" begin
        # Interpreted, in a process of its own: small arrays, but a minute of compilation.
        tests = "using Test; @testset \"conventions\" begin include($(repr(joinpath(@__DIR__, "conventions.jl")))) end"
        interpreted = `$(Base.julia_cmd()) --startup-file=no --compile=min -O0 --project=$(Base.active_project()) -e $tests`
        @test success(pipeline(interpreted; stdout, stderr))
    end
end
