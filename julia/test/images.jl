using JSON: JSON
using SHA: sha256
using Test
using TwinGrad:
    IMAGE_KINDS,
    InputError,
    Stream,
    TrainingOrder,
    augment,
    epoch_order,
    evaluation_batch,
    image_kind,
    open_images,
    pixel_values,
    resized_digits,
    shared_fixtures,
    training_batch,
    training_places,
    words

# What `tests/test_images.py` pins too.
MNIST_DIGEST = "22eaf118d09a5e5cbea545772237201ed6ea821ca9103d1fee56729eb868ac1c"
MNIST_SOURCE_DIGEST = "59cfce3f69e9d6de5c0e3717564106ff95f5b060eb82bf31da058c5a00cc67e5"
CIFAR_DIGEST = "d68d5ab54e37e38e1386cd66dddb9f5ec4e79af28f39eb7a00a1ea9fe0d60f89"
DIGITS_DIGEST = "1756cecd7142a0f5ab5ee83a4ed11de461fc9f55d3ae50ec42dfb5a14890510f"
PINNED_PLACES = [  # n, seed, first, places of the eight samples from there on
    (5, 3, 0, [1, 2, 4, 3, 0, 3, 2, 0]),
    (5, 3, 3, [3, 0, 3, 2, 0, 1, 4, 4]),
    (1437, 1, 10^12, [236, 1413, 241, 385, 1111, 1176, 941, 1090]),
    (60000, typemax(Int), 59996, [5434, 32153, 11815, 38163, 48068, 14424, 52083, 13878]),
]
MNIST_PIXELS = "3b45ce3634e1c15c667ed65af68c67b8d98cd9dbe6beb0fd92eee1e1d7488039"
MNIST_CROPS = "ad333e73ebce441eb3fa70e17b66c8cfa72b87628628cdf92280babb641cdff1"
CIFAR_CROPS = "51bbbeb17928624a975be93232acebd38a55c1cd7181e15f160c1db09892a1d4"
DIGITS_CROPS = "cd72705a23b4aa9dac00020644e514b404b6950fea48d42b1f6f1f5e39900ad2"
PINNED_BATCHES = [  # data set, first, count, type, pad, flip, SHA-256 of the pixels, labels; seed 6
    ("mnist", 4, 6, Float32, 0, false, MNIST_PIXELS, [1, 5, 0, 0, 1, 5]),
    ("mnist", 4, 6, Float64, 3, false, MNIST_CROPS, [1, 5, 0, 0, 1, 5]),
    ("cifar10", 10^9, 5, Float32, 4, true, CIFAR_CROPS, [0, 7, 6, 9, 8]),
    ("digits", 1430, 9, Float32, 2, true, DIGITS_CROPS, [5, 8, 9, 9, 1, 3, 7, 0, 6]),
]
# Of the real MNIST test images, where TWINGRAD_TEST_MNIST names a folder with them and no others.
REAL_MNIST_DIGEST = "c3f9adf9c66efb572b1f9326c3a511b45910c7173b97be66ceceeeeaef6b802b"

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"

"The message of the InputError that `action` throws, or what it returns."
function refusal(@nospecialize(action))
    try
        return action()
    catch error
        error isa InputError || rethrow()
        return sprint(showerror, error)
    end
end

drawn(use, count) = words(Stream(1, "test/$use"), count)

idx(sizes...; data) = [reinterpret(UInt8, hton.(UInt32[0x800+length(sizes), sizes...])); data]

"Seven training images and three test images."
function write_mnist(folder; prefix="")
    for (use, n, images, labels) in (("train", 7, IMAGES, LABELS), ("test", 3, TEST_IMAGES, TEST_LABELS))
        pixels, classes = drawn("$use/images", 784n) .% UInt8, UInt8.(drawn("$use/labels", n) .% 10)
        write(joinpath(folder, prefix * images), idx(n, 28, 28; data=pixels))
        write(joinpath(folder, prefix * labels), idx(n; data=classes))
    end
    return folder
end

"Two training images in each file, and three test images."
function write_cifar(folder)
    for (name, n) in [["data_batch_$i.bin" => 2 for i in 1:5]; "test_batch.bin" => 3]
        records = reshape(drawn(name, 3073n) .% UInt8, 3073, n)
        records[1, :] .%= 0x0a
        write(joinpath(folder, name), records)
    end
    return folder
end

function in_folder(@nospecialize(test))
    mktempdir() do folder
        test(mkdir(joinpath(folder, "place")), joinpath(folder, "cache"))
    end
