# Images with labels, which stay on the disk: MNIST, Fashion-MNIST, CIFAR-10, and digits that need no download.
#
# Specified in `shared_fixtures/FORMAT.md`, "Images"; the same file on the Python side is
# `python/twingrad/data/images.py`, and both write the same images file byte for byte. Labels count from 0 here as they
# do in the files; `image_batches.jl` adds the one that makes them places in Julia's arrays.

using Mmap: Mmap
using SHA: SHA
using Zlib_jll: libz

const IMAGE_CLASSES = 10  # of every data set here
const CHUNK_IMAGES = 1024
const IDX_BYTES = 0x800  # the magic number of an IDX file of bytes is this and how many axes it has
const CIFAR_PIXELS = 3 * 32 * 32
const ZLIB_ERRNO, ZLIB_CUT_SHORT = -1, -5
const DIGITS_MOST = 16  # the digits' largest value: how many points of a 4 × 4 block are ink

"""
    ImageKind(; name, shape, mean, ...)

A data set that `open_images` knows.

- `name`: what it is called.
- `shape`: (W, H, C) of an image.
- `mean`, `std`: of each channel over the training images, of bytes divided by 255.
- `classes`: names of the labels 0, 1, ...
- `flip`: whether an image's mirror image may stand for it in training.
- `train`, `test`: names of the files of the training and of the test images.
- `count`: `count(files)` images are in files of such names.
- `each_piece`: `each_piece(use, files)` calls `use(pixels, labels)` with the bytes of them all, piece by piece.
- `folder`: where in a folder the files may lie too.
- `packed`: whether the files may be packed, with the ending .gz.
"""
Base.@kwdef struct ImageKind
    name::String
    shape::NTuple{3,Int}
    mean::Vector{Float64}
    std::Vector{Float64}
    classes::Vector{String}
    flip::Bool
    train::Vector{String}
    test::Vector{String}
    count::Function
    each_piece::Function
    folder::String = ""
    packed::Bool = true
end

"""
    Images

Images with labels, the training images first.

- `kind`: the data set they are from: name, shape, mean, std, classes, flip.
- `images`: (W, H, C, n) UInt8, read-only and mapped from the disk.
- `labels`: (n,) UInt8 that count from 0, likewise.
- `train`: how many are training images.
- `digest`: SHA-256 of the images file: of the bytes of `images`, then of `labels`.
"""
struct Images
    kind::ImageKind
    images::Array{UInt8,4}
    labels::Vector{UInt8}
    train::Int
    digest::String
end

"""
    split(data, name)

Images and labels of the "train" or the "test" part, views of all; an InputError for another name.
"""
function Base.split(data::Images, name)
    name in ("train", "test") ||
        throw(InputError("split"; expected=one_of(("train", "test")), found=repr(name)))
    places = name == "train" ? (1:data.train) : ((data.train+1):length(data.labels))
    return view(data.images, :, :, :, places), view(data.labels, places)
end

"""
    open_images(place, folder, name=nothing)

The images in a folder, at constant memory.

- `place`: the folder with the data set's files; the digits in this repository where it is `nothing`.
- `folder`: where the images file is kept and found again; made if need be.
- `name`: a name in `IMAGE_KINDS`; told by the files where it is `nothing`. Files of MNIST and of Fashion-MNIST have the
  same names: they are Fashion-MNIST's where `place` has "fashion" in its name.

Throws InputError for a place that is missing, unreadable or without such files or with those of several data sets, for
files that are incomplete, damaged or of other sizes, for a label without a class, for an unknown name, and where
`folder` cannot be written to.
"""
function open_images(place, folder, name=nothing)
    place = something(place, shared_file("digits"))
    kind = name === nothing ? told_kind(place) : image_kind(name)
    parts = filter!(!isempty, [image_part(place, kind, kind.train), image_part(place, kind, kind.test)])
    if isempty(parts)
        expected = "a folder with $(first([kind.train; kind.test])) and so on"
        throw(InputError(place; expected, found="none of the files of $(kind.name)"))
    end
    counts = [kind.count(files) for files in parts]
    n = sum(counts)
    n >= 2 || throw(InputError(first(parts[1]); expected="at least 2 images", found="$n"))
    sources = reduce(vcat, parts)
    source_digest = digest_of_files(sources)
    images_file = joinpath(folder, "images-$(source_digest[1:16]).bin")
    train = length(parts) == 2 ? counts[1] : div(4n, 5)
    description = Dict(
        "format" => "twingrad-images",
        "format_version" => 1,
        "source_digest" => source_digest,
        "shape" => [n, reverse(kind.shape)...],
        "train" => train,
    )
    digest = kept_digest(images_file, description)
    if digest === nothing
        digest = keep_images(images_file, description, sources) do use
            foreach(files -> kind.each_piece(use, files), parts)
        end
    end
    images, labels = mapped_images(images_file, (kind.shape..., n))
    return Images(kind, images, labels, train, digest)
