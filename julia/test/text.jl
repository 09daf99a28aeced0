using JSON: JSON
using SHA: sha256
using Test
using TwinGrad:
    ByteTokenizer,
    CharTokenizer,
    Corpus,
    InputError,
    Stream,
    decode,
    encode,
    open_corpus,
    replacing,
    tokenizer_from_json,
    tokenizer_json,
    training_batch,
    training_starts,
    vocab,
    window_batch,
    windows,
    words

# What `tests/test_text.py` pins too.
TEXT = "\ufeffDie Größe,\r\n文字 🙂\u2028é = é!\n"
CHARACTERS = "\n\r !,=DGeirßéö\u2028字文\ufeff🙂"
DIGEST = "1ac5c0a1fb86325b99ea7eb52de3222e2d1f18c7ffcfea72e37f11579ed9fe40"
TOKENS_DIGEST = "e20aed8bbca1631d8609b21ab6fbe7237e3d06ad7e6e6a0b47dc3bdec5f190c6"
PINNED_STARTS = [  # n, seed, first, starts of four samples with context 64
    (1000, 1, 0, [821, 764, 676, 60]),
    (1000, 1, 7, [383, 78, 62, 230]),
    (1000, 1, 10^12, [758, 675, 614, 892]),
    (10^13, typemax(Int), 10^12 + 1, [1791930244189, 6238857695086, 25250405153, 3397832747235]),
]

"The message of the InputError that `action` throws, or what it returns."
function refusal(@nospecialize(action))
    try
        return action()
    catch error
        error isa InputError || rethrow()
        return sprint(showerror, error)
    end
end

follow(steps) = (done, total) -> push!(steps, (done, total))

function in_folder(@nospecialize(test))
    mktempdir() do folder
        file = joinpath(folder, "text.txt")
        write(file, TEXT)
        test(folder, file)
    end
end

@testset "words from a place on are the words there" begin
    stream = Stream(3, "some/stream")
    for first in (0, 1, 2, 7, 8), count in (0, 1, 2, 5)
        @test words(stream, count; first) == words(stream, 20)[(first+1):(first+count)]
    end
    far = words(Stream(1, "batch/train"), 3; first=10^12 + 1)
    @test far == UInt64[10258262835625400283, 8887697407934798222, 2209714783497502588]
end

@testset "tokenizers there and back" begin
    char, byte = CharTokenizer(CHARACTERS), ByteTokenizer()
    @test vocab(char) == 19 && vocab(byte) == 256
    @test encode(char, TEXT) == [findfirst(==(c), collect(CHARACTERS)) - 1 for c in TEXT]
    @test encode(byte, TEXT) == codeunits(TEXT)
    for tokenizer in (char, byte)
        @test encode(tokenizer, TEXT) isa Vector{Int}
        @test decode(tokenizer, encode(tokenizer, TEXT)) == TEXT
        @test isempty(encode(tokenizer, "")) && decode(tokenizer, Int[]) == ""
    end
    # a character cut short is one �, every other foreign byte one each
    for (bytes, text) in (
        b"a\xe6\x96" => "a�",
        b"\xf0\x9f\x99a\xf0\x9f" => "�a�",
        b"\xc3\xc3\xb6\x80" => "�ö�",
        b"\xc0\x80\xed\xa0\x80" => "�����",
        b"\xf0\x80\x80\xf8\x80" => "�����",
    )
        @test decode(byte, Int.(bytes)) == text
    end
    @test occursin(
        r"^prompt: .* found 'z' at position 2\. The vocabulary holds 3",
        refusal(() -> encode(CharTokenizer("abc"), "abz")),
    )
    @test occursin(
        r"^--text: .* at position 0",
        refusal(() -> encode(CharTokenizer("abc"), "\xff", "--text")),
    )
    for wrong in (-1, 3)
        @test occursin(
            "from 0 to 2, found $wrong at position 1",
            refusal(() -> decode(CharTokenizer("abc"), [0, wrong])),
        )
    end
    for wrong in (-1, 256)
        @test occursin("from 0 to 255, found $wrong at position 1", refusal(() -> decode(byte, [0, wrong])))
    end
end