end

@testset "MNIST" begin
    for (prefix, name) in ("" => "mnist", "mnist-" => "mnist", "fashion-mnist-" => "fashion-mnist")
        in_folder() do place, cache
            write_mnist(place; prefix)
            data = open_images(place, cache)
            @test (data.kind.name, data.digest, data.train) == (name, MNIST_DIGEST, 7)
            @test data.images isa Array{UInt8,4} && size(data.images) == (28, 28, 1, 10)
            pixels, labels = split(data, "test")
            @test vec(pixels) == drawn("test/images", 3 * 784) .% UInt8
            @test labels == drawn("test/labels", 3) .% 10
            @test length(split(data, "train")[2]) == 7
            @test startswith(refusal(() -> split(data, "validation")), "split: expected one of train, test")
        end
    end
    in_folder() do place, cache
        fashion = mkdir(joinpath(place, "FashionMNIST"))
        write_mnist(fashion)
        @test open_images(fashion, cache).kind.name == "fashion-mnist"
        @test open_images(fashion * "/", cache, "mnist").kind.name == "mnist"
        rm.(joinpath.(fashion, (TEST_IMAGES, TEST_LABELS)))
        data = open_images(fashion, cache)
        @test data.train == 5 && length(split(data, "test")[2]) == 2
    end
end

@testset "CIFAR-10 and digits" begin
    in_folder() do place, cache
        write_cifar(mkdir(joinpath(place, "cifar-10-batches-bin")))
        data = open_images(place, cache)
        @test (data.kind.name, data.digest, data.train) == ("cifar10", CIFAR_DIGEST, 10)
        @test size(data.images) == (32, 32, 3, 13)
        digits = open_images(nothing, cache)
        @test (digits.kind.name, digits.digest, digits.train) == ("digits", DIGITS_DIGEST, 1437)
        @test size(digits.images) == (28, 28, 1, 1797)
        for value in 0:16
            @test all(==((510value + 16) ÷ 32), resized_digits(fill(UInt8(value), 8, 8, 1)))
        end
    end
end

@testset "an images file is used again, and written again where damaged" begin
    in_folder() do place, cache
        write_mnist(place)
        open_images(place, cache)
        bin, sidecar = joinpath.(cache, "images-$(MNIST_SOURCE_DIGEST[1:16])" .* (".bin", ".json"))
        @test readdir(cache; join=true) == [bin, sidecar]
        description = JSON.parse(read(sidecar, String); dicttype=Dict{String,Any})
        @test description == Dict(
            "format" => "twingrad-images",
            "format_version" => 1,
            "source_digest" => MNIST_SOURCE_DIGEST,
            "shape" => [10, 1, 28, 28],
            "train" => 7,
            "digest" => MNIST_DIGEST,
        )
        written = stat(bin).inode, stat(sidecar).inode
        @test open_images(place, cache).digest == MNIST_DIGEST
        @test (stat(bin).inode, stat(sidecar).inode) == written
        whole = read(bin), read(sidecar)
        changed(entry, value) = () -> write(sidecar, JSON.json(merge(description, Dict(entry => value))))
        for damage in Any[
            ()->rm(bin),
            ()->rm(sidecar),
            ()->write(bin, whole[1][1:(end-1)]),
            ()->write(bin, [0x01; whole[1][2:end]]),
            ()->write(sidecar, "\xff"),
            ()->write(sidecar, "[1]"),
            changed("format_version", 2),
            changed("shape", [10, 28, 1, 28]),
            changed("train", 6),
            changed("digest", "0"^64),
            changed("extra", 3),
        ]
            rm.((bin, sidecar))  # the files may still be mapped
            write(bin, whole[1])
            write(sidecar, whole[2])
            damage()
            open_images(place, cache)
            @test (read(bin), read(sidecar)) == whole
        end
    end
end

