// The attributes of both operators: how they are named, checked, read from TensorRT's fields and written back.
#ifndef ROPE_ATTRIBUTES_H
#define ROPE_ATTRIBUTES_H

#include <NvInferRuntime.h>

#include <cstddef>
#include <cstdint>

namespace rope {

// The one table: name, type (INT32 or FLOAT32), how many, default, lowest, highest, meaning. The creator declares it,
// the serializer writes it, refusals quote it, and `rope-deploy plugin info` shows it. A default below the lowest
// value makes an attribute one that must be given.
#define ROPE_FIELDS(X)                                                                                                 \
    X(head_dim, INT32, 1, 0, 2, 65536, "elements of a head, even; must be given")                                      \
    X(rotary_dim, INT32, 1, 0, 0, 65536, "elements of a head that turn, even; 0: all")                                 \
    X(heads_axis, INT32, 1, 1, 1, 2, "1: tensors are [B, N, S, H]; 2: [B, S, N, H]")                                   \
    X(interleaved, INT32, 1, 0, 0, 1, "0: pairs are (i, i + R/2); 1: (2i, 2i + 1)")                                    \
    X(out_heads_axis, INT32, 1, 0, 0, 2, "heads_axis of the outputs; 0: as the inputs")                                \
    X(proportional, INT32, 1, 0, 0, 1, "1: pairs are (i, i + H/2), across the whole head")                             \
    X(out_of_range, INT32, 1, 0, 0, 1, "rows outside the caches: 0: NaN; 1: nothing turns")                            \
    X(sections, INT32, 3, 0, 0, 65536, "M-RoPE: pairs of each axis, R/2 together; rows are [3, B, S]")                 \
    X(sections_interleaved, INT32, 1, 0, 0, 1, "M-RoPE: 0: sections in turn; 1: interleaved")                          \
    X(norm_eps, FLOAT32, 1, 0, 0, 1, "above 0: RMS norm of each head first; its weights [H] are the last inputs")

// As the table says; `read` fills it in.
struct Attributes {
    std::int32_t head_dim;
    std::int32_t rotary_dim;  // no longer 0 once read
    std::int32_t heads_axis;
    std::int32_t interleaved;
    std::int32_t out_heads_axis;  // no longer 0 once read
    std::int32_t proportional;
    std::int32_t out_of_range;
    std::int32_t sections[3];
    std::int32_t sections_interleaved;
    float norm_eps;

    bool has_sections() const noexcept { return sections[0] + sections[1] + sections[2] > 0; }
    bool has_norm() const noexcept { return norm_eps > 0; }
};

inline constexpr std::int32_t kFieldCount = 10;
using Fields = nvinfer1::PluginField[kFieldCount];

// What is wrong, in words. Fixed storage: saying it cannot fail.
struct Fault {
    char text[256] = "";
    bool say(char const* format, ...) noexcept __attribute__((format(printf, 2, 3)));  // returns false, to be returned
};

// Names and types without data, as a creator declares them; the data of `attributes`, as an engine stores them.
void declare(Fields& fields) noexcept;
void refer(Attributes const& attributes, Fields& fields) noexcept;

// Read and check; false with `fault` filled in if there is anything that these operators do not mean.
bool read(nvinfer1::PluginFieldCollection const* collection, Attributes& attributes, Fault& fault) noexcept;

// Everything that distinguishes one rotation from another, for the timing cache and for people.
void describe(Attributes const& attributes, char* text, std::size_t size) noexcept;

}  // namespace rope

#endif  // ROPE_ATTRIBUTES_H
