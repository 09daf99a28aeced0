using Test
using TwinGrad
using TwinGrad:
    JSON, VERBS, answer, holder, is_at, locked, new_part, read_file, replacing, try_lock, write_file

const OTHER = "twingrad other --out here"

refusal(f) =
    try
        f()
        "nothing"
    catch error
        error isa InputError || rethrow()
        sprint(showerror, error)
    end

@testset "the second is told who is at work" begin
    mktempdir() do folder
        path = joinpath(folder, "flux")
        says = locked(path, OTHER) do
            @test JSON.parsefile(joinpath(folder, ".flux.lock"))["command"] == OTHER
            @test locked(() -> 3, joinpath(folder, "torch"), OTHER) == 3
            return refusal(() -> locked(() -> @test(false), path, "mine"))
        end
        start = "$path: expected nobody else at work on it, found '$OTHER' (process $(getpid()) on $(gethostname()), since 2"
        @test startswith(says, start)
        @test endswith(says, "Z). Wait until it has ended, or choose another --out.")
        @test isempty(readdir(folder))
        @test_throws ErrorException locked(() -> error("in the work"), path, OTHER)
        @test isempty(readdir(folder))
    end
end

@testset "a holder that cannot be read" begin
    mktempdir() do folder
        file = joinpath(folder, ".x.lock")
        for content in ("", "[", "[1]", "{\"command\": \"c\"}")
            write(file, content)
            @test holder(file) == "another process"
        end
        # What a killed command has left behind locks nothing.
        @test locked(() -> JSON.parsefile(file)["command"], joinpath(folder, "x"), "mine") == "mine"
    end
end

@testset "a folder that takes no lock file" begin
    @test locked(() -> 3, "/no/such/folder/x", "c") == 3
    Sys.islinux() && @test locked(() -> 3, "/proc/x", "c") == 3
end

@testset "killed writers leave nothing in the way, others are left alone" begin
    mktempdir() do folder
        path = joinpath(folder, "x.h5")
        write(joinpath(folder, ".x.h5.killed.part"), "half")
        write(joinpath(folder, ".y.h5.killed.part"), "another file's")
        replacing(path) do first
            replacing(path) do second
                @test sort(readdir(folder)) == sort([basename(first), basename(second), ".y.h5.killed.part"])
                write(second, "second")
            end
            write(first, "first")
        end
        @test readdir(folder) == [".y.h5.killed.part", "x.h5"] && read(path, String) == "first"
        handle, part = new_part(path)
        @test is_at(handle, part) && try_lock(handle; shared=true)
        rm(part)
        @test !is_at(handle, part)
        close(handle)
    end
end

"Call `use(folder)` with a folder on a disk of 64 kB, where this process may make one."
function with_small_disk(use)
    mktempdir() do folder
        mounted = Sys.islinux() && success(ignorestatus(`mount -t tmpfs -o size=64k none $folder`))
        mounted || return @test_skip "nobody but root can mount a small disk"
        try
            use(folder)
        finally
            run(`umount --lazy $folder`)
        end
    end
end

@testset "a full disk leaves the old file whole" begin
    with_small_disk() do folder
        file = joinpath(folder, "x.h5")
        attrs = ["format" => "x", "format_version" => 1]
        write_file(file, attrs, Dict("a" => [1.0, 2.0]))
        before = read(file)
        for size in (2^13, 2^16)
            says = refusal(() -> write_file(file, attrs, Dict("a" => rand(size))))
            @test says == "$file: expected a place to write to, found No space left on device"
            @test read(file) == before && readdir(folder) == ["x.h5"]
        end
        @test read_file(file, "x").arrays["a"] == [1.0, 2.0]
        run(`mount -o remount,ro $folder`)
        @test occursin("ead-only file system", refusal(() -> write_file(file, attrs, Dict("a" => [3.0]))))
        @test locked(() -> 3, file, "c") == 3
    end
end

@testset "out of memory is a failure that is named" begin
    fill_memory(arguments, progress) = throw(OutOfMemoryError())
    VERBS["fill"] = fill_memory
    try
        kind, reply = redirect_stderr(() -> answer(Dict("verb" => "fill"), identity), devnull)
        @test kind == "error" && reply["kind"] == "failure"
        @test startswith(reply["message"], "OutOfMemoryError")
    finally
        delete!(VERBS, "fill")
    end
end
