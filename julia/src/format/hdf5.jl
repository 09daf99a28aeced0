# HDF5 files as plain data: attributes and arrays, strictly read, atomically written, with digests.
# What the files hold is described in `shared_fixtures/FORMAT.md`; the same file on the Python side is
# `python/twingrad/format/hdf5.py`. Arrays have the axes that HDF5.jl gives them, reversed.

using HDF5: HDF5, attributes, h5open
using SHA: SHA

const FORMAT_VERSION = 1
const FILE_VERSIONS = (HDF5.API.H5F_LIBVER_V18, HDF5.API.H5F_LIBVER_V18)
const NAME = r"^[A-Za-z0-9_.\-]+$"
const FILE_TYPES = (Float64, Float32, Int64)
"How many bytes a byte of a file can stand for at most: those of gzip's best packing."
const MOST_PACKED = 1032
"How a heap of text of variable length begins (\"Global Heap\" in the HDF5 File Format Specification)."
const HEAP = [codeunits("GCOL\x01\0\0\0");]
const HEAP_HEAD = 16  # bytes: signature and version, size
const HEAP_OBJECT = 16  # bytes: number, references, reserved, length

"""
    Contents

What a file holds: root attributes, attributes of groups by path, arrays by path (no leading slash).
"""
struct Contents
    file::String
    attributes::Dict{String,Any}
    group_attributes::Dict{String,Dict{String,Any}}
    arrays::Dict{String,Array}
end

"A root attribute of the given type; an InputError where it is missing or of another type."
function attribute(contents::Contents, name, type=String)
    place, kind = "$(contents.file), attribute $name", type == String ? "text" : "a number"
    haskey(contents.attributes, name) || throw(InputError(place; expected=kind, found="no such attribute"))
    value = contents.attributes[name]
    value isa type || throw(InputError(place; expected=kind, found=first(repr(value), 60)))
    return value
end

"A root attribute that must be the text of a JSON object."
function json_object(contents::Contents, name)
    place, text = "$(contents.file), attribute $name", attribute(contents, name)
    value = parse_json(text, place)
    value isa AbstractDict ||
        throw(InputError(place; expected="a JSON object", found=repr(first(text, 60))))
    return Dict{String,Any}(value)
end

"The arrays under a group, by their path inside it."
function below(contents::Contents, group)
    prefix = group * "/"
    return Dict{String,Array}(
        path[(length(prefix)+1):end] => array for (path, array) in contents.arrays if startswith(path, prefix)
    )
end

"Refuse missing and extra attributes, and arrays outside `groups` (or exactly named there)."
function check_names(contents::Contents; required, optional=(), groups)
    for name in required
        haskey(contents.attributes, name) ||
            throw(
                InputError(
                    "$(contents.file), attribute $name";
                    expected="this attribute",
                    found="no such attribute",
                ),
            )
    end
    for name in keys(contents.attributes)
        name in required || name in optional ||
            throw(
                InputError(
                    "$(contents.file), attribute $name";
                    expected="only " * join(required, ", "),
                    found="an extra attribute",
                ),
            )
    end
    for path in keys(contents.arrays)
        any(group -> path == group || startswith(path, group * "/"), groups) ||
            throw(
                InputError(
                    "$(contents.file), /$path";
                    expected="only " * join("/" .* groups, ", "),
                    found="an extra entry",
                ),
            )
    end
end

"""
    read_file(file, format)

Read a whole file of the given format, version 1; an InputError names file and entry.
"""
function read_file(file, format)
    isfile(file) || throw(InputError(file; expected="a file of format $format", found="no such file"))
    contents = Contents(file, Dict(), Dict(), Dict())
    check_heaps(file)
    try
        h5open(file, "r") do h5
            merge!(contents.attributes, read_attributes(h5, file))
            check_format(contents, format)
            read_group!(contents, h5, "")
        end
    catch error
        error isa Union{InputError,InterruptException} && rethrow()
        reason = first(split(sprint(showerror, error), '\n'))
        throw(InputError(file; expected="a whole HDF5 file", found="a damaged or foreign one ($reason)"))
    end
    return contents
end

