// The creators of both operators, the two functions that TensorRT looks up in the library, and what the library says
// about itself to those who only read the file.
#include <NvInferRuntime.h>

#include <new>

#include "rope_attributes.h"
#include "rope_logger.h"
#include "rope_plugin.h"

#define ROPE_EXPORT extern "C" __attribute__((visibility("default")))

namespace rope {
namespace {

class Creator final : public nvinfer1::IPluginCreatorV3One {
   public:
    Creator(char const* name, std::int32_t tensors) noexcept : name_(name), tensors_(tensors) {
        declare(fields_);
        declared_ = {kFieldCount, fields_};
    }

    nvinfer1::AsciiChar const* getPluginName() const noexcept override { return name_; }
    nvinfer1::AsciiChar const* getPluginVersion() const noexcept override { return kVersion; }
    nvinfer1::AsciiChar const* getPluginNamespace() const noexcept override { return kNamespace; }
    nvinfer1::PluginFieldCollection const* getFieldNames() noexcept override { return &declared_; }

    // Null, after a message, for anything but a full and meaningful set of attributes. Both phases read alike.
    nvinfer1::IPluginV3* createPlugin(nvinfer1::AsciiChar const* layer, nvinfer1::PluginFieldCollection const* fields,
                                      nvinfer1::TensorRTPhase) noexcept override {
        Attributes attributes;
        Fault fault;
        if (!read(fields, attributes, fault)) {
            bool const named = layer != nullptr && *layer != '\0';
            log_error("%s%s%.128s cannot be created: %s", name_, named ? " " : "", named ? layer : "", fault.text);
            return nullptr;
        }
        return new (std::nothrow) RopePlugin(tensors_, attributes);
    }

   private:
    char const* const name_;
    std::int32_t const tensors_;
    Fields fields_ = {};
    nvinfer1::PluginFieldCollection declared_ = {};
};

// What `rope-deploy plugin info` reads from the file, which it cannot load where there is no TensorRT: one C string
// whose first line is a mark, the second a JSON object, and each further one the JSON object of an attribute.
#define ROPE_TEXT(value) #value
#define ROPE_QUOTED(value) ROPE_TEXT(value)
#define X(name, type, length, value, lowest, highest, meaning)                                                         \
    "\n{\"name\":\"" #name "\",\"type\":\"" #type "\",\"length\":" #length ",\"default\":" #value                      \
    ",\"lowest\":" #lowest ",\"highest\":" #highest ",\"meaning\":\"" meaning "\"}"
__attribute__((used, section(".rope_deploy"))) char const kAbout[] =
    "rope_deploy plugin library\n"
    R"({"schema_version":1,"version":")" ROPE_DEPLOY_VERSION
    R"(","operators":[)"
    R"({"name":"RopeRotate","inputs":["x","cos_cache","sin_cache","rows"],"outputs":["x_rotated"]},)"
    R"({"name":"RopeRotateQK","inputs":["q","k","cos_cache","sin_cache","rows"],)"
    R"("outputs":["q_rotated","k_rotated"]}],)"
    R"("operator_version":"1","operator_namespace":"","architectures":")" ROPE_ARCHITECTURES
    R"(","tensorrt_headers":")" ROPE_QUOTED(NV_TENSORRT_MAJOR) "." ROPE_QUOTED(NV_TENSORRT_MINOR) "."
    ROPE_QUOTED(NV_TENSORRT_PATCH) R"(","cuda":")" ROPE_CUDA_VERSION R"(","compiler":")" ROPE_COMPILER R"("})"
    ROPE_FIELDS(X);
#undef X

}  // namespace
}  // namespace rope

ROPE_EXPORT nvinfer1::IPluginCreatorInterface* const* getCreators(std::int32_t& count) noexcept {
    static rope::Creator one{"RopeRotate", 1};
    static rope::Creator two{"RopeRotateQK", 2};
    static nvinfer1::IPluginCreatorInterface* const all[] = {&one, &two};
    count = 2;
    return all;
}

ROPE_EXPORT void setLoggerFinder(nvinfer1::ILoggerFinder* finder) noexcept {
    rope::set_logger_finder(finder, __builtin_return_address(0));
}
