# Texts as sequences of tokens: two tokenizers, and corpora that stay on the disk.
#
# Specified in `shared_fixtures/FORMAT.md`, "Text"; the same file on the Python side is
# `python/twingrad/data/text.py`, and both write the same tokens file byte for byte. Token ids count from 0 here as
# they do in the files; `batches.jl` adds the one that makes them places in Julia's arrays.

using Mmap: Mmap
using SHA: SHA

const TOKENIZER_KINDS = ("char", "byte")
const MOST_CHARACTERS = 2^16  # an id is kept in 16 bits
const CODE_POINTS = 0x110000
const CHUNK_BYTES = 2^20
const TAKE_BYTES = "`--tokenizer byte` takes any bytes."

"""
    CharTokenizer(characters)

One token for one Unicode character; its id is its place, from 0, in `characters`, which stand in code point order.
"""
struct CharTokenizer
    characters::String
end

"""
    ByteTokenizer()

One token for one byte of the text in UTF-8; its id is the byte.
"""
struct ByteTokenizer end

const Tokenizer = Union{CharTokenizer,ByteTokenizer}

"How many ids there are."
vocab(tokenizer::CharTokenizer) = length(tokenizer.characters)
vocab(::ByteTokenizer) = 256

"""
    encode(tokenizer, text, where="prompt")

The ids of a text, which count from 0; an InputError naming `where` for a character without an id.
"""
function encode(tokenizer::CharTokenizer, text, where="prompt")
    ids = ids_of_characters(tokenizer.characters)
    for (i, character) in enumerate(text)
        haskey(ids, character) || throw(
            InputError(
                where;
                expected="characters of the vocabulary",
                found="$(repr(character)) at position $(i - 1)",
                hint="The vocabulary holds $(vocab(tokenizer)) different characters.",
            ),
        )
    end
    return [Int(ids[character]) for character in text]
end
encode(::ByteTokenizer, text, where="prompt") = Int.(codeunits(text))

ids_of_characters(characters) = Dict(character => UInt16(i - 1) for (i, character) in enumerate(characters))

"""
    decode(tokenizer, ids)

The text of ids that count from 0, with � where bytes are no UTF-8; an InputError for an id outside 0 .. vocab - 1.
"""
function decode(tokenizer::CharTokenizer, ids)
    check_ids(ids, vocab(tokenizer))
    characters = collect(tokenizer.characters)
    return join(characters[id+1] for id in ids)
end
function decode(tokenizer::ByteTokenizer, ids)
    check_ids(ids, vocab(tokenizer))
    return replace_foreign(UInt8.(ids))
end

function check_ids(ids, vocab)
    wrong = findfirst(id -> !(0 <= id < vocab), ids)
    wrong === nothing && return
    found = "$(ids[wrong]) at position $(wrong - 1)"
    throw(InputError("token ids"; expected="numbers from 0 to $(vocab - 1)", found))
end

"Text of any bytes as Python decodes it: � for a character cut short, and for every other byte that is no UTF-8."
function replace_foreign(bytes)
    text = String(bytes)
    isvalid(text) && return text
    output = IOBuffer()
    for character in text
        if isvalid(character)
            print(output, character)
        else
            part = codeunits(string(character))
            whole = part[1] >= 0xf0 ? 4 : part[1] >= 0xe0 ? 3 : 2
            cut_short = isvalid(String([part; fill(0x80, max(0, whole - length(part)))]))
            print(output, "�"^(cut_short ? 1 : length(part)))
        end
    end
    return String(take!(output))
end

"What `tokenizer_from_json` takes."
tokenizer_json(tokenizer::CharTokenizer) = Dict("kind" => "char", "characters" => tokenizer.characters)
tokenizer_json(::ByteTokenizer) = Dict("kind" => "byte")