@testset "tokenizers as JSON" begin
    for tokenizer in (ByteTokenizer(), CharTokenizer(CHARACTERS), CharTokenizer("\0"))
        @test tokenizer_from_json(JSON.parse(JSON.json(tokenizer_json(tokenizer))), "file") == tokenizer
    end
    for (value, message) in (
        nothing => "file: expected a JSON object with kind, found nothing",
        Dict() => "file, kind: expected one of char, byte, found nothing",
        Dict("kind" => "word") => "file, kind: ",
        Dict("kind" => ["char"]) => "file, kind: ",
        Dict("kind" => "byte", "characters" => "ab") => "file: expected only kind, found \"characters\"",
        Dict(
            "kind" => "char",
            "characters" => "ab",
            "size" => 2,
        ) => "file: expected only kind, characters, found",
        Dict("kind" => "char") => "file, characters: ",
        Dict("kind" => "char", "characters" => 3) => "file, characters: ",
        Dict("kind" => "char", "characters" => "") => "file, characters: ",
        Dict("kind" => "char", "characters" => "ba") => "file, characters: ",
        Dict("kind" => "char", "characters" => "aab") => "file, characters: ",
        Dict("kind" => "char", "characters" => "a\xed\xa0\x80") => "file, characters: ",
    )
        @test startswith(refusal(() -> tokenizer_from_json(value, "file")), message)
    end
end

@testset "corpora" begin
    in_folder() do folder, file
        steps = []
        corpus = open_corpus(
            file,
            "byte",
            joinpath(folder, "cache");
            progress=follow(steps),
            chunk=16,
        )
        @test (corpus.tokenizer, corpus.digest, corpus.name) == (ByteTokenizer(), DIGEST, "text.txt")
        @test corpus.tokens isa Vector{UInt8} && corpus.tokens == codeunits(TEXT)
        @test steps == [(16, 40), (32, 40), (40, 40)]
        @test !ispath(joinpath(folder, "cache"))
    end
    for chunk in (1, 2, 3, 5, 7, 2^20)
        in_folder() do folder, file
            cache, steps = joinpath(folder, "a", "cache"), []
            corpus = open_corpus(file, "char", cache; progress=follow(steps), chunk)
            @test (corpus.tokenizer, corpus.digest, corpus.name) ==
                  (CharTokenizer(CHARACTERS), DIGEST, "text.txt")
            @test corpus.tokens isa Vector{UInt16} && decode(corpus.tokenizer, corpus.tokens) == TEXT
            @test issorted(steps) && last(steps) == (80, 80)
            @test readdir(cache) == ["tokens-$(DIGEST[1:16]).bin", "tokens-$(DIGEST[1:16]).json"]
            bin, sidecar = readdir(cache; join=true)
            @test bytes2hex(open(sha256, bin)) == TOKENS_DIGEST
            @test JSON.parse(read(sidecar, String)) == Dict(
                "format" => "twingrad-tokens",
                "format_version" => 1,
                "digest" => DIGEST,
                "characters" => CHARACTERS,
                "count" => length(TEXT),
                "tokens_digest" => TOKENS_DIGEST,
            )
        end
    end
end

@testset "a tokens file is used again, and written again where damaged" begin
    in_folder() do folder, file
        open_corpus(file, "char", folder)
        bin, sidecar = joinpath.(folder, "tokens-$(DIGEST[1:16])" .* (".bin", ".json"))
        written = stat(bin).inode, stat(sidecar).inode
        corpus = open_corpus(file, "char", folder)
        @test (stat(bin).inode, stat(sidecar).inode) == written
        @test decode(corpus.tokenizer, corpus.tokens) == TEXT
        whole = read(bin), read(sidecar)
        changed(entry, value) =
            () -> write(
                sidecar,
                JSON.json(
                    merge(
                        JSON.parse(String(copy(whole[2])); dicttype=Dict{String,Any}),
                        Dict(entry => value),
                    ),
                ),
            )
        for damage in (
            () -> rm(bin),
            () -> rm(sidecar),
            () -> write(bin, whole[1][1:(end-2)]),
            () -> write(bin, [0x01; whole[1][2:end]]),
            () -> write(sidecar, ""),
            () -> write(sidecar, "\xff"),
            () -> write(sidecar, "[1]"),
            changed("format_version", 2),
            changed("digest", "0"^64),
            changed("characters", "ab"),
            changed("count", 3),
            changed("extra", 3),
        )
            rm.((bin, sidecar))  # the files may still be mapped
            write(bin, whole[1])
            write(sidecar, whole[2])
            damage()
            open_corpus(file, "char", folder)
            @test (read(bin), read(sidecar)) == whole
        end
    end
end

