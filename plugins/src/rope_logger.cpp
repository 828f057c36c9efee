// TensorRT 11 put a base class under ILogger and ILoggerFinder. Their virtual functions moved, under the same names:
// a library compiled for the one that calls the other jumps into a destructor. (The plugin interfaces did not move;
// they have had that base since 10.0.) So both are written down here, and whose finder it is decides.
#include "rope_logger.h"

#include <NvInferRuntime.h>
#include <dlfcn.h>

#include <atomic>
#include <cstdarg>
#include <cstdint>
#include <cstdio>

namespace rope {

// Not in the unnamed namespace: the compiler would know every class derived from these, none, and put calls of pure
// virtual functions in their place.
namespace v10 {
class Logger {
   public:
    virtual void log(std::int32_t severity, char const* text) noexcept = 0;
    virtual ~Logger() = default;
};
class Finder {
   public:
    virtual Logger* findLogger() = 0;

   protected:
    virtual ~Finder() = default;
};
}  // namespace v10

namespace v11 {
class Logger : public nvinfer1::IVersionedInterface {
   public:
    virtual void log(std::int32_t severity, char const* text) noexcept = 0;
};
class Finder : public nvinfer1::IVersionedInterface {
   public:
    virtual Logger* findLogger() = 0;
};
}  // namespace v11

namespace {

constexpr std::int32_t kError = 1;  // ILogger::Severity::kERROR of both

// At most one is set: the finder that came last.
std::atomic<v10::Finder*> finder10{nullptr};
std::atomic<v11::Finder*> finder11{nullptr};

// What the library that `address` is in says of its version: 101401 is 10.14.1. 0 if it says nothing.
std::int32_t version_of(void const* address) noexcept {
    Dl_info found{};
    if (dladdr(address, &found) == 0) return 0;
    void* library = dlopen(found.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    if (library == nullptr) library = dlopen(nullptr, RTLD_LAZY);  // the program itself, under a name of its own
    if (library == nullptr) return 0;
    auto const version = reinterpret_cast<std::int32_t (*)() noexcept>(dlsym(library, "getInferLibVersion"));
    std::int32_t const number = version == nullptr ? 0 : version();
    dlclose(library);
    return number;
}

bool is_v10(std::int32_t version) noexcept { return version >= 100000 && version < 110000; }

// TensorRT-RTX counts for itself: 10701 is its 1.7.1, the oldest one that was looked into.
bool is_v11(std::int32_t version) noexcept { return version >= 110000 || (version >= 10701 && version < 20000); }

template <class Finder>
bool pass_on(Finder* finder, char const* text) noexcept {
    if (finder == nullptr) return false;
    try {
        auto* const logger = finder->findLogger();
        if (logger != nullptr) logger->log(kError, text);
        return logger != nullptr;
    } catch (...) {  // findLogger is not noexcept
        return false;
    }
}

}  // namespace

void set_logger_finder(void* finder, void const* caller) noexcept {
    std::int32_t const version = version_of(caller);
    finder10 = is_v10(version) ? static_cast<v10::Finder*>(finder) : nullptr;
    finder11 = is_v11(version) ? static_cast<v11::Finder*>(finder) : nullptr;
}

void log_error(char const* format, ...) noexcept {
    char text[512];
    std::va_list values;
    va_start(values, format);
    std::vsnprintf(text, sizeof text, format, values);
    va_end(values);
    if (!pass_on(finder11.load(), text) && !pass_on(finder10.load(), text)) std::fprintf(stderr, "%s\n", text);
}

}  // namespace rope
