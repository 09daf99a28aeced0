# Locks by flock(2): of two commands that would write the same, the second is told who is at work.
# The kernel frees a lock when its process dies, so that none is ever stale. The same file on the Python side is
# `python/twingrad/lock.py`.

using Base.Filesystem: File, JL_O_CREAT, JL_O_RDWR
using Dates: Dates

const LOCK_SHARED, LOCK_EXCLUSIVE, LOCK_NONBLOCKING = Cint(1), Cint(2), Cint(4)
const WAIT_OR_ANOTHER_OUT = "Wait until it has ended, or choose another --out."

"""
    locked(work, path, command; hint)

Call `work()` while nobody else works on `path`, of all commands of both sides that lock it before they write.

The lock is on a file `.NAME.lock` beside `path`: JSON of `command`, `process`, `host` and `since`, removed at the end; what
a killed command leaves of it is unlocked. Where the folder is missing or cannot be written to, or its file system has no
locks, nothing is locked, and the writer's own error says what is wrong.

- `path`: what is written, a file or a folder, which need not be there yet.
- `command`: who works on it, for others to read.
- `hint`: what others can do about it.

Throws InputError at once where somebody else works on it, naming who.
"""
function locked(work, path, command; hint=WAIT_OR_ANOTHER_OUT)
    path = String(rstrip(abspath(path), '/'))
    file = joinpath(dirname(path), ".$(basename(path)).lock")
    handle = try
        taken(file)
    catch error
        error isa Union{SystemError,Base.IOError} || rethrow()
        missing
    end
    handle === nothing &&
        throw(InputError(path; expected="nobody else at work on it", found=holder(file), hint))
    handle === missing && return work()
    try
        ignoring_refusal(() -> describe(file, command))  # a full disk: then others cannot read who it is
        return work()
    finally
        ignoring_refusal(() -> rm(file; force=true))
        close(handle)
    end
end

"Call `action()`, whatever the operating system says to it."
function ignoring_refusal(action)
    try
        action()
    catch error
        error isa Union{SystemError,Base.IOError} || rethrow()
    end
    return nothing
end

"Lock an open file; false where another has locked it, unless both share. Throws SystemError where there are no locks."
function try_lock(file::File; shared=false)
    Sys.isunix() || throw(SystemError("flock", Libc.ENOTSUP))
    operation = (shared ? LOCK_SHARED : LOCK_EXCLUSIVE) | LOCK_NONBLOCKING
    ccall(:flock, Cint, (RawFD, Cint), fd(file), operation) == 0 && return true
    Libc.errno() == Libc.EAGAIN && return false
    throw(SystemError("flock"))
end

"Whether the open file is the one that now has this name: another process may have removed it."
is_at(file::File, name) = Base.Filesystem.samefile(stat(file), lstat(name))

"The open lock file, locked, or nothing where it is another's; an IOError or SystemError where there are no locks."
function taken(name)
    while true
        file = Base.Filesystem.open(name, JL_O_RDWR | JL_O_CREAT, 0o666)
        try
            try_lock(file) || return (close(file); nothing)
            is_at(file, name) && return file
        catch
            close(file)
            rethrow()
        end
        close(file)  # its owner has removed it meanwhile
    end
end

function describe(name, command)
    since = Dates.format(Dates.now(Dates.UTC), "yyyy-mm-ddTHH:MM:SSZ")
    holder = Dict("command" => command, "process" => getpid(), "host" => gethostname(), "since" => since)
    write(name, JSON.json(holder) * "\n")
end

"Who holds the lock, as far as its file says."
function holder(name)
    try
        found = JSON.parse(read(name, String))
        return "'$(found["command"])' (process $(found["process"]) on $(found["host"]), since $(found["since"]))"
    catch error
        error isa InterruptException && rethrow()
        return "another process"
    end
end