function check_format(contents, format)
    found = attribute(contents, "format")
    found == format ||
        throw(InputError("$(contents.file), attribute format"; expected=repr(format), found=repr(found)))
    version = attribute(contents, "format_version", Integer)
    version == FORMAT_VERSION ||
        throw(
            InputError(
                "$(contents.file), attribute format_version";
                expected="$FORMAT_VERSION",
                found="$version",
            ),
        )
end

function read_group!(contents, group, prefix)
    for name in keys(group)
        path = prefix * name
        place = "$(contents.file), /$path"
        occursin(NAME, name) && !(name in (".", "..")) ||
            throw(InputError(place; expected="a name of A-Z a-z 0-9 _ . -", found=repr(name)))
        is_hard_link(group, name) ||
            throw(InputError(place; expected="data stored in the file", found="a link"))
        item = group[name]
        if item isa HDF5.Group
            HDF5.API.h5o_get_info(item).rc == 1 ||
                throw(InputError(place; expected="groups of one name each", found="a group with several"))
            contents.group_attributes[path] = read_attributes(item, place)
            read_group!(contents, item, path * "/")
        else
            contents.arrays[path] = read_array(item, place)
        end
    end
end

function is_hard_link(group, name)
    info = Ref{HDF5.API.H5L_info_t}()
    HDF5.API.h5l_get_info(group, name, info, HDF5.API.H5P_DEFAULT)
    return info[].linktype == HDF5.API.H5L_TYPE_HARD
end

function read_array(item, place)
    item isa HDF5.Dataset ||
        throw(InputError(place; expected="an array stored in the file", found=string(typeof(item))))
    HDF5.isnull(item) &&
        throw(InputError(place; expected="an array stored in the file", found="an empty dataset"))
    properties = HDF5.get_create_properties(item)
    HDF5.API.h5p_get_layout(properties) != HDF5.API.H5D_VIRTUAL &&
        HDF5.API.h5p_get_external_count(properties) == 0 ||
        throw(InputError(place; expected="an array stored in the file", found="one that is elsewhere"))
    type = HDF5.datatype(item)
    known = [T for T in FILE_TYPES if HDF5.API.h5t_equal(type, HDF5.datatype(T))]
    isempty(known) && throw(
        InputError(
            place;
            expected="dtype float64, float32, int64, little-endian",
            found="dtype $(string(eltype(item)))",
        ),
    )
    prod(Float64, size(item); init=1.0) * sizeof(only(known)) <=
    MOST_PACKED * filesize(HDF5.filename(item)) ||
        throw(
            InputError(
                place;
                expected="numbers stored in the file",
                found="a shape $(shape_text(reverse(size(item)))) that it cannot hold",
            ),
        )
    value = read(item)
    array = value isa AbstractArray ? Array(value) : fill(value)
    wrong = findfirst(!isfinite, array)
    if wrong !== nothing
        index = join(reverse(Tuple(CartesianIndices(array)[wrong])) .- 1, ", ")
        throw(InputError(place; expected="finite numbers", found="$(array[wrong]) at index ($index)"))
    end
    return array
end

function read_attributes(item, place)
    found = Dict{String,Any}()
    for name in keys(attributes(item))
        occursin(NAME, name) || throw(
            InputError(
                "$place, attribute $(repr(name))";
                expected="a name of A-Z a-z 0-9 _ . -",
                found="another",
            ),
        )
        found[name] = attribute_value(read(attributes(item)[name]), "$place, attribute $name")
    end
    return found
end

"An attribute as a String, an Int or a Float64; an InputError, naming `where`, for anything else."
attribute_value(value, where) =
    throw(InputError(where; expected="text or a number", found=string(typeof(value))))
attribute_value(value::Union{Float64,Float32}, where) = Float64(value)
function attribute_value(value::AbstractString, where)
    isvalid(value) || throw(InputError(where; expected="UTF-8 text", found="other bytes"))
    return String(value)
end
function attribute_value(value::Union{Base.BitSigned,Base.BitUnsigned}, where)
    value <= typemax(Int) ||
        throw(InputError(where; expected="an integer of 64 bits", found=string(value)))
    return Int(value)
