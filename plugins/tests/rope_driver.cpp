// Plays TensorRT for the tests, through ctypes: what Python's bindings of TensorRT cannot call on a plugin written in
// C++ (shapes, formats, serialization, enqueue), and what no TensorRT would do (fields at null, a logger that throws).
#include <NvInferRuntime.h>
#include <dlfcn.h>

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

using namespace nvinfer1;

// ---- Loggers of TensorRT 10 and 11, whose virtual functions lie differently. Not in the unnamed namespace, where the
// compiler would see that nobody derives from the bases.

namespace v10 {
struct Logger {
    virtual void log(std::int32_t severity, char const* text) noexcept = 0;
    virtual ~Logger() = default;
};
struct Finder {
    virtual Logger* findLogger() = 0;
    virtual ~Finder() = default;
};
}  // namespace v10

namespace v11 {
struct Logger : IVersionedInterface {
    virtual void log(std::int32_t severity, char const* text) noexcept = 0;
};
struct Finder : IVersionedInterface {
    virtual Logger* findLogger() = 0;
};
}  // namespace v11

static std::string heard;        // the last message, and
static std::int32_t loudness;    // its severity
static std::int32_t answer = 0;  // what findLogger does: 0 finds one, 1 finds none, 2 throws
static std::int32_t version = 0;

static void hear(std::int32_t severity, char const* text) { heard = text, loudness = severity; }

struct Logger10 final : v10::Logger {
    void log(std::int32_t severity, char const* text) noexcept override { hear(severity, text); }
};
struct Logger11 final : v11::Logger {
    InterfaceInfo getInterfaceInfo() const noexcept override { return {"ILogger", 1, 0}; }
    void log(std::int32_t severity, char const* text) noexcept override { hear(severity, text); }
};

template <class Base, class Logger>
Logger* find() {
    static Logger logger;
    if (answer == 2) throw std::runtime_error("no logger today");
    return answer == 0 ? &logger : nullptr;
}
struct Finder10 final : v10::Finder {
    v10::Logger* findLogger() override { return find<v10::Logger, Logger10>(); }
};
struct Finder11 final : v11::Finder {
    InterfaceInfo getInterfaceInfo() const noexcept override { return {"ILoggerFinder", 1, 0}; }
    v11::Logger* findLogger() override { return find<v11::Logger, Logger11>(); }
};

// ---- Expressions for sizes: a constant, or -1 for one that is not known yet.

struct Size final : IDimensionExpr, apiv::VDimensionExpr {
    Size() { mImpl = this; }
    bool isConstant() const override { return value >= 0; }
    std::int64_t getConstantValue() const override { return value; }
    bool isSizeTensor() const override { return false; }
    std::int64_t value = 0;
};
struct Builder final : IExprBuilder, apiv::VExprBuilder {
    Builder() { mImpl = this; }
    IDimensionExpr const* constant(std::int64_t) override { return nullptr; }
    IDimensionExpr const* operation(DimensionOperation, IDimensionExpr const&, IDimensionExpr const&) override {
        return nullptr;
    }
    IDimensionExpr const* declareSizeTensor(std::int32_t, IDimensionExpr const&, IDimensionExpr const&) override {
        return nullptr;
    }
};

// ---- What Python hands over and gets back.

struct FieldSpec {
    char const* name;
    void const* data;
    std::int32_t type;
    std::int32_t length;
};
struct TensorSpec {
    std::int32_t type;
    std::int32_t format;
    std::int32_t rank;
    std::int64_t size[8];
};

