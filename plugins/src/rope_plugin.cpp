#include "rope_plugin.h"

#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <new>

#include "rope_kernel.h"
#include "rope_logger.h"

namespace rope {
namespace {

using nvinfer1::DataType;
using nvinfer1::Dims;
using nvinfer1::PluginTensorDesc;

constexpr std::int32_t kMaxInputs = 7;  // q, k, cos_cache, sin_cache, rows and two weights

bool is_real(DataType type) noexcept {
    return type == DataType::kFLOAT || type == DataType::kHALF || type == DataType::kBF16;
}

Type kernel_type(DataType type) noexcept {
    if (type == DataType::kHALF) return Type::kFloat16;
    return type == DataType::kBF16 ? Type::kBFloat16 : Type::kFloat32;
}

// Equal as far as both are known; a size that is not known yet is -1.
bool agree(std::int64_t one, std::int64_t other) noexcept { return one < 0 || other < 0 || one == other; }

bool has_rank(Dims const& shape, std::int32_t rank, char const* name, Fault& fault) noexcept {
    if (shape.nbDims == rank) return true;
    return fault.say("%s has %d dimensions, but must have %d", name, shape.nbDims, rank);
}

// A size of a tensor that must be `wanted`.
bool has_size(std::int64_t size, std::int64_t wanted, char const* what, Fault& fault) noexcept {
    if (agree(size, wanted)) return true;
    return fault.say("%s is %lld, but must be %lld", what, static_cast<long long>(size),
                     static_cast<long long>(wanted));
}

// [B, N, S, H] (heads_axis 1) or [B, S, N, H] (2), elements side by side.
Strides strides(Dims const& shape, std::int32_t heads_axis) noexcept {
    std::int64_t const row = shape.d[3];
    std::int64_t const plane = shape.d[2] * row;
    std::int64_t const batch = shape.d[1] * plane;
    return heads_axis == 1 ? Strides{batch, row, plane} : Strides{batch, plane, row};
}

}  // namespace

RopePlugin::RopePlugin(std::int32_t tensors, Attributes const& attributes) noexcept
    : tensors_(tensors), attributes_(attributes) {
    describe(attributes_, timing_id_, sizeof timing_id_);
}

nvinfer1::IPluginCapability* RopePlugin::getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept {
    switch (type) {
        case nvinfer1::PluginCapabilityType::kCORE: return static_cast<nvinfer1::IPluginV3OneCore*>(this);
        case nvinfer1::PluginCapabilityType::kBUILD: return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
        case nvinfer1::PluginCapabilityType::kRUNTIME: return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
    }
    return nullptr;
}

nvinfer1::IPluginV3* RopePlugin::clone() noexcept { return new (std::nothrow) RopePlugin(tensors_, attributes_); }

nvinfer1::AsciiChar const* RopePlugin::getPluginName() const noexcept {
    return tensors_ == 2 ? "RopeRotateQK" : "RopeRotate";
}

char const* RopePlugin::getTimingCacheID() noexcept { return timing_id_; }

std::int32_t RopePlugin::getOutputDataTypes(DataType* outputs, std::int32_t output_count, DataType const* inputs,
                                            std::int32_t input_count) const noexcept {
    if (!counts_fit(input_count, output_count)) return 1;
    for (std::int32_t index = 0; index < tensors_; ++index) outputs[index] = inputs[index];
    return 0;
}

std::int32_t RopePlugin::getOutputShapes(nvinfer1::DimsExprs const* inputs, std::int32_t input_count,
                                         nvinfer1::DimsExprs const*, std::int32_t, nvinfer1::DimsExprs* outputs,
                                         std::int32_t output_count, nvinfer1::IExprBuilder&) noexcept {
    if (!counts_fit(input_count, output_count)) return 1;
    Dims known[kMaxInputs];
    for (std::int32_t index = 0; index < input_count; ++index) {
        known[index].nbDims = inputs[index].nbDims;
        for (std::int32_t axis = 0; axis < inputs[index].nbDims; ++axis) {
            nvinfer1::IDimensionExpr const& size = *inputs[index].d[axis];
            known[index].d[axis] = size.isConstant() ? size.getConstantValue() : -1;
        }
    }
    Fault fault;
    if (!shapes_fit(known, fault)) return refuse("shapes", fault);
    for (std::int32_t index = 0; index < tensors_; ++index) {
        outputs[index] = inputs[index];
        if (attributes_.out_heads_axis != attributes_.heads_axis) {
            outputs[index].d[1] = inputs[index].d[2];
            outputs[index].d[2] = inputs[index].d[1];
        }
    }
    return 0;
}

bool RopePlugin::supportsFormatCombination(std::int32_t position, nvinfer1::DynamicPluginTensorDesc const* tensors,
                                           std::int32_t input_count, std::int32_t output_count) noexcept {
    // TensorRT asks in ascending order: only tensors up to `position` have been decided.
    if (!counts_fit(input_count, output_count) || position < 0 || position >= input_count + output_count) return false;
    PluginTensorDesc const& tensor = tensors[position].desc;
    if (tensor.format != nvinfer1::TensorFormat::kLINEAR) return false;
    DataType const main = tensors[0].desc.type;
    if (position == 0) return is_real(tensor.type);
    if (position == cos()) return tensor.type == DataType::kFLOAT || tensor.type == main;
    if (position == sin()) return tensor.type == tensors[cos()].desc.type;
    if (position == rows()) return tensor.type == DataType::kINT32 || tensor.type == DataType::kINT64;
    if (position == weights() && position < input_count) {
        return tensor.type == DataType::kFLOAT || tensor.type == main;
    }
    if (position > weights() && position < input_count) return tensor.type == tensors[weights()].desc.type;
    return tensor.type == main;  // k and the outputs
}

std::int32_t RopePlugin::configurePlugin(nvinfer1::DynamicPluginTensorDesc const* inputs, std::int32_t input_count,
                                         nvinfer1::DynamicPluginTensorDesc const*, std::int32_t output_count) noexcept {
    if (!counts_fit(input_count, output_count)) return 1;
    Dims shapes[kMaxInputs];
    for (std::int32_t index = 0; index < input_count; ++index) shapes[index] = inputs[index].desc.dims;
    Fault fault;
    return shapes_fit(shapes, fault) ? 0 : refuse("configuration", fault);
}

std::int32_t RopePlugin::onShapeChange(PluginTensorDesc const* inputs, std::int32_t input_count,
                                       PluginTensorDesc const*, std::int32_t output_count) noexcept {
    if (!counts_fit(input_count, output_count)) return 1;
    Dims shapes[kMaxInputs];
    for (std::int32_t index = 0; index < input_count; ++index) shapes[index] = inputs[index].dims;
    Fault fault;
    return shapes_fit(shapes, fault) ? 0 : refuse("a change of shapes", fault);
}

std::int32_t RopePlugin::enqueue(PluginTensorDesc const* in, PluginTensorDesc const* out, void const* const* inputs,
                                 void* const* outputs, void*, cudaStream_t stream) noexcept {
    Attributes const& a = attributes_;
    Dims const& x = in[0].dims;
    Dims const& positions = in[rows()].dims;
    Parameters p;
    Tensor* const tensors[] = {&p.q, &p.k};
    for (std::int32_t index = 0; index < tensors_; ++index) {
        Tensor& tensor = *tensors[index];
        tensor.in = inputs[index];
        tensor.out = outputs[index];
        tensor.in_stride = strides(in[index].dims, a.heads_axis);
        tensor.out_stride = strides(out[index].dims, a.out_heads_axis);
        tensor.heads = static_cast<std::int32_t>(in[index].dims.d[a.heads_axis]);
        tensor.norm_weight = a.has_norm() ? inputs[weights() + index] : nullptr;
    }
    p.type = kernel_type(in[0].type);
    p.batch = static_cast<std::int32_t>(x.d[0]);
    p.tokens = static_cast<std::int32_t>(x.d[3 - a.heads_axis]);
    p.head_dim = a.head_dim;
    p.rotary_dim = a.rotary_dim;
    p.interleaved = a.interleaved != 0;
    p.proportional = a.proportional != 0;
    p.cos_cache = inputs[cos()];
    p.sin_cache = inputs[sin()];
    p.cache_type = kernel_type(in[cos()].type);
    p.cache_rows = static_cast<std::int32_t>(in[cos()].dims.d[0]);
    p.outside = a.out_of_range != 0 ? Outside::kPassThrough : Outside::kNaN;
    p.positions = inputs[rows()];
    p.positions_are_int64 = in[rows()].type == DataType::kINT64;
    std::int64_t const sequences = positions.d[positions.nbDims - 2];
    p.position_batch_stride = sequences == 1 ? 0 : p.tokens;
    if (a.has_sections()) {
        p.position_axes = 3;
        p.position_axis_stride = sequences * p.tokens;
        std::memcpy(p.section, a.sections, sizeof p.section);
        p.sections = a.sections_interleaved != 0 ? Sections::kInterleaved : Sections::kChunked;
    }
    if (a.has_norm()) {
        p.norm_eps = a.norm_eps;
        p.norm_type = kernel_type(in[weights()].type);
    }
    char const* const wrong = launch(p, stream);
    if (wrong == nullptr) return 0;
    Fault fault;
    fault.say("%s", wrong);
    return refuse("launch", fault);
}

nvinfer1::IPluginV3* RopePlugin::attachToContext(nvinfer1::IPluginResourceContext*) noexcept { return clone(); }

nvinfer1::PluginFieldCollection const* RopePlugin::getFieldsToSerialize() noexcept {
    refer(attributes_, fields_);
    serialized_ = {kFieldCount, fields_};
    return &serialized_;
}

bool RopePlugin::counts_fit(std::int32_t input_count, std::int32_t output_count) const noexcept {
    if (input_count == inputs() && output_count == tensors_) return true;
    log_error("%s: it has %d inputs and %d outputs, but with these attributes takes %d and gives %d", getPluginName(),
              input_count, output_count, inputs(), tensors_);
    return false;
}

bool RopePlugin::shapes_fit(Dims const* in, Fault& fault) const noexcept {
    Attributes const& a = attributes_;
    char const* const names[] = {tensors_ == 2 ? "q" : "x", "k"};
    std::int32_t const tokens_axis = 3 - a.heads_axis;
    Dims const& x = in[0];
    for (std::int32_t index = 0; index < tensors_; ++index) {
        Dims const& shape = in[index];
        if (!has_rank(shape, 4, names[index], fault)) return false;
        if (!has_size(shape.d[3], a.head_dim, "the last dimension", fault)) return false;
        if (!has_size(shape.d[0], x.d[0], "the batch of k", fault)) return false;
        if (!has_size(shape.d[tokens_axis], x.d[tokens_axis], "the sequence of k", fault)) return false;
        if (a.has_norm()) {
            Dims const& weight = in[weights() + index];
            if (!has_rank(weight, 1, "a norm's weight", fault)) return false;
            if (!has_size(weight.d[0], a.head_dim, "the size of a norm's weight", fault)) return false;
        }
        for (std::int32_t axis = 0; axis < 4; ++axis) {
            if (shape.d[axis] > std::numeric_limits<std::int32_t>::max()) {
                return fault.say("%s is longer than 2^31 along axis %d", names[index], axis);
            }
        }
    }
    for (std::int32_t const cache : {cos(), sin()}) {
        if (!has_rank(in[cache], 2, "a cache", fault)) return false;
        if (!has_size(in[cache].d[1], a.rotary_dim / 2, "the width of a cache", fault)) return false;
    }
    if (!has_size(in[sin()].d[0], in[cos()].d[0], "the length of sin_cache", fault)) return false;
    if (in[cos()].d[0] > std::numeric_limits<std::int32_t>::max()) return fault.say("the caches exceed 2^31 rows");
    Dims const& index = in[rows()];
    std::int32_t const axes = a.has_sections() ? 1 : 0;
    if (!has_rank(index, 2 + axes, "rows", fault)) return false;
    if (axes == 1 && !has_size(index.d[0], 3, "the first dimension of rows", fault)) return false;
    if (index.d[axes] != 1 && !has_size(index.d[axes], x.d[0], "the batch of rows", fault)) return false;
    return has_size(index.d[axes + 1], x.d[tokens_axis], "the sequence of rows", fault);
}

std::int32_t RopePlugin::refuse(char const* during, Fault const& fault) const noexcept {
    log_error("%s refuses %s: %s", getPluginName(), during, fault.text);
    return 1;
}

}  // namespace rope