end

"""
    parse_json(text, where)

What a JSON text says; an InputError names `where` where it is none. Also refused is what the two languages would not read
alike: NaN and infinities, integers of more than 64 bits, halves of characters, lists in lists without end.
"""
function parse_json(text, where)
    try
        value = JSON.parse(text)
        is_portable(value) && return value
    catch error
        error isa InterruptException && rethrow()
    end
    throw(InputError(where; expected="a JSON object", found=repr(first(text, 60))))
end

"Whether a value that JSON gave is one in every language."
is_portable(value) = value === nothing || value isa Union{Bool,Int}
is_portable(value::Float64) = isfinite(value)
is_portable(value::AbstractString) = isvalid(value)
is_portable(values::AbstractVector) = all(is_portable, values)
is_portable(value::AbstractDict) = all(is_portable, keys(value)) && all(is_portable, values(value))

"""
    check_heaps(file)

Refuse a file whose heaps of text of variable length are damaged. They alone carry no checksum in a file of HDF5 1.8 or later,
and some versions of the HDF5 library never return from a heap whose sizes are wrong. Files written by TwinGrad have none;
those of other programs, and older ones, may.
"""
function check_heaps(file)
    filesize(file) == 0 && return
    data = mapped(file, UInt8)
    place = findfirst(HEAP, data)
    while place !== nothing
        start = first(place)
        is_heap(data, start) || throw(
            InputError(
                file;
                expected="a whole HDF5 file",
                found="a damaged or foreign one (the heap at byte $(start - 1))",
            ),
        )
        place = findnext(HEAP, data, start + length(HEAP))
    end
end

"Whether the sizes in a heap fit: a head of signature, version and size, then objects, each behind its own head."
function is_heap(data, start)
    number(type, at) = Int128(ltoh(only(reinterpret(type, data[at:(at+sizeof(type)-1)]))))
    start + HEAP_HEAD <= length(data) + 1 || return false
    place, stop = Int128(start + HEAP_HEAD), start + number(UInt64, start + 8)
    place <= stop <= length(data) + 1 || return false
    while place + HEAP_OBJECT <= stop
        len = number(UInt64, Int(place) + 8)
        free = number(UInt16, Int(place)) == 0  # its length is that of its head too
        whole = free ? len : HEAP_OBJECT + cld(len, 8) * 8
        HEAP_OBJECT <= whole <= stop - place || return false
        place += whole
    end
    return true
end

"""
    write_file(file, attributes, arrays)

Write a file under a temporary name beside `file`, then rename it: `file` is never half written.

It is made in memory first: what the HDF5 library does where it meets a full disk itself depends on its version. All that
describes the arrays is under HDF5's own checksums: the format of HDF5 1.8, and text of fixed length.
"""
function write_file(file, attrs, arrays)
    in_memory = HDF5.Drivers.Core(; backing_store=false)
    image = h5open(basename(file), "w"; driver=in_memory, libver_bounds=FILE_VERSIONS) do h5
        for (name, value) in attrs
            write_attribute(h5, name, value)
        end
        for (path, array) in arrays
            h5[path] = ndims(array) == 0 ? array[] : array
        end
        return with_checksum!(Vector{UInt8}(h5))
    end
    replacing(temporary -> open(io -> write_whole(io, image), temporary, "w"), file)
end

"""
    with_checksum!(image)

The image of a file with the checksum of its first 44 bytes, the superblock, made anew: the HDF5 library takes the mark of an
open file out of an image and leaves the checksum as it was.
"""
function with_checksum!(image)
    image[45:48] = reinterpret(UInt8, [htol(lookup3(ltoh.(reinterpret(UInt32, image[1:44]))))])
    return image
end

