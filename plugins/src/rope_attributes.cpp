#include "rope_attributes.h"

#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace rope {
namespace {

using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;

constexpr std::size_t kElement = 4;  // bytes; int32 or float32

struct Row {
    char const* name;
    PluginFieldType type;
    std::int32_t length;
    double initial, lowest, highest;
    std::size_t offset;  // of the value in Attributes
};

constexpr Row kTable[] = {
#define X(name, type, length, value, lowest, highest, meaning)                                                         \
    Row{#name, PluginFieldType::k##type, length, value, lowest, highest, offsetof(Attributes, name)},
    ROPE_FIELDS(X)
#undef X
};
static_assert(sizeof kTable / sizeof *kTable == kFieldCount, "kFieldCount counts ROPE_FIELDS");
#define X(name, type, length, value, lowest, highest, meaning)                                                         \
    static_assert(sizeof(Attributes::name) == length * kElement, #name " has another length");
ROPE_FIELDS(X)
#undef X

char const* name_of(PluginFieldType type) noexcept {
    return type == PluginFieldType::kINT32 ? "int32" : "float32";
}

Row const* find(char const* name) noexcept {
    for (Row const& row : kTable) {
        if (std::strcmp(row.name, name) == 0) return &row;
    }
    return nullptr;
}

// The value of `row` in `attributes`, element by element.
double element(Attributes const& attributes, Row const& row, std::int32_t index) noexcept {
    auto const* data = reinterpret_cast<unsigned char const*>(&attributes) + row.offset + kElement * index;
    std::int32_t integer;
    float real;
    std::memcpy(&integer, data, sizeof integer);
    std::memcpy(&real, data, sizeof real);
    return row.type == PluginFieldType::kINT32 ? integer : static_cast<double>(real);
}

void set(Attributes& attributes, Row const& row, void const* values) noexcept {
    std::memcpy(reinterpret_cast<unsigned char*>(&attributes) + row.offset, values, kElement * row.length);
}

void set_initial(Attributes& attributes) noexcept {
    attributes = {};  // all zero; what differs follows
    for (Row const& row : kTable) {
        if (row.initial == 0) continue;
        auto const integer = static_cast<std::int32_t>(row.initial);
        auto const real = static_cast<float>(row.initial);
        set(attributes, row, row.type == PluginFieldType::kINT32 ? static_cast<void const*>(&integer) : &real);
    }
}

bool copy(PluginField const& field, Row const& row, Attributes& attributes, Fault& fault) noexcept {
    if (field.type != row.type) {
        return fault.say("%s has type number %d, but is %s", row.name, static_cast<int>(field.type), name_of(row.type));
    }
    if (field.length != row.length || field.data == nullptr) {
        return fault.say("%s has %d values, but takes %d", row.name, field.data ? field.length : 0, row.length);
    }
    set(attributes, row, field.data);
    return true;
}

bool in_range(Attributes const& attributes, Fault& fault) noexcept {
    for (Row const& row : kTable) {
        for (std::int32_t index = 0; index < row.length; ++index) {
            double const value = element(attributes, row, index);
            if (!(value >= row.lowest && value <= row.highest)) {  // so written, NaN is refused too
                return fault.say("%s is %g, but must be in %g ... %g", row.name, value, row.lowest, row.highest);
            }
        }
    }
    return true;
}

// Fill in what 0 stands for, and check what one attribute demands of another.
bool settle(Attributes& a, Fault& fault) noexcept {
    if (a.rotary_dim == 0) a.rotary_dim = a.head_dim;
    if (a.out_heads_axis == 0) a.out_heads_axis = a.heads_axis;
    if (a.head_dim % 2 != 0) return fault.say("head_dim is %d, but must be even", a.head_dim);
    if (a.rotary_dim % 2 != 0) return fault.say("rotary_dim is %d, but must be even", a.rotary_dim);
    if (a.rotary_dim > a.head_dim) {
        return fault.say("rotary_dim is %d, more than the %d of head_dim", a.rotary_dim, a.head_dim);
    }
    if (a.interleaved != 0 && a.proportional != 0) {
        return fault.say("proportional pairs reach across the head, interleaved ones are neighbours: choose one");
    }
    std::int64_t const pairs = std::int64_t{a.sections[0]} + a.sections[1] + a.sections[2];
    if (pairs != 0 && pairs != a.rotary_dim / 2) {
        return fault.say("sections are %d, %d and %d pairs, but rotary_dim %d has %d", a.sections[0], a.sections[1],
                         a.sections[2], a.rotary_dim, a.rotary_dim / 2);
    }
    if (pairs == 0 && a.sections_interleaved != 0) return fault.say("sections_interleaved needs sections");
    return true;
}

}  // namespace

bool Fault::say(char const* format, ...) noexcept {
    std::va_list values;
    va_start(values, format);
    std::vsnprintf(text, sizeof text, format, values);
    va_end(values);
    return false;
}

void declare(Fields& fields) noexcept {
    for (std::int32_t index = 0; index < kFieldCount; ++index) {
        fields[index] = PluginField{kTable[index].name, nullptr, kTable[index].type, kTable[index].length};
    }
}

void refer(Attributes const& attributes, Fields& fields) noexcept {
    declare(fields);
    for (std::int32_t index = 0; index < kFieldCount; ++index) {
        fields[index].data = reinterpret_cast<unsigned char const*>(&attributes) + kTable[index].offset;
    }
}

bool read(nvinfer1::PluginFieldCollection const* collection, Attributes& attributes, Fault& fault) noexcept {
    if (collection == nullptr) return fault.say("there are no fields");
    if (collection->nbFields < 0 || (collection->nbFields > 0 && collection->fields == nullptr)) {
        return fault.say("the field collection is broken: %d fields at null", collection->nbFields);
    }
    set_initial(attributes);
    bool given[kFieldCount] = {};
    for (std::int32_t index = 0; index < collection->nbFields; ++index) {
        PluginField const& field = collection->fields[index];
        if (field.name == nullptr) return fault.say("field %d has no name", index);
        Row const* const row = find(field.name);
        if (row == nullptr) return fault.say("there is no attribute %.64s", field.name);
        bool& before = given[row - kTable];
        if (before) return fault.say("%s is given twice", row->name);
        before = true;
        if (!copy(field, *row, attributes, fault)) return false;
    }
    return in_range(attributes, fault) && settle(attributes, fault);
}

void describe(Attributes const& attributes, char* text, std::size_t size) noexcept {
    std::size_t used = 0;
    for (Row const& row : kTable) {
        for (std::int32_t index = 0; index < row.length && used < size; ++index) {
            double const value = element(attributes, row, index);
            int const wrote = std::snprintf(text + used, size - used, "%s%.9g", used == 0 ? "" : " ", value);
            used += wrote > 0 ? static_cast<std::size_t>(wrote) : 0;
        }
    }
}

}  // namespace rope
