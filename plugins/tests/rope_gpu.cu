// The kernel for ctypes, without TensorRT; and the emptiest kernel possible, which tells what a launch costs.
#include "../src/rope_kernel.cu"
#include "entries.h"

namespace rope {
namespace {

__global__ void empty_kernel(const __grid_constant__ Plan) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    cudaTriggerProgrammaticLaunchCompletion();
    cudaGridDependencySynchronize();
#endif
}

}  // namespace
}  // namespace rope

extern "C" {

const char* rope_launch(const rope::Parameters* parameters, cudaStream_t stream) {
    return rope::launch(*parameters, stream);
}

// The launch that rope_launch would make, of a kernel that does nothing.
const char* rope_launch_empty(const rope::Parameters* parameters, cudaStream_t stream) {
    rope::Plan plan;
    if (const char* found = rope::make_plan(*parameters, plan)) return found;
    return rope::enqueue(rope::empty_kernel, plan, stream);
}

// To the byte, so that compute-sanitizer sees an access beyond.
void* rope_allocate(std::int64_t bytes) {
    void* block = nullptr;
    return cudaMalloc(&block, bytes > 0 ? bytes : 1) == cudaSuccess ? block : nullptr;
}

void rope_free(void* block) { cudaFree(block); }

// Either way between host and device, after all launches; so it also tells how those ended.
const char* rope_copy(void* to, const void* from, std::int64_t bytes) {
    cudaError_t code = cudaDeviceSynchronize();
    if (code == cudaSuccess) code = cudaMemcpy(to, from, bytes, cudaMemcpyDefault);
    return code == cudaSuccess ? nullptr : cudaGetErrorString(code);
}

}  // extern "C"
