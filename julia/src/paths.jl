# Where the repository's shared files are.

"The checkout that holds `shared_fixtures/`: TWINGRAD_ROOT, or the one this package lies in."
function root()
    folder = get(ENV, "TWINGRAD_ROOT", dirname(dirname(@__DIR__)))
    isfile(joinpath(folder, "shared_fixtures", "FORMAT.md")) || throw(
        InputError(
            "TWINGRAD_ROOT";
            expected="a checkout of TwinGrad with shared_fixtures/FORMAT.md",
            found=folder,
            hint="Set TWINGRAD_ROOT to it.",
        ),
    )
    return folder
end

"The folder of the data that both languages meet at."
shared_fixtures() = joinpath(root(), "shared_fixtures")

"The file with the last live results of a side."
recorded_file(side) = joinpath(shared_fixtures(), "recorded", "$side.h5")

"All case files of the checkout, in the order of their names."
function case_files()
    folder = joinpath(shared_fixtures(), "cases")
    return [joinpath(folder, file) for file in sort!(readdir(folder)) if endswith(file, ".h5")]
end

"A file's name without folder and ending."
stem(file) = first(splitext(basename(file)))
