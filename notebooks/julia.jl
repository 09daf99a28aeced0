### A Pluto.jl notebook ###
# v0.20.21

using Markdown
using InteractiveUtils

# ╔═╡ 7a5773ac-d889-5062-ab1f-1fb81da03531
md"""
# TwinGrad from Julia

A residual network as a discretised control problem: its layers as time steps, the Runge-Kutta methods, the costate equation beside Zygote, and a
training that may choose its time steps. Source: Benning, Celledoni, Ehrhardt, Owren, Schönlieb, *Deep learning as optimal control problems*, J. Comput. Dyn. 6(2), 2019.
"""

# ╔═╡ ccf0fa15-0d19-5d63-b961-c7e3da0de7d2
begin
    using Pkg
    Pkg.activate(joinpath(@__DIR__, ".."); io=devnull)
    using LinearAlgebra: norm
    using Printf: @sprintf
    using Statistics: mean
    using TwinGrad
    using TwinGrad: Costate, ControlNet, ControlNetConfig, Descent, automatic_gradient, classify
    using TwinGrad: costate_gradient!, descend!, normal_params, planar, states, trained_params
end

# ╔═╡ 88f80b9f-e80a-51cb-b714-91c40ae672a0
md"""
## Pictures

No plotting package is needed: a picture is SVG text. `plane` draws what lies in the square |y₁|, |y₂| ≤ `r`, `chart` draws curves, and `beside` shows pictures in a row.
"""

# ╔═╡ ae3e3a4d-ef51-5cb7-a191-6769a67413cb
begin
    const COLORS = ("#3b4cc0", "#b40426", "#2a9d4a", "#e08214")

    color(label) = COLORS[label > 0.5 ? 2 : 1]

    dot(x, y, size, fill) = @sprintf("<circle cx='%.3f' cy='%.3f' r='%.3f' fill='%s'/>", x, y, size, fill)

    "Points (2, samples) as dots in the colour of their labels."
    dots(points, labels, r) = join(dot(p[1], p[2], r / 45, color(c)) for (p, c) in zip(eachcol(points), labels))

    "The ways of the first `count` points through the states."
    function ways(ys, labels, r; count=40)
        map(1:count) do i
            line = join((@sprintf("%.3f,%.3f", y[1, i], y[2, i]) for y in ys), " ")
            style = "fill='none' stroke='$(color(labels[i]))' stroke-width='$(r / 150)'"
            "<polyline points='$line' $style/>" * dot(ys[end][1, i], ys[end][2, i], r / 60, color(labels[i]))
        end |> join
    end

    "A picture of the square |y₁|, |y₂| <= r, the second axis upwards."
    plane(marks, title, r; size=190) = """
    <figure style='display:inline-block;margin:4px;text-align:center'>
    <svg width='$size' height='$size' viewBox='$(-r) $(-r) $(2r) $(2r)' style='border:1px solid #999'>
    <g transform='scale(1,-1)'>$marks</g></svg><figcaption>$title</figcaption></figure>"""

    "Curves, name => positive values, on a logarithmic axis."
    function chart(curves; width=560, height=230)
        low, high = extrema(log10.(reduce(vcat, last.(curves))))
        place(k, v, n) = @sprintf("%.1f,%.1f", 60 + (width - 80) * (k - 1) / (n - 1),
            10 + (height - 40) * (high - log10(v)) / (high - low))
        lines = map(enumerate(curves)) do (i, (name, values))
            points = join((place(k, v, length(values)) for (k, v) in enumerate(values)), " ")
            "<polyline points='$points' fill='none' stroke='$(COLORS[i])' stroke-width='1.5'/>" *
            "<text x='70' y='$(height - 90 + 16i)' fill='$(COLORS[i])' font-size='13'>$name</text>"
        end
        ends = map((high, low), (20, height - 28)) do v, y
            "<text x='2' y='$y' fill='currentColor' font-size='12'>$(@sprintf("%.1e", 10.0^v))</text>"
        end
        last_step = "<text x='$(width - 40)' y='$(height - 8)' fill='currentColor' font-size='12'>"
        last_step *= "$(length(last(first(curves))) - 1)</text>"
        return "<svg width='$width' height='$height'>$(join(lines))$(join(ends))$last_step</svg>"
    end

    "Bars of positive and negative numbers, one group per name."
    function bars(groups; width=560, height=170)
        most, n = maximum(maximum(abs, values) for (_, values) in groups), length(last(first(groups)))
        step, half = (width - 20) / n, (height - 20) / 2
        marks = map(enumerate(groups)) do (i, (name, values))
            rects = map(enumerate(values)) do (k, v)
                tall = half * abs(v) / most
                x, y = 10 + step * (k - 1) + step * 0.8 * (i - 1) / length(groups), half + 10 - (v > 0 ? tall : 0)
                @sprintf("<rect x='%.1f' y='%.1f' width='%.1f' height='%.1f' fill='%s'/>", x, y,
                    0.8 * step / length(groups), tall, COLORS[i])
            end
            "<text x='$(10 + 130 * (i - 1))' y='12' fill='$(COLORS[i])' font-size='13'>$name</text>" * join(rects)
        end
        zero = "<line x1='0' x2='$width' y1='$(half + 10)' y2='$(half + 10)' stroke='#999'/>"
        return "<svg width='$width' height='$height'>$(join(marks))$zero</svg>"
    end

    beside(pictures...) = HTML(join(pictures))