static PluginTensorDesc described(TensorSpec const& spec) {
    PluginTensorDesc tensor{};
    tensor.type = static_cast<DataType>(spec.type);
    tensor.format = static_cast<TensorFormat>(spec.format);
    tensor.dims.nbDims = spec.rank;
    std::memcpy(tensor.dims.d, spec.size, sizeof tensor.dims.d);
    return tensor;
}
static std::vector<PluginTensorDesc> described(TensorSpec const* specs, std::int32_t count) {
    std::vector<PluginTensorDesc> tensors;
    for (std::int32_t i = 0; i < count; ++i) tensors.push_back(described(specs[i]));
    return tensors;
}
static std::vector<DynamicPluginTensorDesc> dynamic(TensorSpec const* specs, std::int32_t count) {
    std::vector<DynamicPluginTensorDesc> tensors;
    for (std::int32_t i = 0; i < count; ++i) {
        PluginTensorDesc const tensor = described(specs[i]);
        tensors.push_back({tensor, tensor.dims, tensor.dims, tensor.dims});
    }
    return tensors;
}
template <class Capability>
Capability& capability(IPluginV3* plugin, PluginCapabilityType type) {
    return *static_cast<Capability*>(plugin->getCapabilityInterface(type));
}
static IPluginV3OneBuild& build(IPluginV3* plugin) {
    return capability<IPluginV3OneBuild>(plugin, PluginCapabilityType::kBUILD);
}
static IPluginV3OneRuntime& runtime(IPluginV3* plugin) {
    return capability<IPluginV3OneRuntime>(plugin, PluginCapabilityType::kRUNTIME);
}

static void* library = nullptr;

