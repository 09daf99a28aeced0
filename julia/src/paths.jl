# Where the repository's shared files are.

"This package's own folder, `julia/` in the repository."
const PACKAGE = dirname(@__DIR__)

is_checkout(folder) = isfile(joinpath(folder, "shared_fixtures", "FORMAT.md"))

"The checkout that holds `shared_fixtures/`: TWINGRAD_ROOT, or the one this package lies in; an InputError where there is none."
function root()
    folder = get(ENV, "TWINGRAD_ROOT", dirname(PACKAGE))
    is_checkout(folder) || throw(
        InputError(
            "TWINGRAD_ROOT";
            expected="a checkout of TwinGrad with shared_fixtures/FORMAT.md",
            found=folder,
            hint="Clone the repository and set TWINGRAD_ROOT to it: Pkg adds this package without cases and recorded results.",
        ),
    )
    return folder
end

"The folder of the data that both languages meet at."
shared_fixtures() = joinpath(root(), "shared_fixtures")

"""
    shared_file(name, package=PACKAGE)

A file or folder of `shared_fixtures/` that trainings need, `presets.toml` or `digits`: the checkout's, or the copy in
`share/` where Pkg added the package in the folder `package` alone.
"""
function shared_file(name, package=PACKAGE)
    alone = !haskey(ENV, "TWINGRAD_ROOT") && !is_checkout(dirname(package))
    return alone ? joinpath(package, "share", name) : joinpath(shared_fixtures(), name)
end

"The file with the last live results of a side."
recorded_file(side) = joinpath(shared_fixtures(), "recorded", "$side.h5")

"All case files of the checkout, in the order of their names."
function case_files()
    folder = joinpath(shared_fixtures(), "cases")
    return [joinpath(folder, file) for file in sort!(readdir(folder)) if endswith(file, ".h5")]
end

"A file's name without folder and ending."
stem(file) = first(splitext(basename(file)))
