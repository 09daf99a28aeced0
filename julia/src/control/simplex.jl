# Projection on a simplex. The same file on the Python side is `python/twingrad/control/simplex.py`.

"""
    project_simplex(v, total=1)

The point of {x : x >= 0, Σ x = total} nearest to `v`, in O(n log n); `total` > 0.
Source: Duchi, Shalev-Shwartz, Singer, Chandra, ICML 2008, figure 1.
"""
function project_simplex(v::AbstractVector{T}, total=1) where {T}
    u = sort(v; rev=true)
    excess = cumsum(u) .- T(total)
    rho = count(j -> u[j] - excess[j] / j > 0, eachindex(u))
    return max.(v .- excess[rho] / rho, 0)
end
