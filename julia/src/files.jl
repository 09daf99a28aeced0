# Writing files so that no reader ever sees half of one; the same file on the Python side is
# `python/twingrad/files.py`.

"""
    replacing(write, file)

Call `write(temporary)` with the name of a temporary file beside `file`; it becomes `file` at the end, and is removed if
the writing fails. Throws InputError where the folder cannot be written to.
"""
function replacing(write, file)
    isdir(file) && throw(InputError(file; expected="a place to write to", found="a folder"))
    temporary = joinpath(dirname(abspath(file)), ".$(basename(file)).$(getpid()).part")
    try
        write(temporary)
        Base.Filesystem.rename(temporary, file)
    catch error
        error isa Union{SystemError,Base.IOError} || rethrow()
        throw(InputError(file; expected="a place to write to", found=system_message(error)))
    finally
        rm(temporary; force=true)
    end
    return nothing
end

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
