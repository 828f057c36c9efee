// What one thread does, for a GPU thread and for a loop on the CPU alike.
#ifndef ROPE_MATH_H
#define ROPE_MATH_H

#include <cmath>
#include <cstdint>

#include "rope_plan.h"
#include "rope_types.h"

namespace rope {

// Where an item's heads are.
struct Place {
    std::uint32_t tensor;  // 0: q, 1: k
    std::uint32_t batch;
    std::uint32_t token;
    std::uint32_t head;   // the first
    std::uint32_t heads;  // how many, 1 ... G
};

// As loaded. Combined only where they are needed: whatever follows a load here waits for it, loads of x included.
struct Positions {
    std::uint32_t low[3];   // per axis; without M-RoPE, three times the same
    std::uint32_t high[3];  // of int32 positions: the low word again
    bool wide;              // int64

    ROPE_FN std::int64_t axis(int i) const {
        const auto both = static_cast<std::int64_t>(std::uint64_t{high[i]} << 32 | low[i]);
        return wide ? both : static_cast<std::int32_t>(low[i]);
    }
};

// One chunk of a head.
struct Chunk {
    std::uint32_t first;   // element where its first vector starts
    std::uint32_t second;  // element where its second vector starts
    bool turns;            // otherwise it only passes through
};

ROPE_FN const Tensor& tensor_of(const Plan& plan, const Place& place) {
    return place.tensor == 0 ? plan.p.q : plan.p.k;
}

template <typename W>
ROPE_FN Place place_of(const Plan& plan, std::uint32_t item) {
    const std::uint32_t flat = plan.items_per_token.quotient(item);  // the token, in all sequences
    const std::uint32_t batch = plan.tokens.quotient(flat);
    const std::uint32_t group = item - flat * plan.items_per_token.d;
    const bool is_k = group >= plan.q_groups;
    const std::uint32_t head = (is_k ? group - plan.q_groups : group) * W::G;
    const std::uint32_t left = static_cast<std::uint32_t>(is_k ? plan.p.k.heads : plan.p.q.heads) - head;
    return {is_k, batch, flat - batch * plan.tokens.d, head, left < W::G ? left : W::G};
}

ROPE_FN std::int64_t offset_of(const Strides& strides, const Place& place) {
    return place.batch * strides.batch + place.token * strides.token + place.head * strides.head;
}

ROPE_FN Positions positions_of(const Plan& plan, const Place& place) {
    const Parameters& p = plan.p;
    const auto* words = static_cast<const std::uint32_t*>(p.positions);
    const std::int64_t first = place.batch * p.position_batch_stride + place.token * p.position_token_stride;
    Positions found;
    found.wide = p.positions_are_int64;
    for (int i = 0; i < 3; ++i) {
        const std::int64_t at = (first + i * p.position_axis_stride) << found.wide;
        found.low[i] = words[at];
        found.high[i] = words[at + found.wide];
    }
    return found;
}

// One comparison: a negative position is a very large unsigned one.
template <typename W>
ROPE_FN bool inside(const Plan& plan, const Positions& at) {
    const auto rows = static_cast<std::uint64_t>(plan.p.cache_rows);
    bool all = static_cast<std::uint64_t>(at.axis(0)) < rows;
    if (!W::kPlain)
        for (int i = 1; i < 3; ++i) all = all && static_cast<std::uint64_t>(at.axis(i)) < rows;
    return all;
}

// The position that pair number `pair` turns by.
ROPE_FN std::int64_t position_of_pair(const Parameters& p, const Positions& at, std::uint32_t pair) {
    const auto i = static_cast<std::int32_t>(pair);
    bool second, third;
    if (p.position_axes == 1) {
        second = third = false;
    } else if (p.sections == Sections::kChunked) {
        third = i >= p.section[0] + p.section[1];
        second = !third && i >= p.section[0];
    } else {
        second = i % 3 == 1 && i < 3 * p.section[1];
        third = i % 3 == 2 && i < 3 * p.section[2];
    }
    return third ? at.axis(2) : second ? at.axis(1) : at.axis(0);
}

template <typename W>
ROPE_FN Chunk chunk_of(const Plan& plan, std::uint32_t number) {
    const bool turns = number < plan.turning_chunks;
    if (W::V == 1 && turns && plan.p.interleaved) return {2 * number, 2 * number + 1, true};
    // A proportional rotation's still pairs lie between those that turn, a prefix's behind them.
    const bool behind = !turns && !plan.p.proportional;
    const std::uint32_t start = behind ? plan.p.rotary_dim : 0;
    const std::uint32_t half = behind ? (plan.p.head_dim - plan.p.rotary_dim) / 2 : plan.half_span;
    const std::uint32_t first = start + (behind ? number - plan.turning_chunks : number) * W::V;
    return {first, first + half, turns};
}

template <typename C, int N>
ROPE_FN void load_as_float(const void* base, std::int64_t index, float* to) {
    const auto loaded = *reinterpret_cast<const Vector<C, N>*>(static_cast<const C*>(base) + index);
    loaded.widen(to);
}

// N neighbours of an array that is fp32 or of type T.
template <typename T, int N>
ROPE_FN void load_as_float(const void* base, Type type, std::int64_t index, float* to) {
    if (type == Type::kFloat32) {
        load_as_float<float, N>(base, index, to);
    } else {
        load_as_float<T, N>(base, index, to);
    }
}

// The product wraps modulo 2^64, one turn, so it is the angle exactly; read as signed, a half turn is 2^63.
ROPE_FN void cos_sin_of(std::int64_t position, std::uint64_t turn_step, float scale, float* c, float* s) {
    const auto angle = static_cast<std::int64_t>(static_cast<std::uint64_t>(position) * turn_step);
    const float half_turns = static_cast<float>(angle) * 0x1p-63F;
    float cosine, sine;
#ifdef __CUDA_ARCH__
    sincospif(half_turns, &sine, &cosine);
#else
    constexpr double kHalfTurn = 3.14159265358979323846;
    cosine = static_cast<float>(std::cos(kHalfTurn * half_turns));
    sine = static_cast<float>(std::sin(kHalfTurn * half_turns));
#endif
    *c = cosine * scale;
    *s = sine * scale;
}

// cos and sin of N neighbouring pairs, the first of them `pair`.
template <typename W, int N>
ROPE_FN void look_up_run(const Plan& plan, const Positions& at, std::uint32_t pair, float* c, float* s) {
    const Parameters& p = plan.p;
    if constexpr (W::kPlain) {
        const std::int64_t i = at.axis(0) * p.cache_row_stride + pair;
        load_as_float<typename W::T, N>(p.cos_cache, p.cache_type, i, c);
        load_as_float<typename W::T, N>(p.sin_cache, p.cache_type, i, s);
    } else {
        for (int j = 0; j < N; ++j) {
            const std::int64_t position = position_of_pair(p, at, pair + j);
            if (p.turn_steps != nullptr) {
                cos_sin_of(position, p.turn_steps[pair + j], p.scale, c + j, s + j);
            } else {
                const std::int64_t i = position * p.cache_row_stride + pair + j;
                load_as_float<typename W::T, 1>(p.cos_cache, p.cache_type, i, c + j);
                load_as_float<typename W::T, 1>(p.sin_cache, p.cache_type, i, s + j);
            }
        }
    }
}

// cos and sin of a chunk's pairs. False: the chunk does not turn, and neither is set.
template <typename W>
ROPE_FN bool look_up(const Plan& plan, const Positions& at, const Chunk& chunk, float (&c)[W::V], float (&s)[W::V]) {
    const bool computed = !W::kPlain && plan.p.turn_steps != nullptr;
    const bool known = computed || inside<W>(plan, at);
    if (!chunk.turns) return false;
    if (unlikely(!known)) {
        for (int j = 0; j < W::V; ++j) c[j] = s[j] = NAN;
        return plan.p.outside == Outside::kNaN;
    }
    if constexpr (W::V == 1) {
        look_up_run<W, 1>(plan, at, plan.p.interleaved ? chunk.first / 2 : chunk.first, c, s);
    } else {
        // Pairs within vectors: those of the second are further on in the tables. Pairs across: one run of V.
        constexpr int kHalf = W::V / 2;
        look_up_run<W, kHalf>(plan, at, W::kWithin ? chunk.first / 2 : chunk.first, c, s);
        look_up_run<W, kHalf>(plan, at, W::kWithin ? chunk.second / 2 : chunk.first + kHalf, c + kHalf, s + kHalf);
    }
    return true;
}

ROPE_FN void turn(float& a, float& b, float c, float s) {
    const float first = fmaf(a, c, -(b * s));
    b = fmaf(b, c, a * s);
    a = first;
}

// The pairs of a chunk: across its two vectors, or within each.
template <typename W>
ROPE_FN void turn_chunk(float (&a)[W::V], float (&b)[W::V], const float (&c)[W::V], const float (&s)[W::V]) {
    if constexpr (W::kWithin) {
        constexpr int kHalf = W::V / 2;
        for (int j = 0; j < kHalf; ++j) {
            turn(a[2 * j], a[2 * j + 1], c[j], s[j]);
            turn(b[2 * j], b[2 * j + 1], c[kHalf + j], s[kHalf + j]);
        }
    } else {
        for (int j = 0; j < W::V; ++j) turn(a[j], b[j], c[j], s[j]);
    }
}

// For each chunk that falls to this lane. Vectors are planned so that one falls to it at most, without a loop.
template <typename W, typename Each>
ROPE_FN void for_chunks(const Plan& plan, const Place& place, std::uint32_t lane, Each each) {
    const std::uint32_t chunks = plan.chunks[place.tensor];
    if constexpr (W::V > 1) {
        if (lane < chunks) each(chunk_of<W>(plan, lane));
    } else {
        for (std::uint32_t number = lane; number < chunks; number += plan.lanes) each(chunk_of<W>(plan, number));
    }
}

// This thread's part of each head's sum of squares.
template <typename W>
ROPE_FN void sum_squares(const Plan& plan, const Place& place, std::uint32_t lane, float (&sums)[W::G]) {
    using Load = Vector<typename W::T, W::V>;
    const Tensor& x = tensor_of(plan, place);
    const auto* in = static_cast<const typename W::T*>(x.in) + offset_of(x.in_stride, place);
    for (float& sum : sums) sum = 0.0F;
    for_chunks<W>(plan, place, lane, [&](const Chunk& chunk) {
        for (std::uint32_t g = 0; g < W::G; ++g) {
            if (g > 0 && g >= place.heads) continue;
            const auto first = *reinterpret_cast<const Load*>(in + g * x.in_stride.head + chunk.first);
            const auto second = *reinterpret_cast<const Load*>(in + g * x.in_stride.head + chunk.second);
            float a[W::V], b[W::V];
            first.widen(a);
            second.widen(b);
            for (int j = 0; j < W::V; ++j) sums[g] = fmaf(a[j], a[j], fmaf(b[j], b[j], sums[g]));
        }
    });
}

// Load, normalize, turn, store: this thread's part of the item. `rms` is 1 / sqrt(mean of squares + eps).
template <typename W>
ROPE_FN void rotate(
    const Plan& plan, const Place& place, const Positions& at, std::uint32_t lane, const float (&rms)[W::G]
) {
    using T = typename W::T;
    using Load = Vector<T, W::V>;
    const Tensor& x = tensor_of(plan, place);
    const auto* in = static_cast<const T*>(x.in) + offset_of(x.in_stride, place);
    auto* out = static_cast<T*>(x.out) + offset_of(x.out_stride, place);
    const bool norm = W::kNorm && x.norm_weight != nullptr;

    for_chunks<W>(plan, place, lane, [&](const Chunk& chunk) {
        // Loads of x are under way before anything waits for the position, which the tables' addresses depend on.
        Load first[W::G], second[W::G];
        for (std::uint32_t g = 0; g < W::G; ++g) {
            if (g > 0 && g >= place.heads) continue;
            first[g] = *reinterpret_cast<const Load*>(in + g * x.in_stride.head + chunk.first);
            second[g] = *reinterpret_cast<const Load*>(in + g * x.in_stride.head + chunk.second);
        }
        float c[W::V], s[W::V], weight_a[W::V], weight_b[W::V];
        const bool turns = look_up<W>(plan, at, chunk, c, s);
        if (norm) {
            load_as_float<T, W::V>(x.norm_weight, plan.p.norm_type, chunk.first, weight_a);
            load_as_float<T, W::V>(x.norm_weight, plan.p.norm_type, chunk.second, weight_b);
        }
        for (std::uint32_t g = 0; g < W::G; ++g) {
            if (g > 0 && g >= place.heads) continue;
            if (norm || turns) {
                float a[W::V], b[W::V];
                first[g].widen(a);
                second[g].widen(b);
                for (int j = 0; j < W::V; ++j) {
                    if (norm) a[j] *= rms[g] * weight_a[j];
                    if (norm) b[j] *= rms[g] * weight_b[j];
                }
                if (turns) turn_chunk<W>(a, b, c, s);
                first[g].narrow(a);
                second[g].narrow(b);
            }
            *reinterpret_cast<Load*>(out + g * x.out_stride.head + chunk.first) = first[g];
            *reinterpret_cast<Load*>(out + g * x.out_stride.head + chunk.second) = second[g];
        }
    });
}

}  // namespace rope

#endif  // ROPE_MATH_H