"""
    tokenizer_from_json(value, where)

The tokenizer that `tokenizer_json` described; an InputError names `where` and the entry.
"""
function tokenizer_from_json(value, where)
    value isa AbstractDict ||
        throw(InputError(where; expected="a JSON object with kind", found=first(repr(value), 60)))
    kind = get(value, "kind", nothing)
    if !(kind in TOKENIZER_KINDS)
        found = haskey(value, "kind") ? first(repr(kind), 60) : "nothing"
        throw(InputError("$where, kind"; expected=one_of(TOKENIZER_KINDS), found))
    end
    known = kind == "char" ? ["kind", "characters"] : ["kind"]
    for name in sort!(setdiff(collect(keys(value)), known))
        throw(InputError(where; expected="only $(join(known, ", "))", found=repr(name)))
    end
    kind == "byte" && return ByteTokenizer()
    characters = get(value, "characters", nothing)
    characters isa AbstractString && is_vocabulary(characters) || throw(
        InputError(
            "$where, characters";
            expected="a text of 1 to $MOST_CHARACTERS different characters in the order of their code points",
            found=haskey(value, "characters") ? first(repr(characters), 60) : "nothing",
        ),
    )
    return CharTokenizer(characters)
end

is_vocabulary(characters) =
    isvalid(characters) && 1 <= length(characters) <= MOST_CHARACTERS && allunique(characters) &&
    issorted(characters)

"""
    Corpus

A text as tokens.

- `tokenizer`: what the tokens mean.
- `tokens`: UInt8 or UInt16 that count from 0, read-only and mapped from the disk.
- `digest`: SHA-256 of the text file's bytes.
- `name`: the text file's name.
"""
struct Corpus{T<:Tokenizer,I<:Union{UInt8,UInt16}}
    tokenizer::T
    tokens::Vector{I}
    digest::String
    name::String
end

"""
    split(corpus, name, context)

The "train" part, the first nine tenths, or the "validation" part, the rest; both views of the tokens. An InputError
where one of the two parts is shorter than context + 1 tokens.
"""
function Base.split(corpus::Corpus, name, context)
    n, least = length(corpus.tokens), 10context + 1
    if n < least
        hint = "A tenth is kept for validation, and must hold the $context tokens of the context and one more."
        throw(InputError(corpus.name; expected="a text of at least $least tokens", found="$n tokens", hint))
    end
    name == "train" && return view(corpus.tokens, 1:div(9n, 10))
    name == "validation" && return view(corpus.tokens, (div(9n, 10)+1):n)
    throw(InputError("split"; expected=one_of(("train", "validation")), found=repr(name)))
end

"""
    open_corpus(text, kind, folder; progress, chunk)

The tokens of a text file of any size, at constant memory.

- `text`: the file; its bytes are taken as they are, line ends and byte order mark included.
- `kind`: "char" or "byte".
- `folder`: where the tokens file of `char` is kept and found again; made if need be.
- `progress`: called with the bytes read so far and the bytes to read in all.
- `chunk`: how many bytes to read at a time.

Throws InputError for a text that is missing, unreadable, empty, or, with `char`, no UTF-8 or of more than 65536
different characters; for an unknown kind; and where `folder` cannot be written to.
"""
function open_corpus(text, kind, folder; progress=(done, total) -> nothing, chunk=CHUNK_BYTES)
    kind in TOKENIZER_KINDS ||
        throw(InputError("tokenizer"; expected=one_of(TOKENIZER_KINDS), found=repr(kind)))
    size = text_size(text)
    if kind == "byte"
        digest = each_piece(identity, text, chunk, done -> progress(done, size))
        return Corpus(ByteTokenizer(), mapped(text, UInt8), digest, basename(text))
    end
    digest, characters, count = survey(text, chunk, done -> progress(done, 2size))
    tokens_file = joinpath(folder, "tokens-$(digest[1:16]).bin")
    description = Dict(
        "format" => "twingrad-tokens",
        "format_version" => 1,
        "digest" => digest,
        "characters" => characters,
        "count" => count,
    )
    is_kept(tokens_file, description) ||
        keep(tokens_file, description, text, chunk, done -> progress(size + done, 2size))
    progress(2size, 2size)
    return Corpus(CharTokenizer(characters), mapped(tokens_file, UInt16), digest, basename(text))
end