end

function image_kind(name)
    place = findfirst(kind -> kind.name == name, IMAGE_KINDS)
    place === nothing || return IMAGE_KINDS[place]
    throw(InputError("images"; expected=one_of(kind.name for kind in IMAGE_KINDS), found=repr(name)))
end

# ---- which files

"The data set whose files lie in a folder."
function told_kind(place)
    has_files(kind) =
        !isempty(image_part(place, kind, kind.train)) || !isempty(image_part(place, kind, kind.test))
    names = [kind.name for kind in IMAGE_KINDS if has_files(kind)]
    if names == ["mnist", "fashion-mnist"]
        folder = lowercase(basename(rstrip(place, '/')))
        return image_kind(occursin("fashion", folder) ? "fashion-mnist" : "mnist")
    end
    length(names) == 1 && return image_kind(only(names))
    isempty(names) || throw(
        InputError(place; expected="the files of one data set", found="those of $(join(names, " and "))"),
    )
    throw(
        InputError(
            place;
            expected="a folder with images",
            found="no file of $(join((kind.name for kind in IMAGE_KINDS), ", "))",
            hint="IDX files are named train-images-idx3-ubyte, t10k-labels-idx1-ubyte and so on, also with .gz; " *
                 "CIFAR-10's binary files data_batch_1.bin and so on.",
        ),
    )
end

"The files of one part of a data set: none, or all; an InputError where only some are there."
function image_part(place, kind, names)
    status = reading(() -> stat(place), place)
    if !isdir(status)
        found = ispath(status) ? "a file" : "no such folder"
        throw(InputError(place; expected="a folder with images", found))
    end
    files = map(names) do file
        own = image_file(place, kind, "$(kind.name)-$file")
        return own === nothing ? image_file(place, kind, file) : own
    end
    found = String[file for file in files if file !== nothing]
    isempty(found) && return found
    missing_file = findfirst(isnothing, files)
    missing_file === nothing && return found
    expected = "$(names[missing_file]) beside $(join(basename.(found), ", "))"
    throw(InputError(place; expected, found="no such file"))
end

function image_file(place, kind, name)
    for folder in (place, joinpath(place, kind.folder)), ending in (kind.packed ? ("", ".gz") : ("",))
        file = joinpath(folder, name * ending)
        reading(() -> isfile(file), file) && return file
    end
    return nothing
end

# ---- reading them

"The bytes of a file in order, unpacked where its name ends in .gz; every error names the file."
mutable struct ImageSource
    file::String
    handle::Ptr{Cvoid}  # of zlib, which also reads files that are not packed
    ahead::Vector{UInt8}  # a byte that was read ahead
    done::Int
end

function with_source(action, file)
    handle = reading(file) do
        opened = @ccall libz.gzopen(file::Cstring, "rb"::Cstring)::Ptr{Cvoid}
        systemerror("open", opened == C_NULL)
        return opened
    end
    try
        packed = endswith(file, ".gz")
        packed && @ccall(libz.gzdirect(handle::Ptr{Cvoid})::Cint) == 1 && throw(damaged(file))
        return action(ImageSource(file, handle, UInt8[], 0))
    finally
        @ccall libz.gzclose(handle::Ptr{Cvoid})::Cint
    end
end

"The next `count` bytes of at least `whole`."
function take_bytes(source, count, whole)
    data = read_bytes(source, count)
    source.done += length(data)
    length(data) == count ||
        throw(InputError(source.file; expected="$whole bytes", found="$(source.done) bytes"))
    return data
end

"Check that there is nothing more."
function check_end(source)
    isempty(read_bytes(source, 1)) && return
    throw(InputError(source.file; expected="$(source.done) bytes", found="more"))
end

