# `antisymmetric` has no kernels yet: its fast path is the reference.

struct AntisymmetricKernels <: Workspace end

workspace(::Antisymmetric, x::Matrix) = AntisymmetricKernels()
output!(::AntisymmetricKernels, m, x) = output!(Reference(), m, x)
objective(::AntisymmetricKernels, m, x, c) = objective(Reference(), m, x, c)
gradient(::AntisymmetricKernels, m, x, c) = gradient(Reference(), m, x, c)
