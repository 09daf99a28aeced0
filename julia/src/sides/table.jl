# The table of sides, `shared_fixtures/sides.toml`, and what identifies a side's sources.
# The same file on the Python side is `python/twingrad/sides/table.py`.

using TOML: TOML

"The table of sides: name => title, command, needs, sources."
sides() = TOML.parsefile(joinpath(shared_fixtures(), "sides.toml"))

const PYTHON_SOURCES = "python/twingrad/"

"""
Where a file or folder of the repository is. A wheel of the Python package carries the repository's files in a folder of
its own, `twingrad/checkout`, beside the Python sources.
"""
function place(path)
    carried = startswith(path, PYTHON_SOURCES) && !isdir(joinpath(root(), PYTHON_SOURCES))
    return carried ? joinpath(dirname(root()), chopprefix(path, PYTHON_SOURCES)) : joinpath(root(), path)
end

"The paths of a side's source files from the root, in their order."
function source_files(side)
    files = String[]
    for pattern in sides()[side]["sources"]
        folder, name = dirname(pattern), basename(pattern)
        match = Regex("^" * replace(name, "." => "\\.", "*" => ".*") * "\$")
        append!(files, ["$folder/$file" for file in readdir(place(folder)) if occursin(match, file)])
    end
    return sort!(unique!(files))
end

"SHA-256 over a side's sources and the given cases (FORMAT.md, \"Digests\")."
function source_digest(side, case_digests)
    sha = SHA.SHA256_CTX()
    update(text) = SHA.update!(sha, Vector{UInt8}(text))
    for file in source_files(side)
        content = replace(read(place(file), String), "\r\n" => "\n")
        update("$file=$(bytes2hex(SHA.sha256(content)))\n")
    end
    for name in sort!(collect(keys(case_digests)))
        update("$name=$(case_digests[name])\n")
    end
    return bytes2hex(SHA.digest!(sha))
end
