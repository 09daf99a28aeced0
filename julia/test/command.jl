using Test
using TwinGrad
using TwinGrad: ArgParse, case_files, command_line, main, parse_args, read_file, root, stem

"(exit status, stdout, stderr) of the command."
function command(arguments...)
    mktempdir() do folder
        out, err = joinpath(folder, "out"), joinpath(folder, "err")
        status = redirect_stdio(() -> main(collect(String, arguments)); stdout=out, stderr=err)
        return status, read(out, String), read(err, String)
    end
end

@testset "run" begin
    mktempdir() do folder
        file, out = first(case_files()), joinpath(folder, "out.h5")
        @test command("run", "--case", file, "--out", out, "--steps", "2")[1] == 0
        result = read_file(out, "twingrad-result")
        @test result.arrays["grads/K"] ≈ read_case(file).oracle["grads/K"] rtol = 1e-12
        @test length(result.arrays["steps/descent/losses"]) == 2
        @test result.attributes["side"] == "flux"
    end
end

@testset "compare with the recorded results of PyTorch" begin
    status, out, _ = command("compare", stem(first(case_files())))
    @test status == 0
    @test occursin("AGREE", out) && occursin("PyTorch RECORDED on", out)
    @test command("compare", stem(first(case_files())), "--steps", "0")[1] == 0
end

@testset "train control" begin
    mktempdir() do folder
        options =
            ("--out", folder, "--iterations", "3", "--layers", "2", "--samples", "20", "--samples-test", "10")
        status, out, _ = command("train", "control", options...)
        @test status == 0 && occursin("complete after 3 iterations", out)
        @test readdir(folder) == ["flux.h5"]
    end
end

@testset "attack" begin
    mktempdir() do folder
        small =
            ("--out", folder, "--iterations", "2", "--layers", "2", "--samples", "20", "--samples-test", "10")
        command("train", "control", small...)
        status, out, _ = command("attack", "--checkpoint", folder, "--epsilon", "0.5", "0.1", "--count", "4")
        lines = split(out, '\n'; keepempty=false)
        @test status == 0 && first(lines) == "      ε  accuracy"
        @test [first(split(line)) for line in lines[2:4]] == ["0", "0.1", "0.5"]
        @test all(line -> 0 <= parse(Float64, last(split(line))) <= 1, lines[2:4])
        @test lines[5] == "FGSM in float64: 4 test samples of $(joinpath(folder, "flux.h5"))"
        for (option, value, says) in (
            ("--epsilon", "NaN", "epsilon: expected finite numbers from 0 on, found NaN"),
            ("--count", "-1", "count: expected a number from 0 on, found -1"),
            ("--data", folder, "data: expected no images"),
        )
            status, _, err = command("attack", "--checkpoint", folder, option, value)
            @test status == 2 && occursin(says, err)
        end
    end
end

@testset "bad input is one line and exit status 2" begin
    for (words, arguments) in (
        "no-such.h5: expected a file of format twingrad-case" =>
            ("run", "--case", "no-such.h5", "--out", "x.h5"),
        "side: expected flux" => ("run", "--side", "torch", "--case", "x.h5", "--out", "x.h5"),
        "dataset: expected one of" => ("train", "control", "--out", "/tmp", "--dataset", "moons"),
        "steps: expected 0 or 10, as recorded, found 5" => ("compare", "--steps", "5"),
        "dtype: expected one of float64, float32" =>
            ("run", "--case", first(case_files()), "--out", "x.h5", "--dtype", "half"),
    )
        status, out, err = command(arguments...)
        @test status == 2
        @test occursin(words, err) && count('\n', err) == 1 && isempty(out)
    end
end

@testset "doctor" begin
    status, out, _ = command("doctor")
    @test status == 0 && occursin("Flux", out) && occursin("HDF5.jl", out)
end

"The command's settings, which throw where the command itself would print its usage and exit."
function throwing(settings=command_line())
    settings.exc_handler = (_, error) -> throw(error)
    foreach(throwing, values(settings.args_table.subsettings))
    return settings
end

@testset "the commands that the guide prints parse" begin
    settings, found = throwing(), 0
    pages = filter(endswith(".md"), readdir(joinpath(root(), "docs"); join=true))
    for page in [joinpath(root(), "README.md"); pages], line in eachline(page)
        printed = match(r"^julia --project=\. julia/twingrad\.jl (.*?)( +#.*)?$", line)
        printed === nothing && continue
        words = Base.shell_split(printed[1])
        "..." in words && continue
        @test parse_args(words, settings) isa Dict
        found += 1
    end
    @test found > 10
end

@testset "a command that is none does not parse" begin
    for wrong in (["compair"], ["compare", "--stepps", "3"], ["train", "gpt", "--presett", "cpu"])
        @test_throws ArgParse.ArgParseError parse_args(wrong, throwing())
    end
end
