# Projection on the unit simplex. The same file on the Python side is `python/twingrad/control/simplex.py`.

"""
    project_simplex(v)

The point of {x : x >= 0, Σ x = 1} nearest to `v`, in O(n log n).
Source: Duchi, Shalev-Shwartz, Singer, Chandra, ICML 2008, figure 1.
"""
function project_simplex(v::AbstractVector)
    u = sort(v; rev=true)
    excess = cumsum(u) .- 1
    rho = count(j -> u[j] - excess[j] / j > 0, eachindex(u))
    return max.(v .- excess[rho] / rho, 0)
end
