# Files as a side reads them: a digest of everything that was read, which both languages compute alike.
# The same file on the Python side is `python/twingrad/reading.py`. The audit of broken files asks for it.

"""
    read_digest(kind, file, folder)

SHA-256 over what is in a file of that kind, a name in `READERS`; of images, `file` is the folder that they are in. The tokens of a
text and the bytes of images are kept in `folder`. An InputError where the file is not as it must be.
"""
function read_digest(kind, file, folder)
    haskey(READERS, kind) ||
        throw(InputError("kind"; expected=one_of(sort!(collect(keys(READERS)))), found=repr(kind)))
    return READERS[kind](file, folder)
end

function digest_of_case(file, _)
    case = read_case(file)
    oracle = something(case.oracle, Dict{String,Array}())
    return digest(["digest" => case.digest], Dict("oracle/$path" => array for (path, array) in oracle))
end

function digest_of_recorded(file, _)
    found = read_recorded(file)
    values = Dict{String,Any}(
        String(name) => getfield(found, name) for name in (:side, :versions, :source_digest, :created)
    )
    values["cases"] = Dict(name => result.case_digest for (name, result) in found.results)
    arrays = Dict(
        "$name/$path" => array for (name, result) in found.results for (path, array) in result.arrays
    )
    return digest_of(values, arrays)
end

function digest_of_training(file, _)
    found = read_training(file)
    names = (:side, :versions, :settings, :iteration, :step_constant, :status)
    return digest_of(Dict(String(name) => getfield(found, name) for name in names), found.arrays)
end

function digest_of_checkpoint(file, _)
    found = read_checkpoint(file)
    names = (:model, :data, :side, :dtype, :versions, :settings, :iteration, :status)
    values = Dict{String,Any}(String(name) => getfield(found, name) for name in names)
    values["config"] = settings_dict(found.config)
    return digest_of(values, found.arrays)
end

function digest_of_images(file, folder)
    found = open_images(file, folder)
    shape = shape_text(reverse(size(found.images)))
    sha = SHA.SHA256_CTX()
    SHA.update!(sha, codeunits("$(found.kind.name)\n$shape\n$(found.train)\n$(found.digest)\n"))
    SHA.update!(sha, vec(found.images))
    SHA.update!(sha, found.labels)
    return bytes2hex(SHA.digest!(sha))
end

function digest_of_text(tokenizer, file, folder)
    found = open_corpus(file, tokenizer, folder)
    sha = SHA.SHA256_CTX()
    SHA.update!(sha, codeunits("$(vocab(found.tokenizer))\n$(length(found.tokens))\n$(found.digest)\n"))
    found.tokenizer isa CharTokenizer && SHA.update!(sha, codeunits(found.tokenizer.characters))
    SHA.update!(sha, collect(reinterpret(UInt8, found.tokens)))
    return bytes2hex(SHA.digest!(sha))
end

digest_of(values, arrays) = digest(["values" => as_text(values)], arrays)

"A value of JSON as text that no other value has: entries in order, floating-point numbers by their bits."
as_text(::Nothing) = "null"
as_text(value::Union{Bool,Integer}) = string(value)
as_text(value::Float64) = "#" * attribute_text(value)
as_text(value::AbstractString) = "$(sizeof(value)):$value"
as_text(values::AbstractVector) = "[" * join(map(as_text, values), ",") * "]"
as_text(value::AbstractDict) =
    "{" * join(("$(as_text(name))=$(as_text(value[name]))" for name in sort!(collect(keys(value)))), ",") *
    "}"

const READERS = Dict{String,Function}(
    "case" => digest_of_case,
    "recorded" => digest_of_recorded,
    "training" => digest_of_training,
    "checkpoint" => digest_of_checkpoint,
    "images" => digest_of_images,
    "char" => (file, folder) -> digest_of_text("char", file, folder),
    "byte" => (file, folder) -> digest_of_text("byte", file, folder),
)