@testset "files that are refused" begin
    digits = joinpath(shared_fixtures(), "digits")
    replaced(name, data) = place -> write(joinpath(place, name), data)
    changed(change, name) = place -> write(joinpath(place, name), change(read(joinpath(place, name))))
    for (damage, where, message) in Any[
        (changed(data -> data[1:3], IMAGES), IMAGES, "expected 16 bytes, found 3 bytes"),
        (changed(data -> data[1:0], LABELS), LABELS, "expected 8 bytes, found 0 bytes"),
        (changed(data -> data[1:(end-1)], IMAGES), IMAGES, "expected 5504 bytes, found 5503 bytes"),
        (changed(data -> data[1:(end-1)], LABELS), LABELS, "expected 15 bytes, found 14 bytes"),
        (changed(data -> [data; 0x00], IMAGES), IMAGES, "expected 5504 bytes, found more"),
        (changed(data -> [data; 0x00], LABELS), LABELS, "expected 15 bytes, found more"),
        (replaced(IMAGES, idx(7; data=zeros(UInt8, 20))), IMAGES, "an IDX file of images, found 2049"),
        (replaced(LABELS, zeros(UInt8, 8)), LABELS, "magic number 2049 of an IDX file of labels, found 0"),
        (replaced(IMAGES, idx(7, 32, 28; data=UInt8[])), IMAGES, "images of 28 x 28 pixels, found 32 x 28"),
        (replaced(LABELS, idx(8; data=zeros(UInt8, 8))), LABELS, "7 labels, as many as images, found 8"),
        (changed(data -> [data[1:13]; 0x0a; 0x09], LABELS), LABELS, "0 to 9, found 10 of image 5, counted"),
        (place -> rm(joinpath(place, LABELS)), "", "expected $LABELS beside $IMAGES, found no such file"),
    ]
        in_folder() do place, cache
            damage(write_mnist(place))
            text = refusal(() -> open_images(place, cache))
            @test startswith(text, rstrip(joinpath(place, where), '/') * ": ") && occursin(message, text)
            @test !isdir(cache) || isempty(readdir(cache))
        end
    end
    for (damage, where, message) in Any[
        (changed(data -> data[1:(end-1)], "data_batch_2.bin"), "data_batch_2.bin", "found 6145 bytes"),
        (changed(data -> data[1:0], "test_batch.bin"), "test_batch.bin", "of 3073 bytes, a label and"),
        (
            changed(data -> (data[3074] = 255; data), "data_batch_5.bin"),
            "data_batch_5.bin",
            "255 of image 1,",
        ),
        (place -> rm(joinpath(place, "data_batch_3.bin")), "", "data_batch_3.bin beside data_batch_1.bin, "),
    ]
        in_folder() do place, cache
            damage(write_cifar(place))
            text = refusal(() -> open_images(place, cache))
            @test startswith(text, rstrip(joinpath(place, where), '/') * ": ") && occursin(message, text)
        end
    end
    images, labels = image_kind("digits").train .* ".gz"
    for (damage, where, found) in Any[
        (changed(data -> data[1:(end-1)], images), images, "one that is cut short"),
        (changed(data -> data[1:3000], images), images, "one that is cut short"),
        (changed(data -> [data[1:(end-8)]; zeros(UInt8, 8)], images), images, "a damaged one"),
        (replaced(labels, "no gzip"), labels, "a damaged one"),
    ]
        in_folder() do place, cache
            foreach(name -> write(joinpath(place, name), read(joinpath(digits, name))), (images, labels))
            damage(place)
            text = refusal(() -> open_images(place, cache))
            @test text == "$(joinpath(place, where)): expected a whole gzip file, found $found"
            rm.(joinpath.(place, (images, labels)))
            write(joinpath(place, "digits-images-idx3-ubyte"), idx(2, 8, 8; data=fill(0x11, 128)))
            write(joinpath(place, "digits-labels-idx1-ubyte"), idx(2; data=[0x00, 0x01]))
            @test occursin("values from 0 to 16, found 17", refusal(() -> open_images(place, cache)))
        end
    end
end

@testset "folders that are refused" begin
    in_folder() do place, cache
        refused(folder, name, message) = occursin(message, refusal(() -> open_images(folder, cache, name)))
        @test refused(joinpath(place, "missing"), nothing, "with images, found no such folder")
        @test refused(place, nothing, "found no file of mnist, fashion-mnist, cifar10, digits. IDX files are")
        @test refused(place, "cifar10", "with data_batch_1.bin and so on, found none of the files of cifar10")
        write_mnist(place)
        @test refused(joinpath(place, IMAGES), nothing, "expected a folder with images, found a file")
        @test refused(place, "emnist", "images: expected one of mnist, fashion-mnist, cifar10, digits, found")
        @test occursin("a folder to write to", refusal(() -> open_images(place, joinpath(place, IMAGES))))
        write_cifar(place)
        @test refused(place, nothing, "one data set, found those of mnist and fashion-mnist and cifar10")
        @test open_images(place, cache, "cifar10").digest == CIFAR_DIGEST
        rm.(joinpath.(place, (TEST_IMAGES, TEST_LABELS)))
        for n in (0, 1)
            write(joinpath(place, IMAGES), idx(n, 28, 28; data=zeros(UInt8, 784n)))
            write(joinpath(place, LABELS), idx(n; data=zeros(UInt8, n)))
            @test refused(place, "mnist", "expected at least 2 images, found $n")
        end
    end