function read_bytes(source, count)
    wanted = count - length(source.ahead) + 1  # zlib sees that the end is cut off only if asked for more
    data = Vector{UInt8}(undef, wanted)
    read = @ccall libz.gzread(source.handle::Ptr{Cvoid}, data::Ptr{UInt8}, wanted::Cuint)::Cint
    if read < wanted
        errno, code = Libc.errno(), Ref{Cint}()
        @ccall libz.gzerror(source.handle::Ptr{Cvoid}, code::Ref{Cint})::Cstring
        code[] == ZLIB_ERRNO && reading(() -> systemerror("read", errno), source.file)
        code[] == ZLIB_CUT_SHORT && throw(damaged(source.file, "one that is cut short"))
        code[] == 0 || throw(damaged(source.file))
    end
    data = [source.ahead; resize!(data, read)]
    source.ahead = data[(count+1):end]
    return resize!(data, min(count, length(data)))
end

damaged(file, found="a damaged one") = InputError(file; expected="a whole gzip file", found)

"Call `action` with IDX files of side × side pixels and of labels, behind their headers, and how many they hold."
function with_idx(action, files, side)
    return with_source(files[1]) do images
        return with_source(files[2]) do labels
            n, pixels... = idx_header(images, 3)
            if pixels != [side, side]
                expected = "images of $side x $side pixels"
                throw(InputError(files[1]; expected, found="$(pixels[1]) x $(pixels[2])"))
            end
            count = only(idx_header(labels, 1))
            count == n ||
                throw(InputError(files[2]; expected="$n labels, as many as images", found="$count"))
            return action(images, labels, n)
        end
    end
end

function idx_header(source, axes)
    size, magic = 4 + 4axes, IDX_BYTES + axes
    found, sizes... = Int.(ntoh.(reinterpret(UInt32, take_bytes(source, size, size))))
    found == magic && return sizes
    expected = "magic number $magic of an IDX file of $(axes == 3 ? "images" : "labels")"
    throw(InputError(source.file; expected, found="$found"))
end

idx_count(files, side=28) = with_idx((_, _, n) -> n, files, side)

function each_idx_piece(use, files, side=28)
    with_idx(files, side) do images, labels, n
        for first in 0:CHUNK_IMAGES:(n-1)
            m = min(CHUNK_IMAGES, n - first)
            pixels = take_bytes(images, m * side^2, 16 + n * side^2)
            classes = take_bytes(labels, m, 8 + n)
            check_labels(files[2], classes, first)
            use(pixels, classes)
        end
        check_end(images)
        check_end(labels)
    end
end

function each_digits_piece(use, files)
    each_idx_piece(files, 8) do pixels, labels
        most = Int(maximum(pixels))
        most <= DIGITS_MOST ||
            throw(InputError(files[1]; expected="values from 0 to $DIGITS_MOST", found="$most"))
        use(vec(resized_digits(reshape(pixels, 8, 8, :))), labels)
    end
end

cifar_count(files) = sum(cifar_records, files)

function cifar_records(file)
    size = reading(() -> filesize(file), file)
    records, rest = divrem(size, 1 + CIFAR_PIXELS)
    records > 0 && rest == 0 && return records
    expected = "records of $(1 + CIFAR_PIXELS) bytes, a label and 3 x 32 x 32 pixels"
    throw(InputError(file; expected, found="$size bytes"))
end

function each_cifar_piece(use, files)
    for file in files
        n, record = cifar_records(file), 1 + CIFAR_PIXELS
        with_source(file) do source
            for first in 0:CHUNK_IMAGES:(n-1)
                m = min(CHUNK_IMAGES, n - first)
                records = reshape(take_bytes(source, m * record, n * record), record, m)
                check_labels(file, records[1, :], first)
                use(vec(records[2:end, :]), records[1, :])
            end
        end
    end
end

function check_labels(file, labels, first)
    wrong = findfirst(>=(IMAGE_CLASSES), labels)
    wrong === nothing && return
    found = "$(labels[wrong]) of image $(first + wrong - 1), counted from 0"
    throw(InputError(file; expected="labels from 0 to $(IMAGE_CLASSES - 1)", found))
end

