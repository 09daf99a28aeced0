# Julia's own tests: `Pkg.test("TwinGrad")`. What both languages must share is tested in `compare/`.
using Aqua: Aqua
using Test: @testset
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
end