function text_size(text)
    status = reading(() -> stat(text), text)
    expected = "a text file"
    ispath(status) || throw(InputError(text; expected="a readable file", found="no such file"))
    isdir(status) && throw(InputError(text; expected, found="a folder"))
    isfile(status) || throw(InputError(text; expected, found="no ordinary file"))
    filesize(status) == 0 && throw(InputError(text; expected, found="an empty file"))
    return filesize(status)
end

function reading(action, file)
    try
        return action()
    catch error
        error isa Union{SystemError,Base.IOError} || rethrow()
        throw(InputError(file; expected="a readable file", found=system_message(error)))
    end
end

mapped(file, type) = reading(() -> Mmap.mmap(file, Vector{type}), file)

"Call `use` with the bytes of a file, `chunk` at a time; the SHA-256 of them all."
function each_piece(use, file, chunk, progress)
    sha, done = SHA.SHA256_CTX(), 0
    io = reading(() -> open(file), file)
    try
        while true
            piece = reading(() -> read(io, chunk), file)
            isempty(piece) && return bytes2hex(SHA.digest!(sha))
            SHA.update!(sha, piece)
            use(piece)
            done += length(piece)
            progress(done)
        end
    finally
        close(io)
    end
end

"Call `use` with the text of a file in pieces of whole characters; the SHA-256 of its bytes."
function each_text(use, text, chunk, progress)
    held, start = UInt8[], 0  # the last character is held back until more bytes, or none, have come
    function use_valid(part)
        wrong = findfirst(!isvalid, part)
        if wrong !== nothing
            found = "no whole character at byte $(start + wrong - 1), counted from 0"
            throw(InputError(text; expected="UTF-8 text", found, hint=TAKE_BYTES))
        end
        use(part)
    end
    digest = each_piece(text, chunk, progress) do piece
        part = String([held; piece])
        last = lastindex(part)
        use_valid(SubString(part, 1, prevind(part, last)))
        held = codeunits(part)[last:end]
        start += last - 1
    end
    use_valid(String(held))
    return digest
end

"The text's digest, its different characters in code point order, and how many characters it has."
function survey(text, chunk, progress)
    seen, count = falses(CODE_POINTS), Ref(0)
    digest = each_text(text, chunk, progress) do part
        for character in part
            seen[codepoint(character)+1] = true
        end
        count[] += length(part)
    end
    characters = String([Char(place - 1) for place in findall(seen)])
    if length(characters) > MOST_CHARACTERS
        expected = "a text of at most $MOST_CHARACTERS different characters"
        throw(InputError(text; expected, found="$(length(characters))", hint=TAKE_BYTES))
    end
    return digest, characters, count[]
end

description_file(tokens_file) = first(splitext(tokens_file)) * ".json"

"Whether the tokens file and its description are there, whole, and of this text."
function is_kept(tokens_file, description)
    try
        found = JSON.parse(read(description_file(tokens_file), String))
        tokens_digest = bytes2hex(open(SHA.sha256, tokens_file))
        whole = merge(description, Dict("tokens_digest" => tokens_digest))
        return found == whole && filesize(tokens_file) == 2description["count"]
    catch error
        error isa InterruptException && rethrow()
        return false
    end
end

"Write the tokens file, then its description."
function keep(tokens_file, description, text, chunk, progress)
    make_folder(dirname(tokens_file))
    ids = ids_of_characters(description["characters"])
    tokens_sha = SHA.SHA256_CTX()
    replacing(tokens_file) do temporary
        digest = open(temporary, "w") do io
            each_text(text, chunk, progress) do part
                bytes = collect(reinterpret(UInt8, [get(ids, character, 0x0000) for character in part]))
                SHA.update!(tokens_sha, bytes)
                write_whole(io, bytes)
            end
        end
        if digest != description["digest"]
            expected, found =
                "a file that stays as it is while it is read", "other bytes at the second reading"
            throw(InputError(text; expected, found))
        end
    end
    replacing(description_file(tokens_file)) do temporary
        tokens_digest = bytes2hex(SHA.digest!(tokens_sha))
        write(temporary, JSON.json(merge(description, Dict("tokens_digest" => tokens_digest))))
    end
end