end

@testset "the order of a training" begin
    for (n, seed, first, places) in PINNED_PLACES
        order = TrainingOrder(n, seed)
        @test training_places(order, first, 8) == places
        @test training_places(order, first + 1, 2) == places[2:3]
        @test isempty(training_places(order, first, 0))
    end
    epochs = reshape(training_places(TrainingOrder(11, 4), 0, 33), 11, 3)
    @test all(sort(epoch) == 0:10 for epoch in eachcol(epochs)) && allunique(eachcol(epochs))
    drawn = words(Stream(4, "batch/images/2"), 11)
    @test epochs[:, 3] == epoch_order(11, 4, 2) == sort(0:10; by=j -> (drawn[j+1], j))
    @test startswith(refusal(() -> TrainingOrder(0, 1)), "images: expected at least 1, found 0")
end

@testset "batches" begin
    mktempdir() do folder
        data = Dict(
            "mnist" => open_images(write_mnist(mkdir(joinpath(folder, "a"))), folder),
            "cifar10" => open_images(write_cifar(mkdir(joinpath(folder, "b"))), folder),
            "digits" => open_images(nothing, folder),
        )
        for (name, first, count, type, pad, flip, digest, labels) in PINNED_BATCHES
            order = TrainingOrder(data[name].train, 6)
            x, c = training_batch(data[name], order, first, count, type; pad, flip)
            @test x isa Array{type,4} && size(x) == (data[name].kind.shape..., count)
            @test c isa Vector{Int} && c .- 1 == labels
            @test bytes2hex(sha256(collect(reinterpret(UInt8, vec(x))))) == digest
        end
        cifar = data["cifar10"]
        for (name, n) in ("train" => 10, "test" => 3)
            pixels, labels = split(cifar, name)
            for first in 0:4:(n-1)
                x, c = evaluation_batch(cifar, name, first, 4)
                part = (first+1):min(first + 4, n)
                @test c == labels[part] .+ 1 && x == pixel_values(pixels[:, :, :, part], cifar.kind)
            end
        end
    end
end

@testset "augmentation is its definition" begin
    batch = reshape(UInt8.(drawn("augment", 9 * 2 * 5 * 6) .% 255 .+ 1), 6, 5, 2, 9)
    for (pad, flip) in ((0, true), (1, false), (4, true), (9, true))
        crops = augment(batch, 8, 10^10, pad, flip)
        for (i, word) in enumerate(words(Stream(8, "augment"), 9; first=10^10))
            right = Int(word ÷ UInt(2) % UInt(2)^31 % UInt(2pad + 1)) - pad
            down = Int(word ÷ UInt(2)^32 % UInt(2pad + 1)) - pad
            expected = map(CartesianIndices((6, 5, 2))) do place
                column, row, c = Tuple(place) .+ (right, down, 0)
                inside = column in 1:6 && row in 1:5
                column = flip && isodd(word) ? 7 - column : column
                return inside ? batch[column, row, c, i] : 0x00
            end
            @test crops[:, :, :, i] == expected
        end
    end
    @test augment(batch, 8, 0, 0, false) == batch
end

@testset "pixels are normalised in Float64 and then rounded" begin
    for kind in IMAGE_KINDS, type in (Float32, Float64)
        @test length(kind.mean) == length(kind.std) == kind.shape[3] && length(kind.classes) == 10
        batch = repeat(reshape(UInt8.(0:255), 16, 16, 1, 1), 1, 1, kind.shape[3], 1)
        found = pixel_values(batch, kind, type)
        @test found isa Array{type,4}
        for c in 1:kind.shape[3]
            @test vec(found[:, :, c]) == [type((byte / 255.0 - kind.mean[c]) / kind.std[c]) for byte in 0:255]
        end
    end
end

if haskey(ENV, "TWINGRAD_TEST_MNIST")
    @testset "the real MNIST" begin
        in_folder() do _, cache
            data = open_images(ENV["TWINGRAD_TEST_MNIST"], cache)
            @test (data.kind.name, data.digest, data.train) == ("mnist", REAL_MNIST_DIGEST, 8000)
        end
    end
end
