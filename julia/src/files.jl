# Writing files so that no reader ever sees half of one; the same file on the Python side is
# `python/twingrad/files.py`.

using Base.Filesystem: JL_O_EXCL

const PART = ".part"  # how the names of temporary files end

"""
    replacing(write, file)

Call `write(temporary)` with the name of a temporary file beside `file`; it becomes `file` at the end, and is removed if
the writing fails. What writers of `file` left behind that were killed is removed first. Throws InputError where the folder
cannot be written to.
"""
function replacing(write, file)
    isdir(file) && throw(InputError(file; expected="a place to write to", found="a folder"))
    try
        remove_abandoned(file)
        handle, temporary = new_part(file)
        try
            write(temporary)
            Base.Filesystem.rename(temporary, file)
        finally
            rm(temporary; force=true)
            close(handle)
        end
    catch error
        error isa Union{SystemError,Base.IOError} || rethrow()
        throw(InputError(file; expected="a place to write to", found=system_message(error)))
    end
    return nothing
end

"""
A new temporary file beside `file`, kept open and locked, and its name.

The lock is a shared one: whoever reads the file by its final name may lock it so too, as the HDF5 library does.
"""
function new_part(file)
    folder, name = dirname(abspath(file)), basename(file)
    while true
        part = joinpath(folder, ".$name.$(basename(tempname()))$PART")
        handle = Base.Filesystem.open(part, JL_O_RDWR | JL_O_CREAT | JL_O_EXCL, 0o666)
        is_mine = try
            try_lock(handle; shared=true)
        catch error  # a file system without locks, where nobody takes it for abandoned
            error isa SystemError || rethrow()
            true
        end
        is_mine && is_at(handle, part) && return handle, part
        close(handle)  # another process has removed it before it was locked
    end
end

"""
Remove the temporary files that killed writers of `file` have left behind.

It takes nothing from a writer at work, in whichever process and language: that one keeps its file locked, and the kernel
frees the lock when it dies. So what can be locked here is nobody's.
"""
function remove_abandoned(file)
    folder, start = dirname(abspath(file)), ".$(basename(file))."
    for name in filter(name -> startswith(name, start) && endswith(name, PART), readdir(folder))
        part = joinpath(folder, name)
        ignoring_refusal() do
            handle = Base.Filesystem.open(part, JL_O_RDWR)
            try
                try_lock(handle) && rm(part)
            finally
                close(handle)
            end
        end
    end
end

"Write all the bytes; a SystemError where the disk is full."
write_whole(io, bytes) = systemerror("write", write(io, bytes) != length(bytes))

"Make a folder for output; an InputError where that cannot be."
function make_folder(folder)
    try
        mkpath(folder)
    catch error
        error isa Union{SystemError,Base.IOError} || rethrow()
        throw(InputError(folder; expected="a folder to write to", found=system_message(error)))
    end
end

"What the operating system says went wrong."
system_message(error::SystemError) = Libc.strerror(error.errnum)
system_message(error::Base.IOError) = Libc.strerror(-error.code)