"""
    resized_digits(digits)

Digits (8, 8, m) of values 0 .. 16 as images (28, 28, m) of bytes, bilinear between the centres of the pixels. Along an
axis, pixel X, from 0, lies at (4X − 5)/14 of the small image, or on its border where that is outside.
"""
function resized_digits(digits)
    most = 14^2 * DIGITS_MOST
    images = Array{UInt8}(undef, 28, 28, size(digits, 3))
    for i in axes(digits, 3), Y in 0:27, X in 0:27
        low_x, x = divrem(clamp(4X - 5, 0, 14 * 7), 14)
        low_y, y = divrem(clamp(4Y - 5, 0, 14 * 7), 14)
        high_x, high_y = min(low_x + 1, 7), min(low_y + 1, 7)
        value(column, row) = Int(digits[column+1, row+1, i])
        low = (14 - x) * value(low_x, low_y) + x * value(high_x, low_y)
        high = (14 - x) * value(low_x, high_y) + x * value(high_x, high_y)
        images[X+1, Y+1, i] = (2 * 255 * ((14 - y) * low + y * high) + most) ÷ 2most
    end
    return images
end

# ---- the images file

function digest_of_files(files)
    lines =
        ["$(basename(file))=$(reading(() -> bytes2hex(open(SHA.sha256, file)), file))\n" for file in files]
    return bytes2hex(SHA.sha256(join(lines)))
end

"The images file's digest where it and its description are there, whole, and of these files; else nothing."
function kept_digest(images_file, description)
    try
        found = JSON.parse(read(description_file(images_file), String))
        digest = bytes2hex(open(SHA.sha256, images_file))
        return found == merge(description, Dict("digest" => digest)) ? digest : nothing
    catch error
        error isa InterruptException && rethrow()
        return nothing
    end
end

"Write the images file, then its description; the file's digest. `each_piece(use)` calls `use` with pixels and labels."
function keep_images(each_piece, images_file, description, sources)
    make_folder(dirname(images_file))
    sha, all_labels = SHA.SHA256_CTX(), UInt8[]
    replacing(images_file) do temporary
        open(temporary, "w") do io
            function add(bytes)
                SHA.update!(sha, bytes)
                write_whole(io, bytes)
            end
            each_piece() do pixels, labels
                add(pixels)
                append!(all_labels, labels)
            end
            add(all_labels)
        end
        if digest_of_files(sources) != description["source_digest"]
            expected, found =
                "files that stay as they are while they are read", "other bytes at the second reading"
            throw(InputError(dirname(first(sources)); expected, found))
        end
    end
    digest = bytes2hex(SHA.digest!(sha))
    replacing(description_file(images_file)) do temporary
        write(temporary, JSON.json(merge(description, Dict("digest" => digest))))
    end
    return digest
end

"Images and labels of an images file."
mapped_images(file, shape) =
    reading(file) do
        return open(file) do io
            return Mmap.mmap(io, Array{UInt8,4}, shape, 0),
            Mmap.mmap(io, Vector{UInt8}, last(shape), prod(shape))
        end
    end

# ---- the data sets

const IDX_TRAIN = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"]
const IDX_TEST = ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]
const DIGIT_NAMES = string.(0:9)

# Means and standard deviations: of MNIST, Fashion-MNIST and CIFAR-10 as they are commonly used, which are those of the
# 60,000 or 50,000 training images; of the digits, over their training images as `resized_digits` gives them.
const IMAGE_KINDS = (
    ImageKind(;
        name="mnist",
        shape=(28, 28, 1),
        mean=[0.1307],
        std=[0.3081],
        classes=DIGIT_NAMES,
        flip=false,
        train=IDX_TRAIN,
        test=IDX_TEST,
        count=idx_count,
        each_piece=each_idx_piece,
    ),
    ImageKind(;
        name="fashion-mnist",
        shape=(28, 28, 1),
        mean=[0.2860],
        std=[0.3530],
        classes=[
            ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"]
            ["Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
        ],
        flip=true,
        train=IDX_TRAIN,
        test=IDX_TEST,
        count=idx_count,
        each_piece=each_idx_piece,
    ),
    ImageKind(;
        name="cifar10",
        shape=(32, 32, 3),
        mean=[0.4914, 0.4822, 0.4465],
        std=[0.2470, 0.2435, 0.2616],
        classes=["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
        flip=true,
        train=["data_batch_$i.bin" for i in 1:5],
        test=["test_batch.bin"],
        count=cifar_count,
        each_piece=each_cifar_piece,
        folder="cifar-10-batches-bin",
        packed=false,
    ),
    ImageKind(;
        name="digits",
        shape=(28, 28, 1),
        mean=[0.3054],
        std=[0.3238],
        classes=DIGIT_NAMES,
        flip=false,
        train=["digits-images-idx3-ubyte", "digits-labels-idx1-ubyte"],
        test=String[],
        count=files -> idx_count(files, 8),
        each_piece=each_digits_piece,
    ),
)
