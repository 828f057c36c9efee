// From parameters to a plan: what is checked, how the work is cut up, which variant of the kernel does it.
//
// A head is cut into chunks. Each chunk is two vectors of V elements that a thread loads, turns and stores:
// the first from the first half of what turns, the second from the same place of the second half. Half-split
// pairs lie across the two, interleaved pairs within each, so both layouts share their addresses and both are
// coalesced. What does not turn is cut likewise, behind the chunks that do. V is 16 bytes' worth where sizes and
// alignment allow it, otherwise 1.
//
// An item is a group of G neighbouring heads of one token, of q or of k; `lanes` threads share it, one chunk each
// (or every lanes-th). The G heads share the thread's cos and sin, which stay in registers.
#ifndef ROPE_PLAN_H
#define ROPE_PLAN_H

#include <algorithm>
#include <cstdint>

#include "../include/rope_kernel.h"
#include "rope_types.h"

namespace rope {

// n / d for 0 <= n < 2^31 and 1 <= d < 2^31 by one multiplication (Granlund and Montgomery, 1994).
struct Divisor {
    std::uint32_t d = 1;
    std::uint32_t multiplier = 0;
    std::uint32_t shift = 0;

    Divisor() = default;
    explicit Divisor(std::uint32_t divisor) : d(divisor), shift(31) {
        while ((std::uint64_t{1} << (shift - 31)) < d) ++shift;
        multiplier = static_cast<std::uint32_t>((std::uint64_t{1} << shift) / d + 1);
    }
    ROPE_FN std::uint32_t quotient(std::uint32_t n) const {
        return static_cast<std::uint32_t>((std::uint64_t{n} * multiplier) >> shift);
    }
};

constexpr int kWarp = 32;
constexpr int kThreads = 128;  // of a block. Small: while one waits for its loads, another stores

struct Plan {
    Parameters p;               // checked, defaults filled in
    Divisor items_per_token;    // groups of q, then of k
    Divisor tokens;             // of a sequence
    std::uint32_t items = 0;    // 0: nothing to do
    std::uint32_t q_groups = 0;
    std::uint32_t lanes = 0;            // threads an item
    std::int32_t vector = 1;            // V
    std::int32_t heads_per_thread = 1;  // G
    bool plain = false;                 // angles come from caches, by one position a token
    bool norm = false;                  // q or k is normalized
    std::uint32_t half_span = 0;        // half-split: from the first element of a pair to its second
    std::uint32_t turning_chunks = 0;   // of a head
    std::uint32_t chunks[2] = {0, 0};   // of a head of q, of k: those that turn, and still ones unless in place
};

// One variant of the kernel, as a type.
template <typename T_, int V_, int G_, bool within, bool plain, bool norm>
struct Variant {
    using T = T_;
    static constexpr int V = V_;
    static constexpr int G = G_;
    static constexpr bool kWithin = within;  // pairs lie within vectors
    static constexpr bool kPlain = plain;    // caches, one position a token; else anything
    static constexpr bool kNorm = norm;
};

namespace detail {

inline std::int32_t size_of(Type type) { return type == Type::kFloat32 ? 4 : 2; }

inline bool known(Type type) { return type == Type::kFloat32 || type == Type::kFloat16 || type == Type::kBFloat16; }

inline bool same(const Strides& a, const Strides& b) {
    return a.batch == b.batch && a.token == b.token && a.head == b.head;
}

inline bool in_place(const Tensor& x) { return x.in == x.out; }

// What is wrong with the numbers, or null.
inline const char* fault(const Parameters& p) {
    if (!known(p.type)) return "type is none of kFloat32, kFloat16, kBFloat16";
    if (p.batch < 0 || p.tokens < 0) return "batch and tokens must not be negative";
    if (p.head_dim < 2 || p.head_dim % 2 != 0) return "head_dim must be even and positive";
    if (p.rotary_dim < 2 || p.rotary_dim % 2 != 0) return "rotary_dim must be even and positive";
    if (p.rotary_dim > p.head_dim) return "rotary_dim is larger than head_dim";
    if (p.q.heads < 1 || p.k.heads < 0) return "q needs at least one head, and k must not have fewer than none";
    if (p.outside != Outside::kNaN && p.outside != Outside::kPassThrough) return "outside is no member of its enum";
    if (p.turn_steps == nullptr) {
        if (p.cache_type != Type::kFloat32 && p.cache_type != p.type) return "caches must be fp32 or of the type of q";
        if (p.cache_rows < 0) return "cache_rows must not be negative";
        if (p.cache_row_stride != 0 && p.cache_row_stride < p.rotary_dim / 2) return "cache rows overlap";
    }
    if (p.position_axes != 1 && p.position_axes != 3) return "position_axes must be 1 or 3";
    if (p.position_axes == 3) {
        if (p.sections != Sections::kChunked && p.sections != Sections::kInterleaved)
            return "sections is no member of its enum";
        std::int64_t pairs = 0;
        for (const std::int32_t size : p.section) {
            if (size < 0) return "a section must not be negative";
            pairs += size;
        }
        if (pairs != p.rotary_dim / 2) return "the sections must add up to rotary_dim / 2";
    }
    if (p.norm_type != Type::kFloat32 && p.norm_type != p.type) return "norm weights must be fp32 or of the type of q";
    if (p.heads_per_thread < 0 || p.heads_per_thread > 4 || p.heads_per_thread == 3)
        return "heads_per_thread must be 0, 1, 2 or 4";
    return nullptr;
}

// What is wrong with pointers and strides, which matter only where there is something to do, or null.
inline const char* fault_of_memory(const Parameters& p) {
    for (const Tensor* x : {&p.q, &p.k}) {
        if (x->heads == 0) continue;
        if (x->in == nullptr || x->out == nullptr) return "a tensor to rotate is null";
        if (in_place(*x) && !same(x->in_stride, x->out_stride)) return "in place, strides in and out must be equal";
        const Strides& out = x->out_stride;
        if ((p.batch > 1 && out.batch == 0) || (p.tokens > 1 && out.token == 0) || (x->heads > 1 && out.head == 0))
            return "an output stride of 0 would write one place twice";
    }
    if (p.positions == nullptr) return "positions is null";
    if (p.turn_steps == nullptr && (p.cos_cache == nullptr || p.sin_cache == nullptr))
        return "neither caches nor turn_steps are given";
    return nullptr;
}

inline bool multiple_of_16(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0; }

// Whether every chunk and every run of table columns starts at a multiple of 16 bytes.
inline bool fits_vectors(const Parameters& p) {
    const std::int32_t n = 16 / size_of(p.type);
    bool fits = p.rotary_dim / 2 % n == 0 && (p.head_dim - p.rotary_dim) / 2 % n == 0;
    for (const Tensor* x : {&p.q, &p.k}) {
        if (x->heads == 0) continue;
        fits = fits && multiple_of_16(x->in) && multiple_of_16(x->out) && multiple_of_16(x->norm_weight);
        for (const Strides* s : {&x->in_stride, &x->out_stride})
            fits = fits && s->batch % n == 0 && s->token % n == 0 && s->head % n == 0;
    }
    if (p.turn_steps == nullptr) {
        fits = fits && multiple_of_16(p.cos_cache) && multiple_of_16(p.sin_cache);
        fits = fits && p.cache_row_stride * size_of(p.cache_type) % 16 == 0;
    }
    return fits;
}

}  // namespace detail

// Null and a plan, or what is wrong.
inline const char* make_plan(const Parameters& parameters, Plan& plan) {
    using namespace detail;
    if (const char* found = fault(parameters)) return found;
    plan = Plan{};
    Parameters& p = plan.p = parameters;
    if (p.batch == 0 || p.tokens == 0) return nullptr;
    if (const char* found = fault_of_memory(p)) return found;
    if (p.cache_row_stride == 0) p.cache_row_stride = p.rotary_dim / 2;
    if (p.interleaved) p.proportional = false;  // neighbours pair up wherever the pairs end
    if (p.position_axes == 1) p.position_axis_stride = 0;  // three equal axes, so that loading them needs no branch
    plan.plain = p.turn_steps == nullptr && p.position_axes == 1;

    plan.norm = p.q.norm_weight != nullptr || (p.k.heads > 0 && p.k.norm_weight != nullptr);
    plan.half_span = (p.proportional ? p.head_dim : p.rotary_dim) / 2;
    const std::int32_t most_lanes = plan.norm ? kWarp : kThreads;  // a norm is summed by shuffles
    plan.vector = 16 / size_of(p.type);
    if (!fits_vectors(p) || p.head_dim / 2 / plan.vector > most_lanes) plan.vector = 1;
    plan.turning_chunks = p.rotary_dim / 2 / plan.vector;
    const Tensor* const tensors[] = {&p.q, &p.k};
    for (int i = 0; i < 2; ++i) {
        const bool all = plan.norm || !in_place(*tensors[i]);
        if (tensors[i]->heads > 0) plan.chunks[i] = all ? p.head_dim / 2 / plan.vector : plan.turning_chunks;
    }
    plan.lanes = std::max(plan.chunks[0], plan.chunks[1]);
    if (plan.vector == 1) plan.lanes = std::min<std::uint32_t>(plan.lanes, kWarp);
    if (plan.norm)
        while ((plan.lanes & (plan.lanes - 1)) != 0) ++plan.lanes;  // a power of two, for the shuffles

    // One head a thread fills a large GPU from about 2^18 threads on. With more, sharing cos and sin saves work: a
    // little where they are loaded, much where they are computed.
    const std::int64_t tokens = std::int64_t{p.batch} * p.tokens, heads = std::int64_t{p.q.heads} + p.k.heads;
    std::int32_t g = tokens * heads * plan.lanes <= 1 << 18 ? 1 : p.turn_steps == nullptr ? 2 : 4;
    if (p.heads_per_thread != 0) g = p.heads_per_thread;
    if (plan.vector == 1) g = 1;
    plan.heads_per_thread = g;
    plan.q_groups = (p.q.heads + g - 1) / g;
    const std::int64_t groups = plan.q_groups + static_cast<std::int64_t>(p.k.heads + g - 1) / g;
    if (tokens >= (std::int64_t{1} << 31) / groups) return "more than 2^31 groups of heads; split the batch";
    plan.items = static_cast<std::uint32_t>(tokens * groups);
    plan.items_per_token = Divisor(static_cast<std::uint32_t>(groups));
    plan.tokens = Divisor(static_cast<std::uint32_t>(p.tokens));
    return nullptr;
}

namespace detail {

template <typename T, int G, bool norm, bool plain, typename Run>
auto dispatch_pairing(const Plan& plan, Run& run) {
    constexpr int V = 16 / static_cast<int>(sizeof(T));
    if (plan.p.interleaved) return run(Variant<T, V, G, true, plain, norm>{});
    return run(Variant<T, V, G, false, plain, norm>{});
}

template <typename T, bool norm, bool plain, typename Run>
auto dispatch_heads(const Plan& plan, Run& run) {
    switch (plan.heads_per_thread) {
        case 1: return dispatch_pairing<T, 1, norm, plain>(plan, run);
        case 2: return dispatch_pairing<T, 2, norm, plain>(plan, run);
        default: return dispatch_pairing<T, 4, norm, plain>(plan, run);
    }
}

template <typename T, bool norm, typename Run>
auto dispatch_source(const Plan& plan, Run& run) {
    if (plan.vector == 1) return run(Variant<T, 1, 1, false, false, norm>{});
    return plan.plain ? dispatch_heads<T, norm, true>(plan, run) : dispatch_heads<T, norm, false>(plan, run);
}

template <typename T, typename Run>
auto dispatch_norm(const Plan& plan, Run& run) {
    return plan.norm ? dispatch_source<T, true>(plan, run) : dispatch_source<T, false>(plan, run);
}

}  // namespace detail

// run(Variant<...>{}) with the variant that the plan asks for.
template <typename Run>
auto dispatch(const Plan& plan, Run run) {
    switch (plan.p.type) {
        case Type::kFloat32: return detail::dispatch_norm<float>(plan, run);
        case Type::kFloat16: return detail::dispatch_norm<Float16>(plan, run);
        default: return detail::dispatch_norm<BFloat16>(plan, run);
    }
}

}  // namespace rope

#endif  // ROPE_PLAN_H
