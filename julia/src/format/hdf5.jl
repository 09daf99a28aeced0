# HDF5 files as plain data: attributes and arrays, strictly read, atomically written, with digests.
# What the files hold is described in `shared_fixtures/FORMAT.md`; the same file on the Python side is
# `python/twingrad/format/hdf5.py`. Arrays have the axes that HDF5.jl gives them, reversed.

using HDF5: HDF5, attributes, h5open
using SHA: SHA

const FORMAT_VERSION = 1
const NAME = r"^[A-Za-z0-9_.\-]+$"
const FILE_TYPES = (Float64, Float32, Int64)

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
    value isa type || throw(InputError(place; expected=kind, found=repr(value)))
    return value
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
    type = HDF5.datatype(item)
    known = [T for T in FILE_TYPES if HDF5.API.h5t_equal(type, HDF5.datatype(T))]
    isempty(known) && throw(
        InputError(
            place;
            expected="dtype float64, float32, int64, little-endian",
            found="dtype $(string(eltype(item)))",
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
        value = read(attributes(item)[name])
        value isa Union{AbstractString,Real} ||
            throw(
                InputError(
                    "$place, attribute $name";
                    expected="text or a number",
                    found=string(typeof(value)),
                ),
            )
        value isa AbstractString && !isvalid(value) &&
            throw(InputError("$place, attribute $name"; expected="UTF-8 text", found="other bytes"))
        found[name] = value isa AbstractString ? String(value) : value
    end
    return found
end

"""
    write_file(file, attributes, arrays)

Write a file under a temporary name beside `file`, then rename it: `file` is never half written.
"""
function write_file(file, attrs, arrays)
    replacing(file) do temporary
        try
            h5open(temporary, "w") do h5
                for (name, value) in attrs
                    write_attribute(h5, name, value)
                end
                for (path, array) in arrays
                    h5[path] = ndims(array) == 0 ? array[] : array
                end
            end
        catch error
            error isa HDF5.API.H5Error || rethrow()
            reason = isdir(dirname(abspath(file))) ? first(split(error.msg, '\n')) : "no such folder"
            throw(InputError(file; expected="a place to write to", found=reason))
        end
    end
end

write_attribute(h5, name, value) = attributes(h5)[name] = value
"Text of variable length, as h5py writes it: of fixed length it could not be longer than 64 kB."
function write_attribute(h5, name, text::String)
    type = HDF5.Datatype(HDF5.API.h5t_copy(HDF5.API.H5T_C_S1))
    HDF5.API.h5t_set_size(type, HDF5.API.H5T_VARIABLE)
    HDF5.API.h5t_set_cset(type, HDF5.API.H5T_CSET_UTF8)
    attribute = HDF5.create_attribute(h5, name, type, HDF5.dataspace(()))
    GC.@preserve text HDF5.API.h5a_write(attribute, type, Ref(pointer(text)))
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