"""
    lookup3(words)

HDF5's checksum of 32-bit words, of which two are left over when they are taken by threes. Source: Bob Jenkins, "lookup3.c", 2006.
"""
function lookup3(words)
    a = b = c = 0xdeadbeef + UInt32(sizeof(words))
    for i in 1:3:(length(words)-2)
        a, b, c = a + words[i], b + words[i+1], c + words[i+2]
        a = (a - c) ⊻ bitrotate(c, 4)
        c += b
        b = (b - a) ⊻ bitrotate(a, 6)
        a += c
        c = (c - b) ⊻ bitrotate(b, 8)
        b += a
        a = (a - c) ⊻ bitrotate(c, 16)
        c += b
        b = (b - a) ⊻ bitrotate(a, 19)
        a += c
        c = (c - b) ⊻ bitrotate(b, 4)
        b += a
    end
    a, b = a + words[end-1], b + words[end]
    c = (c ⊻ b) - bitrotate(b, 14)
    a = (a ⊻ c) - bitrotate(c, 11)
    b = (b ⊻ a) - bitrotate(a, 25)
    c = (c ⊻ b) - bitrotate(b, 16)
    a = (a ⊻ c) - bitrotate(c, 4)
    b = (b ⊻ a) - bitrotate(a, 14)
    return (c ⊻ b) - bitrotate(b, 24)
end

write_attribute(h5, name, value) = attributes(h5)[name] = value
function write_attribute(h5, name, text::String)
    type = HDF5.Datatype(HDF5.API.h5t_copy(HDF5.API.H5T_C_S1))
    HDF5.API.h5t_set_size(type, max(sizeof(text), 1))
    HDF5.API.h5t_set_cset(type, HDF5.API.H5T_CSET_UTF8)
    HDF5.API.h5t_set_strpad(type, HDF5.API.H5T_STR_NULLPAD)
    attribute = HDF5.create_attribute(h5, name, type, HDF5.dataspace(()))
    GC.@preserve text HDF5.API.h5a_write(attribute, type, pointer(text))
    close(attribute)
end

"""
    digest(attributes, arrays, tail="")

The SHA-256 that FORMAT.md defines over attributes (pairs, in the order given), arrays and a tail.
"""
function digest(attrs, arrays, tail="")
    sha = SHA.SHA256_CTX()
    update(text) = SHA.update!(sha, Vector{UInt8}(text))
    for (name, value) in attrs
        update("$name=$(attribute_text(value))\n")
    end
    for path in sort!(collect(keys(arrays)))
        array = arrays[path]
        dims = join(reverse(size(array)), ",")
        update("/$path\0$(dtype_name(eltype(array)))\0$dims\0")
        SHA.update!(sha, collect(reinterpret(UInt8, vec(array))))
    end
    update(tail)
    return bytes2hex(SHA.digest!(sha))
end

attribute_text(value) = string(value)
attribute_text(value::Float64) = string(reinterpret(UInt64, value); base=16, pad=16)

"""
    read_sealed(file, format, covered, groups)

Read a file whose digest covers format, version, the `covered` attributes, and everything in `groups`; a recording's covers the
cases' digests too (FORMAT.md, "Digests").
"""
function read_sealed(file, format, covered, groups)
    contents = read_file(file, format)
    names = ("format", "format_version", covered...)
    check_names(contents; required=(names..., "digest"), groups)
    values = [name => contents.attributes[name] for name in names]
    digests = case_digests(contents)
    tail = join("$case=$(digests[case])\n" for case in sort!(collect(keys(digests))))
    check_digest(contents, "digest", digest(values, contents.arrays, tail))
    return contents
end

"Write a file with such a digest; `covered` are pairs in their order."
function write_sealed(file, format, covered, arrays)
    attrs = Any["format"=>format, "format_version"=>FORMAT_VERSION, covered...]
    write_file(file, [attrs; "digest" => digest(attrs, arrays)], arrays)
end

"The digests of the cases in a recording, by the cases' names."
case_digests(contents::Contents) = Dict(
    chopprefix(path, "cases/") => get(attrs, "case_digest", "") for
    (path, attrs) in contents.group_attributes if startswith(path, "cases/") && count('/', path) == 1
)

"Refuse a file whose digest attribute `name` is not the computed value `expected`."
function check_digest(contents::Contents, name, expected)
    found = attribute(contents, name)
    hint = "The contents were changed after the digest was made."
    found == expected || throw(InputError("$(contents.file), attribute $name"; expected, found, hint))
end
