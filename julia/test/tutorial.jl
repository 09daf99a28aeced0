# The Julia programs of docs/tutorial/en.md print what the page says; its form is described in tests/tutorial_pages.py.
using Test
using TwinGrad: root

"""
    programs(page)

The Julia programs of a page, in order: (code, line, what it prints).

Fenced blocks with nothing but blank lines between them make a group, which a `text` block with the output ends.
"""
function programs(page)
    found, open, finish = NamedTuple{(:code, :line, :output),Tuple{String,Int,String}}[], false, 1
    for fence in eachmatch(r"^```(\w+)\n(.*?)^```$"ms, page)
        adjacent = isempty(strip(SubString(page, finish, prevind(page, fence.offset))))
        finish = fence.offset + ncodeunits(fence.match)
        kind, body = fence
        if kind == "julia"
            push!(found, (code=body, line=count("\n", SubString(page, 1, fence.offset)) + 2, output=""))
            open = true
        elseif kind == "text"
            open && adjacent && (found[end] = merge(found[end], (output=String(body),)))
            open = false
        else
            open = false
        end
    end
    return found
end

"What a program prints that is run in a module."
function printed(scope, code, name)
    file = tempname()
    open(file, "w") do out
        redirect_stdout(() -> include_string(scope, code, name), out)
    end
    return read(file, String)
end

page = joinpath(root(), "docs", "tutorial", "en.md")
found = programs(read(page, String))
scope = Module(:Tutorial)
Core.eval(scope, :(include(path) = Base.include($scope, path)))

@test length(found) > 15
mktempdir() do folder
    cd(folder) do
        @testset "line $line" for (; code, line, output) in found
            @test printed(scope, code, "$page, line $line") == output
        end
    end
end
