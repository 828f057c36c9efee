// The kernel on the CPU behind the launch function that the plugin calls: what enqueue hands over can be tested
// without a GPU.
#include "rope_host.cpp"

namespace rope {

const char* launch(const Parameters& parameters, CUstream_st* stream) noexcept {
    return rope_launch(&parameters, stream);
}

}  // namespace rope