end

# ╔═╡ df660e4e-9478-540a-9068-706a976ba0a0
md"""
## The data

Two arms of a spiral, labels 0 and 1. The numbers come from a generator that Python shares, so the computing group sees the same points.
"""

# ╔═╡ 02d9d48d-35e9-5309-8566-4e84c87d83e5
x, c = planar("spiral2d", "train", 200, 1)

# ╔═╡ fdd52e6d-d220-5e6f-a336-0f3c8494f5d3
beside(plane(dots(x, c, 1.3), "x", 1.3))

# ╔═╡ 4fe7c91f-1c1d-57d0-b795-6ef44aea7f61
md"""
## A network is a flow

With controls K, b and a time step Δt in each layer k the state moves by

    y_{k+1} = y_k + Δt_k Σ_i w_i tanh(K_k Y_i + b_k),

one step of a Runge-Kutta method for y' = tanh(K(t) y + b(t)). `controls` draws them, and `network` makes a `ControlNet` in which each layer is solved in `parts` steps.
"""

# ╔═╡ e657273a-f80e-5178-946d-bf6744156cd4
begin
    const N = 10

    function controls(seed)
        drawn = normal_params(["K" => (2, 2, N), "W" => (2, 1)], seed)
        return (K=permutedims(drawn["K"], (2, 1, 3)), b=zeros(2, N), W=permutedims(drawn["W"]), mu=zeros(1))
    end

    function network(u, kind, method; parts=1)
        K, b = repeat(u.K; inner=(1, 1, parts)), repeat(u.b; inner=(1, parts))
        dt = fill(1 / (N * parts), N * parts)
        return ControlNet(ControlNetConfig(kind, method, "mean"), K, b, copy(u.W), copy(u.mu), dt)
    end
end

# ╔═╡ d4ba92cb-43a6-5ca6-8e69-62361b5557d2
u = controls(1)

# ╔═╡ 44aea2f1-8d9c-5b13-adde-512a5232fffd
let ys = states(network(u, "resnet", "kutta4"), x)
    shown = [plane(dots(ys[k+1], c, 1.5), "y<sub>$k</sub>", 1.5) for k in (0, N ÷ 2, N)]
    beside(shown..., plane(ways(ys, c, 1.5), "the ways", 1.5))
end

# ╔═╡ fdc41958-dcd6-5640-8b52-4f217926f4cd
md"""
## Four methods, four orders

The same flow, with each layer solved in 1, 2, 4, 8 steps. The reference is `kutta4` with 64. An order is log₂ of the ratio of two errors that follow each other.
"""

# ╔═╡ c7094ca0-a9d2-554f-81a0-86401cef792e
orders = let limit = last(states(network(u, "resnet", "kutta4"; parts=64), x))
    map(("euler", "improved-euler", "kutta3", "kutta4")) do method
        errors = map((1, 2, 4, 8)) do parts
            maximum(abs, last(states(network(u, "resnet", method; parts), x)) - limit)
        end
        (; method, errors, order=log2(errors[3] / errors[4]))
    end
end

# ╔═╡ afaa30bd-7531-5e28-b633-eb605a96a52b
let rows = map(orders) do row
        cells = join((@sprintf("<td>%.1e</td>", e) for e in row.errors))
        "<tr><td>$(row.method)</td>$cells<td>$(@sprintf("%.2f", row.order))</td></tr>"
    end
    head = join("<th>$name</th>" for name in ("method", "1", "2", "4", "8 steps", "order"))
    HTML("<table><tr>$head</tr>$(join(rows))</table>")
end

# ╔═╡ e75e6913-0b16-57e0-9bd1-515fe3c38571
md"""
## The costate equation is the gradient

`costate_gradient!` solves the discrete adjoint equation backwards in time, `automatic_gradient` asks Zygote. The backward method is the symplectic partner of the forward one, which makes the
two gradients equal up to rounding, for every method. The numbers are relative 2-norms of the differences.
"""

# ╔═╡ 772e84fc-6d1a-555d-a74d-6e7947d6c948
gradient_errors = map(("euler", "improved-euler", "kutta3", "kutta4")) do method
    m = network(u, "odenet", method)
    by_hand = costate_gradient!(Costate(m, x), m, x, c).grads
    by_zygote = automatic_gradient(m, x, c).grads
    method => maximum(norm(by_hand[name] - by_zygote[name]) / norm(by_zygote[name]) for name in (:K, :b, :W, :mu, :dt))
end

# ╔═╡ 8244417d-6663-5728-8257-4041c219c5bc
md"""
## Training

Gradient descent with an adaptive step. `resnet` keeps Δt = 1/N, `odenet` learns every Δt, `odenet-simplex` learns them with Δt ≥ 0 and Σ Δt = 1. All start from the same controls.
"""

