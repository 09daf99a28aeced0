using HDF5: attributes, delete_attribute, delete_object, h5open
using Test
using TwinGrad
using TwinGrad:
    case_files,
    digest,
    read_recorded,
    recorded_file,
    shared_file,
    shared_fixtures,
    source_digest,
    stem,
    write_file

"Copy a case, change it in `change(h5)` after dropping its digest, and return what reading it says."
function what_is_said(change; keep_digest=false)
    mktempdir() do folder
        file = joinpath(folder, "case.h5")
        cp(joinpath(shared_fixtures(), "cases", "control_net-odenet-euler-donut1d.h5"), file)
        chmod(file, 0o644)
        h5open(file, "r+") do h5
            keep_digest || delete_attribute(h5, "digest")
            change(h5)
        end
        try
            read_case(file)
            "nothing"
        catch error
            error isa InputError || rethrow()
            @test startswith(sprint(showerror, error), file)
            sprint(showerror, error)
        end
    end
end

function replace_array(h5, name, value)
    delete_object(h5, name)
    h5[name] = value
end
function replace_attribute(h5, name, value)
    delete_attribute(h5, name)
    attributes(h5)[name] = value
end

@testset "every case reads" begin
    for file in case_files()
        case = read_case(file)
        @test case.name == stem(file) && case.oracle !== nothing
    end
end

@testset "damaged cases get one clear error" begin
    @test what_is_said(_ -> nothing) == "nothing"
    says(words, change; keep_digest=false) = @test occursin(words, what_is_said(change; keep_digest))
    says("/params/b: expected float64 array (N, d), found no such entry", h5 -> delete_object(h5, "params/b"))
    says("/params/extra: expected only K, b, W, mu, dt", h5 -> (h5["params/extra"] = [1.0]))
    says("/more/x: expected only", h5 -> (h5["more/x"] = [1.0]))
    says(
        "/params/b: expected shape (N, d) = (5, 2), found shape (5, 3)",
        h5 -> replace_array(h5, "params/b", zeros(3, 5)),
    )
    says(
        "/params/mu: expected dtype float64, found dtype float32",
        h5 -> replace_array(h5, "params/mu", zeros(Float32, 1)),
    )
    says("/params/mu: expected dtype", h5 -> replace_array(h5, "params/mu", "zero"))
    says(
        "/params/mu: expected finite numbers, found NaN at index (0)",
        h5 -> replace_array(h5, "params/mu", [NaN]),
    )
    says(
        "/targets/c: expected labels 0 or 1, found 2.0 at index 0",
        h5 -> replace_array(h5, "targets/c", fill(2.0, 24)),
    )
    says(
        "attribute format: expected \"twingrad-case\", found \"other\"",
        h5 -> replace_attribute(h5, "format", "other"),
    )
    says("attribute format_version: expected 1, found 2", h5 -> replace_attribute(h5, "format_version", 2))
    says("attribute model: expected one of control_net", h5 -> replace_attribute(h5, "model", "unet"))
    says("attribute config: expected a JSON object", h5 -> replace_attribute(h5, "config", "{network"))
    says("attribute colour: expected only", h5 -> (attributes(h5)["colour"] = "red"))
    settings(network, method) = "{\"network\": \"$network\", \"method\": \"$method\", \"scale\": \"mean\"}"
    says(
        "config, method: expected one of euler",
        h5 -> replace_attribute(h5, "config", settings("resnet", "rk4")),
    )
    says(
        "config, network: expected one of net",
        h5 -> replace_attribute(h5, "config", settings("unet", "euler")),
    )
    says("is no time discretisation", h5 -> replace_attribute(h5, "config", settings("net", "kutta4")))
    says(
        "/params/dt: expected every time step 0.2",
        h5 -> replace_attribute(h5, "config", settings("resnet", "euler")),
    )
    says("attribute digest: expected", h5 -> (h5["params/mu"][1] = 7.0); keep_digest=true)
    says("attribute oracle_digest: expected", h5 -> (h5["oracle/grads/mu"][1] = 7.0); keep_digest=true)
end

@testset "truncated, foreign and missing files" begin
    mktempdir() do folder
        file, whole = joinpath(folder, "case.h5"), read(first(case_files()))
        for share in (0.0, 0.3, 0.6, 0.95)
            write(file, whole[1:floor(Int, share * length(whole))])
            @test_throws "expected a whole HDF5 file, found a damaged or foreign one" read_case(file)
        end
        @test_throws "found no such file" read_case(joinpath(folder, "none.h5"))
        @test_throws "expected a place to write to" write_file(joinpath(folder, "none", "x.h5"), [], Dict())
        @test readdir(folder) == ["case.h5"]
    end
end

@testset "recorded results" begin
    for side in ("torch", "flux")
        @test length(read_recorded(recorded_file(side)).results) == length(case_files())
    end
    digests = Dict(stem(file) => read_case(file).digest for file in case_files())
    @test read_recorded(recorded_file("torch")).source_digest == source_digest("torch", digests)
end

@testset "Pkg adds this package alone: what it trains with is beside it, and cases are told to be missing" begin
    mktempdir() do folder
        withenv("TWINGRAD_ROOT" => nothing) do
            @test shared_file("digits", folder) == joinpath(folder, "share", "digits")
            @test shared_file("digits") == joinpath(shared_fixtures(), "digits")
            package = dirname(dirname(pathof(TwinGrad)))
            @test read(joinpath(package, "share", "presets.toml")) == read(shared_file("presets.toml"))
        end
        withenv("TWINGRAD_ROOT" => folder) do
            @test_throws "Clone the repository and set TWINGRAD_ROOT" case_files()
            @test_throws "Clone the repository and set TWINGRAD_ROOT" shared_file("digits")
        end
    end
end

@testset "digest covers names, types, shapes and values" begin
    base = digest(["a" => "b"], Dict("x" => [1.0 2.0]))
    @test base != digest(["a" => "c"], Dict("x" => [1.0 2.0]))
    @test base != digest(["a" => "b"], Dict("y" => [1.0 2.0]))
    @test base != digest(["a" => "b"], Dict("x" => [1.0; 2.0;;]))
    @test base != digest(["a" => "b"], Dict("x" => [1.0 2.5]))
    @test base != digest(["a" => "b"], Dict("x" => Int64[1 2]))
end
