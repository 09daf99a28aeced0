using Test
using TwinGrad:
    InputError, Stream, fnv1a, normal, philox4x32, planar, portable_circle, portable_log, uniform, words

# Known answers of Random123's test vectors for philox4x32-10.
full = typemax(UInt32)
@test philox4x32((0x0, 0x0, 0x0, 0x0) .% UInt32, (0x0, 0x0) .% UInt32) ==
      (0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8)
@test philox4x32((full, full, full, full), (full, full)) == (0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd)
@test philox4x32((0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344), (0xa4093822, 0x299f31d0)) ==
      (0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1)
@test fnv1a("") == 0xcbf29ce484222325
@test fnv1a("foobar") == 0x85944171f73967e8

# The numbers that the Python side pins too.
stream = Stream(1, "donut2d/train/noise")
@test words(stream, 2) == UInt64[6499395782972352392, 5978109297376740586]
@test normal(stream, 3) == [-0.4183122447342533, 0.8329297227246718, 0.7456842762511856]
@test uniform(stream, 11) == uniform(stream, 100)[1:11]

u = uniform(Stream(1, "log"), 10_000) .+ 2.0^-53
@test maximum(abs.(portable_log.(u) .- log.(u)) ./ max.(abs.(log.(u)), 1e-3)) < 1e-15
turns = [uniform(Stream(1, "turns"), 10_000); 0.0; 0.125; 0.25; 0.5; 0.75]
@test maximum(abs.(first.(portable_circle.(turns)) .- cospi.(2 .* turns))) < 1e-15
@test maximum(abs.(last.(portable_circle.(turns)) .- sinpi.(2 .* turns))) < 1e-15

for dataset in ("donut1d", "donut2d", "squares2d", "spiral2d")
    x, c = planar(dataset, "train", 300, 5)
    @test size(x) == (2, 300) && sort(unique(c)) == [0.0, 1.0]
    @test planar(dataset, "train", 10, 5, 4)[1] == [x[:, 1:10]; zeros(2, 10)]
    @test planar(dataset, "test", 300, 5)[1] != x
end
@test_throws InputError planar("donut3d", "train", 10, 1)
