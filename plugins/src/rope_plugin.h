// RopeRotate and RopeRotateQK as a TensorRT plugin. One class: the second has a q and a k where the first has an x.
//
//   inputs   x | q, k      [B, N, S, H] or [B, S, N, H]; float32, float16 or bfloat16, all alike
//            cos_cache,    [M, R/2]; float32 or the type of x
//            sin_cache
//            rows          row of the caches for each token: [B, S], or [1, S] for all sequences; int32 or int64.
//                          With sections [3, B, S] or [3, 1, S].
//            weights       with norm_eps, one for each rotated tensor: [H]; float32 or the type of x
//   outputs  as x | q, k; heads where out_heads_axis says
//
// TensorRT calls everything here across a noexcept boundary: nothing throws, nothing allocates but clone().
#ifndef ROPE_PLUGIN_H
#define ROPE_PLUGIN_H

#include <NvInferRuntime.h>

#include "rope_attributes.h"

namespace rope {

inline constexpr char const* kVersion = "1";
inline constexpr char const* kNamespace = "";  // where the ONNX parser looks, whatever the domain of the node

class RopePlugin final : public nvinfer1::IPluginV3,
                         public nvinfer1::IPluginV3OneCore,
                         public nvinfer1::IPluginV3OneBuild,
                         public nvinfer1::IPluginV3OneRuntime {
   public:
    // `tensors` is 1 for RopeRotate, 2 for RopeRotateQK.
    RopePlugin(std::int32_t tensors, Attributes const& attributes) noexcept;

    // What both capabilities and the plugin itself declare.
    nvinfer1::IPluginCapability* getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept override;
    nvinfer1::IPluginV3* clone() noexcept override;

    nvinfer1::AsciiChar const* getPluginName() const noexcept override;
    nvinfer1::AsciiChar const* getPluginVersion() const noexcept override { return kVersion; }
    nvinfer1::AsciiChar const* getPluginNamespace() const noexcept override { return kNamespace; }

    // While an engine is built. Each int32_t is 0, or 1 after a message.
    std::int32_t getNbOutputs() const noexcept override { return tensors_; }
    std::int32_t getOutputDataTypes(nvinfer1::DataType* outputs, std::int32_t output_count,
                                    nvinfer1::DataType const* inputs, std::int32_t input_count) const noexcept override;
    std::int32_t getOutputShapes(nvinfer1::DimsExprs const* inputs, std::int32_t input_count,
                                 nvinfer1::DimsExprs const* shape_inputs, std::int32_t shape_input_count,
                                 nvinfer1::DimsExprs* outputs, std::int32_t output_count,
                                 nvinfer1::IExprBuilder& builder) noexcept override;
    bool supportsFormatCombination(std::int32_t position, nvinfer1::DynamicPluginTensorDesc const* tensors,
                                   std::int32_t input_count, std::int32_t output_count) noexcept override;
    std::int32_t configurePlugin(nvinfer1::DynamicPluginTensorDesc const* inputs, std::int32_t input_count,
                                 nvinfer1::DynamicPluginTensorDesc const* outputs,
                                 std::int32_t output_count) noexcept override;
    char const* getTimingCacheID() noexcept override;
    char const* getMetadataString() noexcept override { return timing_id_; }

    // While it runs.
    std::int32_t onShapeChange(nvinfer1::PluginTensorDesc const* inputs, std::int32_t input_count,
                               nvinfer1::PluginTensorDesc const* outputs, std::int32_t output_count) noexcept override;
    std::int32_t enqueue(nvinfer1::PluginTensorDesc const* input_descriptions,
                         nvinfer1::PluginTensorDesc const* output_descriptions, void const* const* inputs,
                         void* const* outputs, void* workspace, cudaStream_t stream) noexcept override;
    nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext* context) noexcept override;
    nvinfer1::PluginFieldCollection const* getFieldsToSerialize() noexcept override;

   private:
    // Places of the inputs: x or q and k, then these.
    std::int32_t cos() const noexcept { return tensors_; }
    std::int32_t sin() const noexcept { return tensors_ + 1; }
    std::int32_t rows() const noexcept { return tensors_ + 2; }
    std::int32_t weights() const noexcept { return tensors_ + 3; }
    std::int32_t inputs() const noexcept { return weights() + (attributes_.has_norm() ? tensors_ : 0); }

    bool counts_fit(std::int32_t input_count, std::int32_t output_count) const noexcept;
    bool shapes_fit(nvinfer1::Dims const* inputs, Fault& fault) const noexcept;
    std::int32_t refuse(char const* during, Fault const& fault) const noexcept;

    std::int32_t const tensors_;
    Attributes const attributes_;
    char timing_id_[256] = "";
    Fields fields_ = {};
    nvinfer1::PluginFieldCollection serialized_ = {};
};

}  // namespace rope

#endif  // ROPE_PLUGIN_H
