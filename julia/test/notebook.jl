# notebooks/julia.jl is a whole Pluto file, and runs as a script.
using Test
using TwinGrad: root

const CELL = "# ╔═╡ "
const PLACES = ("# ╠═", "# ╟─")

"The cells that a Pluto file defines and those that its order lists, as UUIDs in the order of their lines."
function cells(text)
    before, after = split(text, CELL * "Cell order:\n")
    defined = [chopprefix(line, CELL) for line in split(before, "\n") if startswith(line, CELL)]
    listed = map(split(chomp(after), "\n")) do line
        place = only(filter(place -> startswith(line, place), PLACES))
        chopprefix(line, place)
    end
    return Base.UUID.(defined), Base.UUID.(listed)
end

file = joinpath(root(), "notebooks", "julia.jl")

@testset "order lists exactly the cells" begin
    text = read(file, String)
    @test startswith(text, "### A Pluto.jl notebook ###\n")
    defined, listed = cells(text)
    @test allunique(defined) && length(defined) > 10
    @test sort(defined) == sort(listed)
end

@testset "runs as a script" begin
    project, notebook = Base.active_project(), Module(:Notebook)
    try
        Base.include(notebook, file)
    finally
        Base.set_active_project(project)  # the notebook activates the repository's
    end
    @test [round(Int, row.order) for row in notebook.orders] == [1, 2, 3, 4]
    @test all(<(1e-12) ∘ last, notebook.gradient_errors)
    @test all(result -> result.objective[end] < result.objective[1] / 2, notebook.trained)
    @test sum(notebook.trained[3].m.dt) ≈ 1
end
