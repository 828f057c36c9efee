// 16-bit floats and 16-byte accesses that mean the same to nvcc and to a plain C++ compiler.
#ifndef ROPE_TYPES_H
#define ROPE_TYPES_H

#include <cstdint>
#include <cstring>
#include <type_traits>

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define ROPE_FN __host__ __device__ __forceinline__
#else
#define ROPE_FN inline
#endif

namespace rope {

struct Float16 {
    std::uint16_t bits;
};

struct BFloat16 {
    std::uint16_t bits;
};

ROPE_FN bool unlikely(bool condition) { return __builtin_expect(condition, false); }

ROPE_FN float float_of_bits(std::uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

ROPE_FN std::uint32_t bits_of_float(float value) {
    std::uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

ROPE_FN float widen(float x) { return x; }

ROPE_FN float widen(BFloat16 x) { return float_of_bits(std::uint32_t{x.bits} << 16); }

ROPE_FN float widen(Float16 x) {
#ifdef __CUDA_ARCH__
    return __half2float(__ushort_as_half(x.bits));
#else
    // The exponent moves from bias 15 to 127 by a multiplication, which also normalizes subnormals.
    const std::uint32_t sign = (x.bits & 0x8000U) << 16, rest = x.bits & 0x7fffU;
    const float size = rest < 0x7c00U ? float_of_bits(rest << 13) * 0x1p112F : float_of_bits(0x7f800000U | rest << 13);
    return float_of_bits(sign | bits_of_float(size));
#endif
}

// One rounding, to nearest even.
template <typename T>
ROPE_FN T narrow(float x);

template <>
ROPE_FN float narrow<float>(float x) {
    return x;
}

template <>
ROPE_FN BFloat16 narrow<BFloat16>(float x) {
#ifdef __CUDA_ARCH__
    return {__bfloat16_as_ushort(__float2bfloat16_rn(x))};
#else
    const std::uint32_t bits = bits_of_float(x);
    if (x != x) return {static_cast<std::uint16_t>(bits >> 16 | 0x40U)};
    return {static_cast<std::uint16_t>((bits + 0x7fffU + (bits >> 16 & 1U)) >> 16)};
#endif
}

template <>
ROPE_FN Float16 narrow<Float16>(float x) {
#ifdef __CUDA_ARCH__
    return {__half_as_ushort(__float2half_rn(x))};
#else
    const std::uint32_t sign = bits_of_float(x) >> 16 & 0x8000U, size = bits_of_float(x) & 0x7fffffffU;
    std::uint32_t rest;
    if (size > 0x7f800000U) {
        rest = 0x7e00U;  // NaN
    } else if (size >= 0x477ff000U) {
        rest = 0x7c00U;  // 65520 and more: infinity
    } else if (size < 0x38800000U) {
        // Subnormal: adding 0.5 leaves a multiple of 2^-24 in the last bits, rounded by the addition itself.
        rest = bits_of_float(float_of_bits(size) + 0.5F) - 0x3f000000U;
    } else {
        rest = (size - 0x38000000U + 0xfffU + (size >> 13 & 1U)) >> 13;
    }
    return {static_cast<std::uint16_t>(sign | rest)};
#endif
}

// N neighbours moved by one instruction; the plan sees to it that addresses are multiples of its size. 16-bit floats
// stay in pairs, as they arrive: apart they would take twice the registers.
template <typename T, int N>
struct alignas(sizeof(T) * N) Vector {
    static constexpr bool kPaired = sizeof(T) == 2 && N % 2 == 0;
    std::conditional_t<kPaired, std::uint32_t, T> at[kPaired ? N / 2 : N];

    ROPE_FN void widen(float* to) const {
        if constexpr (kPaired) {
            for (int j = 0; j < N / 2; ++j) {
                to[2 * j] = rope::widen(T{static_cast<std::uint16_t>(at[j])});
                to[2 * j + 1] = rope::widen(T{static_cast<std::uint16_t>(at[j] >> 16)});
            }
        } else {
            for (int j = 0; j < N; ++j) to[j] = rope::widen(at[j]);
        }
    }

    ROPE_FN void narrow(const float* from) {
        if constexpr (kPaired) {
            for (int j = 0; j < N / 2; ++j) {
                const std::uint32_t low = rope::narrow<T>(from[2 * j]).bits;
                at[j] = low | std::uint32_t{rope::narrow<T>(from[2 * j + 1]).bits} << 16;
            }
        } else {
            for (int j = 0; j < N; ++j) at[j] = rope::narrow<T>(from[j]);
        }
    }
};

}  // namespace rope

#endif  // ROPE_TYPES_H
