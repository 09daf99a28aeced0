using HDF5: HDF5, attributes, delete_attribute, delete_object, h5open
using Random: Xoshiro
using Test
using TwinGrad
using TwinGrad: HEAP, MLPConfig, case_files, parse_json, read_digest, write_checkpoint, write_file

"A checkpoint of a small network."
function checkpoint()
    config = MLPConfig([2, 3, 2], "relu", "cross-entropy")
    sizes = Dict(
        "layers.0.weight" => (2, 3),
        "layers.0.bias" => (3,),
        "layers.1.weight" => (3, 2),
        "layers.1.bias" => (2,),
    )
    arrays = Dict{String,Array}("params/$name" => zeros(Float32, size...) for (name, size) in sizes)
    return TwinGrad.Checkpoint(
        "mlp", config, Dict("images" => 1), "flux", "float32", Dict("language" => "L"), Dict(), 0, "imported",
        arrays,
    )
end

"The bytes after one of several things was done to them."
function corrupted(data, draw)
    data, way = copy(data), rand(draw, 1:5)
    start = rand(draw, eachindex(data))
    part = start:min(length(data), start + rand(draw, (0, 7, 63, 511)))
    way == 1 && (data[start] ⊻= 0x01 << rand(draw, 0:7))
    way == 2 && (data[part] .= 0x00)
    way == 3 && (data[part] .= 0xff)
    way == 4 && (data[part] = rand(draw, UInt8, length(part)))
    way == 5 && resize!(data, start - 1)
    return data
end

@testset "a broken file is refused or read right" begin
    mktempdir() do folder
        case, file = joinpath(folder, "case.h5"), joinpath(folder, "x.h5")
        h5open(first(case_files())) do h5
            arrays = Dict(
                "$group/$name" => read(h5["$group/$name"]) for group in TwinGrad.CASE_GROUPS for
                name in keys(h5[group])
            )
            names = ("format", "format_version", "name", "model", "config", "digest")
            write_file(case, [name => read(attributes(h5)[name]) for name in names], arrays)
        end
        write_checkpoint(joinpath(folder, "checkpoint.h5"), checkpoint())
        for kind in ("case", "checkpoint")
            whole = read(joinpath(folder, "$kind.h5"))
            @test whole[9] == 2 && findfirst(HEAP, whole) === nothing
            write(file, whole)
            right = read_digest(kind, file, folder)
            for seed in 1:40
                write(file, corrupted(whole, Xoshiro(seed)))
                found = try
                    read_digest(kind, file, folder)
                catch error
                    error isa InputError || rethrow()
                    right
                end
                @test found == right
            end
        end
    end
end

"What reading a case without its digests says after `change(h5)`."
function what_is_said(change)
    mktempdir() do folder
        file = joinpath(folder, "case.h5")
        cp(first(filter(contains("control_net"), case_files())), file)
        chmod(file, 0o644)
        h5open(file, "r+") do h5
            foreach(name -> delete_attribute(h5, name), ("digest", "oracle_digest"))
            change(h5)
        end
        return try
            read_case(file)
            "nothing"
        catch error
            error isa InputError || rethrow()
            sprint(showerror, error)
        end
    end
end

@testset "what a case by hand cannot do" begin
    says(words, change) = @test occursin(words, what_is_said(change))
    config(text) = h5 -> (delete_attribute(h5, "config"); attributes(h5)["config"] = text)
    says("nothing", _ -> nothing)
    says("a group with several", h5 -> HDF5.API.h5l_create_hard(h5, "params", h5, "params/more", 0, 0))
    says("a name of A-Z", h5 -> (attributes(h5)["a b"] = 1))
    says("an integer of 64 bits", h5 -> (attributes(h5)["more"] = typemax(UInt64)))
    says(
        "that it cannot hold",
        h5 -> begin
            delete_object(h5, "params/mu")
            HDF5.create_dataset(h5, "params/mu", Float64, (2, 2^40); chunk=(2, 2^10))
        end,
    )
    says("expected a JSON object", config(repeat("[", 10_000)))
    says(
        "layers for 5 arrays, found 1152921504606846976 layers",
        h5 -> begin
            delete_attribute(h5, "model")
            attributes(h5)["model"] = "gpt"
            config("""{"vocab": 2, "context": 2, "layers": $(2^60), "heads": 1, "width": 1}""")(h5)
        end,
    )
end

@testset "JSON that other languages read otherwise" begin
    for text in ("[9223372036854775808]", "1e999", "NaN", "\"\\ud800\"", "{\"a\": [1, \"\\udfff\"]}", "{")
        @test_throws "x: expected a JSON object" parse_json(text, "x")
    end
    @test parse_json("{\"a\": [1, 0.5, null, true, \"é\"]}", "x")["a"] == [1, 0.5, nothing, true, "é"]
end