@testset "texts that are refused" begin
    in_folder() do folder, file
        text = joinpath(folder, "other")
        for (data, byte) in (
                b"ab\xff" => 2,
                codeunits("文字")[1:5] => 3,
                codeunits("🙂")[1:3] => 0,
                b"a\xed\xa0\x80" => 1,
                b"a\xe9bcdefgh" => 1,
            ),
            chunk in (1, 2, 3, 2^20)

            write(text, data)
            message = refusal(() -> open_corpus(text, "char", folder; chunk))
            @test occursin("expected UTF-8 text, found no whole character at byte $byte, counted", message)
            @test endswith(message, "`--tokenizer byte` takes any bytes.")
            @test open_corpus(text, "byte", folder; chunk).tokens == data
            rm(text)
        end
        touch(text)
        for kind in ("char", "byte"),
            (name, found) in (
                "missing" => "no such file",
                "" => "a folder",
                "other" => "an empty file",
                "a"^300 => "name too long",
            )

            @test occursin(found, refusal(() -> open_corpus(joinpath(folder, name), kind, folder)))
        end
        @test occursin("expected one of char, byte, found", refusal(() -> open_corpus(file, "word", folder)))
        @test occursin("expected a folder to write to", refusal(() -> open_corpus(file, "char", file)))
        full = joinpath(folder, "full")
        @test occursin(
            "expected a place to write to, found No space left",
            refusal(() -> replacing(temporary -> (touch(temporary); throw(SystemError("write", 28))), full)),
        )
        @test occursin("found a folder", refusal(() -> replacing(identity, folder)))
        @test readdir(folder) == ["other", "text.txt"]
        points = Char[0:0xd7ff; 0xe000:0x10800]
        write(text, String(points[1:65536]))
        @test open_corpus(text, "char", folder).tokens == 0:65535
        rm(text)
        write(text, String(points))
        @test occursin(
            "at most 65536 different characters, found 65537",
            refusal(() -> open_corpus(text, "char", folder)),
        )
        change(done, total) = done == total ÷ 2 && write(file, replace(TEXT, "D" => "G"))
        cache = joinpath(folder, "cache")
        @test occursin(
            "other bytes at the second",
            refusal(() -> open_corpus(file, "char", cache; progress=change)),
        )
        @test isempty(readdir(cache))
    end
end

@testset "split keeps a tenth for validation" begin
    corpus(n) = Corpus(ByteTokenizer(), UInt8.(1:n), "", "text.txt")
    @test split(corpus(25), "train", 2) == 1:22 && split(corpus(25), "validation", 2) == 23:25
    @test [length(split(corpus(n), "train", 1)) for n in (11, 19, 20, 21)] == [9, 17, 18, 18]
    @test occursin("expected one of train, validation", refusal(() -> split(corpus(25), "test", 2)))
    for context in (1, 2, 9), name in ("train", "validation")
        least = 10context + 1
        @test length(split(corpus(least), name, context)) >= context + 1
        message = refusal(() -> split(corpus(least - 1), name, context))
        @test occursin("expected a text of at least $least tokens, found $(least - 1) tokens", message)
    end
end

@testset "batches" begin
    for (n, seed, first, starts) in PINNED_STARTS
        @test training_starts(n, 64, seed, first, 4) == starts
        @test training_starts(n, 64, seed, first + 1, 2) == starts[2:3]
    end
    tokens = UInt8.(226:255)
    for (context, first) in ((1, 0), (5, 3), (29, 10^12))
        inputs, targets = training_batch(tokens, context, 4, first, 6)
        @test inputs isa Matrix{Int} && targets isa Matrix{Int}
        @test size(inputs) == size(targets) == (context, 6)
        for (i, word) in enumerate(words(Stream(4, "batch/train"), 6; first))
            start = Int(word % (30 - context))
            @test inputs[:, i] == tokens[(start+1):(start+context)] .+ 1
            @test targets[:, i] == tokens[(start+2):(start+context+1)] .+ 1
        end
    end
    for (n, context, count, starts) in (
        (2, 1, 0, [0]),
        (65, 64, 0, [0]),
        (65, 64, 10, [0]),
        (128, 64, 0, [0]),
        (129, 64, 0, [0, 64]),
        (1000, 64, 4, [0, 192, 448, 704]),
        (1000, 64, 1, [0]),
        (1000, 64, 0, 64 .* (0:14)),
        (1000, 64, 15, 64 .* (0:14)),
        (1000, 64, 10^6, 64 .* (0:14)),
    )
        @test windows(n, context, count) == starts
    end
    inputs, targets = window_batch(view(UInt16.(100:120), 1:21), 4, windows(21, 4, 0))
    @test vec(inputs) == 101:120 && vec(targets) == 102:121
    for call in (() -> windows(64, 64, 0), () -> training_starts(64, 64, 1, 0, 1))
        @test startswith(refusal(call), "tokens: expected at least context + 1 = 65, found 64")
    end
end
