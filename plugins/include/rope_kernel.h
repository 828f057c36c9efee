// Rotary position embedding of q and k in one kernel launch. C++17; knows CUDA's stream and nothing else.
//
//   B batch, S tokens, N heads, H head_dim, R rotary_dim, M rows of the caches; strides count elements.
//
// A token's R/2 pairs of elements turn by the angles of its position, in fp32, rounded once on the way out:
//   half-split   pair i is elements (i, i + R/2); proportional: (i, i + H/2)
//   interleaved  pair i is elements (2i, 2i + 1)
// All other elements of a head pass through.
#ifndef ROPE_KERNEL_H
#define ROPE_KERNEL_H

#include <cstdint>

struct CUstream_st;  // what cudaStream_t points to; declared, so that this header needs none of CUDA's

namespace rope {

enum class Type : std::int32_t { kFloat32 = 0, kFloat16 = 1, kBFloat16 = 2 };

// What becomes of a token one of whose positions lies outside the caches. Neither choice reads outside them.
enum class Outside : std::int32_t {
    kNaN = 0,          // each element that would turn is NaN, as through a cache row of NaN: a visible fault
    kPassThrough = 1,  // nothing turns
};

// How pairs choose among the three position rows of M-RoPE.
enum class Sections : std::int32_t {
    kChunked = 0,      // Qwen2-VL: the first section[0] pairs take row 0, the next section[1] row 1, the rest row 2
    kInterleaved = 1,  // Qwen3-VL: pair i takes row i % 3 while i < 3 * section[i % 3], else row 0
};

// Distances between neighbours along each axis. Elements of a head lie side by side. 0 is a broadcast (inputs only).
// [B, S, N, H] is {S*N*H, N*H, H}; [B, N, S, H] is {N*S*H, H, S*H}.
struct Strides {
    std::int64_t batch = 0;
    std::int64_t token = 0;
    std::int64_t head = 0;
};

struct Tensor {
    const void* in = nullptr;
    void* out = nullptr;  // `in` itself, with equal strides: in place. Any other overlap is undefined
    Strides in_stride;
    Strides out_stride;
    std::int32_t heads = 0;             // 0: there is no such tensor
    const void* norm_weight = nullptr;  // [H] of norm_type: RMS norm over H before the rotation (Qwen3); null: none
};

struct Parameters {
    Tensor q;
    Tensor k;
    Type type = Type::kFloat32;  // of q and k, in and out
    std::int32_t batch = 0;
    std::int32_t tokens = 0;  // a sequence; none (0) is fine, as is an empty batch
    std::int32_t head_dim = 0;    // even
    std::int32_t rotary_dim = 0;  // even, 2 ... head_dim
    bool interleaved = false;
    bool proportional = false;  // half-split pairs span the whole head; nothing else when interleaved

    // Angles from caches [M, R/2], attention scaling folded in; fp32 or of q's type ...
    const void* cos_cache = nullptr;
    const void* sin_cache = nullptr;
    Type cache_type = Type::kFloat32;
    std::int32_t cache_rows = 0;         // M: positions 0 ... M - 1 are inside
    std::int64_t cache_row_stride = 0;   // 0: R/2. vLLM's [M, R] of cos beside sin: R, and sin_cache = cos_cache + R/2
    Outside outside = Outside::kNaN;
    // ... or computed: turn_step of each pair, [R/2], on the device. Exact at every int64 position; no outside.
    const std::uint64_t* turn_steps = nullptr;  // non-null: the caches are ignored
    float scale = 1.0F;                         // attention scaling, multiplies cos and sin (turn_steps only)

    // Positions (rows of the caches): [B, S], int32 or int64. M-RoPE: position_axes = 3, [3, B, S].
    const void* positions = nullptr;
    bool positions_are_int64 = false;
    std::int64_t position_batch_stride = 0;  // 0: all sequences share one row of positions
    std::int64_t position_token_stride = 1;
    std::int64_t position_axis_stride = 0;
    std::int32_t position_axes = 1;
    std::int32_t section[3] = {0, 0, 0};  // pairs of each axis, R/2 together
    Sections sections = Sections::kChunked;

    float norm_eps = 1e-6F;
    Type norm_type = Type::kFloat32;  // fp32 or q's type

    // Programmatic dependent launch: the kernel may be scheduled while its predecessor in the stream drains, and waits
    // for it before touching memory. Changes nothing below compute capability 9.0.
    bool early_start = false;
    // 0: chosen by size. 1, 2 or 4: heads that share one thread's cos and sin; for tests and tuning.
    std::int32_t heads_per_thread = 0;
};

// Enqueue the rotation. Returns null, or what is wrong in static storage: of the parameters (nothing was
// enqueued) or CUDA's words about the launch. Does not wait, allocate, or throw.
const char* launch(const Parameters& parameters, CUstream_st* stream) noexcept;

// inv_freq (radians per position, |inv_freq| < 2 pi; negative turns backwards) as a 64-bit fraction of a turn.
// Times a position, modulo 2^64, it is the angle with no rounding at all: error < 2^-52 * |position| turns, all
// of it from the double given.
inline std::uint64_t turn_step(double inv_freq) noexcept {
    constexpr double kPerTurn = 0.15915494309189533577;  // 1 / (2 pi)
    // 2^63 at a time: a signed conversion is defined for the whole range, the shift wraps as the turn does.
    return static_cast<std::uint64_t>(static_cast<std::int64_t>(inv_freq * kPerTurn * 0x1p63)) << 1;
}

}  // namespace rope

#endif  // ROPE_KERNEL_H