# ╔═╡ 094e6f87-06e1-517a-bc4b-5dd93dc02050
begin
    "Train for `steps` steps; the model and the objective before the first step and after each."
    function train(kind, steps; method="euler")
        m = network(u, kind, method)
        descent = Descent(m, Costate(m, x), x, c, trained_params(m.config))
        objective = Float64[]
        for _ in 1:steps
            before, after, _ = @something descend!(descent) break
            isempty(objective) && push!(objective, before)
            push!(objective, after)
        end
        return (; kind, m, objective, accuracy=mean((m(x) .> 0.5) .== (c .> 0.5)))
    end

    trained = map(kind -> train(kind, 300), ("resnet", "odenet", "odenet-simplex"))
end

# ╔═╡ dc6467d3-0a3c-5b7c-ae0f-3c7fa71e7a70
beside(chart([t.kind => t.objective for t in trained]))

# ╔═╡ 0bff458e-92e5-5fd4-8880-228920244bff
[t.kind => t.accuracy for t in trained]

# ╔═╡ 9245dc62-9c87-5a49-b3d3-684077a9f146
md"""
### The time steps that were learned

Where Δt is free, some become negative: the network goes back in time there, and is a good classifier without being a good discretisation of a flow. The simplex makes steps small or zero instead: layers that do
nothing could be left out.
"""

# ╔═╡ ff1a2aab-49b5-560c-81f5-13d9fcac1560
beside(bars([t.kind => t.m.dt for t in trained]))

# ╔═╡ 080ebc76-4b41-585c-88fd-b51e5d862a0a
md"""
### What they have learned

First row: the ways of forty points through the layers, each picture on its own scale. Second row: the decision regions in the plane of the data.
"""

# ╔═╡ acf206a6-8e16-5c77-a85a-8cb6975dee0a
let n = 40, r = 1.3, line = range(-1.3, 1.3; length=40)
    grid = reduce(hcat, [a, b] for a in line for b in line)
    regions = map(trained) do t
        squares = map(zip(eachcol(grid), t.m(grid))) do (p, prediction)
            style = @sprintf("width='%.3f' height='%.3f' fill='%s' opacity='0.35'", 2r / n, 2r / n, color(prediction))
            @sprintf("<rect x='%.3f' y='%.3f' %s/>", p[1] - r / n, p[2] - r / n, style)
        end
        plane(join(squares) * dots(x, c, r), t.kind, r)
    end
    flows = map(trained) do t
        ys = states(t.m, x)
        far = 1.1 * maximum(y -> maximum(abs, y), ys)
        plane(ways(ys, c, far), t.kind, far)
    end
    beside(flows..., "<br>", regions...)
end

# ╔═╡ b09ec43a-88b4-5422-8d6b-b8116cdc9993
md"""
## To try

- Another data set: `planar("donut2d", ...)`, `"squares2d"`, `"donut1d"`.
- Another method for the training: `train("odenet", 300; method="kutta4")`.
- More dimensions than the data have: `planar(..., 3)` gives points in R³ (the controls must have that size too).
- The same from the command line, with figures of both languages beside each other: `twingrad train control --help`.
"""

# ╔═╡ Cell order:
# ╟─7a5773ac-d889-5062-ab1f-1fb81da03531
# ╠═ccf0fa15-0d19-5d63-b961-c7e3da0de7d2
# ╟─88f80b9f-e80a-51cb-b714-91c40ae672a0
# ╟─ae3e3a4d-ef51-5cb7-a191-6769a67413cb
# ╟─df660e4e-9478-540a-9068-706a976ba0a0
# ╠═02d9d48d-35e9-5309-8566-4e84c87d83e5
# ╠═fdd52e6d-d220-5e6f-a336-0f3c8494f5d3
# ╟─4fe7c91f-1c1d-57d0-b795-6ef44aea7f61
# ╠═e657273a-f80e-5178-946d-bf6744156cd4
# ╠═d4ba92cb-43a6-5ca6-8e69-62361b5557d2
# ╠═44aea2f1-8d9c-5b13-adde-512a5232fffd
# ╟─fdc41958-dcd6-5640-8b52-4f217926f4cd
# ╠═c7094ca0-a9d2-554f-81a0-86401cef792e
# ╠═afaa30bd-7531-5e28-b633-eb605a96a52b
# ╟─e75e6913-0b16-57e0-9bd1-515fe3c38571
# ╠═772e84fc-6d1a-555d-a74d-6e7947d6c948
# ╟─8244417d-6663-5728-8257-4041c219c5bc
# ╠═094e6f87-06e1-517a-bc4b-5dd93dc02050
# ╠═dc6467d3-0a3c-5b7c-ae0f-3c7fa71e7a70
# ╠═0bff458e-92e5-5fd4-8880-228920244bff
# ╟─9245dc62-9c87-5a49-b3d3-684077a9f146
# ╠═ff1a2aab-49b5-560c-81f5-13d9fcac1560
# ╟─080ebc76-4b41-585c-88fd-b51e5d862a0a
# ╠═acf206a6-8e16-5c77-a85a-8cb6975dee0a
# ╟─b09ec43a-88b4-5422-8d6b-b8116cdc9993