extern "C" {

// The plugin asks the library that hands it a finder for its version, as it asks libnvinfer.
std::int32_t getInferLibVersion() noexcept { return version; }

// Opens the plugin's library, which TensorRT may have opened before: the creators are then the same objects.
char const* driver_open(char const* path) {
    library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    return library == nullptr ? dlerror() : nullptr;
}

void driver_log_as(std::int32_t as_version, std::int32_t find_answers) {
    static Finder10 finder10;
    static Finder11 finder11;
    version = as_version, answer = find_answers;
    bool const is_v10 = as_version >= 100000 && as_version < 110000;
    auto* const finder = is_v10 ? static_cast<void*>(&finder10) : static_cast<void*>(&finder11);
    auto const set = reinterpret_cast<void (*)(void*)>(dlsym(library, "setLoggerFinder"));
    set(as_version == 0 ? nullptr : finder);
    heard.clear();
}
char const* driver_heard() { return heard.c_str(); }
std::int32_t driver_severity() { return loudness; }

static IPluginCreatorV3One* creator(char const* name) {
    auto const creators = reinterpret_cast<IPluginCreatorInterface* const* (*)(std::int32_t&)>(
        dlsym(library, "getCreators"));
    std::int32_t count = 0;
    auto* const* const all = creators(count);
    for (std::int32_t i = 0; i < count; ++i) {
        auto* const one = static_cast<IPluginCreatorV3One*>(all[i]);
        if (std::strcmp(one->getPluginName(), name) == 0) return one;
    }
    return nullptr;
}

std::int32_t driver_field(char const* operation, std::int32_t index, char const** name, std::int32_t* length) {
    PluginFieldCollection const& fields = *creator(operation)->getFieldNames();
    if (index >= fields.nbFields) return -1;
    *name = fields.fields[index].name, *length = fields.fields[index].length;
    return static_cast<std::int32_t>(fields.fields[index].type);
}

// count -1: no collection at all; -2: one that promises three fields and has none.
IPluginV3* driver_create(char const* operation, char const* layer, FieldSpec const* specs, std::int32_t count,
                         std::int32_t phase) {
    std::vector<PluginField> fields;
    for (std::int32_t i = 0; i < count; ++i) {
        fields.emplace_back(specs[i].name, specs[i].data, static_cast<PluginFieldType>(specs[i].type), specs[i].length);
    }
    PluginFieldCollection const collection{count == -2 ? 3 : count, count == -2 ? nullptr : fields.data()};
    return creator(operation)->createPlugin(layer, count == -1 ? nullptr : &collection,
                                            static_cast<TensorRTPhase>(phase));
}
void driver_destroy(IPluginV3* plugin) { delete plugin; }
IPluginV3* driver_clone(IPluginV3* plugin) { return plugin->clone(); }
IPluginV3* driver_attach(IPluginV3* plugin) { return runtime(plugin).attachToContext(nullptr); }
char const* driver_timing_id(IPluginV3* plugin) { return build(plugin).getTimingCacheID(); }
std::int32_t driver_outputs(IPluginV3* plugin) { return build(plugin).getNbOutputs(); }

char const* driver_identity(IPluginV3* plugin) {
    auto const& core = capability<IPluginV3OneCore>(plugin, PluginCapabilityType::kCORE);
    static std::string text;
    return (text = std::string(core.getPluginName()) + "|" + core.getPluginVersion() + "|" + core.getPluginNamespace())
        .c_str();
}

// What an engine would store, and create again from that.
IPluginV3* driver_serialize_and_create(IPluginV3* plugin) {
    PluginFieldCollection const stored = *runtime(plugin).getFieldsToSerialize();
    std::vector<std::vector<unsigned char>> bytes;  // away from the plugin's own memory, as in an engine
    std::vector<PluginField> fields(stored.fields, stored.fields + stored.nbFields);
    for (PluginField& field : fields) {
        auto const* const data = static_cast<unsigned char const*>(field.data);
        bytes.emplace_back(data, data + 4 * field.length);
    }
    for (std::size_t i = 0; i < fields.size(); ++i) fields[i].data = bytes[i].data();
    PluginFieldCollection const loaded{stored.nbFields, fields.data()};
    auto const& core = capability<IPluginV3OneCore>(plugin, PluginCapabilityType::kCORE);
    return creator(core.getPluginName())->createPlugin("loaded", &loaded, TensorRTPhase::kRUNTIME);
}

std::int32_t driver_output_types(IPluginV3* plugin, std::int32_t const* inputs, std::int32_t input_count,
                                 std::int32_t* outputs, std::int32_t output_count) {
    return build(plugin).getOutputDataTypes(reinterpret_cast<DataType*>(outputs), output_count,
                                            reinterpret_cast<DataType const*>(inputs), input_count);
}

std::int32_t driver_output_shapes(IPluginV3* plugin, TensorSpec const* inputs, std::int32_t input_count,
                                  TensorSpec* outputs, std::int32_t output_count) {
    std::vector<Size> sizes(8 * input_count);
    std::vector<DimsExprs> in(input_count), out(output_count);
    for (std::int32_t i = 0; i < input_count; ++i) {
        in[i].nbDims = inputs[i].rank;
        for (std::int32_t axis = 0; axis < inputs[i].rank; ++axis) {
            sizes[8 * i + axis].value = inputs[i].size[axis];
            in[i].d[axis] = &sizes[8 * i + axis];
        }
    }
    Builder builder;
    std::int32_t const code =
        build(plugin).getOutputShapes(in.data(), input_count, nullptr, 0, out.data(), output_count, builder);
    for (std::int32_t i = 0; i < output_count && code == 0; ++i) {
        outputs[i].rank = out[i].nbDims;
        for (std::int32_t axis = 0; axis < out[i].nbDims; ++axis) {
            outputs[i].size[axis] = static_cast<Size const*>(out[i].d[axis])->value;
        }
    }
    return code;
}

std::int32_t driver_supports(IPluginV3* plugin, std::int32_t position, TensorSpec const* tensors,
                             std::int32_t input_count, std::int32_t output_count) {
    auto const all = dynamic(tensors, input_count + output_count);
    return build(plugin).supportsFormatCombination(position, all.data(), input_count, output_count);
}

std::int32_t driver_configure(IPluginV3* plugin, TensorSpec const* tensors, std::int32_t input_count,
                              std::int32_t output_count) {
    auto const all = dynamic(tensors, input_count + output_count);
    return build(plugin).configurePlugin(all.data(), input_count, all.data() + input_count, output_count);
}

std::int32_t driver_shape_change(IPluginV3* plugin, TensorSpec const* tensors, std::int32_t input_count,
                                 std::int32_t output_count) {
    auto const all = described(tensors, input_count + output_count);
    return runtime(plugin).onShapeChange(all.data(), input_count, all.data() + input_count, output_count);
}

std::int32_t driver_enqueue(IPluginV3* plugin, TensorSpec const* tensors, std::int32_t input_count,
                            std::int32_t output_count, void const* const* inputs, void* const* outputs, void* stream) {
    auto const all = described(tensors, input_count + output_count);
    return runtime(plugin).enqueue(all.data(), all.data() + input_count, inputs, outputs, nullptr,
                                   static_cast<cudaStream_t>(stream));
}

}  // extern "C"
